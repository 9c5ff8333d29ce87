"""Keypoints of bodies: where they are, and what hides them from the camera."""

from __future__ import annotations

import bpy
import numpy as np
import pytest
from mathutils import Matrix, Vector

from ..builders import add_box, add_camera, add_mesh, aim, module, small_scene
from .keypoints import Names, captured

pytestmark = pytest.mark.usefixtures("addon")


@pytest.fixture
def names(addon):
    return Names(addon)


@pytest.fixture
def body(addon):
    """The embedded body in its T-pose before a camera; returns its mesh."""
    scene = small_scene(frames=1, size=(256, 256))
    scene.maquette.points = 16
    bpy.ops.maquette.add_body(location=(0, 0, 0))
    mesh = next(o for o in scene.objects if o.type == "MESH")
    mesh.maquette.reference_source = "NONE"
    add_camera((0, -5, 1), (0, 0, 0.9))
    return mesh


def point_bone(mesh, bone, direction):
    """Turn a bone to a direction of the world."""
    armature = mesh.parent
    bpy.context.view_layer.update()
    pose = armature.pose.bones[bone]
    placed = armature.matrix_world @ pose.matrix
    turn = (placed.to_3x3() @ Vector((0, 1, 0))).rotation_difference(Vector(direction)).to_matrix()
    pose.matrix = armature.matrix_world.inverted() @ (
        Matrix.Translation(placed.translation) @ (turn @ placed.to_3x3()).to_4x4()
    )
    bpy.context.view_layer.update()


def test_the_embedded_bodys_keypoints_are_where_its_model_says(addon, names, body):
    """Joints by its rig, face and hands by its skin, also turned, shaped and posed."""
    body.parent.rotation_euler.z, body.parent.location = 0.6, (0.2, 0.1, 0.3)
    module(addon, "scene.rig.bodies").shape_keys(body)[0].value = 1.5
    point_bone(body, "left_shoulder", (0.5, 0.2, -1))
    bpy.context.scene.frame_end = 2
    wants = module(addon, "scene.capture.wants").Wants()
    character = module(addon, "scene.capture.shot").capture_shot(bpy.context, wants=wants).characters[0]
    keypoints = character.keypoints
    assert keypoints.points.shape == (2, 128, 3) and keypoints.state.shape == (2, 128)
    assert (keypoints.state != names.state.ABSENT).all()

    model = module(addon, "backend.bodies").embedded()
    posed = model.pose(character.body.betas, character.body.poses, character.body.trans)
    expected = model.landmarks.apply(posed.vertices)
    on_skin = model.landmarks.present
    np.testing.assert_allclose(keypoints.points[:, on_skin], expected[:, on_skin], atol=1e-4)
    joints = dict(zip(model.joint_names, np.moveaxis(character.joints, 1, 0), strict=True))
    for side in ("left", "right"):
        for limb in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"):
            np.testing.assert_array_equal(keypoints.points[:, names.at[f"{side}_{limb}"]], joints[f"{side}_{limb}"])
        np.testing.assert_array_equal(keypoints.points[:, names.at[f"{side}_hand_wrist"]], joints[f"{side}_wrist"])
    neck = (joints["left_shoulder"] + joints["right_shoulder"]) / 2
    np.testing.assert_allclose(keypoints.points[:, names.at["neck"]], neck, atol=1e-5)


def test_nobody_hides_a_standing_body_from_the_front(addon, names, body):
    for side, x in (("left", 1), ("right", -1)):
        point_bone(body, f"{side}_shoulder", (x, 0, -0.4))
    state = captured(addon).state[0]
    assert (state[names.body] == names.state.VISIBLE).all()
    # The jaw's points behind the ear lobes are the only ones of the face that the camera does not see.
    assert (state[names.face] == names.state.SELF_OCCLUDED).sum() <= 4


