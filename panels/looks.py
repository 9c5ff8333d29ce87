"""The Shot panel's part about a character's looks: its reference, and further ones from other sides."""

from __future__ import annotations

import bpy
from bpy.types import PropertyGroup, UILayout

from ..scene.capture.match import entry_of, match_of
from ..scene.rig.bodies import is_body

_THUMBNAIL = 5.0
"""Side of a picture in the panel, in heights of a button."""


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
    _draw_moment(column, mesh, -1)
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
        _draw_moment(column, mesh, index)
    body.operator("maquette.add_reference", icon="ADD")
    body.separator(factor=0.5)


def _draw_moment(layout: UILayout, mesh: bpy.types.Object, index: int) -> None:
    """When a reference shows its character: at a frame, or as its picture was matched."""
    marks = mesh.maquette
    owner, source, frame = (
        (marks, marks.reference_source, "reference_frame")
        if index < 0
        else (marks.references[index], marks.references[index].source, "frame")
    )
    image, kept = entry_of(marks, index)
    if source == "IMAGE" and image is not None:
        preview = image.preview_ensure()
        if preview is not None:
            layout.template_icon(icon_value=preview.icon_id, scale=_THUMBNAIL)
        if is_body(mesh):
            if match_of(kept, image) is not None:
                _draw_match(layout, kept, image, index)
                return
            if kept.solution:
                _hint(layout, "Another picture was matched", "ERROR")
            elif _other_shape(image):
                _hint(layout, "Not of the shot's shape: match it", "INFO")
            layout.operator("maquette.match_picture", icon="PINNED").index = index
    layout.prop(owner, frame, text="At Frame")


def _draw_match(layout: UILayout, kept: PropertyGroup, image: bpy.types.Image, index: int) -> None:
    """How well a picture is matched, and what is made of it."""
    match = match_of(kept, image)
    assert match is not None
    row = layout.row(align=True)
    row.operator("maquette.match_picture", text="Edit Match", icon="PINNED").index = index
    row.operator("maquette.clear_match", text="", icon="X").index = index
    fit = f"{len(kept.pins)} pins, {match.error:.1f} px off ({match.share:.1%})"
    _hint(layout, fit, "ERROR" if match.trouble else "CHECKMARK")
    if match.trouble:
        _hint(layout, "A poor fit: looks will slip" if match.astray else "Unlikely: left, right mixed up?", "BLANK1")
    layout.prop(kept, "cut_out")
    if kept.cut_out:
        layout.prop(kept, "margin")


def _other_shape(image: bpy.types.Image) -> bool:
    """Whether a picture would not fill the shot's frame."""
    render, (width, height) = bpy.context.scene.render, image.size
    shown = render.resolution_x * render.pixel_aspect_x * height
    return abs(width * render.resolution_y * render.pixel_aspect_y - shown) > 0.01 * shown


def _hint(layout: UILayout, text: str, icon: str) -> None:
    row = layout.row()
    row.alert = icon in ("ERROR", "BLANK1")
    row.label(text=text, icon=icon)
