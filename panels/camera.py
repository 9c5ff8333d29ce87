"""Sidebar, third panel: the camera and its moves."""

from __future__ import annotations

from bpy.types import Panel

from .main import SidebarPanel, draw_hint


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


CLASSES = (MAQUETTE_PT_camera,)
