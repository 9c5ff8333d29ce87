"""What the scripts of this folder share: the scene that an animator has built, and the window that shows it.

A script is run by itself, so that it finds this module through the extension:

    ADDON = next(addon.module for addon in bpy.context.preferences.addons if addon.module.endswith(".maquette"))
    gui = importlib.import_module(f"{ADDON}.tests.gui.window")
"""

import importlib
import subprocess
import tomllib
from pathlib import Path

import bpy

ADDON = __package__.removesuffix(".tests.gui")
ENDED = ("done", "failed", "cancelled")
"""States of a job that is over."""


def module(name):
    """A module of the extension as it is enabled now."""
    return importlib.import_module(f"{ADDON}.{name}")


def send_to(address):
    """Have jobs go to a server."""
    preferences = bpy.context.preferences.addons[ADDON].preferences
    preferences.mode, preferences.address = "SERVER", address


def empty():
    """Take everything out of the scene."""
    bpy.ops.object.select_all(action="SELECT")
    bpy.ops.object.delete()


def walking(frames, width, height):
    """A body that walks and a camera that moves around it, alone in the scene, which is returned."""
    empty()
    bpy.ops.maquette.add_body("EXEC_DEFAULT")
    bpy.ops.maquette.add_walk("EXEC_DEFAULT")
    bpy.ops.maquette.add_camera_move("EXEC_DEFAULT", move="ORBIT")
    scene = bpy.context.scene
    scene.frame_end = frames
    scene.render.resolution_x, scene.render.resolution_y = width, height
    return scene


def view():
    """Window, area and region of the 3D view."""
    window = bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    return window, area, next(region for region in area.regions if region.type == "WINDOW")


def in_view():
    """The 3D view as the context."""
    window, area, region = view()
    return bpy.context.temp_override(window=window, area=area, region=region, space_data=area.spaces.active)


def through_camera():
    """Have the 3D view look through the camera; returns its space."""
    space = view()[1].spaces.active
    space.region_3d.view_perspective = "CAMERA"
    return space


def waited(count=3):
    """Let the window draw so many times."""
    for _ in range(count):
        view()[1].tag_redraw()
        yield


def picture(name):
    """The screen as a file of /share, where there is that."""
    if Path("/share").is_dir():
        subprocess.run(["import", "-window", "root", f"/share/{name}.png"], check=True)


def described(ready, **more):
    """The models as a backend lists them, by their descriptions; ``more`` of those that can run."""
    found = []
    for path in sorted((Path(module("panels").__file__).parents[1] / "presets" / "models").glob("*.toml")):
        preset = tomllib.loads(path.read_text("utf-8"))
        can = path.stem in ready
        reason = "" if can else f"{preset['label']} cannot run: its weights are not here"
        found.append({**preset, "available": can, "reason": reason, **(more if can else {})})
    return found
