"""Pictures of a stage, frame after frame; a frame that shows what the one before did is not rendered again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import bpy

from ...backend.shot import Media
from ..stage import Stage, curves_of, others_listen
from . import render

_UNSEEN = {"ARMATURE", "LATTICE", "SPEAKER"}
"""Objects that show only in what they move, which is evaluated then, too."""
_TOLD = ("location", "rotation", "scale", "delta_", "pose.", "constraints", "modifiers")
_PLAIN = {"MESH", "CURVE", "SURFACE", "FONT", "META", "EMPTY", "CAMERA", "LIGHT", "LIGHT_PROBE", *_UNSEEN}


def pictures(stage: Stage, frames: Sequence[int], engine: str, folder: Path, field: str) -> Iterator[Media]:
    """Render frames of a stage that was set up.

    Args:
        engine: ``WORKBENCH`` or ``SCENE``.
        folder: for the pictures on their way.
        field: what to name in errors.
    """
    told = _all_is_told(stage, engine)
    last: Media | None = None
    for frame in frames:
        moved = _go(stage, frame)
        if last is None or moved or not told:
            last = Media(render.render(stage, folder, field), "image/png")
        yield last


def _go(stage: Stage, frame: int) -> bool:
    """Go to a frame; returns whether anything that may show was evaluated anew."""
    heard, moved = False, []
    camera = stage.scene.camera

    def hear(scene: bpy.types.Scene, depsgraph: bpy.types.Depsgraph) -> None:
        nonlocal heard
        if scene == stage.scene:
            heard = True
            moved.extend(update.id.name for update in depsgraph.updates if _may_show(update.id, scene))

    handlers = (bpy.app.handlers.depsgraph_update_post, bpy.app.handlers.frame_change_post)
    for each in handlers:
        each.append(hear)
    stage.scene.update_tag(refresh={"TIME"})  # Blender tells of nothing where time alone has changed.
    try:
        stage.at(frame)
    finally:
        for each in handlers:
            each.remove(hear)
    return not heard or bool(moved) or stage.scene.camera != camera


def _may_show(updated: bpy.types.ID, scene: bpy.types.Scene) -> bool:
    """Whether a picture may show that a datablock was evaluated anew. The scene always is, keys are seen in others."""
    if isinstance(updated, (bpy.types.Scene, bpy.types.Action, bpy.types.Armature)):
        return False
    if isinstance(updated, bpy.types.Object):
        if updated.type == "CAMERA":
            return scene.camera is not None and updated.original == scene.camera
        return updated.type not in _UNSEEN and (updated.type != "EMPTY" or updated.instance_type != "NONE")
    return True


def _all_is_told(stage: Stage, engine: str) -> bool:
    """Whether Blender tells of everything in a stage by which two frames may differ."""
    scene = stage.scene
    handlers = bpy.app.handlers
    if others_listen() or handlers.render_init or handlers.render_pre or handlers.render_post:
        return False
    if scene.rigidbody_world is not None:
        return False
    cycles = getattr(scene, "cycles", None)
    if engine == "SCENE" and (scene.render.use_motion_blur or cycles is None or cycles.use_animated_seed):
        return False
    return all(_is_told(datablock) for datablock in stage.depsgraph.ids)


def _is_told(datablock: bpy.types.ID) -> bool:
    """Whether Blender tells of all that may make a datablock look otherwise at another frame."""
    if isinstance(datablock, bpy.types.Image):
        return datablock.source not in ("MOVIE", "SEQUENCE")
    if not isinstance(datablock, (bpy.types.Object, bpy.types.Scene)):
        return True
    if isinstance(datablock, bpy.types.Object) and (datablock.type not in _PLAIN or len(datablock.particle_systems)):
        return False
    animation = datablock.original.animation_data
    if animation is None:
        return True
    # Values besides the place and the shape, such as whether an object renders, change without a word.
    return all(curve.data_path.startswith(_TOLD) for curve in (*curves_of(animation), *animation.drivers))
