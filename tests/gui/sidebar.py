"""The tab with a body that walks and a camera that moves: what an animator sees before pressing Generate."""

import importlib

import bpy

ADDON = next(addon.module for addon in bpy.context.preferences.addons if addon.module.endswith(".maquette"))
gui = importlib.import_module(f"{ADDON}.tests.gui.window")


def setup():
    """Build the scene through the operators, as an animator would."""
    scene = gui.walking(17, 512, 512)
    scene.maquette.prompt = "A woman walks through a bright studio"
    gui.through_camera().shading.color_type = "VERTEX"


_waits = 0


def ready():
    """After a second, when the timer has looked at the scene."""
    global _waits
    _waits += 1
    return _waits > 20
