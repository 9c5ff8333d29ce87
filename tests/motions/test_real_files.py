"""Files that nobody here made, where they are at hand: the figures that importers are held to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from maquette.backend.motions import foot_report, load_motion
from maquette.backend.motions.bvh import parse_bvh
from maquette.backend.motions.kinematics import JOINT
from maquette.backend.motions.retarget import retarget

BVH = {
    "freebvh.bvh": ("Mixamo", "Y", 30.0, 69),
    "mocapbank.bvh": ("Biovision", "Y", 30.0, 455),
    "pybvh_test3.bvh": ("MotionBuilder", "Z", 120.0, 100),
}


def joints_of(body, motion) -> np.ndarray:
    return body.pose(motion.betas, motion.poses, motion.trans, subset=np.arange(1)).joints


@pytest.mark.parametrize("name", BVH)
def test_bvh(shared_data: Path, body, name: str) -> None:
    label, axis, fps, frames = BVH[name]
    motion = load_motion(shared_data / "motion" / name, body=body)
    assert (motion.frames, motion.fps) == (frames, fps)
    assert label in motion.notes[0] and f"up axis {axis} detected" in motion.notes[1]
    assert motion.source_error is not None and motion.source_error["bones_deg"] < 5
    report = foot_report(motion, body)
    assert report.sinking_mm < 1 and report.standing > 0.8
    joints = joints_of(body, motion)
    upright = joints[:, JOINT["head"], 2] - joints[:, JOINT["pelvis"], 2]
    assert np.median(upright) > 0.35
    # Legs do not cross on standing: the left knee stays on the left of the right one, as the hips see it.
    hips = joints[:, 1] - joints[:, 2]
    knees = joints[:, 4] - joints[:, 5]
    assert (np.sum(hips * knees, axis=1) > 0).mean() > 0.9
    # Knees bend backwards only.
    assert np.percentile(motion.poses[:, [4, 5], 0], 1) > -0.35


@pytest.mark.parametrize("name", BVH)
def test_every_limb_bone_lies_along_its_source(shared_data: Path, body, name: str) -> None:
    result = retarget(parse_bvh((shared_data / "motion" / name).read_text()), body)
    assert max(map(np.median, result.errors.values())) < 5
    assert result.errors["left shin"].max() < 0.01


@pytest.mark.parametrize("clip", [0, 4])
def test_mtvcrafter_clips(shared_data: Path, body, clip: int) -> None:
    motion = load_motion(shared_data / "motion" / "mtvcrafter_clips.pkl", body=body, clip=clip)
    assert motion.source_error is not None and motion.source_error["joints_mm"] < 40
    assert any("5 clips" in n for n in motion.notes) and any("30 fps assumed" in n for n in motion.notes)
    assert foot_report(motion, body).sinking_mm < 1
    joints = joints_of(body, motion)
    # The dancers face their camera: towards -Y, Blender's front view.
    across = joints[:, 1] - joints[:, 2]
    ahead = np.cross(across, [0, 0, 1.0])
    assert np.median(ahead[:, 1]) < 0
    assert np.median(joints[:, JOINT["head"], 2]) > 1.2
    assert np.abs(motion.betas).max() < 3 if motion.betas is not None else False
