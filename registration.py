"""What Blender gets registered, in order; undone in reverse."""

from __future__ import annotations

from contextlib import ExitStack

import bpy

from . import character_properties, preferences, properties, session_properties
from .operators import (
    backend,
    body,
    camera,
    camera_export,
    control,
    cure,
    farm,
    first_shot,
    generate,
    library,
    looks,
    match,
    models,
    motion,
    motion_armature,
    motion_bones,
    motion_keys,
    preview,
    result,
    shot,
    tracks,
)
from .panels import body as body_panel
from .panels import bones as bones_list
from .panels import camera as camera_panel
from .panels import models as models_menu
from .panels import motion as motion_panel
from .panels import preview as preview_panel
from .panels import result as result_panel
from .panels import shot as shot_panel
from .panels import status
from .panels import tracks as tracks_panel
from .scene.job import handlers

MODULES = (
    character_properties,
    properties,
    session_properties,
    preferences,
    body,
    looks,
    match,
    motion,
    motion_armature,
    motion_bones,
    motion_keys,
    camera,
    camera_export,
    shot,
    control,
    farm,
    models,
    tracks,
    generate,
    result,
    preview,
    first_shot,
    cure,
    library,
    backend,
    body_panel,
    bones_list,
    motion_panel,
    camera_panel,
    models_menu,
    shot_panel,
    preview_panel,
    tracks_panel,
    result_panel,
    status,
    handlers,
)
"""Modules with ``CLASSES`` and, where needed, ``register()`` and ``unregister()`` of their own."""

_registered = ExitStack()


def register() -> None:
    """Register every module's classes, then call its own ``register()``. On failure everything is undone again."""
    with ExitStack() as undo:
        for module in MODULES:
            for cls in module.CLASSES:
                bpy.utils.register_class(cls)
                undo.callback(bpy.utils.unregister_class, cls)
            if hasattr(module, "register"):
                undo.callback(module.unregister)
                module.register()
        _registered.push(undo.pop_all())


def unregister() -> None:
    """Undo ``register`` in reverse order."""
    _registered.close()
