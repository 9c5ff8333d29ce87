"""The tree of a motion file's joints, in the dialog of Map Bones."""

from __future__ import annotations

from bpy.types import Context, PropertyGroup, UILayout, UIList

from ..backend.motions.bones import part_label


class MAQUETTE_UL_file_joints(UIList):
    """A file's joints, each below its parent, with the part of the body that it stands for."""

    bl_idname = "MAQUETTE_UL_file_joints"

    def draw_item(
        self,
        context: Context,
        layout: UILayout,
        data: PropertyGroup,
        item: PropertyGroup,
        icon: int,
        active_data: PropertyGroup,
        active_property: str,
        index: int = 0,
        flt_flag: int = 0,
    ) -> None:
        """One row: the joint, indented, and the parts that it stands for."""
        parts = [part_label(row.name) for row in data.parts if row.joint == item.name]
        row = layout.row(align=True)
        if item.depth:
            row.separator(factor=0.8 * item.depth)
        row.label(text=item.name, icon="BONE_DATA" if parts else "DOT")
        if parts:
            told = row.row()
            told.alignment = "RIGHT"
            told.enabled = False
            told.label(text=", ".join(parts))


CLASSES = (MAQUETTE_UL_file_joints,)
