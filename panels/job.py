"""The Shot panel's lower end: the job under way, and how the last one ended."""

from __future__ import annotations

import bpy
from bpy.types import Context, UILayout

from ..scene.job.estimate import duration
from .main import draw_notes, draw_text

_STAGES = {
    "loading": "Loading the model",
    "encoding": "Encoding",
    "denoising": "Denoising",
    "decoding": "Decoding",
    "upscaling": "Upscaling",
    "writing": "Writing the video",
    "drawing": "Drawing the video",
}
_PARTS = {"WAITING": "SORTTIME", "NOW": "PLAY", "DONE": "CHECKMARK", "FAILED": "CANCEL", "CANCELLED": "PANEL_CLOSE"}


def draw_job(layout: UILayout, context: Context) -> None:
    """The job under way."""
    view = context.window_manager.maquette
    column = layout.column()
    if view.scene_name and view.scene_name != context.scene.name:
        column.label(text=f"For {view.scene_name}", icon="SCENE_DATA")
    _draw_parts(column, context)
    text, detail = job_words(view)
    row = column.row(align=True)
    row.scale_y = 1.3
    row.progress(factor=view.progress if view.state != "queued" else 0.0, text=text)
    cancel = row.row(align=True)
    cancel.enabled = view.state not in ("cancelling", "applying")
    cancel.operator("maquette.cancel", text="", icon="CANCEL")
    if detail:
        draw_text(column, context, detail)
    if view.preview:
        column.template_icon(icon_value=view.preview, scale=8.0)


def draw_queue(layout: UILayout, context: Context) -> None:
    """The jobs behind the one under way."""
    view = context.window_manager.maquette
    if view.queue:
        box = layout.box()
        box.label(text=f"Queue ({len(view.queue)})", icon="PRESET")
        for place, item in enumerate(view.queue):
            _draw_queued(box, context, place, item)


def _draw_queued(layout: UILayout, context: Context, place: int, item: bpy.types.PropertyGroup) -> None:
    failed = item.state == "FAILED"
    icon = {"FAILED": "ERROR", "CAPTURING": "REC", "RUNNING": "PLAY"}.get(item.state, "SORTTIME")
    column = layout.column(align=True)
    row = column.row(align=True)
    row.label(text=item.name, icon=icon)

    def button(change: str, icon: str, usable: bool = True) -> None:
        place_for = row.row(align=True)
        place_for.enabled = usable
        operator = place_for.operator("maquette.change_queue", text="", icon=icon, emboss=False)
        operator.place, operator.change = place, change

    if failed and item.can_resume:
        button("AGAIN", "FILE_REFRESH")
    if not failed:
        button("UP", "TRIA_UP", usable=place > 0 and item.can_move)
    button("CANCEL", "X")
    detail = column.column()
    detail.active = failed
    draw_text(detail, context, item.message, width=context.region.width - 52)


def job_words(view: bpy.types.PropertyGroup) -> tuple[str, str]:
    """What stands in the bar, and what beneath it."""
    left = f"about {duration(view.eta_seconds)} left" if view.eta_seconds >= 0 else ""
    if view.state == "capturing":
        return (f"Capturing {view.step} of {view.steps}" if view.steps else "Capturing"), left
    if view.state == "queued":
        ahead = view.queue_position
        text = "Queued" if ahead < 0 else "Next in the Queue" if ahead == 0 else f"Queued Behind {ahead}"
        return text, left
    if view.state == "running":
        stage = _STAGES.get(view.stage, view.stage.capitalize() or "Running")
        step = f"step {view.step} of {view.steps}" if view.steps else ""
        message = "" if view.message == "Generating" else view.message
        detail = "\n".join(part for part in (", ".join(filter(None, (step, left))), message) if part)
        return f"{stage} {view.progress:.0%}", detail
    if view.state == "downloading":
        return f"Fetching the Video {view.progress:.0%}", ""
    if view.state == "submitting":
        return ("Sending" if view.message == "Sending the shot" else "Preparing"), view.message
    return view.message, ""


def draw_ended(layout: UILayout, context: Context) -> None:
    """How the last job ended, until that is dismissed."""
    view = context.window_manager.maquette
    if view.state == "idle":
        return
    box = layout.box()
    row = box.row()
    icon = {"done": "CHECKMARK", "failed": "CANCEL", "cancelled": "INFO"}[view.state]
    text = row.column()
    text.alert = view.state == "failed"
    # Of several models each has its own line below.
    said = view.message.partition("\n")[0].partition(":")[0] if view.parts else view.message
    draw_text(text, context, said, icon, width=context.region.width - 52)
    row.operator("maquette.dismiss", text="", icon="X", emboss=False)
    _draw_parts(box, context)
    draw_notes(box, context, view.notes, "maquette_notes")
    if view.can_resume:
        text = "Try the Failed Again" if any(part.state == "DONE" for part in view.parts) else "Try Again"
        box.operator("maquette.resume_job", text=text, icon="FILE_REFRESH")
    if sum(part.state == "DONE" for part in view.parts) > 1:
        box.operator("maquette.show_side_by_side", icon="IMGDISPLAY")


def _draw_parts(layout: UILayout, context: Context) -> None:
    """What has become of each model's share of a comparison."""
    parts = context.window_manager.maquette.parts
    if not parts:
        return
    column = layout.column(align=True)
    for part in parts:
        icon = _PARTS[part.state]
        if part.state == "FAILED":
            draw_text(column, context, f"{part.name}: {part.message}", icon, width=context.region.width - 12)
        else:
            row = column.row()
            row.active = part.state not in ("WAITING", "CANCELLED")
            row.label(text=part.name, icon=icon)
