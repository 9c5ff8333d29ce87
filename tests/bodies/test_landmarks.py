"""Keypoints on the skin: the embedded body's, and those that files of the SMPL family tell of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from maquette.backend.bodies import BodyError, embedded, load_body
from maquette.backend.bodies.landmarks import KNOWN
from maquette.backend.shot.keypoints import (
    FACE_KEYPOINTS,
    FINGERS,
    KEYPOINT_NAMES,
    LEFT_HAND_KEYPOINTS,
    RIGHT_HAND_KEYPOINTS,
)

BodyFile = Callable[..., Path]
_AT = {name: index for index, name in enumerate(KEYPOINT_NAMES)}


@pytest.fixture(scope="module")
def spots() -> np.ndarray:
    """(128,3) on the mean shape: Y up, facing +Z, left at +X."""
    body = embedded()
    assert body.landmarks is not None
    return body.landmarks.apply(body.v_template)


def test_the_embedded_body_has_face_hands_and_head() -> None:
    landmarks = embedded().landmarks
    assert landmarks is not None
    missing = {name for name, there in zip(KEYPOINT_NAMES, landmarks.present, strict=True) if not there}
    joints = {"neck", *(f"{s}_{j}" for s in ("left", "right") for j in ("shoulder", "elbow", "wrist", "hip", "knee"))}
    assert missing == joints | {"left_ankle", "right_ankle", "left_hand_wrist", "right_hand_wrist"}
    np.testing.assert_allclose(landmarks.weights[landmarks.present].sum(axis=1), 1, atol=1e-6)


def test_left_mirrors_right(spots: np.ndarray) -> None:
    left, right = spots[LEFT_HAND_KEYPOINTS][1:], spots[RIGHT_HAND_KEYPOINTS][1:]
    np.testing.assert_allclose(left * [-1, 1, 1], right, atol=1e-4)
    for name in ("eye", "ear"):
        np.testing.assert_allclose(spots[_AT[f"left_{name}"]] * [-1, 1, 1], spots[_AT[f"right_{name}"]], atol=1e-4)
    pairs = [*((i, 16 - i) for i in range(8)), *((17 + i, 26 - i) for i in range(5)), (31, 35), (32, 34)]
    pairs += [(36, 45), (37, 44), (38, 43), (39, 42), (41, 46), (40, 47), (48, 54), (49, 53), (50, 52)]
    pairs += [(58, 56), (59, 55), (60, 64), (61, 63), (67, 65)]
    face = spots[FACE_KEYPOINTS]
    for right_one, left_one in pairs:
        np.testing.assert_allclose(face[left_one] * [-1, 1, 1], face[right_one], atol=1e-4)
        assert face[left_one, 0] > 0
    for middle in (8, 27, 28, 29, 30, 33, 51, 57, 62, 66):
        assert abs(face[middle, 0]) < 1e-4


def test_the_face_is_laid_out_as_annotators_do(spots: np.ndarray) -> None:
    """Millimetres between parts of the mean face; bounds are the range of adults' faces."""
    face = spots[FACE_KEYPOINTS] * 1000
    assert 55 < np.linalg.norm(face[36:42].mean(0) - face[42:48].mean(0)) < 70  # the pupils
    assert 22 < np.linalg.norm(face[45] - face[42]) < 34  # an eye's corners
    assert 42 < np.linalg.norm(face[54] - face[48]) < 60  # the mouth's
    assert 55 < face[27, 1] - face[51, 1] < 75
    assert face[30, 2] == face[:, 2].max()  # the tip of the nose is foremost
    assert (np.diff(face[27:31, 1]) < 0).all() and (np.diff(face[27:31, 2]) > 0).all()
    for k, (upper, lower) in enumerate(((43, 47), (44, 46), (51, 62), (62, 66), (66, 57), (57, 8), (24, 44), (33, 51))):
        assert face[upper, 1] > face[lower, 1], k
    assert (np.diff(face[8:17, 1]) > 0).all() and (np.diff(face[8:17, 2]) < 0).sum() >= 6  # the jaw rises to the ear
    assert (np.diff(face[8:16, 0]) > 0).all()
    assert (np.diff(face[17:27, 0]) > 0).all()  # the brows, from the right to the left
    nose, eye, ear = (spots[_AT[n]] for n in ("nose", "left_eye", "left_ear"))
    np.testing.assert_array_equal(nose, spots[FACE_KEYPOINTS][30])
    assert ear[0] > eye[0] > nose[0] and nose[2] > eye[2] > ear[2]