def test_hands_are_seen_from_above(addon, names, body):
    """In the T-pose, palms down; the thumb lies lower, but no finger before it."""
    aim(bpy.context.scene.camera, (0, -0.1, 6), (0, 0, 1))
    state = captured(addon).state[0]
    for hand in (names.left, names.right):
        assert (state[hand] == names.state.VISIBLE).all()


def test_the_face_is_behind_the_own_head_from_behind(addon, names, body):
    aim(bpy.context.scene.camera, (0, 5, 1), (0, 0, 0.9))
    state = captured(addon).state[0]
    hidden = [names.at[n] for n in ("nose", "left_eye", "right_eye")]
    assert (state[hidden] == names.state.SELF_OCCLUDED).all()
    assert (state[names.face][17:] == names.state.SELF_OCCLUDED).all()
    joints = [i for name, i in names.at.items() if i < 14 and name != "nose"]
    assert (state[joints] == names.state.VISIBLE).all()


def test_an_arm_behind_the_torso_is_behind_the_own_body(addon, names, body):
    point_bone(body, "left_shoulder", (0.3, 0.3, -1))
    point_bone(body, "left_elbow", (-1, 0.25, 0.05))
    state = captured(addon).state[0]
    for name in ("left_wrist", "left_hand_wrist", "left_hand_middle_1"):
        assert state[names.at[name]] == names.state.SELF_OCCLUDED, name
    for name in ("left_shoulder", "left_elbow", "right_wrist", "left_hip"):
        assert state[names.at[name]] == names.state.VISIBLE, name


def test_an_arm_before_the_torso_hides_the_trunk_not_itself(addon, names, body):
    point_bone(body, "left_shoulder", (0.2, -0.6, -1))
    point_bone(body, "left_elbow", (-0.9, -0.7, 0.5))
    state = captured(addon).state[0]
    for name in ("left_wrist", "left_elbow", "left_shoulder"):
        assert state[names.at[name]] == names.state.VISIBLE, name


def test_a_wall_hides_and_a_gap_in_it_shows(addon, names, body):
    wall = add_mesh("Wall", [(-3, -1, -1), (3, -1, -1), (3, -1, 1.1), (-3, -1, 1.1)], [(0, 1, 2, 3)])
    state = captured(addon).state[0]
    for name in ("left_hip", "right_knee", "left_ankle"):
        assert state[names.at[name]] == names.state.HIDDEN, name
    assert state[names.at["nose"]] == names.state.VISIBLE
    wall.location.y = 3
    state = captured(addon).state[0]
    assert state[names.at["left_hip"]] == names.state.VISIBLE


def test_a_wall_counts_before_the_own_body(addon, names, body):
    """What both hide is hidden: the pose map cannot show it through the wall."""
    aim(bpy.context.scene.camera, (0, 5, 1), (0, 0, 0.9))
    add_mesh("Wall", [(-3, 1, -1), (3, 1, -1), (3, 1, 3), (-3, 1, 3)], [(0, 1, 2, 3)])
    assert (
        module(addon, "scene.capture.shot").capture_shot(bpy.context).characters[0].keypoints is None
    )  # its model's choice
    state = captured(addon).state[0]
    assert (state == names.state.HIDDEN).all()


def test_outside_the_picture_is_hidden(addon, names, body):
    aim(bpy.context.scene.camera, (0, -1.2, 1.5), (0, 0, 1.55))
    state = captured(addon).state[0]
    assert state[names.at["nose"]] == names.state.VISIBLE
    for name in ("left_ankle", "right_knee", "left_wrist"):
        assert state[names.at[name]] == names.state.HIDDEN, name


def test_another_character_hides(addon, names, body):
    bpy.ops.maquette.add_body(location=(0, -1.5, 0))
    other = next(o for o in bpy.context.scene.objects if o.type == "MESH" and o != body)
    other.maquette.reference_source = "NONE"
    back, front = captured(addon, index=0).state[0], captured(addon, index=1).state[0]
    for name in ("nose", "neck", "left_hip"):
        assert back[names.at[name]] == names.state.HIDDEN, name
        assert front[names.at[name]] == names.state.VISIBLE, name


