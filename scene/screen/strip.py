"""A strip in animation editors: which frames have a preview, which are outdated, and which are being made."""

from __future__ import annotations

from typing import Any

import bpy

from .previews import Standing, reel_of, runs

_COLOURS = {
    Standing.CURRENT: (0.30, 0.72, 0.32, 1.0),
    Standing.OUTDATED: (0.95, 0.55, 0.12, 1.0),
    Standing.MAKING: (0.25, 0.52, 0.98, 1.0),
}
_SPACES = ("SpaceDopeSheetEditor", "SpaceGraphEditor", "SpaceNLA", "SpaceSequenceEditor")
_AREAS = ("DOPESHEET_EDITOR", "GRAPH_EDITOR", "NLA_EDITOR", "SEQUENCE_EDITOR")
_RULER = 28
"""Height of the frame numbers, in pixels at scale 1."""
_THICK = 5

_handles: list[tuple[Any, Any]] = []


def start() -> None:
    """Draw from now on, where there is a window."""
    if bpy.app.background or _handles:
        return
    for name in _SPACES:
        space = getattr(bpy.types, name)
        _handles.append((space, space.draw_handler_add(_draw, (), "WINDOW", "POST_PIXEL")))


def stop() -> None:
    """Draw no more."""
    while _handles:
        space, handle = _handles.pop()
        space.draw_handler_remove(handle, "WINDOW")


def redraw() -> None:
    """Draw the strips again."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in _AREAS:
                area.tag_redraw()


def _draw() -> None:
    """Blender's call in every such editor."""
    context = bpy.context
    reel = reel_of(context.scene.maquette.uid)
    if reel is None:
        return
    if context.space_data.type == "SEQUENCE_EDITOR" and context.space_data.view_type == "PREVIEW":
        return
    import gpu
    from gpu_extras.batch import batch_for_shader

    region, scale = context.region, context.preferences.system.ui_scale
    top = region.height - _RULER * scale
    bottom = top - _THICK * scale
    shader = gpu.shader.from_builtin("UNIFORM_COLOR")
    for first, last, standing in runs(reel.standing(), context.scene.frame_step):
        # A frame reaches to the next.
        left, _ = region.view2d.view_to_region(first - 0.5, 0, clip=False)
        right, _ = region.view2d.view_to_region(last + context.scene.frame_step - 0.5, 0, clip=False)
        if right < 0 or left > region.width:
            continue
        corners = [(left, bottom), (max(right, left + 1), bottom), (max(right, left + 1), top), (left, top)]
        batch = batch_for_shader(shader, "TRI_FAN", {"pos": corners})
        shader.bind()
        shader.uniform_float("color", _COLOURS[standing])
        batch.draw(shader)
