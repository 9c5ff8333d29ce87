"""The Shot panel: who plays, through which camera, in which style, and the button that makes the video."""

from __future__ import annotations

import bpy
from bpy.types import Context, Menu, Panel, UILayout

from .body import active_character
from .main import SidebarPanel, draw_hint, draw_text, duration

_ICONS = {"OK": "CHECKMARK", "WARNING": "ERROR", "ERROR": "CANCEL"}
_STAGES = {
    "loading": "Loading the model",
    "encoding": "Encoding",
    "denoising": "Denoising",
    "decoding": "Decoding",
    "writing": "Writing the video",
}


class MAQUETTE_MT_models(Menu):
    """The models that the backend knows."""

    bl_idname = "MAQUETTE_MT_models"
    bl_label = "Model"

    def draw(self, context: Context) -> None:
        """One entry a model, with whether the backend can run it."""
        for item in context.window_manager.maquette.backend.models:
            icon = {"READY": "CHECKMARK", "MISSING": "CANCEL"}.get(item.state, "BLANK1")
            text = f"{item.label} (files missing)" if item.state == "MISSING" else item.label
            self.layout.operator("maquette.choose_model", text=text, icon=icon).model = item.name


class MAQUETTE_PT_shot(SidebarPanel, Panel):
    """What is sent to the backend."""

    bl_label = "Shot"
    bl_order = 3

    def draw(self, context: Context) -> None:
        """Characters, camera, model, background; then the job or the button."""
        layout = self.layout
        scene, view = context.scene, context.window_manager.maquette
        _draw_characters(layout, context)

        layout.use_property_split = True
        layout.use_property_decorate = False
        column = layout.column()
        column.prop(scene, "camera", text="Camera")
        row = column.row(align=True)
        row.prop(scene, "frame_start", text="Frames")
        row.prop(scene, "frame_end", text="")
        _draw_model(layout, context)
        _draw_background(layout, context)
        _draw_advanced(layout, context)

        layout.separator()
        if view.state not in ("idle", "done", "failed", "cancelled"):
            _draw_job(layout, context)
        else:
            _draw_ended(layout, context)
            _draw_generate(layout, context)


def _draw_characters(layout: UILayout, context: Context) -> None:
    view, scene = context.window_manager.maquette, context.scene
    checks = [check for check in view.checks if check.kind == "CHARACTER"] if _fresh(context) else []
    box = layout.box()
    row = box.row()
    row.label(text="Characters", icon="OUTLINER_OB_ARMATURE")
    mesh = active_character(context)
    if mesh is not None and not mesh.maquette.is_character:
        row.prop(mesh.maquette, "is_character", text="Add Active", icon="ADD", toggle=True)
    column = box.column(align=True)
    for check in checks:
        obj = scene.objects.get(check.target)
        if obj is None:
            if check.level == "ERROR":
                draw_text(column, context, check.message, "INFO")
            continue
        row = column.row(align=True)
        row.label(text=obj.name, icon=_ICONS[check.level])
        if check.message != "Ready":
            if len(check.message) < 18:
                row.label(text=check.message)
            else:
                draw_text(column, context, check.message, "BLANK1")
        row.prop(obj.maquette, "is_character", text="", icon="X", emboss=False, toggle=True, invert_checkbox=True)
    if mesh is not None and mesh.maquette.is_character:
        marks = mesh.maquette
        header, body = box.panel("maquette_reference", default_closed=True)
        header.label(text=f"Looks of {mesh.name}")
        if body is not None:
            body.use_property_split = True
            body.use_property_decorate = False
            body.prop(marks, "reference_source")
            if marks.reference_source == "IMAGE":
                body.template_ID(marks, "reference_image", open="image.open", text="Picture")
            if marks.reference_source != "NONE":
                body.prop(marks, "reference_frame", text="At Frame")


def _draw_model(layout: UILayout, context: Context) -> None:
    shot, models = context.scene.maquette, context.window_manager.maquette.backend.models
    chosen = models.get(shot.model)
    split = layout.split(factor=0.4)
    label = split.row()
    label.alignment = "RIGHT"
    label.label(text="Model")
    icon = "ERROR" if chosen is not None and chosen.state == "MISSING" else "NONE"
    split.menu("MAQUETTE_MT_models", text=chosen.label if chosen else shot.model, icon=icon)
    if chosen is not None and chosen.state == "MISSING":
        draw_hint(layout, context, chosen.missing, "WARNING")
    layout.prop(shot, "prompt")
    layout.prop(shot, "seed")


def _draw_background(layout: UILayout, context: Context) -> None:
    shot = context.scene.maquette
    layout.prop(shot, "background")
    if shot.background in ("PICTURE", "VIDEO"):
        layout.prop(shot, "background_path")
    if shot.background == "SCENE":
        layout.prop(shot, "render_engine", text="Rendered By")


