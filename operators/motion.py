"""Bringing motion into the scene: from files, or a generated walk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy
from bpy.props import BoolProperty, CollectionProperty, EnumProperty, FloatProperty, IntProperty, StringProperty
from bpy.types import FileHandler, Operator, OperatorFileListElement
from bpy_extras.io_utils import ImportHelper

from ..backend import bodies, motions
from ..scene import keys
from ..scene.rig.armature import FORMATS, frames_of, imported_armature, sample_armature
from ..scene.rig.bodies import Rig, RigError, body_source, find_body, load_rig
from ..scene.rig.build import build_body, remove_body
from ..scene.rig.motion import Imported, at_rate, fit_shape, key_motion
from .body import body_items, select_only
from .motion_reading import Reading

EXTENSIONS = (*motions.EXTENSIONS, *FORMATS)

_TARGETS = (
    ("ACTIVE", "Active Body", "Move the active body; a new one is added when no body is active"),
    ("NEW", "New Body", "Add a body for the motion"),
)
_PLACES = (
    ("FILE", "As in the File", "The motion takes place where the file says, so that several files keep together"),
    ("BODY", "From the Body", "The motion begins where the body stands now"),
)
_PATIENCE = 1.0
"""Seconds after which an import shows its progress and lets the animator cancel it."""
_Loaded = tuple[motions.BodyMotion, bodies.BodyModel, bpy.types.Object | None]
ERRORS = (motions.MotionError, bodies.BodyError, RigError, OSError)


class MotionTarget:
    """Where a motion goes: properties and the work that all motion operators share."""

    if TYPE_CHECKING:
        properties: Any
        report: Callable[[set[str], str], None]

    target: EnumProperty(name="Body", description="Which body performs the motion", items=_TARGETS, default="ACTIVE")
    body: EnumProperty(name="New Body", description="Which body to add when a new one is needed", items=body_items)
    place: EnumProperty(name="Place", description="Where the motion takes place", items=_PLACES, default="FILE")
    frame_start: IntProperty(
        name="Start Frame", description="Frame of the motion's first key; the scene's first frame by default", default=1
    )
    lock_feet: FloatProperty(
        name="Lock Feet",
        description="Hold standing feet where they stand: 0 leaves them as they are, 1 takes all sliding out",
        default=0.0,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
    )
    fit_range: BoolProperty(
        name="Fit Scene Range",
        description="Set the scene's first and last frame to the motion's. Otherwise the scene's range stays",
        default=False,
    )

    def begin(self, context: bpy.types.Context) -> bpy.types.Object | None:
        """The body to move, or None for a new one; fills in the start frame."""
        if not self.properties.is_property_set("frame_start"):
            self.frame_start = context.scene.frame_start
        return find_body(context.active_object) if self.target == "ACTIVE" else None

    def apply(
        self,
        context: bpy.types.Context,
        motion: motions.BodyMotion,
        model: bodies.BodyModel,
        mesh: bpy.types.Object | None,
    ) -> bpy.types.Object:
        """Key ``motion``, made for ``model`` and at the scene's rate, on ``mesh`` or on a new body. Reports its notes.

        Returns the body's mesh.
        """
        notes = list(motion.notes)
        new = mesh is None
        if new:
            made = _new_body(context, model, motion.name)
            notes.append(f"New body {made.mesh.name}")
        else:
            made = load_rig(mesh)
        try:
            depsgraph = context.evaluated_depsgraph_get()
            fitted = motions.lock_feet(fit_shape(motion, model, made.betas()), model, self.lock_feet)
            notes += fitted.notes[len(motion.notes) :]
            done = key_motion(made, fitted, self.frame_start, depsgraph, from_body=self.place == "BODY")
        except Exception:
            if new:
                remove_body(made)
            raise
        notes += done.notes
        self._range(context.scene, done, notes)
        for note in notes:
            self.report({"WARNING" if note.startswith(motions.WARNING) else "INFO"}, note[:1].upper() + note[1:])
        self.report({"INFO"}, f"{motion.name}: frames {done.first} to {done.last} on {made.mesh.name}")
        return made.mesh

    def _range(self, scene: bpy.types.Scene, done: Imported, notes: list[str]) -> None:
        if self.fit_range:
            scene.frame_start, scene.frame_end = done.first, done.last
            notes.append(f"Scene range set to frames {done.first} to {done.last}")
        elif done.last > scene.frame_end or done.first < scene.frame_start:
            notes.append(
                f"The scene's range, {scene.frame_start} to {scene.frame_end}, stays; "
                f"tick Fit Scene Range to see all of {done.first} to {done.last}"
            )


def _is_scene(path: Path) -> bool:
    return path.suffix.lower() in FORMATS


def _new_body(context: bpy.types.Context, model: bodies.BodyModel, name: str) -> Rig:
    """Add a body from whatever mode the animator is in.

    In Object Mode it is selected and active afterwards, as anything added; else the animator comes back to the mode
    and object at hand.
    """
    active = context.view_layer.objects.active
    mode = active.mode if active is not None else "OBJECT"
    if mode != "OBJECT":
        bpy.ops.object.mode_set(mode="OBJECT")
    built = False
    try:
        made = build_body(context, model, name=name)
        built = True
    finally:
        if not built or mode != "OBJECT":
            context.view_layer.objects.active = active
        if mode != "OBJECT":
            bpy.ops.object.mode_set(mode=mode)
    if mode == "OBJECT":
        select_only(context, made.armature)
    return made


def model_of(mesh: bpy.types.Object | None, new: str) -> bodies.BodyModel:
    """The body model to retarget to: the active body's own, or the one to add."""
    if mesh is None:
        return bodies.load_body(new)
    return bodies.load_body(body_source(mesh))


