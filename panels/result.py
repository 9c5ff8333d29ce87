"""The Result panel: the scene's finished videos."""

from __future__ import annotations

from bpy.types import Context, Panel, PropertyGroup, UILayout, UIList

from ..scene.screen.thumbnails import icon_of
from .main import SidebarPanel, draw_hint, draw_look_through


class MAQUETTE_UL_results(UIList):
    """One line a video."""

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
        """A tick for side by side, its picture, a star, its name, to be changed here, and the model that made it."""
        row = layout.row(align=True)
        tick = "CHECKBOX_HLT" if item.picked else "CHECKBOX_DEHLT"
        row.prop(item, "picked", text="", emboss=False, icon=tick)
        picture = icon_of(item.filepath)
        if picture:
            row.label(text="", icon_value=picture)
        else:
            row.label(text="", icon="FILE_MOVIE")
        row.prop(item, "starred", text="", emboss=False, icon="SOLO_ON" if item.starred else "SOLO_OFF")
        split = row.split(factor=0.5)
        split.prop(item, "name", text="", emboss=False)
        made = split.row()
        made.alignment = "RIGHT"
        made.active = False
        made.label(text=item.model_label or item.model)


class MAQUETTE_PT_result(SidebarPanel, Panel):
    """What came back"""

    bl_label = "Result"
    bl_order = 4

    def draw(self, context: Context) -> None:
        """The list, and what can be done with the chosen video."""
        layout, shot = self.layout, context.scene.maquette
        if not shot.results:
            draw_hint(layout, context, "Finished videos appear here, also those that arrive while another file is open")
            return
        row = layout.row()
        row.template_list("MAQUETTE_UL_results", "", shot, "results", shot, "active_result", rows=3)
        buttons = row.column(align=True)
        buttons.operator("maquette.remove_result", text="", icon="TRASH")
        buttons.separator()
        buttons.operator("maquette.reveal_result", text="", icon="FILE_FOLDER")
        if not 0 <= shot.active_result < len(shot.results):
            return
        item = shot.results[shot.active_result]
        _draw_switch(layout, context)
        column = layout.column(align=True)
        row = column.row(align=True)
        row.operator("maquette.show_side_by_side", icon="IMGDISPLAY").mode = "PLANE"
        row.operator("maquette.show_side_by_side", text="", icon="SEQUENCE").mode = "STRIP"
        if shot.beside:
            layout.operator("maquette.unload_results", icon="X")
        row = layout.row(align=True)
        row.operator("maquette.reuse_settings", icon="RECOVER_LAST")
        row.operator("maquette.export_matte", icon="IMAGE_ALPHA")
        header, body = layout.panel("maquette_result_details", default_closed=True)
        header.label(text="Details")
        if body is not None:
            last = item.frame_start + (item.frame_count - 1) * item.frame_step
            column = body.column(align=True)
            if picture := icon_of(item.filepath):
                column.template_icon(icon_value=picture, scale=6.0)
            column.label(text=f"Frames {item.frame_start} to {last}, {item.fps:g} fps")
            column.label(text=f"Made {item.created}")
            column.label(text=f"{item.model_label or item.model}, seed {item.seed}")
            column.prop(item, "filepath", text="")


def _draw_switch(layout: UILayout, context: Context) -> None:
    """How the chosen video is shown, and what can be set about that."""
    shot = context.scene.maquette
    column = layout.column(align=True)
    split = column.split(factor=0.36)
    split.label(text=shot.bl_rna.properties["show_as"].enum_items[shot.show_as].name if shot.show_as else "")
    split.row(align=True).prop(shot, "show_as", expand=True, icon_only=True)
    column.separator()
    if shot.show_as in ("OVERLAY", "BACKGROUND"):
        draw_look_through(column, context)
    if shot.show_as == "OVERLAY":
        column.prop(shot, "overlay_opacity", slider=True)
        column.prop(shot, "overlay_wipe", slider=True)
        column.prop(shot, "overlay_outline")
    elif shot.show_as == "PLANE":
        column.prop(shot, "plane_place", text="")
        column.prop(shot, "plane_renders")
    elif shot.show_as == "STRIP":
        column.prop(context.scene.render, "use_sequencer", text="Render Sequencer")


CLASSES = (MAQUETTE_UL_results, MAQUETTE_PT_result)
