"""The whole way against the same backend as generate.py: pictured when the video plays on its plane."""

import importlib
import time

import bpy

ADDON = next(addon.module for addon in bpy.context.preferences.addons if addon.module.endswith(".maquette"))
gui = importlib.import_module(f"{ADDON}.tests.gui.window")

deadline = time.monotonic() + 900
waits = 0


def setup():
    """A walking body, a moving camera, and Generate; the view through the camera."""
    gui.send_to("127.0.0.1:8377")
    scene = gui.walking(17, 256, 256)
    scene.frame_set(9)
    scene.view_settings.view_transform = "Standard"
    gui.through_camera().shading.type = "MATERIAL"
    bpy.ops.maquette.generate("INVOKE_DEFAULT")


def ready():
    """A little after the end."""
    global waits
    view = bpy.context.window_manager.maquette
    if time.monotonic() > deadline:
        raise AssertionError(f"still {view.state}: {view.message}")
    if view.state not in gui.ENDED:
        return False
    waits += 1
    return waits > 12


def done():
    """Say what came of it."""
    view, scene = bpy.context.window_manager.maquette, bpy.context.scene
    print("state", view.state, view.message, view.notes.splitlines())
    print("results", [(item.name, item.frame_start, item.frame_count) for item in scene.maquette.results])
    print("objects", [obj.name for obj in bpy.data.objects], "scenes", [each.name for each in bpy.data.scenes])
