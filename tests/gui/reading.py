"""A long motion import in a window: its progress in the status bar, Esc that stops it, and one that comes to its end.

Needs ``--enable-event-simulate``. Pictured: the progress half way (the default), or, with the word ``done`` after
``--``, the scene after an import that was cancelled and one that was not.
"""

import importlib
import sys
import tempfile
import time
from pathlib import Path

import bpy
import numpy as np

WORDS = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
ADDON = next(addon.module for addon in bpy.context.preferences.addons if addon.module.endswith(".maquette"))
gui = importlib.import_module(f"{ADDON}.tests.gui.window")
deadline = time.monotonic() + 170
steps = None
ticks = []


def noted():
    """Note the time between timer calls: how long the window stood still."""
    ticks.append(time.monotonic())
    return 0.02


def write(path, seconds):
    """Joint places alone, whose fit takes long."""
    motions = gui.module("backend.motions")
    body = gui.module("backend.bodies").embedded()
    walk = motions.generate_walk(seconds, 30, body=body)
    np.save(path, body.pose(None, walk.poses, walk.trans, subset=np.arange(1)).joints)


def setup():
    """An empty scene and two files."""
    global steps
    gui.empty()
    folder = Path(tempfile.mkdtemp())
    write(folder / "long.npy", 120.0)
    write(folder / "short.npy", 12.0)
    bpy.app.timers.register(noted)
    steps = moments(folder)


def state():
    """What an import could leave behind."""
    kinds = ("objects", "meshes", "armatures", "actions", "materials")
    return {kind: len(getattr(bpy.data, kind)) for kind in kinds}, bpy.context.scene.frame_current


def modal():
    """The import that is under way, as the window lists it; None where there is none."""
    window = bpy.context.window_manager.windows[0]
    return next((op for op in window.modal_operators if op.bl_idname == "MAQUETTE_OT_import_motion"), None)


def begin(path):
    """Start an import as the file browser does."""
    with gui.in_view():
        return bpy.ops.maquette.import_motion("EXEC_DEFAULT", filepath=str(path))


def moments(folder):
    """Start, look, press Esc, look; then an import to its end."""
    window = bpy.context.window_manager.windows[0]
    before = state()
    began = time.monotonic()
    assert begin(folder / "long.npy") == {"RUNNING_MODAL"}
    print(f"handed back after {time.monotonic() - began:.2f} s")
    while time.monotonic() - began < 6.0:
        yield
    assert modal() is not None, "the long import is over before Esc could be pressed"
    if "done" not in WORDS:
        return
    window.event_simulate(type="ESC", value="PRESS")
    window.event_simulate(type="ESC", value="RELEASE")
    pressed = time.monotonic()
    while modal() is not None:
        yield
    print(f"stopped {time.monotonic() - pressed:.2f} s after Esc")
    assert state() == before, (before, state())
    begin(folder / "short.npy")
    while modal() is not None:
        yield
    assert state()[0]["objects"] == before[0]["objects"] + 2, state()
    gaps = np.diff(ticks)
    print(f"the window stood still for at most {gaps.max():.2f} s, {np.sum(gaps > 0.1)} times longer than 0.1 s")
    for _ in range(6):
        yield


def ready():
    """One moment a call."""
    assert time.monotonic() < deadline
    return next(steps, "over") == "over"


def done():
    """Let nothing run on."""
    if modal() is not None:
        bpy.context.window_manager.windows[0].event_simulate(type="ESC", value="PRESS")
    print("state", state())
