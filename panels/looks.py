"""The Shot panel's part about a character's looks: its reference, and further ones from other sides."""

from __future__ import annotations

import bpy
from bpy.types import UILayout


def draw_looks(layout: UILayout, mesh: bpy.types.Object) -> None:
    """What the active character, a mesh, looks like, in a part that can be closed."""
    marks = mesh.maquette
    header, body = layout.panel("maquette_reference", default_closed=True)
    more = len(marks.references) if marks.reference_source != "NONE" else 0
    header.label(text=f"Looks of {mesh.name}" + (f" ({1 + more})" if more else ""))
    if body is None:
        return
    body.use_property_split = True
    body.use_property_decorate = False
    column = body.column()
    column.prop(marks, "reference_source")
    if marks.reference_source == "NONE":
        return
    if marks.reference_source == "IMAGE":
        column.template_ID(marks, "reference_image", open="image.open", text="Picture")
    column.prop(marks, "reference_frame", text="At Frame")
    for index, entry in enumerate(marks.references):
        box = body.box()
        row = box.row(align=True)
        row.use_property_split = False
        row.prop(entry, "name", text="", icon="IMAGE_DATA")
        row.operator("maquette.remove_reference", text="", icon="X").index = index
        column = box.column()
        column.prop(entry, "source")
        if entry.source == "IMAGE":
            column.template_ID(entry, "image", open="image.open", text="Picture")
        column.prop(entry, "frame", text="At Frame")
    body.operator("maquette.add_reference", icon="ADD")
    body.separator(factor=0.5)
