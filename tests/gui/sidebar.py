"""The tab with a body that walks and a camera that moves: what an animator sees before pressing Generate."""

import bpy


def setup():
    """Build the scene through the operators, as an animator would."""
    bpy.ops.object.select_all(action="SELECT")
    bpy.ops.object.delete()
    bpy.ops.maquette.add_body("EXEC_DEFAULT")
    bpy.ops.maquette.add_walk("EXEC_DEFAULT")
    bpy.ops.maquette.add_camera_move("EXEC_DEFAULT", move="ORBIT")
    scene = bpy.context.scene
    scene.frame_end = 17
    scene.render.resolution_x = scene.render.resolution_y = 512
    scene.maquette.prompt = "A woman walks through a bright studio"
    window = bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    area.spaces.active.region_3d.view_perspective = "CAMERA"
    area.spaces.active.shading.color_type = "VERTEX"


_waits = 0


def ready():
    """After a second, when the timer has looked at the scene."""
    global _waits
    _waits += 1
    return _waits > 20
