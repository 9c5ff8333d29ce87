"""Sidebar, first panel: bodies, their shape and their looks."""

from __future__ import annotations

from bpy.types import Panel

from ..operators.looks import active_character
from ..scene.camera.moves import characters
from ..scene.rig import paint
from ..scene.rig.bodies import find_body, shape_component, shape_keys
from .main import SidebarPanel, draw_hint


class MAQUETTE_PT_body(SidebarPanel, Panel):
    """Add bodies and mark characters"""

    bl_idname = "MAQUETTE_PT_body"
    bl_label = "Body"
    bl_order = 0

    def draw(self, context):
        layout = self.layout
        layout.operator_context = "EXEC_DEFAULT"
        if not characters(context.scene):
            row = layout.row()
            row.scale_y = 1.5
            row.operator("maquette.first_shot", icon="PLAY")
        layout.operator("maquette.add_body", icon="ADD")
        mesh = active_character(context)
        if mesh is None:
            draw_hint(layout, context, "Add a body, or select a mesh that shall perform")
            return
        layout.prop(mesh.maquette, "is_character", text=f"{mesh.name} Is a Character")
        if find_body(mesh) is not None:
            layout.operator_menu_enum("maquette.apply_pose", "pose", text="Apply Pose", icon="POSE_HLT")


class MAQUETTE_PT_body_shape(SidebarPanel, Panel):
    """The shape of the active body; each slider is a shape key and can be keyed"""

    bl_idname = "MAQUETTE_PT_body_shape"
    bl_parent_id = "MAQUETTE_PT_body"
    bl_label = "Shape"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context):
        return find_body(context.active_object) is not None

    def draw(self, context):
        mesh = find_body(context.active_object)
        if mesh is None:
            return
        column = self.layout.column(align=True)
        for component, key in enumerate(shape_keys(mesh)):
            row = column.row(align=True)
            row.prop(key, "value", text=shape_component(mesh.maquette.body, component).label, slider=True)
            row.operator("maquette.reset_shape", text="", icon="LOOP_BACK").component = component
        self.layout.operator("maquette.reset_shape", text="Reset All", icon="LOOP_BACK").component = -1


class MAQUETTE_PT_body_colors(SidebarPanel, Panel):
    """The colours of the active body's skin, hair and clothes"""

    bl_idname = "MAQUETTE_PT_body_colors"
    bl_parent_id = "MAQUETTE_PT_body"
    bl_label = "Colors"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context):
        return find_body(context.active_object) is not None

    def draw(self, context):
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        mesh = find_body(context.active_object)
        if mesh is None:
            return
        for region in paint.REGIONS:
            layout.prop(mesh.maquette, f"color_{region}")


CLASSES = (MAQUETTE_PT_body, MAQUETTE_PT_body_shape, MAQUETTE_PT_body_colors)
