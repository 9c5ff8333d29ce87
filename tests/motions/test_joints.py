"""Joint positions fitted to rotations."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.backend.motions import MotionError, load_motion
from maquette.backend.motions.fitting import fit_joints, rest_basis
from maquette.backend.motions.joints import read_joints, unit_scale
from maquette.backend.motions.kinematics import (
    JOINT,
    align,
    angle_between,
    axis_angle_to_matrix,
    nearest_rotation,
    smooth,
    swing,
)
from maquette.backend.motions.upright import AXES, detect_up, turn_to_z

LIMBS = (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))


def posed(body, motion) -> np.ndarray:
    return body.pose(motion.betas, motion.poses, motion.trans, subset=np.arange(1)).joints.astype(float)


@pytest.mark.parametrize(
    ("scale", "unit", "suffix"),
    [(1000.0, "millimetres", ".pkl"), (1.0, "metres", ".npy"), (100.0, "centimetres", ".npz")],
)
def test_units_containers_and_axes(tmp_path: Path, body, walk, walk_joints, scale, unit, suffix) -> None:
    camera = (walk_joints @ turn_to_z("-Y") + [0.2, 0.1, 3.0]) * scale
    path = tmp_path / f"joints{suffix}"
    if suffix == ".npy":
        np.save(path, camera.astype(np.float32))
    elif suffix == ".npz":
        np.savez(path, joints=camera, fps=np.array(25.0))
    else:
        path.write_bytes(pickle.dumps([{"pose": camera.astype(np.float32), "video_path": "x.mp4"}] * 2))
    motion = load_motion(path, clip=1 if suffix == ".pkl" else 0)
    assert any(f"joint positions in {unit}" in n for n in motion.notes)
    assert any("up axis -Y detected" in n for n in motion.notes)
    assert motion.fps == (25 if suffix == ".npz" else 30)
    assert motion.source_error is not None and motion.source_error["joints_mm"] < 25
    got = posed(body, motion)
    for side in ("left", "right"):
        for upper, lower in LIMBS:
            a, b = JOINT[f"{side}_{upper}"], JOINT[f"{side}_{lower}"]
            off = np.degrees(angle_between(got[:, b] - got[:, a], walk_joints[:, b] - walk_joints[:, a]))
            assert off.mean() < 5, (side, upper)
    # Facing and place, up to the start point: the pelvis walks the same circle.
    path_error = (got[:, 0] - got[0, 0]) - (walk_joints[:, 0] - walk_joints[0, 0])
    assert np.linalg.norm(path_error[:, :2], axis=-1).max() < 0.05


def test_shape_is_fitted_to_another_body(body, walk) -> None:
    betas = np.zeros(body.shapedirs.shape[2])
    betas[:3] = (1.5, -1.0, 0.8)
    truth = body.pose(betas, walk.poses, walk.trans, subset=np.arange(1)).joints.astype(float)
    free = fit_joints(truth[::4], body)
    held = fit_joints(truth[::4], body, betas=np.zeros(len(betas)))
    assert free.error < 0.025 < held.error
    limb = lambda joints: np.linalg.norm(joints[:, 4] - joints[:, 1], axis=-1).mean()  # noqa: E731
    assert abs(limb(free.joints) - limb(truth)) < 0.015


def test_knees_and_elbows_bend_the_right_way(body, walk, walk_joints) -> None:
    fit = fit_joints(walk_joints, body)
    for name in ("left_knee", "right_knee"):
        bend = fit.poses[:, JOINT[name]]
        assert bend[:, 0].max() > 0.6 and bend[:, 0].min() > -0.3
        assert np.abs(bend[:, 1:]).max() < 0.5
    assert fit.poses[:, JOINT["left_elbow"], 1].mean() < 0 < fit.poses[:, JOINT["right_elbow"], 1].mean()


def test_neighbouring_frames_do_not_flip(body, walk_joints) -> None:
    rng = np.random.default_rng(0)
    fit = fit_joints(walk_joints + rng.normal(0, 0.01, walk_joints.shape), body)
    turns = axis_angle_to_matrix(fit.poses)
    step = np.swapaxes(turns[:-1], -1, -2) @ turns[1:]
    angle = np.degrees(np.arccos(np.clip((np.trace(step, axis1=-2, axis2=-1) - 1) / 2, -1, 1)))
    assert angle.max() < 35


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros((5, 23, 3)), "24, 3"),
        (np.full((5, 24, 3), np.nan), "NaN"),
        (np.zeros((0, 24, 3)), "no frame"),
        ("hello", "no array of numbers"),
    ],
)
def test_bad_positions(value, words: str) -> None:
    with pytest.raises(MotionError, match=words):
        read_joints(value)


def test_bare_arrays(tmp_path: Path, body, walk, walk_joints) -> None:
    path = tmp_path / "x.npy"
    np.save(path, walk_joints[0] * 1000)  # one frame
    assert load_motion(path).frames == 1
    np.save(path, walk.poses)
    still = load_motion(path)
    assert still.source_error is None and still.frames == walk.frames
    np.save(path, np.stack([walk_joints[:4], walk_joints[4:8]]))
    assert load_motion(path, clip=1).frames == 4
    np.save(path, np.zeros((7, 5)))
    with pytest.raises(MotionError, match=r"\(7, 5\) is not \(frames, 24, 3\)"):
        load_motion(path)


def test_points_that_are_no_body() -> None:
    with pytest.raises(MotionError, match="no known unit"):
        unit_scale(np.random.default_rng(0).uniform(0, 8, (5, 24, 3)) * 0.2e6)


@given(st.integers(0, 10_000))
def test_swing_is_the_smallest_turn(seed: int) -> None:
    a, b = np.random.default_rng(seed).standard_normal((2, 6, 3))
    b[0], b[1], a[2] = a[0], -a[1], 0
    turn = swing(a, b)
    np.testing.assert_allclose(turn @ np.swapaxes(turn, -1, -2), np.broadcast_to(np.eye(3), turn.shape), atol=1e-9)
    moved = np.einsum("nij,nj->ni", turn, a)
    keep = [0, 1, 3, 4, 5]
    np.testing.assert_allclose(angle_between(moved[keep], b[keep]), 0, atol=1e-7)
    angle = np.arccos(np.clip((np.trace(turn, axis1=-2, axis2=-1) - 1) / 2, -1, 1))
    np.testing.assert_allclose(angle[keep], angle_between(a, b)[keep], atol=1e-6)
    np.testing.assert_allclose(turn[2], np.eye(3))


@given(st.integers(0, 10_000))
def test_align_recovers_a_turn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    turn = axis_angle_to_matrix(rng.uniform(-2, 2, (4, 3)))
    rest = rng.standard_normal((3, 3))
    np.testing.assert_allclose(align(rest, np.einsum("tab,kb->tka", turn, rest)), turn, atol=1e-6)
    near = nearest_rotation(turn + rng.normal(0, 1e-3, turn.shape))
    np.testing.assert_allclose(np.linalg.det(near), 1)
    np.testing.assert_allclose(near, turn, atol=1e-2)


@given(st.sampled_from(AXES), st.integers(0, 1000))
def test_up_is_found_for_a_body_that_stands_somehow(axis: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    upright = np.array([0, 0, 1.0]) + rng.normal(0, 0.35, (50, 3))
    turn = turn_to_z(axis)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3))
    assert np.linalg.det(turn) == pytest.approx(1)
    assert detect_up(upright @ turn, "X") == (axis, True)
    assert detect_up(rng.standard_normal((200, 3)), "-Z")[0] == "-Z"


@given(st.integers(3, 60), st.floats(0.5, 20))
@settings(max_examples=20)
def test_smoothing_keeps_straight_lines_and_shape(frames: int, width: float) -> None:
    line = np.arange(frames)[:, None] * [1.0, -2.0] + 3
    np.testing.assert_allclose(smooth(line, width), line, atol=1e-6)


def test_rest_basis_is_linear_in_shape(body) -> None:
    base, basis = rest_basis(body)
    betas = np.random.default_rng(0).standard_normal(basis.shape[2]).astype(np.float32)
    np.testing.assert_allclose(base + basis @ betas, body.joints_rest(betas), atol=1e-5)


@pytest.mark.parametrize(
    "layout",
    [
        lambda j: j[:, :22],
        lambda j: j[:, :22].reshape(len(j), 66),
        lambda j: {"motion": np.moveaxis(j[:, :22], 0, -1)[None]},
        lambda j: {"joints": np.concatenate([j, np.zeros((len(j), 21, 3))], axis=1)},
        lambda j: {"pred_joints": j[None]},
    ],
)
def test_bodies_without_hands_and_other_layouts_are_read(tmp_path, walk_joints, body, layout) -> None:
    walk_joints = walk_joints[:16]
    data = layout(walk_joints.astype(np.float32))
    path = tmp_path / ("walk.npz" if isinstance(data, dict) else "walk.npy")
    np.savez(path, **data) if isinstance(data, dict) else np.save(path, data)
    motion = load_motion(path, body=body, fps=30)
    got = body.pose(motion.betas, motion.poses, motion.trans, subset=np.arange(1)).joints[:, :20]
    want = walk_joints[:, :20] - walk_joints[:, :1]
    # Beyond half a metre of turn the axes may differ by a quarter turn about the vertical; lengths do not.
    np.testing.assert_allclose(np.linalg.norm(got - got[:, :1], axis=-1), np.linalg.norm(want, axis=-1), atol=0.06)


def test_clips_of_a_motion_diffusion_model_keep_their_lengths_and_texts(tmp_path, walk_joints, body) -> None:
    clips = np.stack([np.moveaxis(walk_joints[:20, :22], 0, -1)] * 2).astype(np.float32)
    clips[1, ..., 12:] = 0
    path = tmp_path / "results.npy"
    data = {"motion": clips, "text": ["a walk", "a short walk"], "lengths": np.array([20, 12]), "num_samples": 2}
    np.save(path, np.array(data, dtype=object), allow_pickle=True)
    first, second = (load_motion(path, body=body, clip=k) for k in (0, 1))
    assert (first.frames, second.frames) == (20, 12)
    assert any("a short walk" in note for note in second.notes)


def test_features_of_humanml3d_are_positions(walk_joints) -> None:
    """Features written by their definition, for a heading that turns all the while."""
    joints = walk_joints[:20, :22] @ turn_to_z("Y")
    half = np.cumsum(np.linspace(0, 0.03, 20))
    turn = axis_angle_to_matrix(np.stack([0 * half, -2 * half, 0 * half], axis=-1))
    back = np.swapaxes(turn, 1, 2)
    features = np.zeros((20, 263))
    features[:-1, 0] = np.diff(half)
    features[:-1, 1:3] = np.einsum("tba,ta->tb", back[1:], np.diff(joints[:, 0], axis=0))[:, [0, 2]]
    features[:, 3] = joints[:, 0, 1]
    local = joints[:, 1:] - joints[:, :1] * (1, 0, 1)
    features[:, 4:67] = np.einsum("tba,tja->tjb", back, local).reshape(20, 63)
    got = read_joints(features)[:, :22]
    np.testing.assert_allclose(got - got[0, :1] * (1, 0, 1), joints - joints[0, :1] * (1, 0, 1), atol=1e-9)