def _draw_advanced(layout: UILayout, context: Context) -> None:
    scene = context.scene
    header, body = layout.panel("maquette_shot_advanced", default_closed=True)
    header.label(text="Advanced")
    if body is None:
        return
    body.use_property_split = True
    body.use_property_decorate = False
    shot, render = scene.maquette, scene.render
    column = body.column(align=True)
    column.prop(render, "resolution_x", text="Size X")
    column.prop(render, "resolution_y", text="Y")
    column.prop(render, "resolution_percentage", text="%")
    body.prop(scene, "frame_step", text="Frame Step")
    column = body.column(align=True)
    column.prop(shot, "steps", text="Steps" if shot.steps else "Steps (Auto)")
    column.prop(shot, "guidance", text="Guidance" if shot.guidance else "Guidance (Auto)")
    body.prop(shot, "points")
    body.row(align=True).prop(shot, "show_as")
    body.operator("maquette.export_shot", icon="EXPORT")


def _draw_generate(layout: UILayout, context: Context) -> None:
    """The button, and beneath it what stands in its way."""
    view = context.window_manager.maquette
    checks = [check for check in view.checks if check.kind != "CHARACTER" and check.level != "OK"]
    checks = checks if _fresh(context) else []
    missing = any(check.level == "ERROR" for check in view.checks) if _fresh(context) else False
    row = layout.row()
    row.scale_y = 1.8
    row.active = not missing
    row.operator("maquette.generate", icon="RENDER_ANIMATION")
    for check in checks:
        draw_hint(layout, context, check.message, check.level)
        if check.kind == "BACKEND":
            _draw_backend(layout, context)
    if not any(check.kind == "BACKEND" for check in checks):
        _draw_local_state(layout, context)


def _draw_backend(layout: UILayout, context: Context) -> None:
    """What cures a missing backend."""
    backend = context.window_manager.maquette.backend
    row = layout.row(align=True)
    if backend.local_state == "INSTALLING":
        draw_install(layout, context)
        return
    if _is_local(context) and backend.local_state in ("ABSENT", "FAILED"):
        row.operator("maquette.install_backend", icon="IMPORT")
    row.operator("maquette.open_preferences", text="Settings", icon="PREFERENCES")


def _draw_local_state(layout: UILayout, context: Context) -> None:
    backend = context.window_manager.maquette.backend
    if _is_local(context) and backend.local_state == "DEAD":
        draw_hint(layout, context, backend.local_message, "WARNING")


def draw_install(layout: UILayout, context: Context) -> None:
    """Progress of the local backend's installation, with a cancel."""
    backend = context.window_manager.maquette.backend
    row = layout.row(align=True)
    row.progress(factor=backend.local_progress, text=f"{backend.local_progress:.0%}")
    row.operator("maquette.cancel_install", text="", icon="CANCEL")
    if backend.local_message:
        layout.label(text=backend.local_message)


def _draw_job(layout: UILayout, context: Context) -> None:
    """The job under way."""
    view = context.window_manager.maquette
    column = layout.column()
    if view.scene_name and view.scene_name != context.scene.name:
        column.label(text=f"For {view.scene_name}", icon="SCENE_DATA")
    text, detail = _job_words(view)
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


def _job_words(view: bpy.types.PropertyGroup) -> tuple[str, str]:
    """What stands in the bar, and what beneath it."""
    left = f"about {duration(view.eta_seconds)} left" if view.eta_seconds >= 0 else ""
    if view.state == "capturing":
        return (f"Capturing {view.step} of {view.steps}" if view.steps else "Capturing"), ""
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


def _draw_ended(layout: UILayout, context: Context) -> None:
    """How the last job ended, until that is dismissed."""
    view = context.window_manager.maquette
    if view.state == "idle":
        return
    box = layout.box()
    row = box.row()
    icon = {"done": "CHECKMARK", "failed": "CANCEL", "cancelled": "INFO"}[view.state]
    text = row.column()
    text.alert = view.state == "failed"
    draw_text(text, context, view.message, icon, width=context.region.width - 70)
    row.operator("maquette.dismiss", text="", icon="X", emboss=False)
    notes = view.notes.splitlines()
    if notes:
        header, body = box.panel("maquette_notes", default_closed=True)
        header.label(text="1 Note" if len(notes) == 1 else f"{len(notes)} Notes")
        for note in notes if body is not None else ():
            draw_text(body, context, note, "DOT")
    if view.can_resume:
        box.operator("maquette.resume_job", icon="FILE_REFRESH")


def _is_local(context: Context) -> bool:
    addon = context.preferences.addons.get(__name__.rsplit(".", 2)[0])
    return addon is not None and addon.preferences.mode == "LOCAL"


def _fresh(context: Context) -> bool:
    """Whether what was found out is about this scene."""
    return context.window_manager.maquette.checked_scene == context.scene.name


CLASSES = (MAQUETTE_MT_models, MAQUETTE_PT_shot)
