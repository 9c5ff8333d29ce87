"""The whole way against the same backend as generate.py: pictured when the video plays on its plane."""

import time

import bpy

ADDON = next(addon.module for addon in bpy.context.preferences.addons if addon.module.endswith(".maquette"))

deadline = time.monotonic() + 900
waits = 0


def setup():
    """A walking body, a moving camera, and Generate; the view through the camera."""
    preferences = bpy.context.preferences.addons[ADDON].preferences
    preferences.mode = "SERVER"
    preferences.address = "127.0.0.1:8377"
    bpy.ops.object.select_all(action="SELECT")
    bpy.ops.object.delete()
    bpy.ops.maquette.add_body("EXEC_DEFAULT")
    bpy.ops.maquette.add_walk("EXEC_DEFAULT")
    bpy.ops.maquette.add_camera_move("EXEC_DEFAULT", move="ORBIT")
    scene = bpy.context.scene
    scene.frame_end = 17
    scene.frame_set(9)
    scene.render.resolution_x = scene.render.resolution_y = 256
    scene.view_settings.view_transform = "Standard"
    window = bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    area.spaces.active.shading.type = "MATERIAL"
    area.spaces.active.region_3d.view_perspective = "CAMERA"
    bpy.ops.maquette.generate("INVOKE_DEFAULT")


def ready():
    """A little after the end."""
    global waits
    view = bpy.context.window_manager.maquette
    if time.monotonic() > deadline:
        raise AssertionError(f"still {view.state}: {view.message}")
    if view.state not in ("done", "failed", "cancelled"):
        return False
    waits += 1
    return waits > 12


def done():
    """Say what came of it."""
    view, scene = bpy.context.window_manager.maquette, bpy.context.scene
    print("state", view.state, view.message, view.notes.splitlines())
    print("results", [(item.name, item.frame_start, item.frame_count) for item in scene.maquette.results])
    print("objects", [obj.name for obj in bpy.data.objects], "scenes", [each.name for each in bpy.data.scenes])
