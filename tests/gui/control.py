"""The dialog of Export Control Film, as an animator sees it after choosing three films."""

import importlib

import bpy

ADDON = next(addon.module for addon in bpy.context.preferences.addons if addon.module.endswith(".maquette"))
gui = importlib.import_module(f"{ADDON}.tests.gui.window")


def setup():
    """A body before a camera, and the dialog open."""
    gui.empty()
    bpy.ops.maquette.add_body("EXEC_DEFAULT")
    bpy.ops.maquette.add_camera_move("EXEC_DEFAULT", move="ORBIT")
    bpy.context.preferences.view.filebrowser_display_type = "SCREEN"
    bpy.ops.maquette.export_control_film(
        "INVOKE_DEFAULT", kinds={"depth", "normals", "silhouettes"}, width=832, height=480, fps=16
    )


_waits = 0


def ready():
    """When the dialog is drawn."""
    global _waits
    _waits += 1
    return _waits > 20
