"""Add Body and Apply Pose as the animator calls them."""

from __future__ import annotations

import importlib

import bpy
import numpy as np
import pytest
from maquette.backend.catalogue.reader import menu
from maquette.backend.catalogue.rig import Pose


@pytest.fixture
def rig(addon):
    return importlib.import_module(addon.__name__ + ".scene.rig.bodies")


def objects():
    return {obj.name for obj in bpy.data.objects}


def test_adds_a_marked_character_at_the_cursor(rig):
    scene = bpy.context.scene
    scene.cursor.location = (1, 2, 0)
    scene.frame_set(7)
    assert bpy.ops.maquette.add_body() == {"FINISHED"}
    assert objects() == {"Body", "Body Rig"}
    mesh = bpy.data.objects["Body"]
    assert mesh.maquette.is_character and mesh.maquette.body == "maquette_neutral"
    assert tuple(bpy.data.objects["Body Rig"].location.xy) == (1, 2)
    assert len(rig.shape_keys(mesh)) == 10 and len(rig.load_rig(mesh).bones) == 24
    assert bpy.context.mode == "OBJECT" and scene.frame_current == 7
    assert [obj.name for obj in bpy.context.selected_objects] == ["Body Rig"]
    assert rig.find_body(bpy.context.active_object) == mesh


def test_shape_and_name_are_taken(rig):
    betas = [1.0, -2, 0, 0, 0, 0, 0, 0, 0, 3]
    bpy.ops.maquette.add_body(name="Eve", betas=betas, location=(0, 0, 1))
    np.testing.assert_allclose(rig.load_rig(bpy.data.objects["Eve"]).betas(), betas)


def test_one_undo_takes_the_body_away(rig):
    bpy.ops.ed.undo_push(message="start")
    assert bpy.ops.maquette.add_body("EXEC_DEFAULT", True) == {"FINISHED"}
    assert objects() == {"Body", "Body Rig"}
    bpy.ops.ed.undo()
    assert objects() == set() and not len(bpy.data.armatures) and not len(bpy.data.meshes)
    bpy.ops.ed.redo()
    assert objects() == {"Body", "Body Rig"}


def test_redo_panel_keeps_the_body_where_it_was_first_added(rig):
    bpy.ops.maquette.add_body(location=(4, 0, 0))
    assert bpy.data.objects["Body Rig"].location.x == 4


def test_only_in_object_mode(rig):
    bpy.ops.maquette.add_body()
    bpy.ops.object.mode_set(mode="POSE")
    assert not bpy.ops.maquette.add_body.poll()
    with pytest.raises(RuntimeError, match="Object Mode"):
        bpy.ops.maquette.add_body()


def test_a_file_that_is_no_body_changes_nothing(rig, tmp_path):
    path = tmp_path / "smpl_broken.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(RuntimeError, match=r"smpl_broken\.npz"):
        bpy.ops.maquette.add_body(filepath=str(path))
    with pytest.raises(RuntimeError, match="there is no file"):
        bpy.ops.maquette.add_body(filepath=str(tmp_path / "absent.npz"))
    assert objects() == set()


def test_hidden_active_collection_does_not_stop_it(rig):
    collection = bpy.data.collections.new("Hidden")
    bpy.context.scene.collection.children.link(collection)
    layer = bpy.context.view_layer.layer_collection.children["Hidden"]
    bpy.context.view_layer.active_layer_collection = layer
    layer.exclude = True
    assert bpy.ops.maquette.add_body() == {"FINISHED"}
    assert {obj.name for obj in bpy.context.scene.collection.objects} == {"Body", "Body Rig"}


def test_poses_keep_place_and_facing(rig):
    bpy.ops.maquette.add_body(location=(1, 1, 0))
    armature = bpy.context.active_object
    pelvis = armature.pose.bones["pelvis"]
    pelvis.location = (0, 0.1, 0)
    assert bpy.ops.maquette.apply_pose(pose="STAND") == {"FINISHED"}
    bpy.context.view_layer.update()
    hand = armature.matrix_world @ armature.pose.bones["left_hand"].head
    shoulder = armature.matrix_world @ armature.pose.bones["left_shoulder"].head
    assert hand.z < shoulder.z - 0.4 and tuple(pelvis.location) == pytest.approx((0, 0.1, 0))
    bpy.ops.maquette.apply_pose(pose="T_POSE")
    bpy.context.view_layer.update()
    assert (armature.matrix_world @ armature.pose.bones["left_hand"].head).z > hand.z + 0.4


def test_pose_needs_a_body(rig):
    assert not bpy.ops.maquette.apply_pose.poll()
    with pytest.raises(RuntimeError, match="Select a body"):
        bpy.ops.maquette.apply_pose()


def test_every_pose_file_can_be_taken(rig, addon):
    channels = importlib.import_module(addon.__name__ + ".scene.rig.channels")
    bpy.ops.maquette.add_body()
    mesh = rig.find_body(bpy.context.active_object)
    for pose in menu(Pose):
        turns = {name: np.radians(turn) for name, turn in pose.joints.items()}
        assert bpy.ops.maquette.apply_pose(pose=pose.id.upper()) == {"FINISHED"}
        reading = channels.read_body_pose(mesh, bpy.context.evaluated_depsgraph_get())
        bones = rig.load_rig(mesh).bones
        for bone, turn in zip(bones[1:], reading.poses[1:], strict=True):
            assert turn == pytest.approx(turns.get(bone, (0, 0, 0)), abs=1e-4), (pose.id, bone)


def test_labels_and_tooltips_follow_the_house_style(addon):
    for name in ("add_body", "apply_pose", "import_motion", "add_walk", "add_camera_move"):
        operator = getattr(bpy.ops.maquette, name).get_rna_type()
        assert operator.name == operator.name.title() and operator.description and operator.description[-1] != "."
        for prop in operator.properties:
            assert not prop.description.endswith("."), (name, prop.identifier)
