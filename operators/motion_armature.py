"""Motion of an armature that the scene holds already."""

from __future__ import annotations

from bpy.props import BoolProperty
from bpy.types import Operator

from ..backend.motions.skeletons import UnknownSkeleton
from ..scene.rig import bone_map
from ..scene.rig.armature import foreign_armature, frames_of
from ..scene.rig.bodies import find_body
from .motion import motion_of
from .motion_target import ERRORS, MotionTarget, draw_target, mode_allows, model_of


class MAQUETTE_OT_use_armature_motion(MotionTarget, Operator):
    """Put the motion of the active armature, whatever its bones are called, on a selected body or on a new one"""

    bl_idname = "maquette.use_armature_motion"
    bl_label = "Use Motion of Armature"
    bl_options = {"REGISTER", "UNDO"}

    heights: BoolProperty(
        name="Keep Heights",
        description="Leave heights as the armature has them, for stairs and uneven ground",
        default=False,
    )

    @classmethod
    def poll(cls, context):
        if foreign_armature(context.active_object) is None:
            cls.poll_message_set("Make the armature active whose motion is wanted; select a body to take it on")
            return False
        return mode_allows(cls, context)

    def execute(self, context):
        armature = foreign_armature(context.active_object)
        if not self.properties.is_property_set("frame_start"):
            self.frame_start = frames_of(armature, context.scene)[0]
        mesh = None
        if self.target == "ACTIVE":
            mesh = next((found for obj in context.selected_objects if (found := find_body(obj)) is not None), None)
        try:
            model = model_of(mesh, self.body)
            motion = motion_of(context, armature, model, self.heights)
            self.apply(context, motion, model, mesh)
            bone_map.remember(context, armature, self.settings(), motion)
        except ERRORS as error:
            if isinstance(error, UnknownSkeleton):
                bone_map.remember(context, armature, self.settings(), error)
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}

    def draw(self, _context):
        draw_target(self.layout, self)
        self.layout.prop(self, "heights")


CLASSES = (MAQUETTE_OT_use_armature_motion,)
