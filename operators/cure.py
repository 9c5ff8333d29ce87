"""What a press does about something that stands in the shot's way."""

from __future__ import annotations

from collections.abc import Callable

import bpy
from bpy.props import StringProperty
from bpy.types import Context, Operator

from .answers import refused


def _shown(context: Context, target: str, _: str) -> None:
    obj = context.scene.objects[target]
    obj.hide_viewport = obj.hide_render = False


def _looks(context: Context, target: str, _: str) -> None:
    marks = context.scene.objects[target].maquette
    for entry in marks.references:
        if entry.source == "IMAGE" and entry.image is None:
            entry.source = "RENDER"
    if marks.reference_source == "IMAGE" and marks.reference_image is None:
        marks.reference_source = "RENDER"


def _perspective(context: Context, target: str, _: str) -> None:
    context.scene.objects[target].data.type = "PERSP"


def _orbit(_context: Context, _target: str, _: str) -> None:
    bpy.ops.maquette.add_camera_move("EXEC_DEFAULT", move="ORBIT")


def _whole(context: Context, _target: str, _: str) -> None:
    context.scene.use_preview_range = False


def _end(context: Context, _target: str, frame: str) -> None:
    context.scene.frame_end = int(frame)


def _scene(context: Context, _target: str, _: str) -> None:
    context.scene.maquette.background = "SCENE"


def _own_size(context: Context, _target: str, _: str) -> None:
    context.scene.maquette.upscale = "OFF"


_CURES: dict[str, tuple[str, str, Callable[[Context, str, str], None]]] = {
    "SHOW": ("Switch {target} On", "Show it in the viewport and in renders", _shown),
    "RENDER_LOOKS": ("Take Render", "Render the looks from the scene instead of taking a picture", _looks),
    "PERSPECTIVE": ("Set to Perspective", "Give the camera a perspective lens", _perspective),
    "ORBIT": ("Add an Orbit", "Key the camera around the characters; a camera is added where there is none", _orbit),
    "PREVIEW_RANGE": ("Turn Preview Range Off", "Play and show the frames that the shot has", _whole),
    "END": ("Set End to {value}", "End the shot with the motion", _end),
    "UPSCALE_OFF": ("Turn Upscale Off", "Leave the video at the size that the model makes", _own_size),
    "SCENE": ("Take This Scene", "Render this scene behind the characters instead", _scene),
}
"""Label, tooltip and deed of each cure; ``END 49`` is the cure END of the value 49."""


def cure_label(cure: str, target: str) -> str:
    """What stands on the button of a cure."""
    kind, _, value = cure.partition(" ")
    return _CURES[kind][0].format(target=target, value=value)


class MAQUETTE_OT_cure(Operator):
    """Do what puts this right"""

    bl_idname = "maquette.cure"
    bl_label = "Put Right"
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    cure: StringProperty(name="Cure", description="What is done", options={"SKIP_SAVE"})
    target: StringProperty(name="Object", description="What it is done to", options={"SKIP_SAVE"})

    @classmethod
    def description(cls, _context: Context, properties: MAQUETTE_OT_cure) -> str:
        """What this cure does."""
        known = _CURES.get(properties.cure.partition(" ")[0])
        return known[1] if known is not None else str(cls.__doc__)

    def execute(self, context: Context) -> set[str]:
        """Do it."""
        kind, _, value = self.cure.partition(" ")
        try:
            _CURES[kind][2](context, self.target, value)
        except (KeyError, RuntimeError) as error:
            return refused(self, f"Cannot be put right so any more: {str(error).strip()}")
        return {"FINISHED"}


CLASSES = (MAQUETTE_OT_cure,)
