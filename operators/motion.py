"""Bringing motion into the scene: from files, or a generated walk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
from bpy.props import BoolProperty, CollectionProperty, FloatProperty, IntProperty, StringProperty
from bpy.types import FileHandler, Operator, OperatorFileListElement
from bpy_extras.io_utils import ImportHelper

from ..backend import bodies, motions
from ..backend.motions.bvh import BvhClip
from ..backend.motions.skeletons import UnknownSkeleton
from ..scene import keys
from ..scene.rig import bone_map
from ..scene.rig.armature import FORMATS, frames_of, imported_armature, sample_armature
from ..scene.rig.motion import at_rate
from .answers import refused, refusing
from .motion_reading import Reading
from .motion_target import ERRORS, MotionTarget, draw_target, mode_allows, model_of, offer_map_bones, shape_of

EXTENSIONS = (*motions.EXTENSIONS, *FORMATS)

_PATIENCE = 1.0
"""Seconds after which an import shows its progress and lets the animator cancel it."""
_Loaded = tuple[motions.BodyMotion, bodies.BodyModel, bpy.types.Object | None]


def _is_scene(path: Path) -> bool:
    return path.suffix.lower() in FORMATS


class MAQUETTE_OT_import_motion(MotionTarget, Operator, ImportHelper):
    """Put a motion file on a body or an armature: BVH, FBX, glTF, AMASS, SMPL-X .npz, trackers' .pkl, .npz and .pt"""

    bl_idname = "maquette.import_motion"
    bl_label = "Import Motion"
    bl_options = {"REGISTER", "UNDO"}

    filename_ext = ""
    filter_glob: StringProperty(default=";".join(f"*{ext}" for ext in EXTENSIONS), options={"HIDDEN"})
    filepath: StringProperty(name="File", description="Motion to import", subtype="FILE_PATH")
    directory: StringProperty(subtype="DIR_PATH", options={"HIDDEN", "SKIP_SAVE"})
    files: CollectionProperty(type=OperatorFileListElement, options={"HIDDEN", "SKIP_SAVE"})
    clip: IntProperty(
        name="Clip or Person",
        description="Which one to take from a file that holds several clips or people; the first is 0",
        default=0,
        min=0,
    )
    fps: FloatProperty(
        name="File's Rate",
        description="Frames per second of the file; 0 takes what the file says. The scene's rate never changes",
        default=0.0,
        min=0.0,
        max=10000.0,
    )
    heights: BoolProperty(
        name="Keep Heights",
        description="Leave heights as the file has them, for stairs and uneven ground: no foot is lifted onto z = 0",
        default=False,
    )
    keep_lead: BoolProperty(
        name="Keep Leading T-Pose",
        description="Keep a T-pose that stands before the motion and from which it jumps; else it is left out",
        default=False,
    )
    keep_character: BoolProperty(
        name="Keep Character",
        description="FBX and glTF: leave what the file holds in the scene, beside the body that takes on its motion",
        default=False,
    )

    @classmethod
    def poll(cls, context):
        return mode_allows(cls, context)

    def invoke(self, context, event):
        self.fill_in(context)
        # Dropped onto a window the files are known already; their settings are asked for in a small dialog.
        if self.directory and self.files:
            return context.window_manager.invoke_props_dialog(self)
        return ImportHelper.invoke(self, context, event)

    def execute(self, context):
        paths = self._paths()
        if not paths:
            return refused(self, f"No file chosen: choose a {', '.join(EXTENSIONS)} motion")
        performer = self.begin(context)
        try:
            # All files are read before the scene is touched, so that a bad one changes nothing.
            targets = [performer if index == 0 else None for index in range(len(paths))]
            jobs = [(path, model_of(target, self.body), target) for path, target in zip(paths, targets, strict=True)]
            shapes = [shape_of(target, model) for _, model, target in jobs]
            scenes = {}
            for (self._at, model, _), shape in zip(jobs, shapes, strict=True):
                if _is_scene(self._at):
                    scenes[self._at] = self._imported(context, self._at, model, shape)
            options = {"fps": self.fps or None, "clip": self.clip, "heights": self.heights, "keep_lead": self.keep_lead}
            rate = keys.scene_fps(context.scene)

            def read(watch: Callable[[float], None]) -> list[_Loaded]:
                found = []
                for index, (path, model, target) in enumerate(jobs):
                    told = lambda part, index=index: watch((index + part) / len(jobs))  # noqa: E731
                    self._at = path
                    motion = scenes.get(path) or motions.load_motion(
                        path, body=model, shape=shapes[index], watch=told, **options
                    )
                    found.append((at_rate(motion, rate), model, target))
                return found

            self._reading = Reading(read)
            self._reading.wait(_PATIENCE if self._may_wait(context) else None)
        except ERRORS as error:
            return self._failed(context, error)
        if not self._reading.done:
            self._timer = context.window_manager.event_timer_add(0.1, window=context.window)
            context.window_manager.modal_handler_add(self)
            return {"RUNNING_MODAL"}
        return self._finish(context)

    def file(self) -> dict[str, str]:
        return {"filepath": str(self._at)}

    def _may_wait(self, context: bpy.types.Context) -> bool:
        """Whether a window is there to show progress in, and this is no repetition from the redo panel."""
        return context.window is not None and not bpy.app.background and not self.options.is_repeat

    def modal(self, context, event):
        if event.type == "ESC":
            self._reading.stop()
        if event.type != "TIMER" or not self._reading.done:
            context.workspace.status_text_set(f"Reading motion: {100 * self._reading.part:.0f} %. Esc cancels")
            return {"RUNNING_MODAL"}
        context.window_manager.event_timer_remove(self._timer)
        context.workspace.status_text_set(None)
        return self._finish(context)

    def _finish(self, context: bpy.types.Context) -> set[str]:
        try:
            loaded = self._reading.result()
            if loaded is None:
                self.report({"INFO"}, "The import was cancelled; nothing has changed")
                return {"CANCELLED"}
            self.stays = len(loaded) == 1  # Several keep together.
            for path, (motion, model, target) in zip(self._paths(), loaded, strict=True):
                self._at = path
                self.apply(context, motion, model, target)
            if len(loaded) == 1:
                bone_map.remember(context, str(self._at), self.settings(), loaded[0][0])
        except ERRORS as error:
            return self._failed(context, error)
        return {"FINISHED"}

    def _failed(self, context: bpy.types.Context, error: Exception) -> set[str]:
        if isinstance(error, UnknownSkeleton):
            bone_map.remember(context, str(self._at), self.settings(), error)
            offer_map_bones()
        return refused(self, error)

    def _imported(
        self, context: bpy.types.Context, path: Path, model: bodies.BodyModel, shape: np.ndarray | None
    ) -> motions.BodyMotion:
        with imported_armature(context, path, self.clip, self.keep_character) as (armature, notes):
            frames = frames_of(armature, context.scene)
            sampled = sample_armature(context.scene, context.view_layer, armature, *frames)
            motion = retarget_sampled(context, sampled, armature.name, model, self.heights, shape)
        return replace(motion, name=path.stem, notes=(*notes, *motion.notes))

    def _paths(self) -> list[Path]:
        if self.directory and self.files:
            names = [entry.name for entry in self.files if entry.name]
            if names:
                return [Path(bpy.path.abspath(self.directory)) / name for name in names]
        return [Path(bpy.path.abspath(self.filepath))] if self.filepath else []

    def draw(self, _context):
        draw_target(self.layout, self)
        self.layout.prop(self, "clip")
        for name in ("fps", "heights", "keep_lead", "keep_character"):
            self.layout.prop(self, name)


