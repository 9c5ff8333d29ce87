"""The status bar: how far a job is, while no Maquette tab shows it whole; and entries in Blender's own menus."""

from __future__ import annotations

from bpy.types import Context, Header, Menu

from ..operators.generate import MAQUETTE_OT_generate
from ..scene.job import effects
from .job import job_words
from .main import CATEGORY

_TALL = 1000.0
"""Height of a sidebar, in pixels at scale 1, from which on the tab shows its job without being scrolled."""


def _job_shown(context: Context) -> bool:
    """Whether a sidebar of the window shows the Maquette tab, down to the job."""
    scale = context.preferences.system.ui_scale or 1.0
    for area in context.screen.areas if context.screen is not None else ():
        for region in area.regions if area.type == "VIEW_3D" else ():
            if region.type == "UI" and region.width > 1:
                ours = getattr(region, "active_panel_category", CATEGORY) == CATEGORY
                return ours and region.height >= _TALL * scale
    return False


def _draw_status(self: Header, context: Context) -> None:
    view = context.window_manager.maquette
    backend = view.backend
    if _job_shown(context):
        return
    if effects.runner.state.busy:
        text, detail = job_words(view)
        row = self.layout.row(align=True)
        row.ui_units_x = 16
        words = ", ".join(part for part in (text, detail.partition("\n")[0]) if part)
        row.progress(factor=view.progress if view.state != "queued" else 0.0, text=f"Maquette: {words}")
        row.operator("maquette.cancel", text="", icon="CANCEL")
    elif backend.local_state == "INSTALLING":
        row = self.layout.row(align=True)
        row.ui_units_x = 16
        row.progress(factor=backend.local_progress, text=f"Installing the Backend {backend.local_progress:.0%}")
        row.operator("maquette.cancel_install", text="", icon="CANCEL")


def _draw_render(self: Menu, context: Context) -> None:
    layout = self.layout
    layout.separator()
    layout.operator(MAQUETTE_OT_generate.bl_idname, text="Generate Maquette Video", icon="RENDER_ANIMATION")
    layout.operator("maquette.preview", text="Maquette Preview", icon="PLAY")
    layout.operator("maquette.refine", text="Refine Maquette Preview", icon="SHADERFX")


def _draw_view(self: Menu, context: Context) -> None:
    layout = self.layout
    layout.separator()
    layout.operator("maquette.preview", text="Maquette Preview", icon="PLAY")
    layout.prop_menu_enum(context.scene.maquette, "show_as", text="Maquette Video As", icon="OVERLAY")


def _draw_time(self: Menu, context: Context) -> None:
    layout = self.layout
    layout.separator()
    layout.operator("maquette.preview", text="Maquette Preview", icon="PLAY")
    layout.operator("maquette.clear_preview", text="Clear Maquette Preview", icon="X")


MENUS = {
    "STATUSBAR_HT_header": _draw_status,
    "TOPBAR_MT_render": _draw_render,
    "VIEW3D_MT_view": _draw_view,
    "TIME_MT_view": _draw_time,
    "DOPESHEET_MT_view": _draw_time,
}
"""The timeline's menu is the dope sheet's from Blender 5.0 on."""
