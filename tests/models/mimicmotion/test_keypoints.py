"""Keypoints of a shot as poses in the picture: places, confidence, what stands in where something is missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.control.keypoints import SELF_OCCLUDED_CONFIDENCE, project_pose
from maquette.backend.models.family import EngineError
from maquette.backend.models.mimicmotion.inputs import crop_box, crop_picture, read_poses
from maquette.backend.models.mimicmotion.keypoints import character_keypoints, reference_keypoints
from maquette.backend.shot import FACE_KEYPOINTS, KEYPOINT_NAMES, Keypoints, KeypointState, Shot
from maquette.backend.shot.cameras import project

from .conftest import make_shot, with_character

INDEX = {name: i for i, name in enumerate(KEYPOINT_NAMES)}


def pose_of(shot: Shot, state: dict[str, KeypointState] | None = None):
    """The pose with some keypoints' states changed."""
    keypoints = shot.characters[0].keypoints
    assert keypoints is not None
    states = keypoints.state.copy()
    for name, value in (state or {}).items():
        states[:, INDEX[name]] = value
    clip = shot.clip
    return project_pose(Keypoints(keypoints.points, states), clip.viewmats, clip.Ks, (0, 0, clip.width, clip.height))


def test_points_are_where_the_camera_sees_them():
    shot = make_shot()
    keypoints = shot.characters[0].keypoints
    uv, _ = project(keypoints.points, shot.clip.viewmats, shot.clip.Ks)
    pose = pose_of(shot)
    others = [i for i in range(128) if i != INDEX["neck"]]
    np.testing.assert_allclose(pose.points[:, others] * 64, uv[:, others], atol=1e-3)
    assert (pose.confidence == 1).all()


def test_the_neck_is_the_middle_of_the_shoulders():
    pose = pose_of(make_shot())
    middle = (pose.points[:, INDEX["right_shoulder"]] + pose.points[:, INDEX["left_shoulder"]]) / 2
    np.testing.assert_allclose(pose.points[:, INDEX["neck"]], middle)
    dim = pose_of(make_shot(), {"left_shoulder": KeypointState.SELF_OCCLUDED, "neck": KeypointState.HIDDEN})
    assert (dim.confidence[:, INDEX["neck"]] == 1).all()
    gone = pose_of(make_shot(), {"left_shoulder": KeypointState.HIDDEN})
    assert (gone.confidence[:, INDEX["neck"]] == 0).all()


@pytest.mark.parametrize(
    ("state", "confidence"),
    [
        (KeypointState.ABSENT, 0),
        (KeypointState.HIDDEN, 0),
        (KeypointState.SELF_OCCLUDED, SELF_OCCLUDED_CONFIDENCE),
        (KeypointState.VISIBLE, 1),
    ],
)
def test_confidence_comes_from_true_visibility(state, confidence):
    pose = pose_of(make_shot(), {"left_wrist": state, "left_hand_index_4": state})
    for name in ("left_wrist", "left_hand_index_4"):
        assert (pose.confidence[:, INDEX[name]] == confidence).all()
        assert (pose.points[:, INDEX[name]] < 0).all() == (confidence == 0)


def test_a_face_that_looks_away_is_left_out():
    hidden = dict.fromkeys(("nose", "right_eye", "left_eye"), KeypointState.SELF_OCCLUDED)
    away = pose_of(make_shot(), hidden)
    assert not away.confidence[:, FACE_KEYPOINTS].any()
    assert not away.confidence[:, [INDEX[name] for name in hidden]].any()
    assert (away.confidence[:, INDEX["left_ear"]] == 1).all()
    bare = pose_of(make_shot(), dict.fromkeys(hidden, KeypointState.ABSENT))
    assert bare.confidence[:, FACE_KEYPOINTS].all()
    profile = pose_of(make_shot(), {"right_eye": KeypointState.SELF_OCCLUDED})
    assert profile.confidence[:, FACE_KEYPOINTS].all()
    assert (profile.confidence[:, INDEX["right_eye"]] == SELF_OCCLUDED_CONFIDENCE).all()


def test_hands_without_a_wrist_begin_at_the_bodys():
    pose = pose_of(make_shot(), {"left_hand_wrist": KeypointState.ABSENT})
    np.testing.assert_array_equal(pose.points[:, INDEX["left_hand_wrist"]], pose.points[:, INDEX["left_wrist"]])
    assert (pose.confidence[:, INDEX["left_hand_wrist"]] == 1).all()
    fingers = {name: KeypointState.ABSENT for name in KEYPOINT_NAMES if name.startswith("left_hand")}
    assert not pose_of(make_shot(), fingers).confidence[:, INDEX["left_hand_wrist"]].any()


def test_what_is_outside_of_the_picture_or_behind_the_camera_is_not_drawn():
    shot = make_shot()
    turned = shot.clip.viewmats.copy()
    turned[:, [0, 2]] *= -1  # the camera looks the other way
    assert not pose_of(replace(shot, clip=replace(shot.clip, viewmats=turned))).confidence.any()
    aside = shot.clip.viewmats.copy()
    aside[:, 0, 3] += 20
    assert not pose_of(replace(shot, clip=replace(shot.clip, viewmats=aside))).confidence.any()