def test_clothes_hide_no_joint(addon, names, body):
    """A shirt that hangs on the body is how it looks; the same shirt of nobody hides."""
    shirt = add_mesh("Shirt", *_tube(0.21, 0.95, 1.42))
    assert captured(addon).state[0][names.at["left_hip"]] == names.state.VISIBLE
    assert captured(addon).state[0][names.at["neck"]] == names.state.HIDDEN
    shirt.parent = body.parent
    shirt.matrix_parent_inverse = body.parent.matrix_world.inverted()
    assert captured(addon).state[0][names.at["neck"]] == names.state.VISIBLE


def _tube(radius, low, high):
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
    vertices = np.concatenate([np.column_stack([ring, np.full(24, z)]) for z in (low, high)])
    return vertices, [(i, (i + 1) % 24, 24 + (i + 1) % 24, 24 + i) for i in range(24)]


def test_the_reference_has_its_own_keypoints(addon, names, body):
    """At its own frame, with its own camera, and alone: a wall of the scene hides nothing there."""
    scene = bpy.context.scene
    scene.frame_end = 3
    body.maquette.reference_source, body.maquette.reference_frame = "RENDER", 3
    for frame, x in ((1, 0.0), (3, 0.4)):
        body.parent.location.x = x
        body.parent.keyframe_insert("location", frame=frame)
    add_mesh("Wall", [(-3, -1, -1), (3, -1, -1), (3, -1, 3), (-3, -1, 3)], [(0, 1, 2, 3)])
    wants = module(addon, "scene.capture.wants").Wants(meshes=False, clay=False)
    character = module(addon, "scene.capture.shot").capture_shot(bpy.context, wants=wants).characters[0]
    reference = character.reference.keypoints
    assert reference.points.shape == (1, 128, 3)
    np.testing.assert_allclose(reference.points[0], character.keypoints.points[2], atol=1e-5)
    assert (character.keypoints.state == names.state.HIDDEN).all()
    assert (reference.state[0, names.body] == names.state.VISIBLE).all()


def test_an_edited_body_falls_back_to_its_bones(addon, names, body):
    import bmesh  # Not there before bpy is.

    edited = bmesh.new()
    edited.from_mesh(body.data)
    edited.verts.ensure_lookup_table()
    edited.verts.new(edited.verts[0].co)
    edited.to_mesh(body.data)
    edited.free()
    notices = []
    keypoints = captured(addon, notices)
    assert any("its mesh is not its body's any more" in note for note in notices)
    present = keypoints.state[0] != names.state.ABSENT
    assert present[names.body].all() and not present[18:].any()
    model = module(addon, "backend.bodies").embedded()
    skin = model.landmarks.apply(model.v_template)
    shift = keypoints.points[0, names.at["neck"]] - model.joints_rest()[[16, 17]].mean(0)[[0, 2, 1]] * (1, -1, 1)
    for name in ("nose", "left_eye", "right_ear"):
        expected = skin[names.at[name]][[0, 2, 1]] * (1, -1, 1) + shift
        assert np.linalg.norm(keypoints.points[0, names.at[name]] - expected) < 0.01, name


def test_a_box_that_touches_the_hand_does_not_count_as_the_hand(addon, names, body):
    """What is held but hangs on nothing of the body hides what lies behind it."""
    wrist = captured(addon).points[0, names.at["left_wrist"]]
    add_box("Crate", 0.3, wrist + (0, -0.25, 0))
    assert captured(addon).state[0][names.at["left_wrist"]] == names.state.HIDDEN


