"""The Shot panel: who plays, through which camera, in which style, and the button that makes the video."""

from __future__ import annotations

import bpy
from bpy.types import Context, Panel, PropertyGroup, UILayout

from ..operators.cure import cure_label
from ..operators.looks import active_character
from ..scene.capture.looks import asked_of
from ..scene.job import control, models
from ..scene.job.backends import INSTALL_WORDS, is_local
from ..scene.job.model_checks import late_references, makers, used
from .job import draw_ended, draw_job, draw_queue
from .looks import draw_looks
from .main import SidebarPanel, draw_hint, draw_text
from .models import draw_about, draw_compare, draw_model, draw_options
from .preview import draw_preview
from .tracks import draw_tracks

_ICONS = {"OK": "CHECKMARK", "WARNING": "ERROR", "ERROR": "CANCEL"}


class MAQUETTE_PT_shot(SidebarPanel, Panel):
    """What is sent to the backend"""

    bl_label = "Shot"
    bl_order = 3

    def draw(self, context: Context) -> None:
        """Characters, frames, model, background; then the job or the button; last what is rarely set."""
        layout = self.layout
        scene, view = context.scene, context.window_manager.maquette
        model = models.find(scene.maquette.model)
        _draw_characters(layout, context)

        layout.use_property_split = True
        layout.use_property_decorate = False
        row = layout.row(align=True)
        row.prop(scene, "frame_start", text="Frames")
        row.prop(scene, "frame_end", text="")
        draw_model(layout, context, model)
        layout.prop(scene.maquette, "quality")
        if used(scene, "prompt"):
            layout.prop(scene.maquette, "prompt")
        layout.prop(scene.maquette, "seed")
        _draw_background(layout, context)
        draw_options(layout, context, model)
        if used(scene, "tracks"):
            draw_tracks(layout, context)

        layout.separator()
        if control.beside.busy():
            _draw_control(layout)
        if view.state not in ("idle", "done", "failed", "cancelled"):
            draw_job(layout, context)
            layout.operator("maquette.generate", text="Generate Another", icon="ADD")
        else:
            # What went well stands beneath the button, which so keeps its place.
            if view.state != "done":
                draw_ended(layout, context)
            _draw_generate(layout, context)
            if view.state == "done":
                draw_ended(layout, context)
        draw_queue(layout, context)
        draw_preview(layout, context)

        layout.separator()
        draw_about(layout, context, model)
        draw_compare(layout, context, model)
        _draw_advanced(layout, context)


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
        if check.cure:
            _draw_cure(column, check)
    if mesh is not None and mesh.maquette.is_character and used(scene, "reference"):
        draw_looks(box, mesh)


def _draw_background(layout: UILayout, context: Context) -> None:
    scene, shot = context.scene, context.scene.maquette
    if used(scene, "background"):
        layout.prop(shot, "background")
        if shot.background in ("PICTURE", "VIDEO"):
            layout.prop(shot, "background_path")
    behind = used(scene, "background") and shot.background == "SCENE"
    if behind or used(scene, "clay") or (used(scene, "reference") and _renders_looks(context)):
        layout.prop(shot, "render_engine", text="Rendered By")


def _renders_looks(context: Context) -> bool:
    """Whether a reference of a character is rendered from the scene."""
    return any(
        one.rendered
        for obj in context.scene.objects
        if obj.type == "MESH" and obj.maquette.is_character
        for one in asked_of(obj)
    )


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
    body.row(align=True).prop(shot, "upscale", expand=True)
    body.prop(scene, "frame_step", text="Frame Step")
    body.prop(shot, "priority")
    column = body.column(align=True)
    column.prop(shot, "steps", text="Steps")
    column.prop(shot, "guidance", text="Guidance")
    if any(not model.inputs or model.limit("points") for model in makers(scene)):
        body.prop(shot, "points")
    row = body.row(align=True)
    row.operator("maquette.export_shot", icon="EXPORT")
    row.operator("maquette.export_control_film", text="Control Film", icon="IMAGE_ZDEPTH")
    body.operator("maquette.submit_to_farm", icon="NETWORK_DRIVE")
    if len(bpy.data.scenes) > 1 or sum(marker.camera is not None for marker in scene.timeline_markers) > 1:
        body.operator("maquette.generate_all", icon="RENDER_ANIMATION")


