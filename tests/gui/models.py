"""Choosing models and comparing them, against a fake backend inside the window.

Pictured, as the word after ``--`` says: the panels for MTVCrafter with its framing (``panel``), for MOFA-Video with
tracks (``tracks``), the menu of models (``menu``), a comparison under way (``job``), one of which a model has failed
(``failed``), or its videos side by side (``done``, the default).
"""

import importlib
import sys
import tempfile
import time
from pathlib import Path

import bpy

STATE = next((word for word in ("panel", "tracks", "menu", "job", "failed") if word in sys.argv), "done")
ADDON = next(addon.module for addon in bpy.context.preferences.addons if addon.module.endswith(".maquette"))
gui = importlib.import_module(f"{ADDON}.tests.gui.window")
READY = ("isa-nano", "mtvcrafter-7b", "mimicmotion", "mofa-trajectory")
RUNNING = {"status": "in_progress", "stage": "denoising", "step": 12, "steps": 50, "progress": 24, "eta_seconds": 90.0}
ERROR = {"code": "out_of_memory", "message": "The GPU's memory is full: make the shot smaller.", "field": None}

deadline = time.monotonic() + 150
stage = "ask"
waits = 0
backend = None


def films():
    """A film of changing colours for each model, of the shot's size but for MTVCrafter's, which is square."""
    builders = gui.module("tests.scene.builders")
    folder = Path(tempfile.mkdtemp())
    shades = [[20 + 12 * frame, 90, 220 - 10 * frame] for frame in range(17)]
    made = {}
    for turn, (model, size) in enumerate({"mtvcrafter-7b": (240, 240), "mimicmotion": (320, 240)}.items()):
        colours = [shade[turn:] + shade[:turn] for shade in shades]
        made[model] = builders.write_film(folder / f"{model}.mp4", colours, size=size).read_bytes()
    made["isa-nano"] = made["mimicmotion"]
    return made


def setup():
    """A walking body, a moving camera, and a backend with models that has been asked."""
    global backend
    backend = gui.module("tests.fake_backend").FakeBackend()
    backend.models, backend.films = gui.described(READY), films()
    if STATE == "job":
        backend.scripts["mimicmotion"] = [RUNNING]
    if STATE == "failed":
        backend.scripts["mimicmotion"] = [{"status": "failed", "error": ERROR}]
    gui.send_to(backend.address)
    bpy.ops.maquette.test_connection()
    scene = gui.walking(17, 320, 240)
    scene.view_settings.view_transform = "Standard"
    scene.maquette.background = "NONE"
    # The videos' colours without the seconds a frame that EEVEE takes in software.
    shading = gui.through_camera().shading
    shading.light, shading.color_type = "FLAT", "TEXTURE"


def choose():
    """What the animator does once the backend has answered."""
    bpy.ops.maquette.choose_model(model="mofa-trajectory" if STATE == "tracks" else "mtvcrafter-7b")
    if STATE == "panel":
        bpy.ops.maquette.check_framing()
    if STATE == "tracks":
        for x in (-0.5, 0.5):
            bpy.ops.object.empty_add(location=(x, 0.0, 1.0))
        bpy.ops.object.select_by_type(type="EMPTY")
        bpy.ops.maquette.add_tracks()
    if STATE in ("panel", "tracks", "menu"):
        return "wait"
    bpy.ops.maquette.compare_model(model="mimicmotion")
    bpy.ops.maquette.compare_model(model="isa-nano")
    bpy.ops.maquette.generate("INVOKE_DEFAULT")
    return "job"


def ready():
    """Through the stages, one a tick."""
    global stage, waits
    view = bpy.context.window_manager.maquette
    if time.monotonic() > deadline:
        raise AssertionError(f"{stage}: {view.state} {view.message} {view.backend.test_message}")
    if stage == "ask" and view.backend.test_state != "BUSY":
        assert view.backend.test_state == "OK", view.backend.test_message
        stage = choose()
    elif stage == "job":
        seen = view.state == "running" and view.step == 12 and view.preview
        if seen if STATE == "job" else view.state in gui.ENDED:
            stage = "wait"
    waits += stage == "wait"
    if waits == 10 and STATE == "menu":
        with gui.in_view():
            bpy.ops.wm.call_menu(name="MAQUETTE_MT_models")
    return waits > 10


def done():
    """Say what was seen."""
    view, scene = bpy.context.window_manager.maquette, bpy.context.scene
    print("state", view.state, view.message.splitlines(), view.notes.splitlines())
    print("parts", [(part.name, part.state) for part in view.parts])
    print("results", [(item.name, item.model_label) for item in scene.maquette.results])
    print("framing", view.framing_old, [line.message for line in view.framing])
    print("screens", sorted(obj.name for obj in bpy.data.objects if obj.get("maquette_result")))
    backend.close()
