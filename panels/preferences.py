"""How the add-on's preferences look."""

from __future__ import annotations

import bpy
import rna_keymap_ui
from bpy.types import AddonPreferences, Context, UILayout

from ..scene.job import fetching, models
from ..scene.job.backends import INSTALL_WORDS
from .main import draw_text
from .shot import draw_install, draw_online

_TEST = {"BUSY": "SORTTIME", "OK": "CHECKMARK", "ERROR": "CANCEL"}
_LOCAL = {
    "ABSENT": ("Not installed", "INFO"),
    "INSTALLING": ("Installing", "SORTTIME"),
    "CANCELLING": ("Stopping the installation", "SORTTIME"),
    "STOPPED": ("Installed; it starts by itself when it is needed", "CHECKMARK"),
    "STARTING": ("Starting", "SORTTIME"),
    "RUNNING": ("Running", "CHECKMARK"),
    "STOPPING": ("Stopping", "SORTTIME"),
    "FAILED": ("The installation failed", "CANCEL"),
    "DEAD": ("Ended unexpectedly", "CANCEL"),
}


def draw(preferences: AddonPreferences, context: Context) -> None:
    """Draw into the preferences' layout."""
    layout = preferences.layout
    layout.use_property_split = True
    layout.use_property_decorate = False
    row = layout.row()
    row.prop(preferences, "mode", expand=True)
    if preferences.mode == "LOCAL":
        _draw_local(layout.box(), context)
    else:
        _draw_server(layout.box(), preferences, context)
    _draw_models(layout, context)
    layout.prop(preferences, "results_folder")
    _draw_keys(layout, context)
    header, body = layout.panel("maquette_preferences_advanced", default_closed=True)
    header.label(text="Advanced")
    if body is not None:
        body.use_property_split = True
        body.prop(preferences, "local_python")


def _draw_keys(layout: UILayout, context: Context) -> None:
    """The add-on's shortcuts, to be changed here."""
    header, body = layout.panel("maquette_preferences_keys", default_closed=True)
    header.label(text="Shortcuts")
    keys = context.window_manager.keyconfigs.user
    if body is None or keys is None:
        return
    for name in ("Screen", "3D View"):
        keymap = keys.keymaps.get(name)
        for item in keymap.keymap_items if keymap is not None else ():
            if item.idname.startswith("maquette."):
                rna_keymap_ui.draw_kmi([], keys, keymap, item, body, 0)


def _draw_local(layout: UILayout, context: Context) -> None:
    backend = context.window_manager.maquette.backend
    words, icon = _LOCAL[backend.local_state]
    row = layout.row()
    row.label(text=words, icon=icon)
    state = backend.local_state
    buttons = row.row(align=True)
    if state in ("ABSENT", "FAILED"):
        buttons.operator("maquette.install_backend", icon="IMPORT")
        draw_text(layout, context, INSTALL_WORDS, width=context.region.width - 42)
        if not bpy.app.online_access:
            draw_online(layout, context)
    elif state in ("STOPPED", "DEAD"):
        buttons.operator("maquette.start_backend", icon="PLAY")
    elif state in ("STARTING", "RUNNING"):
        buttons.operator("maquette.stop_backend", icon="SNAP_FACE")
    if state in ("INSTALLING", "CANCELLING"):
        draw_install(layout, context)
    elif backend.local_message and state not in ("STOPPED", "RUNNING"):
        draw_text(layout, context, backend.local_message, width=context.region.width - 42)
    if state == "RUNNING":
        _draw_test(layout, context)
    if backend.local_log:
        row = layout.row()
        row.label(text=backend.local_log, icon="TEXT")
        row.operator("maquette.open_log", text="", icon="FILE_FOLDER")


def _draw_server(layout: UILayout, preferences: AddonPreferences, context: Context) -> None:
    layout.use_property_split = True
    layout.prop(preferences, "address")
    layout.prop(preferences, "token")
    row = layout.row()
    row.enabled = context.window_manager.maquette.backend.test_state != "BUSY"
    row.operator("maquette.test_connection", icon="URL")
    _draw_test(layout, context)


def _draw_test(layout: UILayout, context: Context) -> None:
    backend = context.window_manager.maquette.backend
    if backend.test_state == "NONE":
        return
    column = layout.column()
    column.alert = backend.test_state == "ERROR"
    draw_text(column, context, backend.test_message, _TEST[backend.test_state], width=context.region.width - 42)


def _draw_models(layout: UILayout, context: Context) -> None:
    backend = context.window_manager.maquette.backend
    header, body = layout.panel("maquette_preferences_models", default_closed=True)
    header.label(text="Models")
    if body is None:
        return
    busy = fetching.beside.busy()
    if busy:
        row = body.row(align=True)
        row.progress(factor=fetching.beside.report.share, text=fetching.beside.report.label)
        row.operator("maquette.cancel_fetch", text="", icon="CANCEL")
    for item in backend.models:
        icon = {"READY": "CHECKMARK", "MISSING": "CANCEL"}.get(item.state, "QUESTION")
        row = body.split(factor=0.35)
        row.label(text=item.label, icon=icon)
        text = item.missing if item.state == "MISSING" else item.description
        button = fetching.can(models.find(item.name)) and not busy
        draw_text(row, context, text, width=(0.45 if button else 0.65) * context.region.width)
        if button:
            row.operator("maquette.fetch_model", icon="IMPORT").model = item.name
            _draw_offer(body, context, item.name)


def _draw_offer(layout: UILayout, context: Context, model: str) -> None:
    """What would come for a model, and the buttons that answer it."""
    offer, trouble = fetching.offer(model), fetching.trouble(model)
    if offer is None and not trouble:
        return
    box = layout.box()
    width = 0.9 * context.region.width
    for fact in offer.facts() if offer is not None else ():
        draw_text(box, context, fact, width=width)
    if why := trouble or (offer.lack if offer is not None else ""):
        column = box.column()
        column.alert = True
        draw_text(column, context, why, "ERROR", width=width)
    row = box.row()
    if offer is not None and not offer.lack:
        row.operator("maquette.agree_fetch", icon="CHECKMARK")
    row.operator("maquette.dismiss_fetch", icon="X")
