"""Sidebar, third panel: the camera and its moves."""

from __future__ import annotations

from bpy.types import Panel


class MAQUETTE_PT_camera(Panel):
    """Move the camera about the characters"""

    bl_idname = "MAQUETTE_PT_camera"
    bl_label = "Camera"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Maquette"
    bl_order = 2

    def draw(self, context):
        layout = self.layout
        layout.operator_context = "EXEC_DEFAULT"
        layout.operator_menu_enum("maquette.add_camera_move", "move", text="Add Camera Move", icon="CON_CAMERASOLVER")
        camera = context.scene.camera
        if camera is None or camera.type != "CAMERA":
            layout.label(text="No camera yet: a move adds one", icon="INFO")
            return
        layout.use_property_split = True
        layout.prop(context.scene, "camera")
        layout.prop(camera.data, "lens")


CLASSES = (MAQUETTE_PT_camera,)
