"""A whole first shot at one press: somebody who walks, a camera that moves around them, and the draft of both."""

from __future__ import annotations

from functools import partial

import bpy
from bpy.props import EnumProperty, FloatProperty
from bpy.types import Context, Object, Operator

from ..scene.camera.moves import characters
from ..scene.job import effects, preview
from ..scene.screen.previews import reel_of
from .answers import possible, refused
from .camera import move_items

_LOOK = 0.25
"""Seconds between two looks whether the draft is here."""


class MAQUETTE_OT_first_shot(Operator):
    """Add a body that walks and a camera that moves around it, look through that and play the draft"""

    bl_idname = "maquette.first_shot"
    bl_label = "First Shot"
    bl_options = {"REGISTER", "UNDO"}

    seconds: FloatProperty(name="Length", description="Length of the walk", default=2.0, min=0.5, max=60.0, unit="TIME")
    move: EnumProperty(name="Camera Move", description="Which way the camera moves", items=move_items)

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Only where nobody performs yet."""
        taken = "The scene has a character already: add a camera move and press Preview"
        return possible(cls, context.mode == "OBJECT", "Switch to Object Mode to begin a shot") and possible(
            cls, not characters(context.scene), taken
        )

    def execute(self, context: Context) -> set[str]:
        """One operator after another, as an animator would press them; undone in one step."""
        if not self.properties.is_property_set("move"):
            self.move = "ORBIT"
        cube = _startup_cube(context)
        if cube is not None:
            cube.hide_render = True
            cube.hide_set(True)
        try:
            bpy.ops.maquette.add_body("EXEC_DEFAULT")
            bpy.ops.maquette.add_walk("EXEC_DEFAULT", seconds=self.seconds, place="BODY", fit_range=True)
            context.scene.frame_set(context.scene.frame_start)
            bpy.ops.maquette.add_camera_move("EXEC_DEFAULT", move=self.move)
        except RuntimeError as error:
            return refused(self, str(error).strip())
        if context.space_data is not None and context.space_data.type == "VIEW_3D":
            context.space_data.region_3d.view_perspective = "CAMERA"
            context.space_data.overlay.show_overlays = True  # The draft is one of them.
        context.scene.maquette.preview_by = "DRAFT"
        if not effects.runner.state.busy:
            preview.preview(context.scene)
            if not bpy.app.background:
                bpy.app.timers.register(partial(_play, context.scene.maquette.uid), first_interval=_LOOK)
        if cube is not None:
            self.report({"INFO"}, f"{cube.name}, in which the body would stand, is hidden")
        return {"FINISHED"}


def _play(uid: str) -> float | None:
    """Play the scene once its draft is here: while it plays, nothing is taken."""
    if preview.runner.busy:
        return _LOOK
    reel = reel_of(uid)
    window = bpy.context.window_manager.windows[0]
    if reel is not None and reel.draft is not None and window.scene.maquette.uid == uid:
        with bpy.context.temp_override(window=window):
            if not window.screen.is_animation_playing:
                bpy.ops.screen.animation_play()
    return None


def _startup_cube(context: Context) -> Object | None:
    """The cube of Blender's startup file, where nobody has touched it."""
    cube = context.scene.objects.get("Cube")
    if cube is None or cube.type != "MESH" or cube.animation_data is not None or cube.modifiers:
        return None
    corners = [tuple(map(abs, vertex.co)) for vertex in cube.data.vertices]
    untouched = corners == [(1.0, 1.0, 1.0)] * 8 and cube.matrix_world.is_identity
    return cube if untouched and cube.visible_get() else None


CLASSES = (MAQUETTE_OT_first_shot,)
