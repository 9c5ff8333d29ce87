"""The Shot panel's part about tracks: spots whose way a model follows."""

from __future__ import annotations

from bpy.types import Context, PropertyGroup, UILayout, UIList

from ..scene.job.model_checks import carries
from .main import draw_hint


class MAQUETTE_UL_tracks(UIList):
    """One line a track."""

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
        """Its name, which can be changed here, and its object."""
        row = layout.row(align=True)
        there = carries(context.scene, item)
        row.alert = not there
        kind = "VERTEXSEL" if item.vertex >= 0 else "EMPTY_DATA"
        row.prop(item, "name", text="", emboss=False, icon=kind if there else "ERROR")


def draw_tracks(layout: UILayout, context: Context) -> None:
    """The list, and what fills it."""
    shot = context.scene.maquette
    header, body = layout.panel("maquette_tracks", default_closed=True)
    header.label(text=f"Tracks ({len(shot.tracks)})" if shot.tracks else "Tracks")
    if body is None:
        return
    if shot.tracks:
        row = body.row()
        row.template_list("MAQUETTE_UL_tracks", "", shot, "tracks", shot, "active_track", rows=3)
        buttons = row.column(align=True)
        buttons.operator("maquette.add_tracks", text="", icon="ADD")
        buttons.operator("maquette.remove_track", text="", icon="REMOVE")
        buttons.separator()
        buttons.operator("maquette.clear_tracks", text="", icon="TRASH")
        return
    draw_hint(body, context, "Select empties or other objects, or vertices in Edit Mode, to follow them")
    body.operator("maquette.add_tracks", icon="ADD")


CLASSES = (MAQUETTE_UL_tracks,)