def test_a_body_file_with_fingers_and_face(addon, names, tmp_path):
    """SMPL-X's layout on the embedded body's skin: fingers by bones, the face by the file's landmarks."""
    bodies = module(addon, "backend.bodies")
    model, family = bodies.embedded(), bodies.JOINT_NAMES["smplx"]
    spots = model.landmarks.apply(model.v_template)
    smpl = dict(zip(model.joint_names, model.joints_rest(), strict=True))
    places, parents = [], []
    for name in family:
        side, _, part = name.partition("_")
        if name in smpl:
            parent = module(addon, "backend.shot").SMPL_PARENTS[model.joint_names.index(name)]
            places.append(smpl[name])
            parents.append(parent)
        elif part[:-1] in ("thumb", "index", "middle", "ring", "pinky"):
            number = int(part[-1])
            finger = "little" if part[:-1] == "pinky" else part[:-1]
            places.append(spots[names.at[f"{side}_hand_{finger}_{number}"]])
            parents.append(family.index(f"{side}_wrist") if number == 1 else len(parents) - 1)
        else:  # jaw and eyes
            places.append(spots[names.at["nose" if name == "jaw" else name]])
            parents.append(family.index("head"))
    # Each joint is that affine mean of its 30 nearest vertices that lies just there.
    regressor = np.zeros((len(family), len(model.v_template)))
    for row, place in enumerate(places):
        near = np.argsort(np.linalg.norm(model.v_template - place, axis=1))[:30]
        system = np.vstack([model.v_template[near].T.astype(np.float64), np.ones(30)])
        regressor[row, near] = np.linalg.lstsq(system, np.append(place, 1.0), rcond=None)[0]
    weights = np.zeros((len(model.v_template), len(family)))
    weights[:, :22] = np.asarray(model.weights)[:, :22]
    for side, hand in (("left", 22), ("right", 23)):
        weights[:, family.index(f"{side}_wrist")] += np.asarray(model.weights)[:, hand]
    path = tmp_path / "SMPLX_NEUTRAL.npz"
    rng = np.random.default_rng(1)
    triangles = rng.integers(0, len(model.faces), 51)
    np.savez(
        path, v_template=model.v_template, f=model.faces, weights=weights, J_regressor=regressor,
        shapedirs=np.zeros((len(model.v_template), 3, 20)), kintree_table=np.array([parents, range(len(family))]),
        lmk_faces_idx=triangles, lmk_bary_coords=np.full((51, 3), 1 / 3),
    )  # fmt: skip
    scene = small_scene(frames=1, size=(256, 256))
    scene.maquette.points = 16
    rig = module(addon, "scene.rig.build").build_body(bpy.context, bodies.load_body(path), source=str(path))
    rig.mesh.maquette.reference_source = "NONE"
    add_camera((0, -5, 1), (0, 0, 0.9))
    bpy.context.view_layer.update()
    keypoints = captured(addon)
    world = np.array(rig.armature.matrix_world) @ rig.frame
    expected = spots @ world[:3, :3].T + world[:3, 3]
    for side in ("left", "right"):
        hand = slice(names.at[f"{side}_hand_wrist"] + 1, names.at[f"{side}_hand_wrist"] + 21)
        error = np.linalg.norm(keypoints.points[0, hand] - expected[hand], axis=1).reshape(5, 4)
        assert error[:, :3].max() < 1e-3 and error[:, 3].max() < 0.015
        assert np.linalg.norm(keypoints.points[0, names.at[f"{side}_eye"]] - expected[names.at[f"{side}_eye"]]) < 0.02
    face = model.v_template[model.faces[triangles]].mean(axis=1) @ world[:3, :3].T + world[:3, 3]
    np.testing.assert_allclose(keypoints.points[0, names.face][17:], face, atol=1e-4)
    assert (keypoints.state[0, names.face][:17] == names.state.ABSENT).all()  # This file tells nothing of the jaw.
    path.unlink()
    notices = []
    assert captured(addon, notices).state[0, 20] != names.state.ABSENT
    assert any("cannot be read" in note for note in notices)
