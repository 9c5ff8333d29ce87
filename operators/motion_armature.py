"""Motion of an armature that the scene holds already: taken over as keys, or followed while it is edited."""

from __future__ import annotations

from collections.abc import Callable

import bpy
import numpy as np
from bpy.props import BoolProperty
from bpy.types import Operator

from ..backend import bodies, motions
from ..backend.motions.retarget import Retarget, retarget
from ..backend.motions.skeletons import UnknownSkeleton
from ..scene.rig import bone_map
from ..scene.rig.armature import foreign_armature, frames_of, sample_armature
from ..scene.rig.bodies import find_body, load_rig
from ..scene.rig.follow import follow, followed, link_of, release
from ..scene.rig.motion import key_motion, read_motion
from .answers import possible, refused, refusing
from .motion import retarget_sampled
from .motion_target import ERRORS, MotionTarget, draw_target, mode_allows, model_of, offer_map_bones, shape_of


class MAQUETTE_OT_use_armature_motion(MotionTarget, Operator):
    """Put the motion of the active armature, whatever its bones are called, on a selected body or on a new one"""

    bl_idname = "maquette.use_armature_motion"
    bl_label = "Use Motion of Armature"
    bl_options = {"REGISTER", "UNDO"}
    stays = False  # The armature shows where.
    keys_armatures = False

    live: BoolProperty(
        name="Live",
        description="Let the body follow the armature while that is edited, instead of keying it. Heights are kept "
        "as the armature has them",
        default=False,
    )
    heights: BoolProperty(
        name="Keep Heights",
        description="Leave heights as the armature has them, for stairs and uneven ground",
        default=False,
    )

    mend: BoolProperty(
        name="Mend Glitches",
        description="Take out frames that a tracker lost. Off for poses that are keyed by hand, however sudden",
        default=True,
    )

    @classmethod
    def description(cls, _context, properties):
        if properties.live:
            return "Let a selected body, or a new one, follow the active armature while that is edited"
        return cls.__doc__

    @classmethod
    def poll(cls, context):
        wanted = "Make the armature active whose motion is wanted; select a body to take it on"
        return possible(cls, foreign_armature(context.active_object), wanted) and mode_allows(cls, context)

    def execute(self, context):
        armature = foreign_armature(context.active_object)
        assert armature is not None  # by poll
        if not self.properties.is_property_set("frame_start"):
            self.frame_start = frames_of(armature, context.scene)[0]
        mesh = None
        if self.target == "ACTIVE":
            mesh = next((found for obj in context.selected_objects if (found := find_body(obj)) is not None), None)
        try:
            model = model_of(mesh, self.body)
            clip = sample_armature(context.scene, context.view_layer, armature, *frames_of(armature, context.scene))
            shape = shape_of(mesh, model)
            motion = retarget_sampled(
                context,
                clip,
                armature.name,
                model,
                self.heights or self.live,
                shape,
                mended=self.mend and not self.live,
            )
            if self.live:
                found = retarget(clip, model, up="Z", shape=shape)
                self._follow(context, armature, found, motion, model, mesh)
            else:
                self.apply(context, motion, model, mesh)
            bone_map.remember(context, armature, self.settings(), motion)
        except ERRORS as error:
            if isinstance(error, UnknownSkeleton):
                bone_map.remember(context, armature, self.settings(), error)
                offer_map_bones()
            return refused(self, error)
        return {"FINISHED"}

    def _follow(
        self,
        context: bpy.types.Context,
        armature: bpy.types.Object,
        found: Retarget,
        motion: motions.BodyMotion,
        model: bodies.BodyModel,
        mesh: bpy.types.Object | None,
    ) -> None:
        rig = load_rig(mesh) if mesh is not None else self.new_body(context, model, armature.name)
        shift = np.median(motion.trans - found.trans, axis=0)
        follow(context, rig, model.joints_rest(motion.betas), armature, found.link, shift)
        self.tell(motion.notes)
        self.report({"INFO"}, f"{rig.mesh.name} follows {armature.name}")

    def draw(self, _context):
        self.layout.use_property_split = True
        self.layout.prop(self, "live")
        if self.live:
            self.layout.prop(self, "target")
            self.layout.prop(self, "body")
            return
        draw_target(self.layout, self)
        self.layout.prop(self, "heights")
        self.layout.prop(self, "mend")


def _follows(cls, context: bpy.types.Context, known: Callable[[bpy.types.Object], bpy.types.Object | None]) -> bool:
    mesh = find_body(context.active_object)
    follows = mesh is not None and known(mesh) is not None
    return possible(cls, follows, "Make a body active that follows an armature")


class MAQUETTE_OT_bake_motion(Operator):
    """Turn what the active body follows into keys of its own, over the frames of the armature's action"""

    bl_idname = "maquette.bake_motion"
    bl_label = "Bake"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        return _follows(cls, context, followed)

    @refusing(*ERRORS)
    def execute(self, context):
        mesh = find_body(context.active_object)
        first, last = frames_of(followed(mesh), context.scene)
        motion = read_motion(context.scene, context.view_layer, mesh, first, last)
        rig = load_rig(mesh)
        key_motion(rig, motion, first, context.evaluated_depsgraph_get())
        self.report({"INFO"}, f"{rig.mesh.name}: keys on frames {first} to {last}")
        return {"FINISHED"}


class MAQUETTE_OT_unlink_motion(Operator):
    """Let the active body follow nothing; keys that it had before move it again"""

    bl_idname = "maquette.unlink_motion"
    bl_label = "Unlink"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context):
        return _follows(cls, context, link_of)

    def execute(self, context):
        release(load_rig(find_body(context.active_object)))
        return {"FINISHED"}


CLASSES = (MAQUETTE_OT_use_armature_motion, MAQUETTE_OT_bake_motion, MAQUETTE_OT_unlink_motion)