def retarget_sampled(
    context: bpy.types.Context,
    clip: BvhClip,
    name: str,
    model: bodies.BodyModel,
    heights: bool,
    shape: np.ndarray | None,
    mended: bool = True,
) -> motions.BodyMotion:
    """An armature's frames on a body. Raises MotionError."""
    rate = keys.scene_fps(context.scene)
    return motions.retarget_clip(clip, model, name, rate, up="Z", heights=heights, shape=shape, mended=mended)


class MAQUETTE_OT_add_walk(MotionTarget, Operator):
    """Let a body or an armature walk: a plain gait made on the spot, to try a camera or a shot with"""

    bl_idname = "maquette.add_walk"
    bl_label = "Add Walk"
    bl_options = {"REGISTER", "UNDO"}

    seconds: FloatProperty(
        name="Length", description="Length of the walk", default=4.0, min=0.1, max=600.0, unit="TIME"
    )
    speed: FloatProperty(name="Speed", description="Metres per second", default=1.2, min=0.0, max=3.0, unit="VELOCITY")
    seed: IntProperty(name="Seed", description="Another number, another walker", default=0, min=0)

    @classmethod
    def poll(cls, context):
        return mode_allows(cls, context)

    @refusing(*ERRORS)
    def execute(self, context):
        performer = self.begin(context)
        model = model_of(performer, self.body)
        fps = keys.scene_fps(context.scene)
        motion = motions.generate_walk(self.seconds, fps, speed=self.speed, seed=self.seed, body=model)
        self.apply(context, at_rate(motions.to_body(motion, model), fps), model, performer)
        return {"FINISHED"}

    def draw(self, _context):
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "seconds")
        layout.prop(self, "speed")
        layout.prop(self, "seed")
        draw_target(layout, self)


class MAQUETTE_FH_motion(FileHandler):
    """Motion files dropped into the 3D viewport."""

    bl_idname = "MAQUETTE_FH_motion"
    bl_label = "Maquette Motion"
    bl_import_operator = MAQUETTE_OT_import_motion.bl_idname
    bl_file_extensions = ";".join(EXTENSIONS)

    @classmethod
    def poll_drop(cls, context):
        return context.area is not None and context.area.type == "VIEW_3D"


def _menu(self, _context):
    self.layout.operator(MAQUETTE_OT_import_motion.bl_idname, text="Body Motion (.bvh, .fbx, .glb, .npz, .pkl, .pt)")


CLASSES = (MAQUETTE_OT_import_motion, MAQUETTE_OT_add_walk, MAQUETTE_FH_motion)
MENUS = {"TOPBAR_MT_file_import": _menu}
