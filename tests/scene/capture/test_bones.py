"""Fingers, eyes and heads of foreign rigs, by their bones' names."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from ..builders import add_armature, add_camera, add_mesh, add_performer, module, small_scene
from .keypoints import FINGERS, Names, captured


@pytest.fixture
def names(addon):
    return Names(addon)


_STYLES = {
    "mixamo": ("mixamorig:{Side}Hand{Finger}{n}", (1, 2, 3, 4)),
    "unreal": ("{finger}_{n:02d}_{s}", (1, 2, 3)),
    "rigify": ("DEF-{f_}{finger}.{n:02d}.{S}", (1, 2, 3)),
    "makehuman": ("finger{number}-{n}.{S}", (1, 2, 3)),
    "character creator": ("CC_Base_{S}_{Short}{n}", (1, 2, 3)),
    "vrm": ("J_Bip_{S}_{Vrm}{n}", (1, 2, 3)),
}


def _finger_name(style, side, finger, n):
    word = {"little": "pinky"}.get(finger, finger)
    return _STYLES[style][0].format(
        Side=side.title(), s=side[0], S=side[0].upper(), n=n, finger=word, Finger=word.title(),
        Short={"middle": "Mid"}.get(word, word.title()), Vrm=finger.title(), number=FINGERS.index(finger) + 1,
        f_="" if finger == "thumb" else "f_",
    )  # fmt: skip


def _hero(addon, style, eyes=()):
    """The embedded body's mesh on an armature with Mixamo's body and some style's fingers; returns mesh and places."""
    rig = module(addon, "backend.catalogue.rig")
    reader = module(addon, "backend.catalogue.reader")
    scheme = {n: names[0] for n, names in reader.find_preset(rig.Scheme, "mixamo").joints.items()}
    shot = module(addon, "backend.shot")
    model = module(addon, "backend.bodies").embedded()
    joints = model.joints_rest()
    to_world = lambda p: np.asarray(p)[..., [0, 2, 1]] * (1, -1, 1)  # noqa: E731
    spots = to_world(model.landmarks.apply(model.v_template))
    bones: dict[str, tuple[np.ndarray, str]] = {}
    spine = {"spine1": "Spine", "spine2": "Spine1", "spine3": "Spine2", "neck": "Neck"}
    title = {n: f"mixamorig:{spine.get(n) or scheme[n]}" for n in shot.SMPL_JOINT_NAMES if not n.endswith("_hand")}
    for index, (name, parent) in enumerate(zip(shot.SMPL_JOINT_NAMES, shot.SMPL_PARENTS, strict=True)):
        if name in title:
            above = title[shot.SMPL_JOINT_NAMES[parent]] if parent >= 0 else ""
            bones[title[name]] = (to_world(joints[index]), above)
    keypoint = {name: index for index, name in enumerate(module(addon, "backend.shot.keypoints").KEYPOINT_NAMES)}
    for side in ("left", "right"):
        for finger in FINGERS:
            above = title[f"{side}_wrist"]
            for n in _STYLES[style][1]:
                name = _finger_name(style, side, finger, n)
                bones[name] = (spots[keypoint[f"{side}_hand_{finger}_{n}"]], above)
                above = name
    for side, name in zip(("left", "right"), eyes, strict=False):
        bones[name] = (spots[keypoint[f"{side}_eye"]] + (0, 0.012, 0), title["head"])

    # Tails as importers leave them.
    armature = add_armature("Rig", [(name, head, head + (0, 0, 0.05), above) for name, (head, above) in bones.items()])
    mesh = add_mesh("Hero", to_world(model.v_template), model.faces)
    mesh.parent = armature
    mesh.modifiers.new("Armature", "ARMATURE").object = armature
    weights = np.asarray(model.weights)
    for name, bone in title.items():
        group = mesh.vertex_groups.new(name=bone)
        held = np.flatnonzero(weights.argmax(axis=1) == shot.SMPL_JOINT_NAMES.index(name))
        group.add(held.tolist(), 1.0, "REPLACE")
    mesh.maquette.is_character, mesh.maquette.reference_source = True, "NONE"
    armature.location.z = 1.0
    scene = small_scene(frames=1, size=(256, 256))
    scene.maquette.points = 16
    add_camera((0, -5, 1), (0, 0, 0.9))
    bpy.context.view_layer.update()
    return mesh, spots + (0, 0, 1)


