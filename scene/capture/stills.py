"""Pictures of a stage, frame after frame; a frame that shows what the one before did is not rendered again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import bpy

from ...backend.shot import Media
from ..stage import Stage, curves_of, others_listen
from . import render
from .memory import Recall

UNSEEN = {"ARMATURE", "LATTICE", "SPEAKER"}
"""Objects that show only in what they move, which is evaluated then, too."""
_TOLD = ("location", "rotation", "scale", "delta_", "pose.", "constraints", "modifiers")
_PLAIN = {"MESH", "CURVE", "SURFACE", "FONT", "META", "EMPTY", "CAMERA", "LIGHT", "LIGHT_PROBE", *UNSEEN}


@dataclass(frozen=True, eq=False)
class Pictures:
    """How a capture takes its pictures.

    Attributes:
        engine: ``WORKBENCH`` or ``SCENE``.
        folder: for the pictures on their way.
        rough: whether they are to be quick, for a preview.
        recall: those that need not be taken again.
    """

    engine: str
    folder: Path
    rough: bool = False
    recall: Recall | None = None

    def set_up(self, stage: Stage, transparent: bool, side: int) -> None:
        """See ``render.set_up``."""
        render.set_up(stage, self.engine, transparent, side, self.rough)

    def known(self, name: str) -> dict[int, Media]:
        """The pictures of a series that need not be taken, by their frames."""
        return self.recall.known(name) if self.recall is not None else {}

    def take(self, name: str, stage: Stage, frames: Sequence[int], field: str) -> Iterator[Media]:
        """Take a series, or a part of one, on a stage that was set up.

        Args:
            field: what to name in errors.
        """
        told, known = _all_is_told(stage, self.engine), self.known(name)
        last: Media | None = None
        for frame in frames:
            if frame in known:
                last = None
                yield known[frame]
                continue
            moved = _go(stage, frame)
            if last is None or moved or not told:
                last = Media(render.render(stage, self.folder, field), "image/png")
            yield last

    def note(self, name: str, made: Sequence[Media]) -> None:
        """A series is complete."""
        if self.recall is not None:
            self.recall.note(name, made)


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
        return updated.type not in UNSEEN and (updated.type != "EMPTY" or updated.instance_type != "NONE")
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
