"""Who performs a motion, from which frame on, and what is said about it: shared by all that bring in motion."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import bpy
import numpy as np
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty
from mathutils import Vector

from ..backend import bodies, motions
from ..backend.motions.skeletons import UnknownSkeleton
from ..scene import keys
from ..scene.rig import bone_map
from ..scene.rig.armature import foreign_armature
from ..scene.rig.bodies import Rig, RigError, body_source, find_body, load_rig
from ..scene.rig.build import build_body, remove_body
from ..scene.rig.motion import Imported, fit_shape, key_motion
from ..scene.rig.onto_armature import key_armature
from .answers import possible
from .body import body_items, select_only

ERRORS = (motions.MotionError, bodies.BodyError, RigError, OSError)


_TARGETS = (
    (
        "ACTIVE",
        "Active Body or Armature",
        "Move the active body, or the active armature of any other make; a new body is added when neither is active",
    ),
    ("NEW", "New Body", "Add a body for the motion"),
)
_PLACES = (
    ("AUTO", "Automatic", "A body without keys begins where it stands; any other moves where the file says"),
    ("FILE", "As in the File", "The motion takes place where the file says, so that several files keep together"),
    ("BODY", "From the Body", "The motion begins where the body stands now"),
)


class MotionTarget:
    """Where a motion goes: properties and the work that all motion operators share.

    Attributes:
        stays: whether a body without keys begins where it stands, unless Place says otherwise.
        keys_armatures: whether an active armature performs, too.
    """

    stays = True
    keys_armatures = True

    if TYPE_CHECKING:
        properties: Any
        report: Callable[[set[str], str], None]
        as_keywords: Callable[..., dict[str, Any]]
        bl_idname: str

    target: EnumProperty(name="Performer", description="Who performs the motion", items=_TARGETS, default="ACTIVE")
    body: EnumProperty(name="New Body", description="Which body to add when a new one is needed", items=body_items)
    place: EnumProperty(name="Place", description="Where the motion takes place", items=_PLACES, default="AUTO")
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
        description="Set the scene's first and last frame to the motion's; on for a scene's first motion. Otherwise "
        "the scene's range stays",
        default=False,
    )

    def settings(self) -> dict[str, Any]:
        """What the animator has chosen, but for the files, and the name of the ``operator``."""
        chosen = self.as_keywords(ignore=("filepath", "directory", "files", "filter_glob", "check_existing"))
        return {"operator": self.bl_idname.split("_OT_")[-1], **chosen}

    def file(self) -> dict[str, str]:
        """The file at hand, as ``filepath``; empty where the motion comes from none."""
        return {}

    def begin(self, context: bpy.types.Context) -> bpy.types.Object | None:
        """The body's mesh or the armature to move, or None for a new body; fills in what nobody has set."""
        self.fill_in(context)
        return performer(context.active_object) if self.target == "ACTIVE" else None

    def fill_in(self, context: bpy.types.Context) -> None:
        """Set the start frame and whether the range is fitted, where nobody has."""
        scene = context.scene
        if not self.properties.is_property_set("frame_start"):
            self.frame_start = scene.frame_start
        if not self.properties.is_property_set("fit_range"):
            rigs = [mesh.parent for obj in scene.objects if (mesh := find_body(obj)) is not None]
            if self.keys_armatures:
                rigs.append(foreign_armature(context.active_object))
            self.fit_range = not any(rig is not None and keys.has_keys(rig) for rig in rigs)

    def apply(
        self,
        context: bpy.types.Context,
        motion: motions.BodyMotion,
        model: bodies.BodyModel,
        target: bpy.types.Object | None,
    ) -> None:
        """Key ``motion``, made for ``model`` and at the scene's rate, on a body's mesh, an armature or a new body.

        Reports its notes.
        """
        notes = list(motion.notes)
        if target is not None and target.type == "ARMATURE":
            moved, done = target, self._key_armature(context, motion, model, target, notes)
        else:
            moved, done = self._key_body(context, motion, model, target, notes)
        notes += done.notes
        self._range(context.scene, done, notes)
        self.tell(notes)
        _keep_in_view(context, moved)
        self.report({"INFO"}, f"{motion.name}: frames {done.first} to {done.last} on {moved.name}")

    def _from_here(self, unkeyed: bool) -> bool:
        return self.place == "BODY" or (self.place == "AUTO" and self.stays and unkeyed)

    def _key_armature(
        self,
        context: bpy.types.Context,
        motion: motions.BodyMotion,
        model: bodies.BodyModel,
        armature: bpy.types.Object,
        notes: list[str],
    ) -> Imported:
        held = motions.lock_feet(motion, model, self.lock_feet)
        notes += held.notes[len(motion.notes) :]
        here = self._from_here(not keys.has_keys(armature))
        try:
            return key_armature(context.scene, armature, held, model, self.frame_start, from_here=here)
        except UnknownSkeleton as error:
            bone_map.remember(context, armature, {**self.settings(), **self.file()}, error)
            offer_map_bones()
            raise RigError(armature.name, str(error).removeprefix(f"{error.field}: ")) from error

    def _key_body(
        self,
        context: bpy.types.Context,
        motion: motions.BodyMotion,
        model: bodies.BodyModel,
        mesh: bpy.types.Object | None,
        notes: list[str],
    ) -> tuple[bpy.types.Object, Imported]:
        """Returns the body's mesh, too."""
        new = mesh is None
        if new:
            made = self.new_body(context, model, motion.name)
            notes.append(f"New body {made.mesh.name}")
        else:
            made = load_rig(mesh)
        try:
            depsgraph = context.evaluated_depsgraph_get()
            fitted = motions.lock_feet(fit_shape(motion, model, made.betas()), model, self.lock_feet)
            notes += fitted.notes[len(motion.notes) :]
            here = self._from_here(not new and not keys.has_keys(made.armature))
            return made.mesh, key_motion(made, fitted, self.frame_start, depsgraph, from_body=here)
        except Exception:
            if new:
                remove_body(made)
            raise

    @staticmethod
    def new_body(context: bpy.types.Context, model: bodies.BodyModel, name: str) -> Rig:
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

    def tell(self, notes: Iterable[str]) -> None:
        """Report sentences for the animator, and keep them in the panel."""
        said = sentences(notes)
        bpy.context.window_manager.maquette.motion_notes = "\n".join(said)
        for note in said:
            self.report({"WARNING" if note.lower().startswith(motions.WARNING.lower()) else "INFO"}, note)

    def _range(self, scene: bpy.types.Scene, done: Imported, notes: list[str]) -> None:
        if self.fit_range:
            scene.frame_start, scene.frame_end = done.first, done.last
            notes.append(f"Scene range set to frames {done.first} to {done.last}")
        elif done.last > scene.frame_end or done.first < scene.frame_start:
            notes.append(
                f"The scene's range, {scene.frame_start} to {scene.frame_end}, stays; "
                f"tick Fit Scene Range to see all of {done.first} to {done.last}"
            )


