"""Random poses within joint limits.

Shape letters: T frames, J joints.

Poses are made as Euler angles (degrees, matrix ``Rx @ Ry @ Rz``) in SMPL's frame (Y up, facing +Z, left at +X,
arms out at rest), where a lowered left arm is -75 degrees about z and a bent knee is positive about x.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..shot.types import SMPL_JOINT_NAMES

INDEX = {name: i for i, name in enumerate(SMPL_JOINT_NAMES)}
"""Place of each joint in a pose."""
JOINTS = len(SMPL_JOINT_NAMES)
UPPER = [i for name, i in INDEX.items() if any(part in name for part in ("shoulder", "elbow", "collar"))]
"""Places of the arms' joints."""

LIMITS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "pelvis": ((-15, 20), (-30, 30), (-12, 12)),
    "hip": ((-100, 25), (-25, 25), (-10, 40)),
    "knee": ((0, 125), (0, 0), (0, 0)),
    "ankle": ((-20, 35), (-8, 8), (-8, 8)),
    "foot": ((-30, 10), (0, 0), (0, 0)),
    "spine1": ((-8, 22), (-12, 12), (-10, 10)),
    "spine2": ((-6, 14), (-12, 12), (-8, 8)),
    "spine3": ((-6, 12), (-10, 10), (-6, 6)),
    "neck": ((-15, 18), (-30, 30), (-12, 12)),
    "head": ((-15, 15), (-25, 25), (-10, 10)),
    "collar": ((-5, 5), (-10, 5), (-6, 16)),
    "shoulder": ((-80, 60), (-95, 35), (-88, 75)),
    "elbow": ((-40, 40), (-130, 0), (0, 0)),
    "wrist": ((-30, 30), (-20, 20), (-40, 40)),
}
"""Degrees about x, y and z of the left joint of each pair; the right one is its mirror image."""


Angle = float | np.ndarray
"""Degrees; an array has one for each frame."""


def _bounds() -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper limit (J,3) of every joint; joints that are not in LIMITS do not turn."""
    low, high = np.zeros((JOINTS, 3)), np.zeros((JOINTS, 3))
    for name, i in INDEX.items():
        side, _, joint = name.partition("_")
        limits = np.array(LIMITS.get(joint if side in ("left", "right") else name, ((0, 0),) * 3), float)
        low[i], high[i] = limits[:, 0], limits[:, 1]
        if side == "right":
            low[i, 1:], high[i, 1:] = -limits[1:, 1], -limits[1:, 0]
    return low, high


LOWEST, HIGHEST = _bounds()
"""Limits (J,3) of every joint in degrees."""


def put(pose: np.ndarray, name: str, x: Angle = 0.0, y: Angle = 0.0, z: Angle = 0.0) -> None:
    """Set a joint of ``pose`` (...,J,3) in place. ``right_*`` takes the angles of the left one and mirrors them."""
    sign = -1.0 if name.startswith("right_") else 1.0
    joint = pose[..., INDEX[name], :]
    joint[..., 0], joint[..., 1], joint[..., 2] = x, sign * y, sign * z


def stand(rng: np.random.Generator) -> np.ndarray:
    """A pose (J,3) in degrees of somebody who stands at ease, arms down."""
    pose = np.zeros((JOINTS, 3))
    for side in ("left_", "right_"):
        put(pose, side + "hip", rng.uniform(-12, 8), rng.uniform(-10, 10), rng.uniform(0, 10))
        put(pose, side + "knee", rng.uniform(0, 15))
        put(pose, side + "shoulder", rng.uniform(-15, 15), rng.uniform(-15, 10), rng.uniform(-80, -55))
        put(pose, side + "elbow", 0, rng.uniform(-45, -3))
    put(pose, "spine1", rng.uniform(-4, 8), rng.uniform(-8, 8), rng.uniform(-5, 5))
    put(pose, "neck", rng.uniform(-8, 8), rng.uniform(-25, 25), rng.uniform(-6, 6))
    return pose


def sides(rng: np.random.Generator) -> tuple[str, ...]:
    """Which limbs move: prefixes of the left ones', the right ones' or both sides' names."""
    return (("left_",), ("right_",), ("left_", "right_"))[rng.integers(3)]


