"""Generate against a backend on 127.0.0.1:8377, pictured in the middle of the job.

Start one before, for instance with the engines of the tests, which take as long as the prompt says:

    MAQUETTE_ENGINES=tests.server.fake_engines:FakeEngines maquette serve --port 8377

While it runs, the longest time between two ticks of a timer of our own is measured: the window must not wait.
"""

import importlib
import time

import bpy

ADDON = next(addon.module for addon in bpy.context.preferences.addons if addon.module.endswith(".maquette"))
gui = importlib.import_module(f"{ADDON}.tests.gui.window")
STEP = 6
"""Denoising step at which the picture is taken."""

seen = []
gaps = []
last = time.monotonic()
deadline = time.monotonic() + 900


def tick():
    """Note how long the window kept us waiting."""
    global last
    now = time.monotonic()
    gaps.append(now - last)
    last = now
    return 0.02


def setup():
    """A walking body, a moving camera, and Generate."""
    global last
    gui.send_to("http://127.0.0.1:8377/")
    scene = gui.walking(17, 256, 256)
    scene.frame_set(9)
    scene.maquette.prompt = "wait=4"
    scene.maquette.steps = 12
    print("generate", bpy.ops.maquette.generate("INVOKE_DEFAULT"))
    last = time.monotonic()
    bpy.app.timers.register(tick)


def ready():
    """In the middle of the job, or when it has ended against all hope."""
    view = bpy.context.window_manager.maquette
    if not seen or seen[-1] != view.state:
        seen.append(view.state)
        print("state", view.state, view.message, "frame", bpy.context.scene.frame_current, flush=True)
    if time.monotonic() > deadline:
        raise AssertionError(f"nothing after {seen}: {view.message}")
    if view.state in gui.ENDED:
        return True
    return view.state == "running" and view.step >= STEP


def done():
    """Say what was seen."""
    view = bpy.context.window_manager.maquette
    print("seen", seen, "step", view.step, "of", view.steps, "preview", view.preview, "eta", view.eta_seconds)
    print(
        "ticks", len(gaps), "longest gap", round(max(gaps), 2), "s, median", round(sorted(gaps)[len(gaps) // 2], 3), "s"
    )
    print("scenes", [scene.name for scene in bpy.data.scenes], "frame", bpy.context.scene.frame_current)
