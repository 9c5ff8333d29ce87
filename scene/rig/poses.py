"""Preset poses: files of presets/poses, and how to take one.

A file holds ``label``, ``description``, ``order`` and the table ``[joints]``: SMPL joint name -> rotation vector
(x, y, z) in degrees, relative to the parent, in the canonical frame (Y up, facing +Z, left side at +X). Joints that
are not named rest; the root turns from the body's upright facing.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ...backend.bodies.rotations import axis_angle_to_quat
from ...backend.shot.types import SMPL_JOINT_NAMES
from .bodies import Rig

FOLDER = Path(__file__).resolve().parents[2] / "presets" / "poses"


class PoseError(ValueError):
    """A pose file that cannot be used.

    Attributes:
        field: the file and the part at fault.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


@dataclass(frozen=True)
class Pose:
    """One file of presets/poses. ``joints`` maps SMPL joint names to rotation vectors in radians."""

    id: str
    label: str
    description: str
    order: float
    joints: dict[str, tuple[float, float, float]]


def list_poses(folder: Path = FOLDER) -> tuple[Pose, ...]:
    """All poses of a folder in menu order. A file that cannot be read is left out; ``load_pose`` says why."""
    return _list_poses(tuple(sorted((str(p), p.stat().st_mtime_ns) for p in folder.glob("*.toml"))))


@lru_cache(maxsize=4)
def _list_poses(files: tuple[tuple[str, int], ...]) -> tuple[Pose, ...]:
    found = []
    for path, _ in files:
        try:
            found.append(load_pose(Path(path)))
        except PoseError as error:
            print(f"Maquette: {error}")
    return tuple(sorted(found, key=lambda pose: (pose.order, pose.id)))


def load_pose(path: Path) -> Pose:
    """Read one pose. Raises PoseError that names the file and the entry at fault."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PoseError(path.name, f"cannot be read: {error}") from error
    joints: dict[str, tuple[float, float, float]] = {}
    for name, turn in data.get("joints", {}).items():
        if name not in SMPL_JOINT_NAMES:
            raise PoseError(f"{path.name}: joints.{name}", "is not an SMPL joint")
        numbers = isinstance(turn, list) and len(turn) == 3 and all(isinstance(v, int | float) for v in turn)
        if not numbers or not np.isfinite(turn).all():
            raise PoseError(f"{path.name}: joints.{name}", "must be three numbers, degrees about x, y and z")
        x, y, z = np.radians(turn).tolist()
        joints[name] = (x, y, z)
    return Pose(
        id=path.stem,
        label=str(data.get("label", path.stem.replace("_", " ").title())),
        description=str(data.get("description", "")),
        order=float(data.get("order", 100)),
        joints=joints,
    )


def apply(rig: Rig, pose: Pose) -> None:
    """Turn every joint but the root, which keeps its place and facing, unless the pose names it."""
    turns = np.array([pose.joints.get(name, (0.0, 0.0, 0.0)) for name in SMPL_JOINT_NAMES])
    bones = rig.armature.pose.bones
    for index, name in enumerate(rig.bones):
        smpl = index if index < 22 or len(rig.bones) == len(SMPL_JOINT_NAMES) else None
        turn = turns[smpl] if smpl is not None else np.zeros(3)
        if index == 0 and "pelvis" not in pose.joints:
            continue
        bone = bones[name]
        bone.rotation_mode = "QUATERNION"
        bone.rotation_quaternion = axis_angle_to_quat(rig.rests[index].T @ turn)
