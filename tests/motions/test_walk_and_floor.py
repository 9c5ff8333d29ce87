"""The generated walk, and feet on the floor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.backend.motions import MotionError, floor, foot_report, generate_walk, resample, to_body
from maquette.backend.motions.ground import sole_positions
from maquette.backend.motions.kinematics import JOINT


def test_duration_speed_and_determinism(body) -> None:
    one = generate_walk(2.0, 24, body=body, speed=1.1, seed=5)
    two = generate_walk(2.0, 24, body=body, speed=1.1, seed=5)
    assert one.frames == 49 and one.duration == pytest.approx(2.0)
    np.testing.assert_array_equal(one.poses, two.poses)
    np.testing.assert_array_equal(one.trans, two.trans)
    assert np.abs(generate_walk(2.0, 24, body=body, speed=1.1, seed=6).poses - one.poses).max() > 0.01
    travelled = np.linalg.norm(one.trans[-1, :2] - one.trans[0, :2])
    assert travelled == pytest.approx(2.2, abs=0.1)
    # Towards Blender's front view, passing the origin half way.
    assert one.trans[0, 1] > 0.8 and one.trans[-1, 1] < -0.8


@given(st.floats(0.4, 2.0), st.integers(0, 50), st.sampled_from([None, 0.8, 1.5, 5.0]))
@settings(max_examples=12)
def test_feet_stand_and_joints_stay_within_limits(body, speed: float, seed: int, radius: float | None) -> None:
    motion = generate_walk(2.5, 60, body=body, speed=speed, seed=seed, radius=radius)
    report = foot_report(motion, body)
    assert report.sinking_mm < 1
    assert report.skate_mm_s < 20
    assert report.standing > 0.95
    degrees = np.degrees(motion.poses)
    for side in ("left", "right"):
        knee = degrees[:, JOINT[f"{side}_knee"]]
        assert knee[:, 0].min() > -1 and knee[:, 0].max() < 90 and np.abs(knee[:, 1:]).max() < 1
        assert np.abs(degrees[:, JOINT[f"{side}_ankle"]]).max() < 45
        hip = degrees[:, JOINT[f"{side}_hip"]]
        assert hip[:, 0].min() > -75 and hip[:, 0].max() < 42 and np.abs(hip[:, 1:]).max() < 35
        elbow = degrees[:, JOINT[f"{side}_elbow"], 1] * (-1 if side == "left" else 1)
        assert elbow.min() > -1 and elbow.max() < 60


def test_a_flat_foot_does_not_move_at_all(body) -> None:
    motion = generate_walk(3.0, 100, body=body)
    places, under = sole_positions(motion, body)
    for side in (True, False):
        foot = places[:, under.left == side]
        flat = (foot[..., 2] < 0.02).all(axis=1)  # all of the sole is down; shoes are not quite even
        both = flat[1:] & flat[:-1]
        assert both.sum() > 30
        moved = np.linalg.norm(np.diff(foot, axis=0), axis=-1)[both].max(axis=1)
        # Heel strike and heel rise are at the ends of what counts as down; between them nothing moves.
        assert np.median(moved) < 1e-5 and np.percentile(moved, 70) < 1e-4


def test_the_walk_has_no_jumps(body) -> None:
    motion = generate_walk(2.0, 120, body=body)
    joints = body.pose(None, motion.poses, motion.trans, subset=np.arange(1)).joints
    assert np.linalg.norm(np.diff(joints, axis=0), axis=-1).max() * 120 < 6.5  # a swinging foot's speed at most
    assert np.abs(np.diff(motion.poses, axis=0)).max() < 0.2


def test_arms_swing_against_the_legs(body) -> None:
    motion = generate_walk(3.0, 60, body=body, seed=1)
    joints = body.pose(None, motion.poses, motion.trans, subset=np.arange(1)).joints
    ahead = -(joints[..., 1] - joints[:, :1, 1])  # the walk goes towards -Y
    assert np.corrcoef(ahead[:, JOINT["left_ankle"]], ahead[:, JOINT["left_wrist"]])[0, 1] < -0.5
    assert np.corrcoef(ahead[:, JOINT["left_ankle"]], ahead[:, JOINT["right_wrist"]])[0, 1] > 0.5


def test_a_circle_comes_round(body) -> None:
    radius = 1.5
    motion = generate_walk(2 * np.pi * radius / 1.2, 30, body=body, speed=1.2, radius=radius)
    pelvis = motion.trans[:, :2] + body.joints_rest()[0][:2]
    assert np.linalg.norm(pelvis, axis=-1) == pytest.approx(radius, abs=0.08)
    assert np.linalg.norm(pelvis[-1] - pelvis[0]) < 0.15


@pytest.mark.parametrize(
    ("how", "field"),
    [({"speed": 9.0}, "speed"), ({"speed": float("nan")}, "speed"), ({"seconds": -1.0}, "seconds"),
     ({"fps": 0.0}, "fps"), ({"radius": 0.1}, "radius")],
)  # fmt: skip
def test_out_of_range(body, how: dict, field: str) -> None:
    with pytest.raises(MotionError) as caught:
        generate_walk(**{"seconds": 1.0, "fps": 30.0, "body": body, **how})
    assert caught.value.field == field


@given(st.floats(-3, 3))
@settings(max_examples=10)
def test_floor_finds_the_ground_at_any_height(body, walk, height: float) -> None:
    moved = replace(walk, trans=walk.trans + np.float32([0, 0, height]))
    back = floor(moved, body)
    np.testing.assert_allclose(back.trans, walk.trans, atol=5e-3)
    assert foot_report(back, body).sinking_mm < 0.1


def test_floor_leaves_a_jump_in_the_air(body, walk) -> None:
    up = np.zeros(walk.frames)
    up[20:40] = 0.5 * np.sin(np.linspace(0, np.pi, 20)) ** 2
    jump = replace(walk, trans=walk.trans + np.stack([0 * up, 0 * up, up], axis=-1).astype(np.float32))
    for follow in (False, True):
        back = floor(jump, body, follow=follow)
        assert back.trans[30, 2] - walk.trans[30, 2] > 0.4


def test_floor_follows_a_wandering_height(body, walk) -> None:
    drift = 0.1 * np.sin(np.linspace(0, 3, walk.frames))
    moved = replace(walk, trans=walk.trans + np.stack([0 * drift, 0 * drift, drift], axis=-1).astype(np.float32))
    followed = floor(moved, body, follow=True)
    assert np.abs(followed.trans[:, 2] - walk.trans[:, 2]).max() < 0.015
    assert "wandered" in followed.notes[-1]
    assert np.abs(floor(moved, body).trans[:, 2] - walk.trans[:, 2]).max() > 0.02


def test_floor_lifts_what_sinks(body, walk) -> None:
    dip = np.zeros(walk.frames)
    dip[25:30] = -0.08
    moved = replace(walk, trans=walk.trans + np.stack([0 * dip, 0 * dip, dip], axis=-1).astype(np.float32))
    back = floor(moved, body)
    assert foot_report(back, body).sinking_mm < 0.1
    assert (back.trans[:, 2] - moved.trans[:, 2]).min() > -5e-3


def test_resampled_walk_keeps_its_feet(body) -> None:
    motion = resample(generate_walk(3.0, 100, body=body), 24.0)
    report = foot_report(floor(motion, body), body)
    assert motion.frames == 73
    assert report.sinking_mm < 1 and report.skate_mm_s < 45


def test_a_walk_moves_to_another_body(body, walk) -> None:
    other = to_body(walk, body.with_id("another"))
    assert other.body == "another"
    np.testing.assert_allclose(other.trans, walk.trans, atol=0.02)
    np.testing.assert_array_equal(other.poses[:, :22], walk.poses[:, :22])
