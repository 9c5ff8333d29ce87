"""What the add-on remembers for every file: the backend, its token, and where results go."""

from __future__ import annotations

from bpy.props import EnumProperty, StringProperty
from bpy.types import AddonPreferences, Context

from .panels import preferences as view


def _backend_changed(_self: MAQUETTE_AP_preferences, _context: Context) -> None:
    """What was known about another backend says nothing about this one."""
    from .scene.job import backends, readiness

    backends.changed()
    readiness.touch()


class MAQUETTE_AP_preferences(AddonPreferences):
    """Edit > Preferences > Add-ons > Maquette."""

    bl_idname = __package__

    mode: EnumProperty(
        name="Backend",
        description="Where videos are made",
        items=(
            ("LOCAL", "This Computer", "A backend that Maquette installs and starts by itself"),
            ("SERVER", "Server", "A backend that runs already, here or on another computer"),
        ),
        default="LOCAL",
        update=_backend_changed,
    )
    address: StringProperty(
        name="Address",
        description="Host name or address of the server, with the port unless it is 8188",
        default="127.0.0.1:8188",
        update=_backend_changed,
    )
    token: StringProperty(
        name="Token",
        description="What the server wants to see before it works for you; empty when it wants none",
        subtype="PASSWORD",
        update=_backend_changed,
    )
    results_folder: StringProperty(
        name="Results Folder",
        description="Where finished videos go; empty for a folder 'maquette' beside the .blend file, and among your "
        "videos while that is not saved",
        subtype="DIR_PATH",
    )
    local_python: StringProperty(
        name="Existing Python",
        description="Python of an environment that has the backend already; empty to let Maquette install one",
        subtype="FILE_PATH",
        update=_backend_changed,
    )

    def draw(self, context: Context) -> None:
        """Draw the preferences."""
        view.draw(self, context)


CLASSES = (MAQUETTE_AP_preferences,)
