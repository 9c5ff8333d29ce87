"""Map Bones: offered where nothing fits or the figure is poor, and found by the next file."""

from __future__ import annotations

import importlib
import shutil

import bpy
import numpy as np
import pytest


@pytest.fixture
def bone_map(addon):
    module = importlib.import_module(addon.__name__ + ".scene.rig.bone_map")
    view = bpy.context.window_manager.maquette.bones
    view.source = view.read = view.trouble = ""
    yield module
    shutil.rmtree(module.own_folder(), ignore_errors=True)


@pytest.fixture
def puppet(addon):
    """An armature like a person, whose bones all hang on one root and tell nothing by their names."""
    from maquette.backend.bodies import embedded

    body = embedded()
    bpy.ops.object.armature_add()
    armature = bpy.context.active_object
    armature.name = "Puppet"
    bpy.ops.object.mode_set(mode="EDIT")
    bones = armature.data.edit_bones
    bones[0].name = "base"
    for joint, head in enumerate(body.joints_rest()):
        bone = bones.new(f"b{joint}")
        bone.head, bone.tail = (head[0], -head[2], head[1]), (head[0], -head[2] - 0.05, head[1])
        bone.parent = bones["base"]
    bpy.ops.object.mode_set(mode="OBJECT")
    for frame, angle in ((1, 0.0), (10, 0.5)):
        armature.location.x = angle
        armature.keyframe_insert("location", frame=frame)
    return armature, dict(zip(body.joint_names, (f"b{j}" for j in range(24)), strict=False))


def choose(view, names) -> None:
    for row in view.parts:
        if not row.name.startswith("right_"):
            row.joint = names[{"spine": "spine1", "chest": "spine3"}.get(row.name, row.name)]
    bpy.ops.maquette.mirror_bones()


def test_an_armature_that_nothing_explains_is_mapped_by_hand(bone_map, puppet) -> None:
    armature, names = puppet
    view = bpy.context.window_manager.maquette.bones
    with pytest.raises(RuntimeError, match="Map Bones"):
        bpy.ops.maquette.use_armature_motion()
    assert "Puppet" in view.trouble and view.source == "Puppet" and view.is_armature
    with pytest.raises(RuntimeError, match="Left Hip is not chosen"):
        bpy.ops.maquette.map_bones()
    assert [joint.depth for joint in view.joints] == [0] + [1] * 24
    for joint in view.joints:  # without a tree or names no joint has a mirror
        joint.mirror = ""
    choose(view, names)
    view.parts["right_hip"].joint = "nothing"
    with pytest.raises(RuntimeError, match="no joint nothing"):
        bpy.ops.maquette.map_bones()
    assert not bone_map.own_folder().exists() and view.parts["left_hip"].joint == names["left_hip"]
    for row in view.parts:
        if row.name.startswith("right_"):
            row.joint = names[row.name]
    assert bpy.ops.maquette.map_bones() == {"FINISHED"}
    assert not view.trouble and [path.stem for path in bone_map.own_folder().iterdir()] == ["puppet"]
    bodies = [obj for obj in bpy.data.objects if obj.maquette.body]
    assert len(bodies) == 1 and bodies[0].parent.animation_data.action is not None
    # The next one finds it by itself, and mapping it again replaces the preset.
    bpy.context.view_layer.objects.active = armature
    assert bpy.ops.maquette.use_armature_motion(target="NEW") == {"FINISHED"}
    bpy.context.view_layer.objects.active = armature
    view.label = "Puppets"
    assert bpy.ops.maquette.map_bones(of_armature=True) == {"FINISHED"}
    assert [path.stem for path in bone_map.own_folder().iterdir()] == ["puppet"]


def test_the_left_side_fills_the_right(bone_map, puppet) -> None:
    armature, names = puppet
    for name, label in names.items():
        armature.data.bones[label].name = f"x_{name}"
    view = bpy.context.window_manager.maquette.bones
    view.source, view.is_armature = armature.name, True
    bone_map.read_joints(bpy.context)
    view.parts["right_knee"].joint = ""
    view.parts["left_knee"].joint = "x_left_hand"
    assert view.parts["right_knee"].joint == "x_right_hand"
    view.parts["left_knee"].joint = "x_left_knee"
    assert view.parts["right_knee"].joint == "x_right_hand"
    bpy.ops.maquette.mirror_bones()
    assert view.parts["right_knee"].joint == "x_right_knee" and not bone_map.faults(view)


def test_files_are_offered_after_they_were_imported(bone_map, tmp_path) -> None:
    view = bpy.context.window_manager.maquette.bones
    with pytest.raises(RuntimeError, match="Import a motion"):
        bpy.ops.maquette.map_bones()
    bpy.ops.maquette.add_walk(seconds=0.5)
    path = tmp_path / "walk.bvh"
    bpy.ops.maquette.export_motion(filepath=str(path))
    assert bpy.ops.maquette.import_motion(filepath=str(path), frame_start=5) == {"FINISHED"}
    assert view.source == str(path) and not view.trouble
    count = len(bpy.data.objects)
    bone_map.read_joints(bpy.context)
    assert view.told == "SMPL" and view.label == "walk" and not bone_map.faults(view)
    view.parts["left_foot"].joint = "left_ankle"
    with pytest.raises(RuntimeError, match="Left Ankle and Left Foot are both left_ankle"):
        bpy.ops.maquette.map_bones()
    view.parts["left_foot"].joint = ""
    assert bpy.ops.maquette.map_bones() == {"FINISHED"} and len(bpy.data.objects) == count
    np.savez(tmp_path / "a.npz", poses=np.zeros((2, 72)), trans=np.zeros((2, 3)))
    bpy.ops.maquette.import_motion(filepath=str(tmp_path / "a.npz"))
    assert not view.source


def test_a_poor_figure_is_told_with_the_way_to_map_bones(bone_map) -> None:
    motions = importlib.import_module(bone_map.__name__.split(".scene")[0] + ".backend.motions")
    motion = motions.BodyMotion(30.0, np.zeros((1, 24, 3)), np.zeros((1, 3)), source_error={"bones_deg": 3.0})
    view = bpy.context.window_manager.maquette.bones
    poor = motion.noting("warning: left foot is 23 degrees from the file's, up to 40")
    bone_map.remember(bpy.context, "/x/a.bvh", {"target": "NEW"}, poor)
    assert view.trouble.startswith("Left foot is 23 degrees") and '"ACTIVE"' in view.settings
    bone_map.remember(bpy.context, "/x/a.bvh", {}, motion)
    assert not view.trouble and view.source
