"""Adding bodies and posing them."""

from __future__ import annotations

import bpy
from bpy.props import EnumProperty, FloatVectorProperty, IntProperty, StringProperty
from bpy.types import Operator

from ..backend import bodies
from ..backend.catalogue.reader import CatalogueError, find_preset, menu
from ..backend.catalogue.rig import Pose
from ..scene.rig import poses
from ..scene.rig.bodies import RigError, find_body, load_rig, shape_component, shape_keys
from ..scene.rig.build import SHAPE_COMPONENTS, SHAPE_LIMIT, build_body
from .answers import possible, refusing

_items: dict[str, list[tuple[str, str, str]]] = {}
"""Items of dynamic enums; Blender needs their strings kept alive."""


def body_items(_self: object, _context: bpy.types.Context | None) -> list[tuple[str, str, str]]:
    """The bodies that can be added, the embedded one first."""
    _items["body"] = [(info.id, info.label, info.description) for info in bodies.list_bodies()]
    return _items["body"]


def pose_items(_self: object, _context: bpy.types.Context | None) -> list[tuple[str, str, str]]:
    """The poses of presets/poses."""
    _items["pose"] = [(pose.id.upper(), pose.label, pose.description) for pose in menu(Pose)]
    return _items["pose"]


def has_body(operator: type[Operator], context: bpy.types.Context) -> bool:
    """The ``poll`` of operators that need an active body."""
    return possible(operator, find_body(context.active_object) is not None, "Select a body first")


def select_only(context: bpy.types.Context, obj: bpy.types.Object) -> None:
    """Leave one object selected and active, as Blender does with what it adds."""
    for other in context.selected_objects:
        other.select_set(False)
    obj.select_set(True)
    context.view_layer.objects.active = obj


class MAQUETTE_OT_add_body(Operator):
    """Add a human body on an armature, standing at the 3D cursor"""

    bl_idname = "maquette.add_body"
    bl_label = "Add Body"
    bl_options = {"REGISTER", "UNDO"}

    body: EnumProperty(name="Body", description="Which body to add", items=body_items)
    filepath: StringProperty(
        name="Body File",
        description="An SMPL, SMPL-H or SMPL-X model file of your own; empty for the body chosen above",
        subtype="FILE_PATH",
    )
    name: StringProperty(name="Name", description="Name of the new body", default="Body")
    betas: FloatVectorProperty(
        name="Shape",
        description="A shape component of the body, in standard deviations; 0 is the mean",
        size=SHAPE_COMPONENTS,
        soft_min=-3.0,
        soft_max=3.0,
        min=-SHAPE_LIMIT,
        max=SHAPE_LIMIT,
        default=(0.0,) * SHAPE_COMPONENTS,
    )
    location: FloatVectorProperty(
        name="Location",
        description="Where the body stands; the 3D cursor unless you say otherwise",
        subtype="TRANSLATION",
        size=3,
    )

    @classmethod
    def poll(cls, context):
        return possible(cls, context.mode == "OBJECT", "Switch to Object Mode to add a body")

    @refusing(bodies.BodyError, OSError, RigError)
    def execute(self, context):
        if not self.properties.is_property_set("location"):
            self.location = context.scene.cursor.location
        model = bodies.load_body(bpy.path.abspath(self.filepath) if self.filepath else self.body)
        made = build_body(
            context,
            model,
            name=self.name.strip() or "Body",
            betas=self.betas,
            location=self.location,
            source=self.filepath,
        )
        select_only(context, made.armature)
        return {"FINISHED"}

    def draw(self, _context):
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "body")
        layout.prop(self, "filepath")
        layout.prop(self, "name")
        layout.prop(self, "location")
        body = "" if self.filepath else self.body
        column = layout.column(align=True)
        for component in range(SHAPE_COMPONENTS):
            column.prop(self, "betas", index=component, text=shape_component(body, component).label)


class MAQUETTE_OT_apply_pose(Operator):
    """Put the active body into a preset pose at the current frame, where it stands"""

    bl_idname = "maquette.apply_pose"
    bl_label = "Apply Pose"
    bl_options = {"REGISTER", "UNDO"}

    pose: EnumProperty(name="Pose", description="Which pose to take", items=pose_items)

    @classmethod
    def poll(cls, context):
        return has_body(cls, context)

    @refusing(CatalogueError, RigError)
    def execute(self, context):
        poses.apply(load_rig(find_body(context.active_object)), find_preset(Pose, self.pose))
        return {"FINISHED"}


class MAQUETTE_OT_reset_shape(Operator):
    """Set a shape component of the active body back to the mean"""

    bl_idname = "maquette.reset_shape"
    bl_label = "Reset Shape"
    bl_options = {"REGISTER", "UNDO"}

    component: IntProperty(name="Component", description="Which one, from 0; all when negative", default=-1)

    @classmethod
    def description(cls, context, properties):
        mesh = find_body(context.active_object)
        if mesh is None or properties.component < 0:
            return "Give the active body its mean shape again"
        said = shape_component(mesh.maquette.body, properties.component)
        return f"{said.label}, in standard deviations. {said.description}. Press to set it to 0"

    @classmethod
    def poll(cls, context):
        return has_body(cls, context)

    def execute(self, context):
        for component, key in enumerate(shape_keys(find_body(context.active_object))):
            if self.component in (component, -1):
                key.value = 0.0
        return {"FINISHED"}


def _menu(self, _context):
    self.layout.operator(MAQUETTE_OT_add_body.bl_idname, text="Body", icon="ARMATURE_DATA")


CLASSES = (MAQUETTE_OT_add_body, MAQUETTE_OT_apply_pose, MAQUETTE_OT_reset_shape)
MENUS = {"VIEW3D_MT_add": _menu}
