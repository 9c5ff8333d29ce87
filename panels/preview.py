"""The Preview row of the Shot panel, and Preview and Generate in the header of a view that looks through the camera."""

from __future__ import annotations

import bpy
from bpy.types import Context, UILayout

from ..scene.job import effects, preview
from ..scene.screen.previews import reel_of
from .main import draw_hint, draw_look_through


def draw_preview(layout: UILayout, context: Context) -> None:
    """The buttons, how far the preview is, and what stands in its way."""
    runner, shot = preview.runner, context.scene.maquette
    column = layout.column(align=True)
    row = column.row(align=True)
    row.scale_y = 1.3
    row.use_property_split = False
    row.operator("maquette.preview", icon="PLAY")
    row.prop(context.window_manager.maquette, "live", text="Live", icon="FILE_REFRESH", toggle=True)
    row = column.row(align=True)
    row.use_property_split = False
    row.prop(shot, "preview_by", expand=True)
    row = column.row(align=True)
    row.operator("maquette.refine", icon="SHADERFX")
    row.operator("maquette.clear_preview", text="", icon="X")
    if runner.busy:
        row = column.row(align=True)
        row.progress(factor=runner.progress, text="Making the Preview" if runner.by_model else "Taking the Looks")
        row.operator("maquette.stop_preview", text="", icon="CANCEL")
    reel = reel_of(shot.uid)
    if reel is not None:
        column.prop(shot, "overlay_opacity", slider=True)
        column.prop(shot, "overlay_wipe", slider=True)
        draw_look_through(column, context)
        space = getattr(context, "space_data", None)
        if reel.draft is not None and space is not None and not space.overlay.show_overlays:
            # Blender tells of the depth, which the draft needs, among overlays alone.
            row = column.row(align=True)
            row.use_property_split = False
            row.prop(space.overlay, "show_overlays", text="Show Overlays", icon="OVERLAY", toggle=True)
    if runner.message and (reel is not None or runner.problem or runner.busy):
        draw_hint(column, context, runner.message, "ERROR" if runner.problem else "INFO")


def _draw_header(self: bpy.types.Header, context: Context) -> None:
    """Where no panel need be scrolled to."""
    space = context.space_data
    region = getattr(space, "region_3d", None)
    if region is None or region.view_perspective != "CAMERA":
        return
    if not any(obj.type == "MESH" and obj.maquette.is_character for obj in context.scene.objects):
        return
    row = self.layout.row(align=True)
    if preview.runner.busy:
        row.operator("maquette.stop_preview", text="", icon="CANCEL")
    row.operator("maquette.preview", icon="PLAY")
    row.prop(context.window_manager.maquette, "live", text="", icon="FILE_REFRESH", toggle=True)
    row.operator("maquette.generate", icon="ADD" if effects.busy() else "RENDER_ANIMATION")


MENUS = {"VIEW3D_HT_header": _draw_header}
