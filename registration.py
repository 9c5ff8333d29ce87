"""What Blender gets registered, in order; undone in reverse."""

from __future__ import annotations

from contextlib import ExitStack
from importlib import import_module
from types import ModuleType

import bpy

MODULES = tuple(
    import_module(f".{name}", __package__)
    for name in (
        "character_properties",
        "properties",
        "session_properties",
        "preferences",
        "operators.body",
        "operators.looks",
        "operators.match",
        "operators.motion",
        "operators.motion_armature",
        "operators.motion_bones",
        "operators.motion_keys",
        "operators.camera",
        "operators.camera_export",
        "operators.shot",
        "operators.control",
        "operators.farm",
        "operators.models",
        "operators.tracks",
        "operators.generate",
        "operators.result",
        "operators.preview",
        "operators.first_shot",
        "operators.cure",
        "operators.library",
        "operators.backend",
        "panels.body",
        "panels.bones",
        "panels.motion",
        "panels.camera",
        "panels.models",
        "panels.shot",
        "panels.preview",
        "panels.tracks",
        "panels.result",
        "panels.status",
        "scene.job.handlers",
    )
)
"""Modules of which any may have ``CLASSES``; ``GROUPS``: by the type that it hangs on, as ``maquette``, a class of
properties; ``MENUS``: by Blender's menu or header, where it has that, what draws an entry; ``KEYS``: shortcuts, as
``_bind`` takes them; and ``register()`` and ``unregister()`` of their own."""

_registered = ExitStack()


def register() -> None:
    """Register all that the modules name, in their order. On failure everything is undone again."""
    with ExitStack() as undo:
        for module in MODULES:
            _register(module, undo)
        _registered.push(undo.pop_all())


def unregister() -> None:
    """Undo ``register`` in reverse order."""
    _registered.close()


def _register(module: ModuleType, undo: ExitStack) -> None:
    for cls in getattr(module, "CLASSES", ()):
        bpy.utils.register_class(cls)
        undo.callback(bpy.utils.unregister_class, cls)
    for name, group in getattr(module, "GROUPS", {}).items():
        owner = getattr(bpy.types, name)
        owner.maquette = bpy.props.PointerProperty(type=group)
        undo.callback(delattr, owner, "maquette")
    for name, entry in getattr(module, "MENUS", {}).items():
        menu = getattr(bpy.types, name, None)
        if menu is not None:
            menu.append(entry)
            undo.callback(menu.remove, entry)
    for name, space, operator, key, modifiers in getattr(module, "KEYS", ()):
        _bind(undo, name, space, operator, key, **modifiers)
    if hasattr(module, "register"):
        undo.callback(module.unregister)
        module.register()


def _bind(undo: ExitStack, name: str, space: str, operator: str, key: str, **modifiers: bool) -> None:
    """Bind a key to an operator; Blender without windows has none to bind.

    Args:
        name, space: of the keymap.
        modifiers: ``alt``, ``ctrl`` and ``shift``.
    """
    keys = bpy.context.window_manager.keyconfigs.addon
    if keys is not None:
        keymap = keys.keymaps.new(name=name, space_type=space)
        item = keymap.keymap_items.new(operator, key, "PRESS", **modifiers)
        undo.callback(keymap.keymap_items.remove, item)
