"""Generate pressed four times, the first to fail, and the jobs that wait, against a backend on 127.0.0.1:8379.

Start one before, for instance with the engines of the tests, which take as long as the prompt says:

    MAQUETTE_ENGINES=tests.server.fake_engines:FakeEngines maquette serve --port 8379
"""

import importlib
import time

import bpy

ADDON = next(addon.module for addon in bpy.context.preferences.addons if addon.module.endswith(".maquette"))
gui = importlib.import_module(f"{ADDON}.tests.gui.window")
deadline = time.monotonic() + 300
presses = []


def setup():
    """A walking body."""
    gui.send_to("http://127.0.0.1:8379/")
    gui.empty()
    bpy.ops.maquette.first_shot("EXEC_DEFAULT")
    scene = bpy.context.scene
    scene.frame_end = 9
    scene.render.resolution_x = scene.render.resolution_y = 256
    scene.maquette.prompt = "wait=2 fail=odd"
    scene.maquette.steps = 20


def ready():
    """Press again as soon as the last press is captured."""
    view = bpy.context.window_manager.maquette
    assert time.monotonic() < deadline, (view.state, view.message, [item.message for item in view.queue])
    captured = not any(item.state == "CAPTURING" for item in view.queue) and view.state != "capturing"
    if len(presses) < 4 and captured:
        presses.append(bpy.ops.maquette.generate("INVOKE_DEFAULT"))
        bpy.context.scene.maquette.prompt = "wait=4"
        return False
    failed = any(item.state == "FAILED" for item in view.queue)
    return len(presses) == 4 and captured and failed and view.state == "running" and view.step >= 2


def done():
    """Say what waits."""
    view = bpy.context.window_manager.maquette
    print("queue", [(item.name, item.state, item.message) for item in view.queue], flush=True)
