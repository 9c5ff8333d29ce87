"""Another rate plays at the same speed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.motions import BodyMotion, MotionError, resample
from maquette.backend.motions.kinematics import angle_between, axis_angle_to_matrix

RATES = st.sampled_from([12.0, 23.976, 24.0, 25.0, 29.97, 30.0, 50.0, 59.94, 60.0, 100.0, 120.0, 240.0])


def spinning(frames: int, fps: float, seed: int) -> BodyMotion:
    """Every joint turns about its own axis at its own steady speed; the body moves along a line."""
    rng = np.random.default_rng(seed)
    times = np.arange(frames) / fps
    axes = rng.standard_normal((24, 3))
    axes /= np.linalg.norm(axes, axis=-1, keepdims=True)
    angles = times[:, None] * rng.uniform(-4, 4, 24) + rng.uniform(-2, 2, 24)
    return BodyMotion(fps, axes * angles[..., None], times[:, None] * rng.standard_normal(3))


def exact(fps: float, count: int, seed: int) -> BodyMotion:
    return spinning(count, fps, seed)


@given(st.integers(2, 40), RATES, RATES, st.integers(0, 1000), st.booleans())
def test_speed_and_duration_are_kept(frames: int, fps: float, new: float, seed: int, cubic: bool) -> None:
    motion = spinning(frames, fps, seed)
    other = resample(motion, new, cubic=cubic)
    assert other.fps == new
    assert other.duration <= motion.duration + 1e-6
    assert motion.duration - other.duration < 1 / new + 1e-6
    # Steady turns and steady travel are what slerp and linear interpolation reproduce exactly.
    truth = exact(new, other.frames, seed)
    np.testing.assert_allclose(other.trans, truth.trans, atol=1e-4)
    got, wanted = axis_angle_to_matrix(other.poses.astype(float)), axis_angle_to_matrix(truth.poses.astype(float))
    np.testing.assert_allclose(got, wanted, atol=2e-4)


def test_a_hundred_to_thirty_is_not_every_third_frame() -> None:
    motion = spinning(101, 100.0, 1)
    other = resample(motion, 30.0)
    assert other.frames == 31 and abs(other.duration - 1.0) < 1e-6
    np.testing.assert_allclose(other.trans[-1], motion.trans[-1], atol=1e-5)


def test_turns_take_the_shorter_way_across_the_seam() -> None:
    poses = np.zeros((2, 24, 3))
    poses[0, 5, 0], poses[1, 5, 0] = np.pi - 0.1, -np.pi + 0.1  # 0.2 rad apart, through pi
    middle = resample(BodyMotion(1.0, poses, np.zeros((2, 3))), 2.0).poses[1, 5]
    assert abs(np.linalg.norm(middle) - np.pi) < 1e-3
    ahead = axis_angle_to_matrix(middle.astype(float)) @ [0, 0, 1.0]
    assert angle_between(ahead, np.array([0, 0, -1.0])) < 1e-3


def test_same_rate_single_frame_and_nonsense() -> None:
    motion = spinning(5, 30.0, 2)
    assert resample(motion, 30.0) is motion
    still = resample(spinning(1, 30.0, 2), 24.0)
    assert still.frames == 1 and still.fps == 24.0
    for bad in (0.0, -1.0, float("nan"), float("inf"), 1e9):
        with pytest.raises(MotionError) as caught:
            resample(motion, bad)
        assert caught.value.field == "fps"


def test_the_change_is_noted() -> None:
    assert "120 fps resampled to 24" in resample(spinning(20, 120.0, 0), 24.0).notes[-1]
