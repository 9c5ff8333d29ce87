"""The Result panel with several takes of a walking body: pictures, stars, the switch, and the film over the frame.

A tall screen shows the whole tab. The word after ``--`` chooses what the switch says; the overlay when there is none.
"""

import importlib
import sys
import tempfile
from pathlib import Path

import bpy
import numpy as np

ADDON = next(addon.module for addon in bpy.context.preferences.addons if addon.module.endswith(".maquette"))
gui = importlib.import_module(f"{ADDON}.tests.gui.window")
WAY = next((word for word in ("PLANE", "BACKGROUND", "STRIP", "OFF") if word in sys.argv), "OVERLAY")
waits = 0


def setup():
    """A body, a camera that moves, and three films."""
    builders, library = gui.module("tests.scene.builders"), gui.module("scene.job.library")
    scene = gui.walking(17, 640, 360)
    folder = Path(tempfile.mkdtemp())
    for take in range(3):
        colours = np.linspace((30, 90, 200), (200, 120, 40), 17)[:, np.roll(range(3), take)]
        film = builders.write_film(folder / f"walk_take{take + 1:02d}.mp4", colours, 24, (320, 180))
        library.put_away(film, library.describe(scene), load=True)
    scene.maquette.results[1].starred = True
    scene.maquette.overlay_wipe = 0.6
    scene.maquette.show_as = WAY
    scene.frame_set(9)
    gui.through_camera()


def ready():
    """When the list's pictures have been made."""
    global waits
    waits += 1
    for area in bpy.context.window_manager.windows[0].screen.areas:
        area.tag_redraw()
    return waits > 24


def done():
    """Say what is listed."""
    print([(item.name, item.starred, item.filepath) for item in bpy.context.scene.maquette.results])