def mode_allows(cls, context: bpy.types.Context) -> bool:
    if context.mode not in ("OBJECT", "POSE"):
        cls.poll_message_set("Switch to Object or Pose Mode to bring in a motion")
        return False
    return True


class MAQUETTE_OT_import_motion(MotionTarget, Operator, ImportHelper):
    """Put a motion file on a body: BVH, FBX, glTF, AMASS and SMPL-X .npz, trackers' .pkl, .npz and .pt, or joints"""

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
        if not self.properties.is_property_set("frame_start"):
            self.frame_start = context.scene.frame_start
        # Dropped onto a window the files are known already; their settings are asked for in a small dialog.
        if self.directory and self.files:
            return context.window_manager.invoke_props_dialog(self)
        return ImportHelper.invoke(self, context, event)

    def execute(self, context):
        paths = self._paths()
        if not paths:
            self.report({"ERROR"}, f"No file chosen: choose a {', '.join(EXTENSIONS)} motion")
            return {"CANCELLED"}
        mesh = self.begin(context)
        try:
            # All files are read before the scene is touched, so that a bad one changes nothing.
            targets = [mesh if index == 0 else None for index in range(len(paths))]
            jobs = [(path, model_of(target, self.body), target) for path, target in zip(paths, targets, strict=True)]
            scenes = {path: self._imported(context, path, model) for path, model, _ in jobs if _is_scene(path)}
            options = {"fps": self.fps or None, "clip": self.clip, "heights": self.heights, "keep_lead": self.keep_lead}
            rate = keys.scene_fps(context.scene)

            def read(watch: Callable[[float], None]) -> list[_Loaded]:
                found = []
                for index, (path, model, target) in enumerate(jobs):
                    told = lambda part, index=index: watch((index + part) / len(jobs))  # noqa: E731
                    motion = scenes.get(path) or motions.load_motion(path, body=model, watch=told, **options)
                    found.append((at_rate(motion, rate), model, target))
                return found

            self._reading = Reading(read)
            self._reading.wait(_PATIENCE if self._may_wait(context) else None)
        except ERRORS as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if not self._reading.done:
            self._timer = context.window_manager.event_timer_add(0.1, window=context.window)
            context.window_manager.modal_handler_add(self)
            return {"RUNNING_MODAL"}
        return self._finish(context)

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
            for motion, model, target in loaded:
                self.apply(context, motion, model, target)
        except ERRORS as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}

    def _imported(self, context: bpy.types.Context, path: Path, model: bodies.BodyModel) -> motions.BodyMotion:
        with imported_armature(context, path, self.clip, self.keep_character) as (armature, notes):
            motion = motion_of(context, armature, model, self.heights)
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


def motion_of(
    context: bpy.types.Context, armature: bpy.types.Object, model: bodies.BodyModel, heights: bool = False
) -> motions.BodyMotion:
    """An armature's action on a body. Raises MotionError."""
    scene = context.scene
    clip = sample_armature(scene, context.view_layer, armature, *frames_of(armature, scene))
    return motions.retarget_clip(clip, model, armature.name, keys.scene_fps(scene), up="Z", heights=heights)


class MAQUETTE_OT_add_walk(MotionTarget, Operator):
    """Let a body walk: a plain gait made on the spot, to try a camera or a shot with"""

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

    def execute(self, context):
        mesh = self.begin(context)
        try:
            model = model_of(mesh, self.body)
            fps = keys.scene_fps(context.scene)
            motion = motions.generate_walk(self.seconds, fps, speed=self.speed, seed=self.seed, body=model)
            motion = at_rate(motions.to_body(motion, model), fps)
            self.apply(context, motion, model, mesh)
        except ERRORS as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}

    def draw(self, _context):
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "seconds")
        layout.prop(self, "speed")
        layout.prop(self, "seed")
        draw_target(layout, self)


def draw_target(layout: bpy.types.UILayout, operator: bpy.types.bpy_struct) -> None:
    layout.use_property_split = True
    layout.prop(operator, "target")
    layout.prop(operator, "body")
    layout.prop(operator, "place")
    layout.prop(operator, "frame_start")
    layout.prop(operator, "lock_feet")
    layout.prop(operator, "fit_range")


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


def register() -> None:
    """Add the entry of File > Import."""
    bpy.types.TOPBAR_MT_file_import.append(_menu)


def unregister() -> None:
    """Take the menu entry off again."""
    bpy.types.TOPBAR_MT_file_import.remove(_menu)
