"""Procedural motions for training: varied poses within joint limits, smooth in time.

Shape letters: T frames, J joints.

Poses are made as Euler angles (degrees, matrix ``Rx @ Ry @ Rz``) in SMPL's frame (Y up, facing +Z, left at +X,
arms out at rest), where a lowered left arm is -75 degrees about z and a bent knee is positive about x.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..bodies.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from ..shot.types import SMPL_JOINT_NAMES

_INDEX = {name: i for i, name in enumerate(SMPL_JOINT_NAMES)}
_JOINTS = len(SMPL_JOINT_NAMES)

LIMITS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "hip": ((-100, 25), (-25, 25), (-10, 40)),
    "knee": ((0, 125), (0, 0), (0, 0)),
    "ankle": ((-20, 25), (-8, 8), (-8, 8)),
    "spine1": ((-8, 22), (-12, 12), (-10, 10)),
    "spine2": ((-6, 14), (-12, 12), (-8, 8)),
    "spine3": ((-6, 12), (-10, 10), (-6, 6)),
    "neck": ((-15, 18), (-30, 30), (-12, 12)),
    "head": ((-15, 15), (-25, 25), (-10, 10)),
    "collar": ((-5, 5), (-10, 5), (-6, 16)),
    "shoulder": ((-60, 60), (-95, 35), (-88, 75)),
    "elbow": ((-40, 40), (-130, 0), (0, 0)),
    "wrist": ((-30, 30), (-20, 20), (-40, 40)),
}
"""Degrees about x, y and z of the left joint of each pair; the right one is its mirror image."""


def _set(pose: np.ndarray, name: str, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> None:
    """Set a joint. ``right_*`` takes the angles of the left one and mirrors them."""
    sign = -1.0 if name.startswith("right_") else 1.0
    pose[_INDEX[name]] = (x, sign * y, sign * z)


def _stand(rng: np.random.Generator) -> np.ndarray:
    pose = np.zeros((_JOINTS, 3))
    for side in ("left_", "right_"):
        _set(pose, side + "hip", rng.uniform(-12, 8), rng.uniform(-10, 10), rng.uniform(0, 10))
        _set(pose, side + "knee", rng.uniform(0, 15))
        _set(pose, side + "shoulder", rng.uniform(-15, 15), rng.uniform(-15, 10), rng.uniform(-80, -55))
        _set(pose, side + "elbow", 0, rng.uniform(-45, -3))
    _set(pose, "spine1", rng.uniform(-4, 8), rng.uniform(-8, 8), rng.uniform(-5, 5))
    _set(pose, "neck", rng.uniform(-8, 8), rng.uniform(-25, 25), rng.uniform(-6, 6))
    return pose


def _sides(rng: np.random.Generator) -> tuple[str, ...]:
    return (("left_",), ("right_",), ("left_", "right_"))[rng.integers(3)]


def _arms_out(rng: np.random.Generator) -> np.ndarray:
    pose = _stand(rng)
    height = rng.uniform(-50, 10)
    for side in ("left_", "right_"):
        _set(pose, side + "shoulder", 0, rng.uniform(-20, 5), height + rng.uniform(-8, 8))
        _set(pose, side + "elbow", 0, rng.uniform(-20, 0))
    return pose


def _arms_up(rng: np.random.Generator) -> np.ndarray:
    pose = _stand(rng)
    for side in _sides(rng):
        _set(pose, side + "collar", 0, 0, rng.uniform(4, 14))
        _set(pose, side + "shoulder", rng.uniform(-20, 20), rng.uniform(-25, 5), rng.uniform(25, 75))
        _set(pose, side + "elbow", 0, rng.uniform(-70, 0))
    return pose


def _reach(rng: np.random.Generator) -> np.ndarray:
    pose = _stand(rng)
    for side in _sides(rng):
        _set(pose, side + "shoulder", 0, rng.uniform(-95, -50), rng.uniform(-40, 30))
        _set(pose, side + "elbow", 0, rng.uniform(-50, 0))
    _set(pose, "spine1", rng.uniform(0, 20), rng.uniform(-12, 12))
    return pose


def _on_hips(rng: np.random.Generator) -> np.ndarray:
    pose = _stand(rng)
    for side in _sides(rng):
        _set(pose, side + "shoulder", rng.uniform(15, 35), rng.uniform(10, 30), rng.uniform(-55, -40))
        _set(pose, side + "elbow", 0, rng.uniform(-110, -80))
    return pose


def _wave(rng: np.random.Generator) -> np.ndarray:
    pose = _stand(rng)
    side = ("left_", "right_")[rng.integers(2)]
    _set(pose, side + "shoulder", rng.uniform(-80, -50), rng.uniform(-20, 0), rng.uniform(-30, 10))
    _set(pose, side + "elbow", 0, rng.uniform(-115, -50))
    return pose


def _crouch(rng: np.random.Generator) -> np.ndarray:
    pose = _reach(rng) if rng.random() < 0.5 else _stand(rng)
    depth = rng.uniform(0.3, 1.0)
    for side in ("left_", "right_"):
        _set(pose, side + "hip", -95 * depth + rng.uniform(-8, 8), 0, rng.uniform(5, 25))
        _set(pose, side + "knee", 115 * depth + rng.uniform(-8, 8))
        _set(pose, side + "ankle", -20 * depth)
    _set(pose, "spine1", 20 * depth, rng.uniform(-8, 8))
    return pose


def _lift_leg(rng: np.random.Generator) -> np.ndarray:
    pose = _arms_out(rng) if rng.random() < 0.5 else _stand(rng)
    side = ("left_", "right_")[rng.integers(2)]
    _set(pose, side + "hip", rng.uniform(-95, -30), 0, rng.uniform(0, 30))
    _set(pose, side + "knee", rng.uniform(0, 110))
    return pose


def _anything(rng: np.random.Generator) -> np.ndarray:
    pose = np.zeros((_JOINTS, 3))
    for joint, limits in LIMITS.items():
        for side in ("left_", "right_") if "left_" + joint in _INDEX else ("",):
            # Triangular draws keep most joints away from their limits.
            angles = [rng.triangular(low, 0.5 * (low + high), high) if high > low else low for low, high in limits]
            _set(pose, side + joint, *angles)
    return pose


_POSES: tuple[tuple[Callable[[np.random.Generator], np.ndarray], float], ...] = (
    (_stand, 0.22),
    (_arms_out, 0.12),
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
    return _POSES[rng.choice(len(_POSES), p=weights / weights.sum())][0](rng)


def _walk(rng: np.random.Generator, seconds: np.ndarray) -> tuple[np.ndarray, float]:
    """Walk or jog as Euler angles (T,24,3) in degrees, and its speed in m/s."""
    pace = rng.uniform(0.7, 1.5)
    swing = rng.uniform(18, 34) * pace**0.5
    base = _stand(rng)
    poses = np.repeat(base[None], len(seconds), axis=0)
    start = rng.uniform(0, 2 * np.pi)
    elbow = rng.uniform(-75, -8)
    arm = rng.uniform(0.5, 1.1) * swing
    spread = rng.uniform(-78, -62)
    for side, shift in (("left_", 0.0), ("right_", np.pi)):
        phase = 2 * np.pi * pace * seconds + start + shift
        for t, p in enumerate(phase):
            _set(poses[t], side + "hip", -swing * np.sin(p) - 4, 0, 2)
            # The knee bends most while the leg swings forward.
            _set(poses[t], side + "knee", 6 + 28 * pace * (1 + np.cos(p)) / 2 + 6 * np.sin(2 * p) ** 2)
            _set(poses[t], side + "ankle", 8 * np.sin(p))
            _set(poses[t], side + "shoulder", arm * np.sin(p), 0, spread)
            _set(poses[t], side + "elbow", 0, elbow - 8 * np.sin(p))
    phase = 2 * np.pi * pace * seconds + start
    poses[:, _INDEX["spine2"], 1] += 6 * np.sin(phase)
    return poses, 0.028 * swing * pace * 1.7


def _through_keys(rng: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    """Smooth passage through random key poses, (T,24,3) degrees."""
    gap = rng.uniform(0.4, 1.6)
    offset = rng.uniform(0, gap)
    keys = [random_pose(rng) for _ in range(int(np.ceil((seconds[-1] + offset) / gap)) + 2)]
    at = (seconds + offset) / gap
    left = np.floor(at).astype(int)
    ease = at - left
    ease = (ease * ease * (3 - 2 * ease))[:, None, None]
    stack = np.stack(keys)
    return stack[left] * (1 - ease) + stack[left + 1] * ease


def euler_to_matrix(degrees: np.ndarray) -> np.ndarray:
    """``Rx @ Ry @ Rz`` of Euler angles (...,3) in degrees: (...,3,3)."""
    radians = np.radians(degrees)
    axes = [axis_angle_to_matrix(radians[..., k, None] * np.eye(3)[k]) for k in range(3)]
    return axes[0] @ axes[1] @ axes[2]


def random_motion(rng: np.random.Generator, frames: int, fps: float) -> tuple[np.ndarray, np.ndarray]:
    """A motion of SMPL's 24 joints in the world (Z up), near the origin.

    Returns:
        poses (T,24,3) axis-angle in radians, and the path (T,3) of the pelvis over the floor in metres with z = 0:
        the caller puts the body on the floor.
    """
    seconds = np.arange(frames) / fps
    heading = rng.uniform(-np.pi, np.pi)
    turn = rng.normal(0, 0.7) if rng.random() < 0.4 else 0.0
    speed = 0.0
    if rng.random() < 0.3:
        degrees, speed = _walk(rng, seconds)
        # Sometimes the arms do something else while walking.
        if rng.random() < 0.25:
            upper = [i for name, i in _INDEX.items() if any(k in name for k in ("shoulder", "elbow", "collar"))]
            degrees[:, upper] = _through_keys(rng, seconds)[:, upper]
    else:
        degrees = _through_keys(rng, seconds)
    yaw = heading + turn * seconds
    lean = euler_to_matrix(np.array([rng.normal(0, 3), 0.0, rng.normal(0, 3)]))
    matrices = euler_to_matrix(degrees)
    upright = euler_to_matrix(np.array([90.0, 0.0, 0.0]))
    facing = axis_angle_to_matrix(yaw[:, None] * np.array([0.0, 0.0, 1.0]))
    matrices[:, 0] = facing @ upright @ lean @ matrices[:, 0]
    path = np.zeros((frames, 3))
    # Canonical +Z (forward) becomes -Y of the world before the turn by yaw.
    direction = np.stack([np.sin(yaw), -np.cos(yaw)], axis=-1)
    path[:, :2] = np.cumsum(direction * speed / fps, axis=0)
    path[:, :2] -= path[frames // 2, :2]
    return matrix_to_axis_angle(matrices).astype(np.float32), path.astype(np.float32)
