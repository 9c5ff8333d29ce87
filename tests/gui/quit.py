"""Blender quits in mid-job and is started again: the film is delivered to the file that it belongs to.

Against a backend on 127.0.0.1:8391 whose default model is the embedded one:

    maquette serve --port 8391

This window only starts two others, as a user would: with saved preferences, no factory settings. The first generates,
and quits as soon as the backend has the job; the second opens the same file and does nothing. Prints what each saw.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import bpy

PART = os.environ.get("MAQUETTE_QUIT", "")
FOLDER = Path(os.environ.get("MAQUETTE_QUIT_FOLDER") or tempfile.mkdtemp(prefix="maquette-quit-"))
FILE = FOLDER / "shot.blend"
DEADLINE = time.monotonic() + 420
started = None


def shared():
    """What this folder's scripts share, once the add-on is enabled."""
    addon = next(addon.module for addon in bpy.context.preferences.addons if addon.module.endswith(".maquette"))
    return importlib.import_module(f"{addon}.tests.gui.window")


def tell(**what):
    """Leave a note for the window that has started this one."""
    (FOLDER / f"{PART}.json").write_text(json.dumps(what))


def start(part, *arguments):
    """Start another Blender, which runs this script."""
    global started
    more = {"MAQUETTE_QUIT": part, "MAQUETTE_QUIT_FOLDER": str(FOLDER)}
    command = [bpy.app.binary_path, "--no-window-focus", *arguments, "--python", __file__]
    started = subprocess.Popen(command, env=os.environ | more)


def leave():
    """A body that walks, saved and sent; then the end, with the job under way."""
    scene = shared().walking(17, 320, 180)
    scene.maquette.quality = "draft"
    bpy.ops.wm.save_as_mainfile(filepath=str(FILE))
    bpy.ops.maquette.generate("INVOKE_DEFAULT")
    bpy.app.timers.register(until_running)


def until_running():
    """Quit once the backend has the job."""
    view = bpy.context.window_manager.maquette
    if view.state in ("queued", "running"):
        bpy.ops.wm.save_mainfile()
        tell(state=view.state, message=view.message)
        bpy.ops.wm.quit_blender()
    elif view.state in ("failed", "done", "cancelled") or time.monotonic() > DEADLINE:
        tell(state=view.state, message=view.message)
        bpy.ops.wm.quit_blender()
    return 0.1


def until_there():
    """Wait for the film; nothing is pressed."""
    view, results = bpy.context.window_manager.maquette, bpy.context.scene.maquette.results
    print("started again:", view.state, view.message, flush=True)
    if len(results) or view.state == "failed" or time.monotonic() > DEADLINE:
        films = [bpy.path.abspath(record.filepath) for record in results]
        tell(state=view.state, message=view.message, films=films, there=[Path(film).is_file() for film in films])
        return None
    return 1.0


def setup():
    """Save the preferences as they are, with the backend's address, and start the first window."""
    shared().send_to("http://127.0.0.1:8391/")
    bpy.ops.wm.save_userpref()
    start("leave")


def ready():
    """One window after the other, until the second has the film."""
    assert time.monotonic() < DEADLINE, "nothing came"
    if started.args[-3] != str(FILE):
        if started.poll() is None:
            return False
        left = json.loads((FOLDER / "leave.json").read_text())
        print("quit while the job was", left, flush=True)
        assert left["state"] in ("queued", "running"), left
        start("come", str(FILE))
        return False
    return (FOLDER / "come.json").is_file()


def done():
    """Say what the second window saw, and close it."""
    found = json.loads((FOLDER / "come.json").read_text())
    started.terminate()
    print("started again:", found, flush=True)
    assert found["there"] == [True], found
    sys.stdout.flush()


if PART == "leave":
    bpy.app.timers.register(leave, first_interval=2.0)
elif PART == "come":
    bpy.app.timers.register(until_there, first_interval=1.0)
