"""Lock Feet: standing feet stay where they stand, and legs stay whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.motions import BodyMotion, contacts, floor, generate_walk, lock_feet
from maquette.backend.motions.feet import _correction, bend_leg
from maquette.backend.motions.ground import sole_positions
from maquette.backend.motions.types import WARNING


def slides(motion: BodyMotion, body, stands: np.ndarray) -> float:
    """Metres that the stillest sole point slides in all of the longest-sliding contact."""
    places, under = sole_positions(motion, body)
    worst = 0.0
    for side in (0, 1):
        points = places[:, under.left == (side == 0)]
        steps = np.linalg.norm(np.diff(points[..., :2], axis=0), axis=-1)
        still = np.where(np.maximum(points[1:, :, 2], points[:-1, :, 2]) < 0.02, steps, np.inf).min(axis=1)
        still[~(stands[1:, side] & stands[:-1, side]) | ~np.isfinite(still)] = 0
        parts = np.split(still, np.flatnonzero(np.diff(stands[:, side].astype(int))))
        worst = max(worst, *(part.sum() for part in parts))
    return worst


def test_a_sliding_walk_stands(walk: BodyMotion, body) -> None:
    sliding = floor(replace(walk, trans=walk.trans * np.float32([0.92, 0.92, 1])), body)
    stands = contacts(sliding, body)
    assert slides(sliding, body, stands) > 0.03
    held = lock_feet(sliding, body)
    assert slides(held, body, stands) < 0.01
    half = slides(lock_feet(sliding, body, 0.5), body, stands)
    assert slides(held, body, stands) < half < slides(sliding, body, stands)
    np.testing.assert_array_equal(held.trans, sliding.trans)
    # The feet keep their turns, and nothing above the hips moves.
    before, after = (sole_positions(m, body)[0] for m in (sliding, held))
    assert np.abs((before - before[:, :1]) - (after - after[:, :1])).max() < 0.15
    np.testing.assert_array_equal(held.poses[:, 9:], sliding.poses[:, 9:])
    assert lock_feet(sliding, body, 0.0) is sliding


def test_holding_a_foot_makes_no_new_slide(body) -> None:
    """Coming back from where it was held, a foot that moves slowly would slide again."""
    walk = generate_walk(3.0, 30.0, speed=0.5, body=body)
    sliding = floor(replace(walk, trans=walk.trans * np.float32([0.7, 0.7, 1])), body)
    held = lock_feet(sliding, body)
    assert slides(held, body, contacts(held, body)) < 0.01


def test_a_gap_of_a_frame_between_contacts_is_no_jump() -> None:
    places = np.zeros((60, 1, 3))
    places[:, 0, 0] = 0.005 * np.arange(60)
    stands = np.ones(60, bool)
    stands[30] = False
    shift = _correction(places, stands, 30.0)[:, 0]
    assert min(shift[29], shift[31]) <= shift[30] <= max(shift[29], shift[31])
    apart = _correction(places, (np.arange(60) < 10) | (np.arange(60) > 45), 30.0)[:, 0]
    assert abs(apart[28]) < 1e-6 and np.abs(np.diff(apart)).max() < 0.02


def test_a_leg_that_is_too_short_is_named_with_its_frames(walk: BodyMotion, body) -> None:
    poses = np.zeros((30, *walk.poses.shape[1:]), np.float32)
    poses[:, 0, 0] = np.pi / 2
    drift = np.linspace(0, 0.3, 30)[:, None] * np.eye(3)[0]
    straight = floor(replace(walk, poses=poses, trans=drift.astype(np.float32), notes=()), body)
    notes = [note for note in lock_feet(straight, body).notes if note.startswith(WARNING)]
    assert [note.split(" leg is too short")[0][-5:].strip() for note in notes] == ["left", "right"]
    assert "frame 1 to" in notes[0] and "to 30" in notes[0]
    assert not [note for note in lock_feet(walk, body).notes if note.startswith(WARNING)]


def test_feet_that_stand_are_left_alone(walk: BodyMotion, body) -> None:
    assert np.abs(lock_feet(walk, body).poses - walk.poses).max() < 0.12


@given(st.integers(0, 2**31))
def test_legs_reach_their_goal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hip = rng.normal(size=(5, 3))
    knee = hip + rng.normal(size=(5, 3))
    ankle = knee + rng.normal(size=(5, 3))
    lengths = [np.linalg.norm(b - a, axis=-1, keepdims=True) for a, b in ((hip, knee), (knee, ankle))]
    far = rng.uniform(np.abs(lengths[0] - lengths[1]) * 1.01, 0.99 * (lengths[0] + lengths[1]))
    goal = rng.normal(size=(5, 3))
    goal = hip + goal / np.linalg.norm(goal, axis=-1, keepdims=True) * far
    thigh, shin = bend_leg(hip, knee, ankle, goal)
    reached = hip + np.einsum("tab,tb->ta", thigh, knee - hip) + np.einsum("tab,tb->ta", shin, ankle - knee)
    np.testing.assert_allclose(reached, goal, atol=1e-6)
