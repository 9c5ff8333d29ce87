"""Sidebar, third panel: the camera and its moves."""

from __future__ import annotations

from bpy.types import Panel

from ..scene.job.model_checks import makers
from .main import SidebarPanel, draw_hint, draw_text


class MAQUETTE_PT_camera(SidebarPanel, Panel):
    """Move the camera about the characters"""

    bl_idname = "MAQUETTE_PT_camera"
    bl_label = "Camera"
    bl_order = 2

    def draw(self, context):
        layout = self.layout
        layout.operator_context = "EXEC_DEFAULT"
        layout.operator_menu_enum("maquette.add_camera_move", "move", text="Add Camera Move", icon="CON_CAMERASOLVER")
        camera = context.scene.camera
        if camera is None or camera.type != "CAMERA":
            draw_hint(layout, context, "The scene has no camera yet: a move adds one")
            return
        layout.use_property_split = True
        layout.prop(context.scene, "camera")
        layout.prop(camera.data, "lens")
        layout.operator_context = "INVOKE_DEFAULT"
        layout.operator("maquette.export_camera", icon="EXPORT")


class MAQUETTE_PT_framing(SidebarPanel, Panel):
    """How the shot lies in the camera that the chosen model knows"""

    bl_idname = "MAQUETTE_PT_framing"
    bl_parent_id = "MAQUETTE_PT_camera"
    bl_label = "Framing"

    @classmethod
    def poll(cls, context):
        return any(model.needs("joints") for model in makers(context.scene))

    def draw(self, context):
        layout, view = self.layout, context.window_manager.maquette
        row = layout.row(align=True)
        row.operator("maquette.frame_55", icon="CAMERA_DATA")
        row.operator("maquette.frame_55", text="Keep Framing").keep_framing = True
        layout.operator("maquette.check_framing", icon="VIEWZOOM")
        if view.framed_scene != context.scene.name:
            return
        width = context.region.width - 22 if context.region else None  # a sub-panel is set in
        column = layout.column()
        column.active = not view.framing_old
        if view.framing_old:
            column.label(text="The scene has changed since then", icon="TIME")
        for line in view.framing:
            if line.level == "OK":
                draw_text(column, context, line.message, "CHECKMARK", width)
            else:
                draw_hint(column, context, line.message, line.level, width)


CLASSES = (MAQUETTE_PT_camera, MAQUETTE_PT_framing)