def sentences(notes: Iterable[str]) -> list[str]:
    """Notes as they are shown."""
    return [note[:1].upper() + note[1:] for note in notes]


def _keep_in_view(context: bpy.types.Context, target: bpy.types.Object) -> None:
    """Turn to a performer in 3D views that do not show it any more; a camera's view stays as it is."""
    if context.window is None:
        return
    context.view_layer.update()
    corners = [
        target.matrix_world @ Vector(corner)
        for corner in target.evaluated_get(context.evaluated_depsgraph_get()).bound_box
    ]
    middle = sum(corners, Vector()) / 8
    for area in context.window.screen.areas if context.window.screen is not None else ():
        view = area.spaces.active.region_3d if area.type == "VIEW_3D" else None
        if view is None or view.view_perspective == "CAMERA":
            continue
        seen = view.perspective_matrix @ middle.to_4d()
        if seen.w <= 0 or max(abs(seen.x), abs(seen.y)) > 0.9 * seen.w:
            view.view_location = middle


def performer(obj: bpy.types.Object | None) -> bpy.types.Object | None:
    """Who performs where an object is active: the mesh of a body, or the armature of any other make."""
    return find_body(obj) or foreign_armature(obj)


def model_of(target: bpy.types.Object | None, new: str) -> bodies.BodyModel:
    """The body model to retarget to: a body's own; else the one to add, which also stands in for an armature."""
    if target is None or target.type == "ARMATURE":
        return bodies.load_body(new)
    return bodies.load_body(body_source(target))


def shape_of(target: bpy.types.Object | None, model: bodies.BodyModel) -> np.ndarray | None:
    """(S,) the shape that the animator has given a body; None where it has the mean one, is new or no body."""
    given = load_rig(target).betas() if find_body(target) is not None else np.zeros(0)
    if not given.any():
        return None
    shape = np.zeros(model.shapedirs.shape[2], dtype=np.float32)
    shape[: len(given)] = given[: len(shape)]
    return shape


def mode_allows(cls, context: bpy.types.Context) -> bool:
    return possible(cls, context.mode in ("OBJECT", "POSE"), "Switch to Object or Pose Mode to bring in a motion")


def offer_map_bones() -> None:
    """Open Map Bones for what was noted last, once the operator at hand has told its error."""
    if not bpy.app.background:
        bpy.app.timers.register(_map_bones, first_interval=0.2)


def _map_bones() -> None:
    for window in bpy.context.window_manager.windows[:1]:
        with bpy.context.temp_override(window=window):
            bpy.ops.maquette.map_bones("INVOKE_DEFAULT")


def draw_target(layout: bpy.types.UILayout, operator: bpy.types.bpy_struct) -> None:
    layout.use_property_split = True
    layout.prop(operator, "target")
    layout.prop(operator, "body")
    layout.prop(operator, "place")
    layout.prop(operator, "frame_start")
    layout.prop(operator, "lock_feet")
    layout.prop(operator, "fit_range")
