"""BVH onto the body: a walk written as BVH in many dialects must come back as the same walk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from maquette.backend.bodies.rotations import axis_angle_to_matrix
from maquette.backend.motions import BodyMotion, MotionError, foot_report, load_motion
from maquette.backend.motions.bvh import parse_bvh
from maquette.backend.motions.kinematics import JOINT, angle_between
from maquette.backend.motions.retarget import retarget
from maquette.backend.motions.skeletons import _by_shape, map_skeleton
from maquette.backend.motions.upright import turn_to_z
from maquette.backend.shot.types import SMPL_JOINT_NAMES, SMPL_PARENTS

from .writers import body_bvh, bvh_text

MIXAMO = {
    "pelvis": "Hips", "spine1": "Spine", "spine2": "Spine1", "spine3": "Spine2", "neck": "Neck", "head": "Head",
    "hip": "UpLeg", "knee": "Leg", "ankle": "Foot", "foot": "ToeBase", "collar": "Shoulder", "shoulder": "Arm",
    "elbow": "ForeArm", "wrist": "Hand", "hand": "HandMiddle1",
}  # fmt: skip


def mixamo(name: str) -> str:
    side, _, rest = name.rpartition("_")
    return f"mixamorig:{side.capitalize()}{MIXAMO[rest]}"


def turned(motion: BodyMotion) -> np.ndarray:
    return axis_angle_to_matrix(motion.poses[:, :22].astype(float))


@pytest.mark.parametrize(
    ("names", "scale", "axis", "order", "newline"),
    [
        (tuple(mixamo(n) for n in SMPL_JOINT_NAMES), 100.0, "Y", "ZXY", "\r\n"),
        (SMPL_JOINT_NAMES, 1.0, "Z", "XYZ", "\n"),
        (tuple("Actor1_" + mixamo(n).split(":")[1] for n in SMPL_JOINT_NAMES), 39.37, "-Y", "YZX", "\n"),
        (tuple(mixamo(n).upper() for n in SMPL_JOINT_NAMES), 1000.0, "X", "ZYX", "\n"),
    ],
)
def test_a_walk_comes_back(tmp_path: Path, walk, body, names, scale, axis, order, newline) -> None:
    path = tmp_path / "walk.bvh"
    text = body_bvh(body, walk, names, scale=scale, turn=turn_to_z(axis).T, order=order, newline=newline)
    path.write_text(text, newline="")
    motion = load_motion(path, body=body)
    assert motion.fps == 30.0 and motion.body == body.id
    assert any(f"up axis {axis} detected" in n for n in motion.notes)
    assert motion.source_error is not None and motion.source_error["bones_deg"] < 0.1
    np.testing.assert_allclose(turned(motion), turned(walk), atol=2e-3)
    np.testing.assert_allclose(motion.trans, walk.trans, atol=6e-3)
    report = foot_report(motion, body)
    assert report.sinking_mm < 0.1 and report.skate_mm_s < 40


def test_zero_pose_with_arms_down(walk, body) -> None:
    """The same motion from a skeleton whose arms hang in the zero pose."""
    rest = body.joints_rest().astype(float)
    down = np.broadcast_to(np.eye(3), (24, 3, 3)).copy()
    for side, sign in (("left", -1), ("right", 1)):
        turn = axis_angle_to_matrix(np.array([0, 0, sign * np.radians(85.0)]))
        for part in ("shoulder", "elbow", "wrist", "hand"):
            down[JOINT[f"{side}_{part}"]] = turn
    parents = np.maximum(SMPL_PARENTS, 0)
    offsets = np.einsum("jab,jb->ja", down[parents], rest - rest[parents]) * 100
    local = axis_angle_to_matrix(walk.poses.astype(float))
    local = np.einsum("jab,tjbc,jdc->tjad", down[parents], local, down)
    local[:, 0] = turn_to_z("Y").T @ local[:, 0]
    names = [mixamo(n) for n in SMPL_JOINT_NAMES]
    clip = parse_bvh(bvh_text(names, SMPL_PARENTS, offsets, local, (walk.trans @ turn_to_z("Y")) * 100))
    result = retarget(clip, body)
    assert max(map(np.median, result.errors.values())) < 0.5
    wanted = axis_angle_to_matrix(walk.poses[:, :22].astype(float))
    got = axis_angle_to_matrix(result.poses[:, :22])
    # The smallest turn from one rest arm to the other leaves a little twist open.
    np.testing.assert_allclose(got, wanted, atol=0.1)


def test_twist_joints_between_are_carried_along(walk, body) -> None:
    """A roll joint half way down the forearm: the bone's direction is still the source's."""
    names = [mixamo(n) for n in SMPL_JOINT_NAMES]
    rest = body.joints_rest().astype(float)
    parents = list(SMPL_PARENTS)
    offsets = rest - rest[np.maximum(SMPL_PARENTS, 0)]
    local = axis_angle_to_matrix(walk.poses.astype(float))
    local[:, 0] = turn_to_z("Y").T @ local[:, 0]
    elbow, wrist = JOINT["left_elbow"], JOINT["left_wrist"]
    names.append("mixamorig:LeftForeArmRoll")
    parents.append(elbow)
    offsets = np.vstack([offsets, offsets[wrist] / 2])
    offsets[wrist] /= 2
    parents[wrist] = 24
    roll = np.broadcast_to(axis_angle_to_matrix(np.array([0.0, 0.3, 0.4])), (len(local), 1, 3, 3))
    local = np.concatenate([local, roll], axis=1)
    clip = parse_bvh(bvh_text(names, parents, offsets, local, walk.trans @ turn_to_z("Y")))
    assert retarget(clip, body).errors["left forearm"].max() < 0.1


def test_unknown_names_are_mapped_by_shape(walk, body) -> None:
    short = {"hip": "zz1", "knee": "zz2", "ankle": "zz3", "foot": "zz4"}
    short |= {"collar": "q1", "shoulder": "q2", "elbow": "q3", "wrist": "q4", "hand": "q5"}
    names = []
    for name in SMPL_JOINT_NAMES:
        side, _, rest = name.rpartition("_")
        names.append(f"{short[rest]}_{side[0].upper()}" if side else f"bone_{len(names)}")
    clip = parse_bvh(body_bvh(body, walk, names))
    found = map_skeleton(clip)
    assert found.label == "shape of the skeleton"
    for name in SMPL_JOINT_NAMES:
        if "_" in name and not name.endswith(("hand",)):
            assert clip.names[found.joints[name]] == names[JOINT[name]]
    assert retarget(clip, body).errors["left shin"].max() < 0.1


def test_a_skeleton_that_is_no_body_is_refused(walk) -> None:
    text = bvh_text(
        ["a", "b", "c"], [-1, 0, 1], np.ones((3, 3)), np.broadcast_to(np.eye(3), (2, 3, 3, 3)), np.zeros((2, 3))
    )
    clip = parse_bvh(text)
    assert _by_shape(clip) is None
    with pytest.raises(MotionError) as caught:
        retarget(clip, None)  # type: ignore[arg-type]
    assert caught.value.field == "skeleton" and "presets/skeletons" in str(caught.value)


def test_no_frame_time_is_assumed_and_said(tmp_path: Path, walk, body) -> None:
    path = tmp_path / "walk.bvh"
    path.write_text(body_bvh(body, walk, SMPL_JOINT_NAMES, frame_time=0.0))
    assert any("30 fps assumed" in n for n in load_motion(path, body=body).notes)
    assert load_motion(path, body=body, fps=24).fps == 24


def test_a_bvh_has_one_clip(tmp_path: Path, walk, body) -> None:
    path = tmp_path / "walk.bvh"
    path.write_text(body_bvh(body, walk, SMPL_JOINT_NAMES))
    with pytest.raises(MotionError, match="one clip"):
        load_motion(path, body=body, clip=1)


def test_nobody_walks_backwards(walk, body) -> None:
    """The toes point the way the walk goes, in the world."""
    clip = parse_bvh(body_bvh(body, walk, SMPL_JOINT_NAMES))
    result = retarget(clip, body)
    joints = body.pose(None, result.poses.astype(np.float32), result.trans, subset=np.arange(1)).joints
    travel = np.gradient(joints[:, 0, :2], axis=0)
    toes = (joints[:, 10] - joints[:, 7] + joints[:, 11] - joints[:, 8])[:, :2]
    flat = [np.concatenate([v, np.zeros((len(v), 1))], axis=1) for v in (travel, toes)]
    assert np.degrees(np.median(angle_between(*flat))) < 25
