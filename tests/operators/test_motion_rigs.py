"""Motions onto an animator's own armature: whatever its bones are called, how it is scaled, turned and rests."""

from __future__ import annotations

import importlib
import shutil

import bpy
import numpy as np
import pytest

from ..motions.writers import named


@pytest.fixture
def rig(addon):
    """The add-on's modules, and its body's motion on an armature as retargeting it reads that back."""

    class Modules:
        armature = importlib.import_module(addon.__name__ + ".scene.rig.armature")
        bone_map = importlib.import_module(addon.__name__ + ".scene.rig.bone_map")
        bodies = importlib.import_module(addon.__name__ + ".backend.bodies")
        retarget = importlib.import_module(addon.__name__ + ".backend.motions.retarget")

        def read(self, armature):
            scene, layer = bpy.context.scene, bpy.context.view_layer
            clip = self.armature.sample_armature(scene, layer, armature, 1, scene.frame_end)
            return self.retarget.retarget(clip, self.bodies.embedded(), up="Z")

    bpy.context.scene.render.fps = 24
    yield Modules()
    shutil.rmtree(Modules.bone_map.own_folder(), ignore_errors=True)


def mixamo(name: str = "Hero") -> bpy.types.Object:
    """A bare armature with Mixamo's names, as Blender imports one: in centimetres, lying, scaled down and turned up."""
    from maquette.backend.bodies import embedded

    body, names = embedded(), named("mixamo", "Left")
    bpy.ops.object.armature_add()
    armature = bpy.context.active_object
    armature.name, armature.scale, armature.rotation_euler = name, (0.01, 0.01, 0.01), (np.pi / 2, 0, 0)
    bpy.ops.object.mode_set(mode="EDIT")
    bones = armature.data.edit_bones
    bones.remove(bones[0])
    for head, parent, label in zip(100 * body.joints_rest(), body.parents, names, strict=True):
        bone = bones.new(label)
        bone.head, bone.tail, bone.roll = head, head + (3.0, 4.0, 1.0), 0.3
        bone.parent = bones[names[parent]] if parent >= 0 else None
    bpy.ops.object.mode_set(mode="OBJECT")
    armature.location = (2.0, 1.0, 0.0)
    bpy.context.view_layer.update()
    return armature


def test_a_file_goes_onto_a_mixamo_rig_in_its_own_rotation_modes(rig, tmp_path) -> None:
    path = str(tmp_path / "walk.bvh")
    bpy.ops.maquette.add_walk(seconds=1.0)
    bpy.ops.maquette.export_motion(filepath=path)
    bpy.ops.object.select_all(action="SELECT")
    bpy.ops.object.delete()
    armature = mixamo()
    armature.pose.bones[named("mixamo", "Left")[4]].rotation_mode = "YZX"
    armature.pose.bones[named("mixamo", "Left")[5]].rotation_mode = "AXIS_ANGLE"
    assert bpy.ops.maquette.import_motion(filepath=path) == {"FINISHED"}
    assert not any(obj.maquette.body for obj in bpy.data.objects) and bpy.context.scene.frame_end == 25
    armature = bpy.data.objects["Hero"]
    found, motion = rig.read(armature), _read(path)
    for name, angles in found.errors.items():
        assert angles.max() < 1.5, name
    np.testing.assert_allclose(found.poses[:, :22], motion.poses[:, :22], atol=0.03)
    ahead = motion.trans - motion.trans[0]
    np.testing.assert_allclose(found.trans - found.trans[0], ahead, atol=0.02)
    # It begins where it stood, and the second time where the file says.
    hips = found.trans[0] + rig.bodies.embedded().joints_rest()[0]
    assert np.abs(hips[:2] - (2.0, 1.0)).max() < 0.05 and 0.8 < hips[2] < 1.1
    former = armature.animation_data.action.name
    bpy.ops.maquette.import_motion(filepath=path)
    assert (
        bpy.data.actions[former].use_fake_user and np.abs((rig.read(armature).trans - motion.trans)[0, :2]).max() < 0.05
    )


