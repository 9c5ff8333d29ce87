"""Sidebar, second panel: motion for the active body."""

from __future__ import annotations

from bpy.types import Panel

from ..scene import keys
from ..scene.rig.armature import foreign_armature
from ..scene.rig.bodies import find_body
from ..scene.rig.follow import followed, link_of
from .main import SidebarPanel, draw_hint, draw_notes


class MAQUETTE_PT_motion(SidebarPanel, Panel):
    """Bring in motion"""

    bl_idname = "MAQUETTE_PT_motion"
    bl_label = "Motion"
    bl_order = 1

    def draw(self, context):
        layout = self.layout
        bones = context.window_manager.maquette.bones
        row = layout.row(align=True)
        row.operator("maquette.import_motion", icon="IMPORT")
        if bones.source and not bones.trouble:
            row.operator("maquette.map_bones", text="", icon="BONE_DATA")
        if bones.trouble:
            draw_hint(layout, context, bones.trouble, "WARNING")
            layout.operator("maquette.map_bones", icon="BONE_DATA")
        if foreign_armature(context.active_object) is not None:
            row = layout.row(align=True)
            row.operator("maquette.use_armature_motion", icon="ARMATURE_DATA").live = False
            row.operator("maquette.map_bones", text="", icon="BONE_DATA").of_armature = True
            layout.operator("maquette.use_armature_motion", text="Follow Armature Live", icon="LINKED").live = True
        walk = layout.column()
        walk.operator_context = "EXEC_DEFAULT"
        walk.operator("maquette.add_walk", icon="FORCE_WIND")
        notes = context.window_manager.maquette.motion_notes
        draw_notes(layout, context, notes, "maquette_motion_notes", "maquette.dismiss_notes")
        mesh = find_body(context.active_object)
        if mesh is None:
            own, new = foreign_armature(context.active_object), "No body is active: the motion brings a new one"
            draw_hint(layout, context, f"Motions go onto {own.name}" if own is not None else new)
            return
        armature, source = mesh.parent, followed(mesh)
        if link_of(mesh) is not None:
            text = f"Follows {source.name}" if source is not None else "The Armature It Followed Is Gone"
            layout.label(text=text, icon="LINKED" if source is not None else "ERROR")
            row = layout.row(align=True)
            row.operator("maquette.bake_motion", icon="KEYFRAME")
            row.operator("maquette.unlink_motion", icon="UNLINKED")
            row.operator("maquette.export_motion", text="", icon="EXPORT")
        elif armature is not None and keys.has_keys(armature):
            layout.label(text=armature.animation_data.action.name, icon="ACTION")
            row = layout.row(align=True)
            row.operator("maquette.lock_feet", icon="PINNED")
            row.operator("maquette.export_motion", icon="EXPORT")
        else:
            draw_hint(layout, context, f"{mesh.name} has no keys yet: import a motion, or pose it and press I")


CLASSES = (MAQUETTE_PT_motion,)