def _draw_generate(layout: UILayout, context: Context) -> None:
    """The button, and beneath it what stands in its way."""
    view = context.window_manager.maquette
    checks = [check for check in view.checks if check.kind != "CHARACTER" and check.level != "OK"]
    checks = checks if _fresh(context) else []
    missing = any(check.level == "ERROR" for check in view.checks) if _fresh(context) else False
    if view.expected and _fresh(context):
        row = layout.row()
        row.alignment = "CENTER"
        row.label(text=view.expected, icon="TIME")
    row = layout.row()
    row.scale_y = 1.8
    row.active = not missing
    count = len(makers(context.scene)) * context.scene.maquette.seeds
    text = "Generate" if count == 1 else f"Generate {count} Videos"
    row.operator("maquette.generate", text=text, icon="RENDER_ANIMATION")
    for check in checks:
        if view.state != "failed" or check.message != view.message:  # else it stands above the button
            draw_hint(layout, context, check.message, check.level)
        if check.cure:
            _draw_cure(layout, check)
        if check.kind == "BACKEND":
            _draw_backend(layout, context)
    if late_references(context.scene):
        layout.operator("maquette.use_first_frame", icon="FRAME_PREV")
    if not any(check.kind == "BACKEND" for check in checks):
        _draw_local_state(layout, context)


def _draw_cure(layout: UILayout, check: PropertyGroup) -> None:
    """The button that puts right what a check tells."""
    button = layout.operator("maquette.cure", text=cure_label(check.cure, check.target), icon="TOOL_SETTINGS")
    button.cure, button.target = check.cure, check.target


def _draw_control(layout: UILayout) -> None:
    """How far the control films are, with a cancel."""
    row = layout.row(align=True)
    share, label = control.beside.report.share, control.beside.report.label or "Control Films"
    row.progress(factor=share, text=f"{label} {share:.0%}")
    row.operator("maquette.cancel_control_film", text="", icon="CANCEL")


def _draw_backend(layout: UILayout, context: Context) -> None:
    """What cures a missing backend."""
    backend = context.window_manager.maquette.backend
    if backend.local_state == "INSTALLING":
        draw_install(layout, context)
        return
    absent = is_local() and backend.local_state in ("ABSENT", "FAILED")
    if not bpy.app.online_access and (absent or not is_local()):
        draw_online(layout, context)
    row = layout.row(align=True)
    if absent:
        draw_text(layout, context, INSTALL_WORDS)
        row.operator("maquette.install_backend", icon="IMPORT")
    if not is_local():
        row.operator("maquette.test_connection", text="Ask Again", icon="FILE_REFRESH")
    row.operator("maquette.open_preferences", text="Settings", icon="PREFERENCES")


def draw_online(layout: UILayout, context: Context) -> None:
    """Blender's own switch for going online."""
    row = layout.row()
    row.use_property_split = False
    row.prop(context.preferences.system, "use_online_access", text="Allow Online Access", icon="INTERNET", toggle=True)


def _draw_local_state(layout: UILayout, context: Context) -> None:
    backend = context.window_manager.maquette.backend
    if is_local() and backend.local_state == "DEAD":
        draw_hint(layout, context, backend.local_message, "WARNING")


def draw_install(layout: UILayout, context: Context) -> None:
    """Progress of the local backend's installation, with a cancel."""
    backend = context.window_manager.maquette.backend
    row = layout.row(align=True)
    row.progress(factor=backend.local_progress, text=f"{backend.local_progress:.0%}")
    row.operator("maquette.cancel_install", text="", icon="CANCEL")
    if backend.local_message:
        layout.label(text=backend.local_message)


def _fresh(context: Context) -> bool:
    """Whether what was found out is about this scene."""
    return context.window_manager.maquette.checked_scene == context.scene.name


CLASSES = (MAQUETTE_PT_shot,)
