"""Pose maps: the palette that the weights know, thresholds, and that nothing is drawn where nothing is seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from maquette.backend.control.pose_drawing import ANIMATE, LIMBS, MIMICMOTION, draw_pose, draw_poses
from maquette.backend.shot import KEYPOINT_NAMES

SIDE = 540  # a quarter of the canvas, so that limbs are two pixels wide

PUBLISHED = {
    ("neck", "right_shoulder"): (0, 0, 153),
    ("neck", "left_shoulder"): (0, 51, 153),
    ("right_shoulder", "right_elbow"): (0, 102, 153),
    ("right_elbow", "right_wrist"): (0, 153, 153),
    ("left_shoulder", "left_elbow"): (0, 153, 102),
    ("left_elbow", "left_wrist"): (0, 153, 51),
    ("neck", "right_hip"): (0, 153, 0),
    ("right_hip", "right_knee"): (51, 153, 0),
    ("right_knee", "right_ankle"): (102, 153, 0),
    ("neck", "left_hip"): (153, 153, 0),
    ("left_hip", "left_knee"): (153, 102, 0),
    ("left_knee", "left_ankle"): (153, 51, 0),
    ("neck", "nose"): (153, 0, 0),
    ("nose", "right_eye"): (153, 0, 51),
    ("right_eye", "right_ear"): (153, 0, 102),
    ("nose", "left_eye"): (153, 0, 153),
    ("left_eye", "left_ear"): (102, 0, 153),
}
"""RGB of limbs at full confidence as the weights were trained on them: red and blue exchanged against OpenPose."""


def pair(a: str, b: str, confidence_a: float = 1.0, confidence_b: float = 1.0) -> np.ndarray:
    """The map of two keypoints, left and right of the middle."""
    points, confidence = np.full((128, 2), -1.0), np.zeros(128)
    for name, x, c in ((a, 0.25, confidence_a), (b, 0.75, confidence_b)):
        points[KEYPOINT_NAMES.index(name)] = x, 0.5
        confidence[KEYPOINT_NAMES.index(name)] = c
    return draw_pose(points, confidence, SIDE, SIDE, MIMICMOTION)


def limb_colour(picture: np.ndarray) -> tuple[int, ...]:
    """What is half way between the two keypoints."""
    column = picture[SIDE // 2 - 6 : SIDE // 2 + 6, SIDE // 2]
    return tuple(int(x) for x in column[column.sum(axis=1).argmax()])


@pytest.mark.parametrize("limb", PUBLISHED, ids="-".join)
def test_limbs_have_the_exchanged_colours(limb):
    assert limb_colour(pair(*limb)) == PUBLISHED[limb]


def test_the_exchanged_colours_are_not_the_usual_ones():
    """Fails when red and blue are put back where OpenPose has them."""
    for limb in list(PUBLISHED)[:4]:
        red, _, blue = PUBLISHED[limb]
        colour = limb_colour(pair(*limb))
        assert colour[0] != blue and colour[2] != red


def test_every_limb_of_the_table_is_drawn_and_no_other():
    assert {(KEYPOINT_NAMES[a], KEYPOINT_NAMES[b]) for a, b in LIMBS} == set(PUBLISHED)
    for a, b in (("right_shoulder", "right_ear"), ("left_shoulder", "left_ear")):
        assert limb_colour(pair(a, b)) == (0, 0, 0)


def test_discs_are_drawn_after_the_limbs_are_dimmed():
    picture = pair("nose", "neck")
    assert tuple(picture[SIDE // 2, SIDE // 4]) == (0, 0, 255)
    assert tuple(picture[SIDE // 2, 3 * SIDE // 4]) == (0, 85, 255)


def test_limbs_are_as_dim_as_both_ends_say():
    full = np.array(limb_colour(pair("right_elbow", "right_wrist")))
    half = np.array(limb_colour(pair("right_elbow", "right_wrist", 0.5, 1.0)))
    quarter = np.array(limb_colour(pair("right_elbow", "right_wrist", 0.5, 0.5)))
    assert abs(half - full / 2).max() < 2 and abs(quarter - full / 4).max() < 2


@pytest.mark.parametrize(("confidence", "drawn"), [(0.29, False), (0.31, True)])
def test_keypoints_below_the_threshold_take_their_limbs_along(confidence, drawn):
    assert (limb_colour(pair("right_elbow", "right_wrist", 1.0, confidence)) != (0, 0, 0)) is drawn


def test_hands_have_no_threshold_and_red_joints():
    points, confidence = np.full((128, 2), -1.0), np.zeros(128)
    wrist = KEYPOINT_NAMES.index("left_hand_wrist")
    points[wrist], confidence[wrist] = (0.5, 0.5), 0.2
    assert tuple(draw_pose(points, confidence, SIDE, SIDE, MIMICMOTION)[SIDE // 2, SIDE // 2]) == (51, 0, 0)


def test_face_points_are_grey():
    points, confidence = np.full((128, 2), -1.0), np.zeros(128)
    points[100], confidence[100] = (0.5, 0.5), 0.5
    assert tuple(draw_pose(points, confidence, SIDE, SIDE, MIMICMOTION)[SIDE // 2, SIDE // 2]) == (127, 127, 127)


@settings(max_examples=12)
@given(
    arrays(np.float64, (128, 2), elements=st.floats(-3, 3)),
    arrays(np.float64, 128, elements=st.floats(0, 1)),
    st.sampled_from([(64, 64), (128, 64), (64, 128)]),
)
def test_any_pose_can_be_drawn(points, confidence, size):
    width, height = size
    picture = draw_pose(points, confidence, width, height, MIMICMOTION)
    assert picture.shape == (height, width, 3) and picture.dtype == np.uint8
    assert not draw_pose(points, np.zeros(128), width, height).any()


@pytest.mark.parametrize(("side", "across"), [(400, 3), (720, 5), (1000, 9)])
def test_wan_animate_s_lines_are_thin_and_have_no_face(side: int, across: int):
    """A pixel for each 200, less one, to either side."""
    points, confidence = np.full((len(KEYPOINT_NAMES), 2), -1.0), np.zeros(len(KEYPOINT_NAMES))
    for name, spot in (("neck", (0.2, 0.5)), ("right_shoulder", (0.8, 0.5)), ("face_3", (0.5, 0.2))):
        k = KEYPOINT_NAMES.index(name)
        points[k], confidence[k] = spot, 1.0
    picture = draw_pose(points, confidence, side, side, ANIMATE)
    column = picture[:, side // 2]
    assert (column.max(axis=-1) > 0).sum() == across and tuple(picture[side // 2, side // 2]) == (153, 0, 0)
    assert not picture[: side // 4].any()


def test_feet_go_from_the_ankles_that_are_drawn_to_the_toes():
    points, confidence = np.full((len(KEYPOINT_NAMES), 2), -1.0), np.zeros(len(KEYPOINT_NAMES))
    for name, spot, sure in (("left_ankle", (0.2, 0.2), 1.0), ("right_ankle", (0.2, 0.8), 0.0)):
        k = KEYPOINT_NAMES.index(name)
        points[k], confidence[k] = spot, sure
    toes = np.array([[0.8, 0.2], [0.8, 0.8]])
    picture = draw_poses(points[None], confidence[None], 200, 200, ANIMATE, toes[None])
    assert tuple(picture[40, 100]) == (153, 0, 51) and tuple(picture[40, 160]) == (200, 200, 0)
    assert not picture[100:].any(), "a hidden ankle has no foot"
    toes[0] = np.nan
    assert not draw_poses(points[None], confidence[None], 200, 200, ANIMATE, toes[None])[40, 60:].any()
