"""Camera moves."""

from __future__ import annotations

from math import pi

import bpy
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty
from bpy.types import Operator

from ..backend.catalogue.cameras import Move
from ..backend.catalogue.reader import CatalogueError, find_preset, menu
from ..backend.shot import ShotError
from ..scene.camera import framing, paths
from ..scene.camera.lens import set_trained_lens
from ..scene.camera.moves import add_camera_move, characters
from ..scene.rig.bodies import RigError, find_body
from .answers import possible, refused, refusing, tell

_items: list[tuple[str, str, str]] = []
"""Items of the dynamic enum; Blender needs their strings kept alive."""

_TARGETS = (
    ("ALL", "All Characters", "Frame every character of the scene"),
    ("ACTIVE", "Active Character", "Frame the active character only"),
)


def move_items(_self: object, _context: bpy.types.Context | None) -> list[tuple[str, str, str]]:
    """The moves of presets/cameras."""
    global _items
    _items = [(move.id.upper(), move.label, move.description) for move in menu(Move)]
    return _items


def _targets(context: bpy.types.Context, which: str) -> list[bpy.types.Object]:
    everyone = characters(context.scene)
    if which == "ALL":
        return everyone
    active = context.active_object
    chosen = find_body(active) or active
    return [chosen] if chosen in everyone else []


def has_camera(operator: type[Operator], context: bpy.types.Context) -> bool:
    """The ``poll`` of operators that need the shot's camera."""
    found = context.scene.camera is not None or any(marker.camera for marker in context.scene.timeline_markers)
    return possible(operator, found, "The scene has no camera: add a camera move, or choose the scene's camera")


class MAQUETTE_OT_add_camera_move(Operator):
    """Key the camera along a preset move that frames the characters over the scene's frames"""

    bl_idname = "maquette.add_camera_move"
    bl_label = "Add Camera Move"
    bl_options = {"REGISTER", "UNDO"}

    move: EnumProperty(name="Move", description="Which way the camera moves", items=move_items)
    target: EnumProperty(name="Frame", description="Whom the camera frames", items=_TARGETS, default="ALL")
    amount: FloatProperty(
        name="Amount",
        description="How far to move: 1 is the preset's own size",
        default=1.0,
        soft_min=0.0,
        soft_max=2.0,
    )
    distance: FloatProperty(
        name="Distance",
        description="Factor on the distance: 1 is as close as the characters fit, below 1 crops them",
        default=1.0,
        min=0.05,
        soft_max=4.0,
        max=100.0,
    )
    angle: FloatProperty(
        name="Angle",
        description="Turn the whole move about the characters; 0 sees them from the front",
        subtype="ANGLE",
        default=0.0,
        soft_min=-pi,
        soft_max=pi,
    )
    frame_start: IntProperty(
        name="Start Frame", description="First keyed frame; the scene's first by default", default=1
    )
    frame_end: IntProperty(name="End Frame", description="Last keyed frame; the scene's last by default", default=250)
    seed: IntProperty(name="Seed", description="Another number, another hand at the camera", default=0, min=0)

    @classmethod
    def poll(cls, context):
        return possible(cls, characters(context.scene), "Add a body, or mark a mesh as a character, first")

    @refusing(CatalogueError, paths.MoveError, RigError)
    def execute(self, context):
        scene = context.scene
        if not self.properties.is_property_set("frame_start"):
            self.frame_start = scene.frame_start
        if not self.properties.is_property_set("frame_end"):
            self.frame_end = scene.frame_end
        if self.frame_end < self.frame_start:
            return refused(self, f"End Frame {self.frame_end} lies before Start Frame {self.frame_start}")
        targets = _targets(context, self.target)
        if not targets:
            return refused(self, "The active object is no character: select one, or frame All Characters")
        done = add_camera_move(
            context,
            find_preset(Move, self.move),
            targets,
            self.frame_start,
            self.frame_end,
            amount=self.amount,
            distance=self.distance,
            angle=self.angle,
            seed=self.seed,
        )
        tell(self, done.notes)
        return {"FINISHED"}

    def draw(self, _context):
        layout = self.layout
        layout.use_property_split = True
        for name in ("move", "target", "amount", "distance", "angle", "frame_start", "frame_end", "seed"):
            layout.prop(self, name)


class MAQUETTE_OT_frame_55(Operator):
    """Give the shot's camera the lens that joint-driven models know: 55 degrees over the picture's larger side"""

    bl_idname = "maquette.frame_55"
    bl_label = "Set 55° Lens"
    bl_options = {"REGISTER", "UNDO"}

    keep_framing: BoolProperty(
        name="Keep Framing",
        description="Move the camera along its view, keys included, so that the characters keep their size",
        default=False,
        options={"SKIP_SAVE"},
    )
    replace_zoom: BoolProperty(
        name="Replace Zoom",
        description="Also where the lens is keyed to change: all its keys get the one value",
        default=False,
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context):
        return has_camera(cls, context)

    @refusing(ShotError)
    def execute(self, context):
        tell(self, set_trained_lens(context.scene, keep_framing=self.keep_framing, replace_zoom=self.replace_zoom))
        return {"FINISHED"}


class MAQUETTE_OT_check_framing(Operator):
    """Look at the whole shot and say where the bodies lie outside what joint-driven models know"""

    bl_idname = "maquette.check_framing"
    bl_label = "Check Framing"
    bl_options = {"REGISTER"}

    @refusing(ShotError)
    def execute(self, context):
        for line in framing.measure(context.scene):
            self.report({"INFO"} if line.level == "OK" else {"WARNING"}, line.message)
        return {"FINISHED"}


CLASSES = (MAQUETTE_OT_add_camera_move, MAQUETTE_OT_frame_55, MAQUETTE_OT_check_framing)
