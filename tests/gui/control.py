"""The dialog of Export Control Film, as an animator sees it after choosing three films."""

import bpy


def setup():
    """A body before a camera, and the dialog open."""
    bpy.ops.object.select_all(action="SELECT")
    bpy.ops.object.delete()
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