@pytest.mark.parametrize("style", _STYLES)
def test_hands_of_foreign_rigs_by_their_bones(addon, names, style):
    _, places = _hero(addon, style)
    keypoints = captured(addon)
    for side in ("left", "right"):
        hand = slice(names.at[f"{side}_hand_wrist"] + 1, names.at[f"{side}_hand_wrist"] + 21)
        error = np.linalg.norm(keypoints.points[0, hand] - places[hand], axis=1).reshape(5, 4)
        assert error[:, :3].max() < 1e-4
        assert error[:, 3].max() < (1e-4 if 4 in _STYLES[style][1] else 0.015)  # A tip that no bone marks is a guess.
        assert (keypoints.state[0, hand] != names.state.ABSENT).all()
    assert (keypoints.state[0, names.face] == names.state.ABSENT).all()
    assert not keypoints.points[0, names.face].any()


def test_the_head_of_a_foreign_rig_is_guessed_from_its_size_and_turns_with_it(addon, names):
    mesh, places = _hero(addon, "unreal")
    spots = [names.at[n] for n in ("nose", "left_eye", "right_eye", "left_ear", "right_ear")]
    found = captured(addon).points[0, spots]
    assert np.linalg.norm(found - places[spots], axis=1).max() < 0.012
    head = mesh.parent.pose.bones["mixamorig:Head"]
    head.rotation_mode, head.rotation_euler = "XYZ", (0, 1.0, 0)
    bpy.context.view_layer.update()
    turn = np.array(mesh.parent.matrix_world @ head.matrix @ head.bone.matrix_local.inverted())
    rest = np.column_stack([found - (0, 0, 1), np.ones(5)])
    np.testing.assert_allclose(captured(addon).points[0, spots], (rest @ turn.T)[:, :3], atol=1e-4)


def test_eye_bones_place_the_eyes(addon, names):
    _, places = _hero(addon, "mixamo", eyes=("mixamorig:LeftEye", "mixamorig:RightEye"))
    found = captured(addon).points[0]
    for name in ("left_eye", "right_eye"):
        assert np.linalg.norm(found[names.at[name]] - places[names.at[name]]) < 1e-3
    assert np.linalg.norm(found[names.at["nose"]] - places[names.at["nose"]]) < 0.006


def test_a_mesh_without_a_skeleton_has_none_and_says_so(addon):
    small_scene(frames=2)
    add_performer().maquette.reference_source = "NONE"
    add_camera()
    notices = []
    assert captured(addon, notices) is None
    assert any("no pose can be drawn of it" in note for note in notices)


@pytest.mark.parametrize(
    "bones",
    [
        ["left_spring1", "left_spring2", "left_spring3"],
        ["LeftEarring1", "LeftEarring2", "LeftEarring3"],
        ["LeftIndexIK1", "LeftIndexIK2", "LeftIndexIK3"],
        ["index_metacarpal_l", "palm_index_l"],
        ["Index1", "Index2", "Index3"],
    ],
)
def test_what_is_no_finger(addon, bones):
    parents = {bone: ([""] + bones)[i] for i, bone in enumerate(bones)}
    assert module(addon, "scene.capture.bones").finger_bones(parents) == {}


def test_bipeds_fingers_and_what_is_no_eye(addon):
    bones = module(addon, "scene.capture.bones")
    parents = {}
    for number in range(5):
        above = "Bip01 R Hand"
        for segment in ("", "1", "2", "Nub"):
            name = f"Bip01 R Finger{number}{segment}"
            parents[name], above = above, name
    found = bones.finger_bones(parents)
    assert {finger for _, finger in found} == set(FINGERS) and all(f.tip for f in found.values())
    assert found["right", "thumb"].bones[0] == "Bip01 R Finger0"
    lids = ["LeftEyelid", "RightEyelid", "eyebrow.L", "eyebrow.R", "eye_target.L", "eye_target.R"]
    assert bones.eye_bones(lids) == {}
    assert bones.eye_bones([*lids, "eye.L", "eye.R", "ORG-eye.L", "ORG-eye.R"]) == {
        "left": "ORG-eye.L",
        "right": "ORG-eye.R",
    }
