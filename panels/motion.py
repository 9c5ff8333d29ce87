"""Sidebar, second panel: motion for the active body."""

from __future__ import annotations

from bpy.types import Panel

from ..scene import keys, rig


class MAQUETTE_PT_motion(Panel):
    """Bring in motion"""

    bl_idname = "MAQUETTE_PT_motion"
    bl_label = "Motion"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Maquette"
    bl_order = 1

    def draw(self, context):
        layout = self.layout
        layout.operator("maquette.import_motion", icon="IMPORT")
        walk = layout.column()
        walk.operator_context = "EXEC_DEFAULT"
        walk.operator("maquette.add_walk", icon="FORCE_WIND")
        mesh = rig.find_body(context.active_object)
        if mesh is None:
            layout.label(text="No body active: a new one is added", icon="INFO")
            return
        armature = mesh.parent
        if armature is not None and keys.has_keys(armature):
            layout.label(text=armature.animation_data.action.name, icon="ACTION")
        else:
            layout.label(text=f"{mesh.name} has no keys yet", icon="INFO")


CLASSES = (MAQUETTE_PT_motion,)