def test_fingers_run_from_the_palm_to_their_tips(spots: np.ndarray) -> None:
    body = embedded()
    wrist = body.joints_rest()[body.joint_names.index("left_wrist")]
    hand = spots[LEFT_HAND_KEYPOINTS][1:].reshape(5, 4, 3)
    for finger, joints in zip(FINGERS, hand, strict=True):
        reach = np.linalg.norm(joints - wrist, axis=1)
        assert (np.diff(reach) > 0.012).all(), finger
        segments = np.linalg.norm(np.diff(joints, axis=0), axis=1)
        assert (segments > 0.012).all() and (segments < 0.05).all(), finger
        # A joint lies within the finger, its tip at the skin's end.
        near = np.linalg.norm(body.v_template[:, None] - joints, axis=2).min(0)
        assert (near[:3] < 0.016).all() and near[3] < 0.006, finger
    # Across the palm from the index to the little finger; the thumb to the front in the T-pose.
    assert (np.diff(hand[1:, 0, 2]) < 0).all() and hand[0, 3, 2] == hand[..., 2].max()


def test_landmarks_follow_the_shape(spots: np.ndarray) -> None:
    body = embedded()
    assert body.landmarks is not None
    tall = body.landmarks.apply(body.shaped(np.array([2.0])))
    assert tall[_AT["nose"], 1] > spots[_AT["nose"], 1] + 0.03


@pytest.mark.parametrize(
    ("family", "vertices", "count"), [("smpl", 6890, 5), ("smplh", 6890, 15), ("smplx", 10475, 15)]
)
def test_known_vertices_agree_with_the_smplx_package(family: str, vertices: int, count: int) -> None:
    table = pytest.importorskip("smplx.vertex_ids", reason="the smplx package is not installed").vertex_ids
    known = KNOWN[family, vertices]
    assert len(known) == count
    theirs = table["smplx" if family == "smplx" else "smplh"]
    short = {"right_eye": "reye", "left_eye": "leye", "right_ear": "rear", "left_ear": "lear", "nose": "nose"}
    for name, vertex in known.items():
        side, _, finger = name.removesuffix("_4").partition("_hand_")
        assert vertex == theirs[short.get(name) or side[0] + finger.replace("little", "pinky")]


def test_smplx_files_bring_the_face(body_file: BodyFile, body_arrays: Callable[..., Any]) -> None:
    arrays = body_arrays("smplx")
    body = load_body(body_file("smplx", ".npz"))
    assert body.landmarks is not None
    found = body.landmarks.apply(body.v_template)[FACE_KEYPOINTS]
    corners = arrays["v_template"][arrays["f"][arrays["lmk_faces_idx"]].astype(int)]
    np.testing.assert_allclose(found[17:], corners.mean(axis=1), atol=1e-5)
    assert not body.landmarks.present[FACE_KEYPOINTS][:17].any()

    rng = np.random.default_rng(5)
    jaw = {"dynamic_lmk_faces_idx": rng.integers(0, 150, (79, 17)), "dynamic_lmk_bary_coords": np.zeros((79, 17, 3))}
    jaw["dynamic_lmk_bary_coords"][..., 1] = 1
    body = load_body(body_file("smplx", ".npz", **jaw))
    assert body.landmarks is not None
    found = body.landmarks.apply(body.v_template)[FACE_KEYPOINTS][:17]
    first = arrays["f"][jaw["dynamic_lmk_faces_idx"][0], 1].astype(int)
    np.testing.assert_allclose(found, arrays["v_template"][first], atol=1e-5)


def test_other_bodies_of_unknown_size_have_none(body_file: BodyFile) -> None:
    assert load_body(body_file("smpl", ".npz")).landmarks is None
    assert load_body(body_file("smplh", ".npz")).landmarks is None


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("lmk_faces_idx", {"lmk_faces_idx": np.full(51, 150)}),
        ("lmk_faces_idx", {"lmk_faces_idx": np.zeros(50, int)}),
        ("lmk_bary_coords", {"lmk_bary_coords": np.zeros((51, 2))}),
        ("lmk_bary_coords", {"lmk_bary_coords": np.full((51, 3), np.nan)}),
        ("landmarks", {"landmarks": np.full((128, 2), 97)}),
        ("landmarks", {"landmarks": np.zeros((127, 2), int)}),
        ("landmark_weights", {"landmarks": np.zeros((128, 2), int)}),
        ("landmark_weights", {"landmarks": np.zeros((128, 2), int), "landmark_weights": np.full((128, 2), 0.4)}),
        ("dynamic_lmk_faces_idx", {"dynamic_lmk_faces_idx": np.zeros((79, 16), int)}),
    ],
)
def test_wrong_landmarks_are_named(body_file: BodyFile, field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(BodyError) as caught:
        load_body(body_file("smplx", ".npz", **changes))
    assert caught.value.field == field
