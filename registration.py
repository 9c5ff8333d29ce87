"""What Blender gets registered, in order; undone in reverse."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import bpy

MODULES: tuple[str, ...] = (
    "properties",
    "preferences",
    "operators.body",
    "operators.looks",
    "operators.motion",
    "operators.camera",
    "operators.shot",
    "operators.models",
    "operators.tracks",
    "operators.generate",
    "operators.result",
    "operators.library",
    "operators.backend",
    "panels.body",
    "panels.motion",
    "panels.camera",
    "panels.models",
    "panels.shot",
    "panels.job",
    "panels.tracks",
    "panels.result",
    "scene.job.handlers",
)
"""Modules with ``CLASSES`` and, where needed, ``register()`` and ``unregister()`` of their own."""

_registered: list[ModuleType] = []


def register() -> None:
    """Register every module's classes, then its own hooks. On failure everything is undone again."""
    try:
        for name in MODULES:
            module = import_module(f".{name}", __package__)
            for cls in module.CLASSES:
                bpy.utils.register_class(cls)
            _registered.append(module)
            if hasattr(module, "register"):
                module.register()
    except Exception:
        unregister()
        raise


def unregister() -> None:
    """Undo ``register`` in reverse order."""
    while _registered:
        module = _registered.pop()
        if hasattr(module, "unregister"):
            module.unregister()
        for cls in reversed(module.CLASSES):
            if getattr(cls, "is_registered", True):
                bpy.utils.unregister_class(cls)
