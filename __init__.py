"""Maquette: pose bodies, key a camera, press a button, and play the generated video in the scene.

The repository root is both the Blender extension and the Python package ``maquette``. bpy is imported only
inside ``register`` and ``unregister``, so that the backend can import this package without Blender.
"""


def register() -> None:
    """Called by Blender when the extension is enabled."""
    from . import registration

    registration.register()


def unregister() -> None:
    """Called by Blender when the extension is disabled."""
    from . import registration

    registration.unregister()
