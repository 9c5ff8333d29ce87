"""Frames in which the body jumps away and back: found, put back, said; motion is left alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from maquette.backend.motions import BodyMotion, floor, generate_walk
from maquette.backend.motions.glitches import find_glitches, leading_pose, mend
from maquette.backend.motions.joints import joints_to_motion
from maquette.backend.motions.kinematics import JOINT, axis_angle_to_matrix, matrix_to_axis_angle


@pytest.mark.parametrize("fps", [24, 30, 60, 120])
def test_fast_motion_is_no_glitch(fps: int, body) -> None:
    time = np.arange(2 * fps) / fps
    hop = (time - 0.5) % 1
    jumps = np.stack([1.5 * time, 0 * time, np.maximum(1, 1 + 4 * hop - 4.9 * hop**2)], axis=1)
    dance = np.stack([0.3 * np.sin(15 * time), 0 * time, 0.2 * np.cos(19 * time)], axis=1)
    run = np.stack([6 * time, 0 * time, 1 + 0.05 * np.cos(20 * time)], axis=1)
    cut = np.concatenate([run[:fps], run[fps:] + (3, 0, 0)])
    assert [find_glitches(path, fps) for path in (jumps, dance, run, cut)] == [[]] * 4


@pytest.mark.parametrize("fps", [24, 60])
@pytest.mark.parametrize("size", [(0, 0, -0.5), (0.3, 0, 0), (0, 0.2, 0.3), (0, 0, -2.0)])
@pytest.mark.parametrize("frames", [[20], [20, 21], [10, 40], [0], [47], [5, 6, 7]])
def test_glitches_are_put_back_and_said(fps: int, size, frames, body) -> None:
    walk = generate_walk(47 / fps, fps, body=body, speed=1.6)
    bad = walk.trans.copy()
    bad[frames] += size
    mended = mend(replace(walk, trans=bad))
    np.testing.assert_allclose(mended.trans, walk.trans, atol=0.05)
    untouched = np.setdiff1d(np.arange(walk.frames), frames)
    np.testing.assert_array_equal(mended.trans[untouched], walk.trans[untouched])
    assert str(frames[0] + 1) in mended.notes[-1]


@pytest.mark.parametrize(
    ("frames", "low"), [([30], 0.07), ([0, 1], 0.12), ([59, 60], 0.12), ([30, 31, 32], 0.09), ([8, 10, 12], 0.5)]
)
def test_frames_that_sink_lift_no_neighbour(frames: list[int], low: float, walk: BodyMotion, body) -> None:
    if low == 0.5:
        walk = replace(walk, poses=walk.poses[:16], trans=walk.trans[:16])
    trans = walk.trans.copy()
    trans[frames, 2] -= low
    done, wanted = floor(mend(replace(walk, trans=trans)), body), floor(walk, body)
    others = np.setdiff1d(np.arange(walk.frames), frames)
    assert np.abs(done.trans[others] - wanted.trans[others]).max() < 0.015


def test_a_t_pose_before_the_motion_is_noticed(walk: BodyMotion) -> None:
    poses = walk.poses.copy()
    assert leading_pose(walk) == 0
    poses[:3, 1:] = 0
    poses[:3, [16, 17]] = (0.6, 0, 0)  # twisted about the bone
    assert leading_pose(replace(walk, poses=poses)) == 3


@pytest.mark.parametrize("fps", [24, 60])
@pytest.mark.parametrize("frames", [[20], [10, 40], [15, 16, 17], [0], [47], [0, 1], [46, 47]])
@pytest.mark.parametrize("kind", ["flip", "limb", "zeros"])
def test_turns_away_and_back_are_put_back_and_said(fps: int, frames: list[int], kind: str, body) -> None:
    walk = generate_walk(47 / fps, fps, body=body, speed=1.6)
    assert not np.any(mend(walk).poses != walk.poses)
    turns = axis_angle_to_matrix(walk.poses.astype(float))
    if kind == "zeros":
        turns[frames] = np.eye(3)
    else:
        turn = axis_angle_to_matrix(np.array([np.pi if kind == "flip" else 2.1, 0, 0]))
        joint = 0 if kind == "flip" else JOINT["left_hip"]
        turns[frames, joint] = turn @ turns[frames, joint]
    damaged = replace(walk, poses=matrix_to_axis_angle(turns).astype(np.float32))
    if kind == "zeros" and frames[0] == 0:
        assert leading_pose(damaged) == len(frames)  # left out by itself
        return
    mended = mend(damaged)
    apart = np.swapaxes(axis_angle_to_matrix(mended.poses.astype(float)), -1, -2) @ axis_angle_to_matrix(
        walk.poses.astype(float)
    )
    assert np.linalg.norm(matrix_to_axis_angle(apart), axis=-1).max() < 0.5
    assert str(frames[0] + 1) in mended.notes[-1]


@pytest.mark.parametrize("lost", [[0], [7, 8, 9]])
def test_frames_without_joints(lost: list[int], walk_joints: np.ndarray, body) -> None:
    joints = walk_joints[:16].copy()
    wanted = joints_to_motion(joints, body, fps=30, name="walk", up="Z")
    joints[lost] = 0
    got = joints_to_motion(joints, body, fps=30, name="walk", up="Z")
    np.testing.assert_allclose(got.trans - got.trans[-1], wanted.trans - wanted.trans[-1], atol=0.05)
    assert "without a body" in got.notes[0]
