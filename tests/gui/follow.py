"""A body that follows an armature live, in a window: a bone is turned by hand in Pose Mode, and the body goes along.

Pictured, as the word after ``--`` says: the armature in Pose Mode with its arm raised (the default), or the body
active, with Bake and Unlink in the panel (``body``).
"""

import importlib
import math
import sys
import tempfile
import time
from pathlib import Path

import bpy
import mathutils
import numpy as np

WORDS = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
ADDON = next(addon.module for addon in bpy.context.preferences.addons if addon.module.endswith(".maquette"))
gui = importlib.import_module(f"{ADDON}.tests.gui.window")
deadline = time.monotonic() + 150
ticks = 0
held = {}


def joints():
    """The body's joints in the world as the scene stands."""
    return gui.module("scene.rig.channels").read_body_pose(held["mesh"], bpy.context.evaluated_depsgraph_get()).joints


def setup():
    """A walking armature of another make, and a new body that follows it."""
    gui.empty()
    path = str(Path(tempfile.mkdtemp()) / "walk.bvh")
    bpy.ops.maquette.add_walk("EXEC_DEFAULT", seconds=2.0)
    bpy.ops.maquette.export_motion("EXEC_DEFAULT", filepath=path)
    gui.empty()
    bpy.ops.preferences.addon_enable(module="io_anim_bvh")
    bpy.ops.import_anim.bvh(filepath=path, global_scale=0.012)
    armature = bpy.context.active_object
    armature.show_in_front = True
    assert bpy.ops.maquette.use_armature_motion("EXEC_DEFAULT", live=True) == {"FINISHED"}
    held["mesh"] = next(obj for obj in bpy.data.objects if obj.maquette.body)
    bpy.context.scene.frame_end = 49
    bpy.context.scene.frame_set(20)
    before = joints()
    bpy.ops.object.select_all(action="DESELECT")
    bpy.context.view_layer.objects.active = armature
    armature.select_set(True)
    armature.location.x = 0.8
    bpy.ops.object.mode_set(mode="POSE")
    for name, angle in (("left_shoulder", -1.9), ("right_elbow", 1.6)):
        bone = armature.pose.bones[name]
        bone.matrix = bone.matrix @ mathutils.Matrix.Rotation(angle, 4, "X")
        # Without a key the next redraw would take it back.
        bone.keyframe_insert("rotation_quaternion" if bone.rotation_mode == "QUATERNION" else "rotation_euler")
        bpy.context.view_layer.update()
    moved = np.linalg.norm(joints() - before, axis=-1)
    print("moved at least", moved.min(), "the left hand by", moved[22])
    assert moved.min() > 0.5 and moved[22] > 0.8
    if "body" in WORDS:
        bpy.ops.object.mode_set(mode="OBJECT")
        bpy.ops.object.select_all(action="DESELECT")
        bpy.context.view_layer.objects.active = held["mesh"]
        held["mesh"].select_set(True)
    view = gui.view()[1].spaces.active.region_3d
    view.view_location = (0.9, -0.6, 0.9)
    view.view_rotation = mathutils.Euler((math.radians(82), 0, math.radians(30))).to_quaternion()
    view.view_distance = 4.5


def ready():
    """A moment for the window to draw."""
    global ticks
    assert time.monotonic() < deadline
    ticks += 1
    return ticks > 8


def done():
    """Say what the body follows."""
    print("follows", gui.module("scene.rig.follow").followed(held["mesh"]).name)
