"""Taking a pose of ``presets/poses``."""

from __future__ import annotations

import numpy as np

from ...backend.bodies.rotations import axis_angle_to_quat
from ...backend.catalogue.rig import Pose
from ...backend.shot.types import SMPL_JOINT_NAMES
from .bodies import Rig


def apply(rig: Rig, pose: Pose) -> None:
    """Turn every joint but the root, which keeps its place and facing, unless the pose names it."""
    turns = np.radians([pose.joints.get(name, (0.0, 0.0, 0.0)) for name in SMPL_JOINT_NAMES])
    bones = rig.armature.pose.bones
    for index, name in enumerate(rig.bones):
        smpl = index if index < 22 or len(rig.bones) == len(SMPL_JOINT_NAMES) else None
        turn = turns[smpl] if smpl is not None else np.zeros(3)
        if index == 0 and "pelvis" not in pose.joints:
            continue
        bone = bones[name]
        bone.rotation_mode = "QUATERNION"
        bone.rotation_quaternion = axis_angle_to_quat(rig.rests[index].T @ turn)