def test_joints_stand_in_for_keypoints():
    shot = with_character(make_shot(), keypoints=None)
    character = shot.characters[0]
    visibility = character.visibility.copy()
    wrist = character.joints[0, 20]
    near = np.linalg.norm(character.points[0] - wrist, axis=1).argsort()[:30]
    visibility[:, near] = False
    keypoints, notes = character_keypoints(replace(character, visibility=visibility), "characters[0]")
    assert "no keypoints" in notes[0]
    np.testing.assert_array_equal(keypoints.points[:, INDEX["left_wrist"]], character.joints[:, 20])
    assert (keypoints.state[:, INDEX["left_wrist"]] == KeypointState.SELF_OCCLUDED).all()
    assert (keypoints.state[:, INDEX["right_ankle"]] == KeypointState.VISIBLE).all()
    assert (keypoints.state[:, INDEX["nose"]] == KeypointState.ABSENT).all()
    assert (keypoints.state[:, 18:] == KeypointState.ABSENT).all()


def test_the_references_pose_is_carried_over_with_the_skin():
    """In a picture of the last frame, the carried keypoints lie where that frame's own are."""
    shot = make_shot()
    character = shot.characters[0]
    looks = replace(character.reference, points=character.points[-1], keypoints=None)
    character = replace(character, reference=looks)
    carried, notes = reference_keypoints(character, character.keypoints, "characters[0]")
    assert "carried over" in notes[0]
    moved = np.linalg.norm(character.keypoints.points[-1] - character.keypoints.points[0], axis=1)
    error = np.linalg.norm(carried.points[0, :18] - character.keypoints.points[-1, :18], axis=1)
    assert moved.max() > 0.5 and error.max() < 0.05


def test_the_references_own_keypoints_are_taken_as_they_are():
    character = make_shot().characters[0]
    assert reference_keypoints(character, character.keypoints, "x") == (character.reference.keypoints, [])


def test_a_shot_seen_by_the_references_camera_has_the_references_pose_in_its_first_frame():
    """No fitting: both are drawn by their own cameras, which here agree."""
    for size in ((64, 64), (128, 64), (64, 128)):
        poses = read_poses(make_shot(width=96, height=96, reference_size=(80, 80)), 0, (64, 64))
        np.testing.assert_allclose(poses.reference.points[0], poses.driving.points[0], atol=1e-4)
        assert poses.scale == pytest.approx(1), size


def test_a_wider_model_picture_shows_more_at_the_sides():
    square = read_poses(make_shot(), 0, (64, 64)).driving
    wide = read_poses(make_shot(), 0, (128, 64)).driving
    np.testing.assert_allclose(wide.points[..., 1], square.points[..., 1], atol=1e-6)
    np.testing.assert_allclose(wide.points[..., 0] - 0.5, (square.points[..., 0] - 0.5) / 2, atol=1e-6)


@given(st.integers(8, 900), st.integers(8, 900), st.floats(0.4, 2.5), st.floats(-0.5, 1.5), st.floats(0, 1))
def test_crops_lie_within_the_picture_and_are_as_large_as_they_can_be(width, height, aspect, at, extent):
    body = np.array([width * at, height * at]), np.array([width * (at + extent), height * (at + extent)])
    for chosen in (None, body):
        left, top, across, down = crop_box((width, height), aspect, chosen)
        assert across / down == pytest.approx(aspect)
        assert left >= -1e-6 and top >= -1e-6 and left + across <= width + 1e-6 and top + down <= height + 1e-6
        assert across == pytest.approx(width) or down == pytest.approx(height)


def test_crops_follow_the_body_and_keep_its_head():
    body = np.array([10.0, 300.0]), np.array([90.0, 420.0])
    assert crop_box((100, 1000), 0.5, None)[1] == 400
    assert crop_box((100, 1000), 0.5, body)[1] == 260
    tall = np.array([10.0, 300.0]), np.array([90.0, 900.0])
    assert crop_box((100, 1000), 0.5, tall)[1] == pytest.approx(300 - 0.08 * 200)


def test_pictures_are_cut_without_distortion():
    picture = np.zeros((100, 50, 3), np.uint8)
    picture[40:60, 10:30] = 255
    crop = crop_picture(picture, (0, 25, 50, 50), 100, 100)
    np.testing.assert_array_equal(np.argwhere(crop[..., 0] > 127).min(axis=0), (30, 20))
    np.testing.assert_array_equal(np.argwhere(crop[..., 0] > 127).max(axis=0), (69, 59))


def test_a_character_with_nothing_to_draw_is_refused():
    shot = with_character(make_shot(), keypoints=None, joints=None)
    with pytest.raises(EngineError, match=r"characters\[0\].keypoints: Anna has neither keypoints nor joints"):
        read_poses(shot, 0, (64, 64))
