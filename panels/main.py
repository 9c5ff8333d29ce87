"""What all panels of the tab share: where they stand, and how they say what is missing."""

from __future__ import annotations

import textwrap

from bpy.types import Context, UILayout

CATEGORY = "Maquette"

_CHARACTER = 6.3
"""Mean width of a character of the interface font at scale 1, in pixels."""
_MARGIN = 72.0
"""Width taken by the tabs, the panel's borders, the box and the icon, in pixels at scale 1."""


class SidebarPanel:
    """Mixin of every panel of the tab; the tab's order is that of ``bl_order``: Body, Motion, Camera, Shot, Result."""

    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = CATEGORY


def draw_text(layout: UILayout, context: Context, text: str, icon: str = "NONE", width: float | None = None) -> None:
    """Labels that break the text into lines as wide as the region, with the icon before the first.

    Args:
        width: pixels to fill; the region's when None.
    """
    scale = context.preferences.system.ui_scale or 1.0  # 0 where there is no window
    if width is None:
        width = context.region.width if context.region else 300.0
    characters = max(int((width / scale - _MARGIN) / _CHARACTER), 16)
    column = layout.column(align=True)
    column.scale_y = 0.85
    lines = [line for part in text.splitlines() for line in textwrap.wrap(part, characters) or [""]]
    for number, line in enumerate(lines):
        if number == 0:
            column.label(text=line, icon=icon)
        else:
            column.label(text=line, icon="BLANK1" if icon != "NONE" else "NONE")


def draw_hint(layout: UILayout, context: Context, text: str, level: str = "INFO", width: float | None = None) -> None:
    """A boxed hint. ``level`` is INFO, WARNING or ERROR; ``width`` as for ``draw_text``."""
    box = layout.box()
    box.alert = level == "ERROR"
    draw_text(box, context, text, {"INFO": "INFO", "WARNING": "ERROR", "ERROR": "CANCEL"}[level], width)


def draw_notes(layout: UILayout, context: Context, notes: str, name: str, dismiss: str = "") -> None:
    """Sentences, one a line, in a part that can be opened.

    Args:
        name: of the part.
        dismiss: operator that clears them away.
    """
    lines = notes.splitlines()
    if not lines:
        return
    header, body = layout.panel(name, default_closed=True)
    header.label(text="1 Note" if len(lines) == 1 else f"{len(lines)} Notes")
    if dismiss:
        header.operator(dismiss, text="", icon="X", emboss=False)
    for line in lines if body is not None else ():
        draw_text(body, context, line, "DOT")


def draw_look_through(layout: UILayout, context: Context) -> None:
    """A button for a view that shows no film and no preview because it does not look through the camera."""
    space = getattr(context, "space_data", None)  # a sidebar has no ``region_data``
    if context.scene.camera is not None and space is not None and space.region_3d.view_perspective != "CAMERA":
        layout.operator("view3d.view_camera", text="Look Through the Camera", icon="VIEW_CAMERA")