def _read(path: str):
    from maquette.backend.bodies import embedded
    from maquette.backend.motions import load_motion

    return load_motion(path, body=embedded())


def test_a_metarig_walks_with_its_soles_on_the_floor(rig) -> None:
    bpy.ops.preferences.addon_enable(module="rigify")
    try:
        bpy.ops.object.armature_human_metarig_add()
        armature = bpy.context.active_object
        armature.scale, armature.rotation_euler.z, armature.location.x = (2.0, 2.0, 2.0), 1.0, 3.0
        bpy.context.view_layer.update()
        assert bpy.ops.maquette.add_walk(seconds=1.0, place="FILE") == {"FINISHED"}
        found = rig.read(armature)
        assert max(float(angles.max()) for angles in found.errors.values()) < 1.5
        scene, layer = bpy.context.scene, bpy.context.view_layer
        heights = rig.armature.sample_armature(scene, layer, armature, 1, 25).world()[1][..., 2]
        toes = heights[:, [armature.data.bones.find(f"toe.{side}") for side in "LR"]].min(axis=1)
        rest = 2.0 * armature.data.bones["toe.L"].head_local.z
        assert np.abs(toes - rest).max() < 0.05
    finally:
        bpy.ops.preferences.addon_disable(module="rigify")


def test_bones_that_nothing_explains_are_mapped_by_hand_and_go_on_with_the_motion(rig) -> None:
    armature = mixamo("Odd")
    names = {}
    for index, (label, part) in enumerate(zip(named("mixamo", "Left"), _smpl(), strict=True)):
        armature.data.bones[label].name = names[part] = f"b{index}"
    bpy.ops.object.mode_set(mode="EDIT")
    for bone in armature.data.edit_bones:
        bone.parent = None
    bpy.ops.object.mode_set(mode="OBJECT")
    with pytest.raises(RuntimeError, match="Odd: its joints.*Map Bones"):
        bpy.ops.maquette.add_walk(seconds=0.5)
    view = bpy.context.window_manager.maquette.bones
    assert view.source == "Odd" and view.trouble and armature.animation_data is None
    rig.bone_map.read_joints(bpy.context)
    for row in view.parts:
        row.joint = names[{"spine": "spine1", "chest": "spine3"}.get(row.name, row.name)]
    assert bpy.ops.maquette.map_bones() == {"FINISHED"} and not view.trouble
    assert not any(obj.maquette.body for obj in bpy.data.objects)
    # Nothing hangs together here: every bone must be where the body's joint is.
    heads = rig.armature.sample_armature(bpy.context.scene, bpy.context.view_layer, armature, 1, 13).world()[1]
    heads = heads[:, [armature.data.bones.find(f"b{joint}") for joint in range(24)]]
    for upper, lower in ((1, 4), (4, 7), (16, 18), (18, 20), (12, 15)):
        lengths = np.linalg.norm(heads[:, lower] - heads[:, upper], axis=-1)
        assert np.ptp(lengths) < 1e-3 and lengths[0] > 0.05
    assert np.ptp(heads[:, 7, 2]) > 0.03 and heads[..., 2].min() > -1e-3


def _smpl():
    from maquette.backend.shot.types import SMPL_JOINT_NAMES

    return SMPL_JOINT_NAMES


def test_a_rig_that_constraints_hold_or_that_cannot_move_is_refused_and_stays_as_it_is(rig) -> None:
    armature = mixamo()
    shin = armature.pose.bones[named("mixamo", "Left")[4]]
    held = shin.constraints.new("IK")
    held.chain_count = 2
    with pytest.raises(RuntimeError, match=r"constraints.*Leg \(IK\)"):
        bpy.ops.maquette.add_walk(seconds=0.5)
    assert armature.animation_data is None and bpy.context.window_manager.maquette.motion_notes == ""
    held.mute = True
    assert bpy.ops.maquette.add_walk(seconds=0.5) == {"FINISHED"}
