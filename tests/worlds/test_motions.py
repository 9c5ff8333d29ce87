"""Motions stay within joint limits, are smooth, follow gravity in the air and keep their feet where they stand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.backend.bodies import embedded
from maquette.backend.bodies.rotations import axis_angle_to_matrix
from maquette.backend.worlds import motions
from maquette.backend.worlds.actions import ACTIONS, GRAVITY, dance, jump, turn_around, walk
from maquette.backend.worlds.motions import euler_to_matrix, random_action, random_motion, retime
from maquette.backend.worlds.poses import HIGHEST, INDEX, LIMITS, LOWEST, put, random_pose
from maquette.backend.worlds.puppet import make_puppet
from maquette.backend.worlds.sample import make_sample

seeds = st.integers(0, 2**32)


def test_limits_of_the_right_side_mirror_those_of_the_left():
    left, right = INDEX["left_shoulder"], INDEX["right_shoulder"]
    pose = np.zeros((24, 3))
    put(pose, "left_shoulder", 10, -90, 40)
    put(pose, "right_shoulder", 10, -90, 40)
    assert tuple(pose[left]) == (10, -90, 40) and tuple(pose[right]) == (10, 90, -40)
    assert (LOWEST[left] == np.array(LIMITS["shoulder"])[:, 0]).all()
    assert LOWEST[right][1] == -HIGHEST[left][1] and HIGHEST[right][2] == -LOWEST[left][2]


@given(seeds)
def test_poses_stay_within_limits(seed):
    pose = random_pose(np.random.default_rng(seed))
    assert (pose >= LOWEST).all() and (pose <= HIGHEST).all()


@settings(max_examples=60, deadline=None)
@given(seeds, st.sampled_from([1, 2, 9, 33]), st.sampled_from([12.0, 24.0, 30.0]))
def test_actions_stay_within_limits_and_are_smooth(seed, frames, fps):
    action = random_action(np.random.default_rng(seed), frames, fps)
    assert (action.degrees >= LOWEST - 1e-9).all() and (action.degrees <= HIGHEST + 1e-9).all()
    assert (action.air >= 0).all()
    step = np.abs(np.diff(action.degrees, axis=0))
    # A jump is as quick as gravity makes it; everything else is slowed down to 26 degrees a frame.
    assert step.max(initial=0) < (950 / fps if action.air.any() else max(36.0, 950 / fps))


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_motions_turn_joints_as_their_angles_say(seed):
    action = random_action(np.random.default_rng(seed), 5, 24.0)
    poses, path = random_motion(np.random.default_rng(seed), 5, 24.0)
    matrices = axis_angle_to_matrix(poses.astype(np.float64))
    np.testing.assert_allclose(matrices[:, 1:], euler_to_matrix(action.degrees)[:, 1:], atol=1e-5)
    assert (matrices[:, 0] @ np.array([0, 1, 0]))[:, 2].min() > 0.85
    np.testing.assert_allclose(path[:, 2], action.air, atol=1e-6)
    assert np.abs(np.diff(path[:, :2], axis=0)).max() * 24 < 4


def test_euler_angles_turn_about_z_then_y_then_x():
    angles = np.random.default_rng(0).uniform(-90, 90, (20, 3))
    single = [axis_angle_to_matrix(np.radians(angles[:, k, None]) * np.eye(3)[k]) for k in range(3)]
    np.testing.assert_allclose(euler_to_matrix(angles), single[0] @ single[1] @ single[2], atol=1e-12)


def test_a_jump_leaves_the_floor_as_gravity_has_it_and_lands_on_bent_knees():
    fps = 120.0
    for seed in range(5):
        action = jump(np.random.default_rng(seed), np.arange(240) / fps)
        flying = action.air > 0
        inside = flying[2:] & flying[1:-1] & flying[:-2]
        assert 0.1 < flying.mean() < 0.7
        np.testing.assert_allclose(np.diff(action.air, 2)[inside] * fps**2, -GRAVITY, rtol=1e-6)
        landed = np.flatnonzero(flying[:-1] & ~flying[1:])
        knee = action.degrees[:, INDEX["left_knee"], 0]
        for frame in landed[landed < 200]:
            assert knee[frame : frame + 30].max() > 38


def test_the_body_leaves_the_floor_when_it_jumps(monkeypatch):
    monkeypatch.setattr(motions, "ACTIONS", ((jump, 1.0),))
    lifted = []
    for seed in range(6):
        sample = make_sample(seed, frames=17, size=16, n_points=64, characters=1, motion=motions.random_motion)
        lifted.append(sample.points[0, :, :, 2].min(axis=1))
    low = np.stack(lifted)
    assert low.min() > -1e-3 and (low.max(axis=1) > 0.1).sum() >= 3


def test_feet_stay_above_the_floor_and_one_touches_it():
    for seed in range(4):
        sample = make_sample(seed, frames=9, size=16, n_points=400, characters=1)
        body = embedded().pose(sample.betas[0], sample.poses[0], sample.trans[0])
        lowest = body.vertices[:, make_puppet(embedded()).kept, 2].min(axis=1)
        assert (lowest > -1e-3).all()
        assert (body.vertices[..., 2].min(axis=1) > -0.01).all()


@pytest.mark.parametrize(("kind", "most"), [(walk, 0.12), (turn_around, 0.3), (dance, 0.12)])
def test_the_foot_that_bears_the_body_does_not_slide(kind, most, monkeypatch):
    monkeypatch.setattr(motions, "ACTIONS", ((kind, 1.0),))
    body = embedded()
    slides, travelled = [], []
    for seed in range(12):
        poses, path = random_motion(np.random.default_rng(seed), 25, 24.0)
        toes = body.forward_kinematics(np.zeros(10), poses, path * [1, 1, 0])[:, 10:12, :3, 3]
        lower = toes[:-1, :, 2].argmin(axis=1)
        step = np.linalg.norm(np.diff(toes[..., :2], axis=0), axis=-1)[np.arange(24), lower]
        slides.append(np.median(step) * 24)
        travelled.append(np.linalg.norm(path[-1, :2] - path[0, :2]))
    # Metres a second at the ball of the foot, about which a turning body pivots only roughly.
    assert np.median(slides) < most
    assert kind is not walk or np.median(travelled) > 0.4


@given(seeds)
def test_retimed_moments_start_within_the_motion_and_do_not_leap(seed):
    seconds = np.arange(25) / 24.0
    moments = retime(np.random.default_rng(seed), seconds)
    assert moments.shape == seconds.shape and moments.min() >= 0
    assert np.abs(np.diff(moments)).max() <= 1.7 / 24


def test_every_way_of_retiming_occurs():
    seconds = np.arange(25) / 24.0
    steps = [np.diff(retime(np.random.default_rng(seed), seconds)) for seed in range(150)]
    assert any((step < 0).all() for step in steps)
    assert any((step > 0).any() and (step < 0).any() for step in steps)
    assert any((step >= 0).all() and step.min() < 0.002 for step in steps)
    assert np.mean([np.allclose(step, 1 / 24) for step in steps]) > 0.5


def test_every_kind_of_motion_is_drawn():
    assert {kind.__name__ for kind, _ in ACTIONS} == {"through_keys", "walk", "turn_around", "jump", "dance"}
    assert sum(weight for _, weight in ACTIONS) == pytest.approx(1)
