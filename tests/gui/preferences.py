"""The add-on's preferences with a server that has been asked, opened from the Shot panel's button.

Wants a backend on 127.0.0.1:8377, as generate.py does.
"""

import importlib
import time

import bpy

ADDON = next(addon.module for addon in bpy.context.preferences.addons if addon.module.endswith(".maquette"))
gui = importlib.import_module(f"{ADDON}.tests.gui.window")
deadline = time.monotonic() + 300
waits = 0


def setup():
    """Open the preferences and press Test Connection."""
    gui.send_to("127.0.0.1:8377")
    bpy.ops.maquette.test_connection()
    # In place of the 3D view: one picture shows one window.
    gui.view()[1].type = "PREFERENCES"
    bpy.ops.maquette.open_preferences()


def ready():
    """When the answer is here and drawn."""
    global waits
    view = bpy.context.window_manager.maquette.backend
    if time.monotonic() > deadline:
        raise AssertionError(f"still {view.test_state}: {view.test_message}")
    waits += view.test_state != "BUSY"
    return waits > 8


def done():
    """Say what was answered."""
    view = bpy.context.window_manager.maquette.backend
    print("test", view.test_state, view.test_message, [(item.name, item.state) for item in view.models])
