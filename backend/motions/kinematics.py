"""Rotation matrices along a skeleton's tree. Letters: T frames, J joints; leading shapes are free where stated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..bodies.rotations import (
    axis_angle_to_matrix,
    axis_angle_to_quat,
    matrix_to_axis_angle,
    quat_to_axis_angle,
    slerp,
    swing,
    unit,
)
from ..shot.types import SMPL_JOINT_NAMES, SMPL_PARENTS

JOINT = {name: index for index, name in enumerate(SMPL_JOINT_NAMES)}
"""Index of each SMPL-24 joint by name."""


def to_global(local: np.ndarray, parents: Sequence[int] = SMPL_PARENTS) -> np.ndarray:
    """Global rotations (T,J,3,3) of joints given relative to their parents (T,J,3,3)."""
    out = np.empty_like(local)
    for j, parent in enumerate(parents):
        out[:, j] = local[:, j] if parent < 0 else out[:, parent] @ local[:, j]
    return out


def to_local(turns: np.ndarray, parents: Sequence[int] = SMPL_PARENTS) -> np.ndarray:
    """The inverse of ``to_global``."""
    out = np.empty_like(turns)
    for j, parent in enumerate(parents):
        out[:, j] = turns[:, j] if parent < 0 else np.swapaxes(turns[:, parent], -1, -2) @ turns[:, j]
    return out


def place(turns: np.ndarray, rest: np.ndarray, trans: np.ndarray, parents: Sequence[int] = SMPL_PARENTS) -> np.ndarray:
    """Joint positions (T,J,3) from global rotations (T,J,3,3), rest joints (J,3) and SMPL's ``trans`` (T,3)."""
    out = np.empty(turns.shape[:2] + (3,))
    for j, parent in enumerate(parents):
        if parent < 0:
            out[:, j] = rest[j] + trans
        else:
            out[:, j] = out[:, parent] + turns[:, parent] @ (rest[j] - rest[parent])
    return out


def nearest_rotation(matrices: np.ndarray) -> np.ndarray:
    """The rotation (...,3,3) nearest to any matrix (...,3,3), in the Frobenius norm (orthogonal Procrustes)."""
    u, _, vt = np.linalg.svd(matrices)
    sign = np.sign(np.linalg.det(u @ vt))
    u[..., :, 2] *= sign[..., None]
    return u @ vt


def align(rest: np.ndarray, posed: np.ndarray) -> np.ndarray:
    """The turns (T,3,3) that best take directions rest (K,3) to posed (T,K,3) (Kabsch 1976)."""
    return nearest_rotation(np.einsum("tka,kb->tab", posed, rest))


def frame_of(side: np.ndarray, up: np.ndarray) -> np.ndarray:
    """A body's axes as columns (...,3,3): x to its left, y up, z ahead, from rough directions ``side`` and ``up``."""
    y = unit(up)
    x = unit(side - np.sum(side * y, axis=-1, keepdims=True) * y)
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def angle_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle in radians between vectors (...,3)."""
    return np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), np.sum(a * b, axis=-1))


def blend(a: np.ndarray, b: np.ndarray, weight: float | np.ndarray) -> np.ndarray:
    """Rotations (...,3,3) a part of the way, a number or (...,1), from a to b along the shortest turn."""
    between = matrix_to_axis_angle(np.swapaxes(a, -1, -2) @ b)
    return a @ axis_angle_to_matrix(between * weight)


def smooth(series: np.ndarray, frames: float) -> np.ndarray:
    """A series (T,...) convolved along time with a Gaussian of that many frames' deviation; ends are reflected."""
    if frames <= 0 or len(series) < 3:
        return series.copy()
    radius = min(max(1, int(np.ceil(3 * frames))), len(series) - 1)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / frames) ** 2)
    kernel /= kernel.sum()
    flat = series.reshape(len(series), -1)
    padded = np.concatenate([2 * flat[:1] - flat[radius:0:-1], flat, 2 * flat[-1:] - flat[-2 : -radius - 2 : -1]])
    out = np.zeros_like(flat, dtype=float)
    for k, weight in enumerate(kernel):
        out += weight * padded[k : k + len(flat)]
    return out.reshape(series.shape)


__all__ = [
    "JOINT",
    "SMPL_PARENTS",
    "align",
    "angle_between",
    "axis_angle_to_matrix",
    "axis_angle_to_quat",
    "blend",
    "frame_of",
    "matrix_to_axis_angle",
    "nearest_rotation",
    "place",
    "quat_to_axis_angle",
    "slerp",
    "smooth",
    "swing",
    "to_global",
    "to_local",
    "unit",
]
