"""What becomes of a body's keyed motion: feet held, or a file for other programs."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy.props import EnumProperty, FloatProperty, StringProperty
from bpy.types import Operator
from bpy_extras.io_utils import ExportHelper

from ..backend import bodies, motions
from ..backend.motions.export import WRITERS
from ..scene import keys
from ..scene.rig.armature import frames_of
from ..scene.rig.bodies import RigError, body_source, find_body, load_rig
from ..scene.rig.fbx import write_fbx
from ..scene.rig.follow import followed
from ..scene.rig.motion import key_motion, read_motion
from .answers import possible, refused, refusing, tell
from .motion_target import ERRORS, sentences


def _moves(cls, context: bpy.types.Context) -> bool:
    mesh = find_body(context.active_object)
    rig = None if mesh is None else mesh.parent
    moves = rig is not None and (keys.has_keys(rig) or followed(mesh) is not None)
    return possible(cls, moves, "Make a body active that has keys: import a motion, or pose it and press I")


def _read(context: bpy.types.Context) -> tuple[bpy.types.Object, motions.BodyMotion, bodies.BodyModel, int]:
    """The active body, its motion over its action, its model, and the first frame."""
    mesh = find_body(context.active_object)
    if mesh is None:
        raise RigError("body", "is not active any more; make it active")
    first, last = frames_of(followed(mesh) or mesh.parent, context.scene)
    motion = read_motion(context.scene, context.view_layer, mesh, first, last)
    return mesh, motion, bodies.load_body(body_source(mesh)), first


class MAQUETTE_OT_lock_feet(Operator):
    """Hold the active body's standing feet where they stand: what they slide is taken back, and the legs follow"""

    bl_idname = "maquette.lock_feet"
    bl_label = "Lock Feet"
    bl_options = {"REGISTER", "UNDO"}

    amount: FloatProperty(
        name="Amount", description="1 takes all sliding out", default=1.0, min=0.0, max=1.0, subtype="FACTOR"
    )

    @classmethod
    def poll(cls, context):
        return _moves(cls, context)

    @refusing(*ERRORS)
    def execute(self, context):
        mesh, motion, model, first = _read(context)
        held = motions.lock_feet(motion, model, self.amount)
        key_motion(load_rig(mesh), held, first, context.evaluated_depsgraph_get())
        tell(self, sentences(held.notes))
        return {"FINISHED"}


class MAQUETTE_OT_export_motion(Operator, ExportHelper):
    """Write the active body's motion to a file: BVH, AMASS .npz, or FBX by Blender's own exporter"""

    bl_idname = "maquette.export_motion"
    bl_label = "Export Motion"

    kind: EnumProperty(
        name="Format",
        description="Kind of file",
        items=((".bvh", "BVH", "Skeleton and rotations, Y up, in centimetres"),
               (".npz", "AMASS", "SMPL-H pose parameters, Z up, in metres"),
               (".fbx", "FBX", "Skeleton and rotations without the skin, by Blender's exporter")),
        default=".bvh",
    )  # fmt: skip
    filename_ext = ""
    filepath: StringProperty(name="File", description="File to write", subtype="FILE_PATH")

    @classmethod
    def poll(cls, context):
        return _moves(cls, context)

    def check(self, _context):
        old = self.filepath
        self.filepath = str(Path(old).with_suffix(self.kind)) if old else old
        return self.filepath != old

    @refusing(*ERRORS)
    def execute(self, context):
        path = Path(bpy.path.abspath(self.filepath))
        ending = path.suffix.lower()
        if ending not in (*WRITERS, ".fbx"):
            return refused(self, f"'{path.name}' names no format: end it in {', '.join(WRITERS)} or .fbx")
        _, motion, model, _ = _read(context)
        if ending == ".fbx":
            write_fbx(context, path, motion, model)
        else:
            WRITERS[ending](path, motion, model)
        tell(self, sentences(motion.notes), "WARNING")
        self.report({"INFO"}, f"{motion.frames} frames written to {path}")
        return {"FINISHED"}


class MAQUETTE_OT_dismiss_notes(Operator):
    """Clear away what the last motion told"""

    bl_idname = "maquette.dismiss_notes"
    bl_label = "Dismiss Notes"
    bl_options = {"INTERNAL"}

    def execute(self, context):
        context.window_manager.maquette.motion_notes = ""
        return {"FINISHED"}


CLASSES = (MAQUETTE_OT_lock_feet, MAQUETTE_OT_export_motion, MAQUETTE_OT_dismiss_notes)