def arms_out(rng: np.random.Generator) -> np.ndarray:
    """A pose (J,3) in degrees of somebody who stands with both arms out to the sides."""
    pose = stand(rng)
    height = rng.uniform(-50, 10)
    for side in ("left_", "right_"):
        put(pose, side + "shoulder", 0, rng.uniform(-20, 5), height + rng.uniform(-8, 8))
        put(pose, side + "elbow", 0, rng.uniform(-20, 0))
    return pose


def _arms_up(rng: np.random.Generator) -> np.ndarray:
    pose = stand(rng)
    for side in sides(rng):
        put(pose, side + "collar", 0, 0, rng.uniform(4, 14))
        put(pose, side + "shoulder", rng.uniform(-20, 20), rng.uniform(-25, 5), rng.uniform(25, 75))
        put(pose, side + "elbow", 0, rng.uniform(-70, 0))
    return pose


def _reach(rng: np.random.Generator) -> np.ndarray:
    pose = stand(rng)
    for side in sides(rng):
        put(pose, side + "shoulder", 0, rng.uniform(-95, -50), rng.uniform(-40, 30))
        put(pose, side + "elbow", 0, rng.uniform(-50, 0))
    put(pose, "spine1", rng.uniform(0, 20), rng.uniform(-12, 12))
    return pose


def _on_hips(rng: np.random.Generator) -> np.ndarray:
    pose = stand(rng)
    for side in sides(rng):
        put(pose, side + "shoulder", rng.uniform(15, 35), rng.uniform(10, 30), rng.uniform(-55, -40))
        put(pose, side + "elbow", 0, rng.uniform(-110, -80))
    return pose


def _wave(rng: np.random.Generator) -> np.ndarray:
    pose = stand(rng)
    side = ("left_", "right_")[rng.integers(2)]
    put(pose, side + "shoulder", rng.uniform(-80, -50), rng.uniform(-20, 0), rng.uniform(-30, 10))
    put(pose, side + "elbow", 0, rng.uniform(-115, -50))
    return pose


def _crouch(rng: np.random.Generator) -> np.ndarray:
    pose = _reach(rng) if rng.random() < 0.5 else stand(rng)
    depth = rng.uniform(0.3, 1.0)
    for side in ("left_", "right_"):
        put(pose, side + "hip", -95 * depth + rng.uniform(-8, 8), 0, rng.uniform(5, 25))
        put(pose, side + "knee", 115 * depth + rng.uniform(-8, 8))
        put(pose, side + "ankle", -20 * depth)
    put(pose, "spine1", 20 * depth, rng.uniform(-8, 8))
    return pose


def _lift_leg(rng: np.random.Generator) -> np.ndarray:
    pose = arms_out(rng) if rng.random() < 0.5 else stand(rng)
    side = ("left_", "right_")[rng.integers(2)]
    put(pose, side + "hip", rng.uniform(-95, -30), 0, rng.uniform(0, 30))
    put(pose, side + "knee", rng.uniform(0, 110))
    return pose


def _anything(rng: np.random.Generator) -> np.ndarray:
    pose = np.zeros((JOINTS, 3))
    for joint, limits in LIMITS.items():
        for side in ("left_", "right_") if f"left_{joint}" in INDEX else ("",):
            # Triangular draws keep most joints away from their limits.
            angles = [rng.triangular(low, 0.5 * (low + high), high) if high > low else low for low, high in limits]
            put(pose, side + joint, *angles)
    return pose


_POSES: tuple[tuple[Callable[[np.random.Generator], np.ndarray], float], ...] = (
    (stand, 0.22),
    (arms_out, 0.12),
    (_arms_up, 0.14),
    (_reach, 0.12),
    (_on_hips, 0.08),
    (_wave, 0.08),
    (_crouch, 0.08),
    (_lift_leg, 0.08),
    (_anything, 0.08),
)


def random_pose(rng: np.random.Generator) -> np.ndarray:
    """One pose, (24,3) Euler angles in degrees."""
    weights = np.array([weight for _, weight in _POSES])
    pose = _POSES[rng.choice(len(_POSES), p=weights / weights.sum())][0](rng)
    return np.clip(pose, LOWEST, HIGHEST)
