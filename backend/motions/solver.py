"""Damped Gauss-Newton steps that bring a skeleton's joints to their targets, on all frames at once.

Unknowns of a frame are one small turn in world axes at each joint with children, and the translation. T: frames.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .kinematics import (
    JOINT,
    SMPL_PARENTS,
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    nearest_rotation,
    place,
    to_global,
)

PARENTS = np.array(SMPL_PARENTS)
CHILDREN = [np.flatnonzero(np.equal(PARENTS, j)) for j in range(24)]
ACTIVE = np.array([j for j in range(24) if len(CHILDREN[j])])
_BELOW = np.zeros((24, 24), dtype=bool)
for _j in range(23, 0, -1):
    _BELOW[PARENTS[_j]] |= _BELOW[_j]
    _BELOW[PARENTS[_j], _j] = True

BLOCK = 600
"""Frames solved at once."""
POSITION_SIGMA = 0.01
"""Metres by which a joint's position is trusted."""
SMOOTH_SIGMA = 0.15
"""Radians by which a joint may turn against the mean of its neighbouring frames."""
_LOOSE, _FIRM = 2.0, 0.35
# Deviation of each joint's axis-angle (x, y, z of the canonical frame) from rest, in radians. Knees bend about x and
# elbows about y; the rest of their freedom, twists above all, belongs to the joint before.
_PRIOR = np.full((24, 3), _LOOSE)
for _name in ("spine1", "spine2", "spine3", "neck", "left_collar", "right_collar"):
    _PRIOR[JOINT[_name]] = 0.6
for _side in ("left", "right"):
    _PRIOR[JOINT[f"{_side}_knee"]] = (_LOOSE, _FIRM, _FIRM)
    _PRIOR[JOINT[f"{_side}_elbow"]] = (_FIRM, _LOOSE, _FIRM)
    _PRIOR[JOINT[f"{_side}_ankle"]] = (0.8, 0.5, 0.5)
    _PRIOR[JOINT[f"{_side}_wrist"]] = 0.8


def neighbours(local: np.ndarray, trans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each frame would be by its neighbours alone."""
    if len(local) < 3:
        return local.copy(), trans.copy()
    before = np.concatenate([local[:1], local[:-1]])
    after = np.concatenate([local[1:], local[-1:]])
    mean = trans.copy()
    mean[1:-1] = 0.5 * (trans[:-2] + trans[2:])
    return nearest_rotation(before + after), mean


def solve(
    targets: np.ndarray,
    local: np.ndarray,
    trans: np.ndarray,
    rest: np.ndarray,
    *,
    iterations: int,
    trust: np.ndarray | None = None,
    keep: tuple[np.ndarray, np.ndarray] | None = None,
    block: int = BLOCK,
    tick: Callable[[], None] = lambda: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Local rotations (T,24,3,3) and translation (T,3) that bring joints to targets.

    Args:
        targets: (T,24,3) metres.
        local, trans: where to start.
        rest: (24,3) rest joints.
        iterations: steps.
        trust: (24,) how much each joint's target counts, 0 to 1; None is 1 for all.
        keep: local rotations (T,24,3,3) to stay near and (24,) deviations in radians from them; None holds joints near
            rest by ``_PRIOR`` instead.
        block: frames solved at once, to bound memory.
        tick: called before each step of each block; what it raises ends the fit.
    """
    trust = np.ones(24) if trust is None else trust
    for _ in range(iterations):
        calm, calm_trans = neighbours(local, trans)
        local, trans = local.copy(), trans.copy()
        for first in range(0, len(targets), block):
            tick()
            part = slice(first, first + block)
            local[part], trans[part] = _step(
                targets[part], local[part], trans[part], rest, calm[part], calm_trans[part], trust,
                None if keep is None else (keep[0][part], keep[1]),
            )  # fmt: skip
    return local, trans


def _step(
    targets: np.ndarray,
    local: np.ndarray,
    trans: np.ndarray,
    rest: np.ndarray,
    calm: np.ndarray,
    calm_trans: np.ndarray,
    trust: np.ndarray,
    keep: tuple[np.ndarray, np.ndarray] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """One damped step."""
    frames, count = len(targets), len(ACTIVE)
    turns = to_global(local)
    joints = place(turns, rest, trans)
    residual = targets - joints
    distance = np.linalg.norm(residual, axis=-1)
    weight = trust / (POSITION_SIGMA**2 * (1.0 + (distance / 0.15) ** 2))  # Cauchy: one wild joint bends no limb

    arms = joints[:, :, None] - joints[:, None, ACTIVE]  # (T,24,count,3)
    arms *= _BELOW[ACTIVE].T[None, :, :, None]
    jacobian = np.zeros((frames, 24, 3, count + 1, 3))
    for a, (b, c) in enumerate(((1, 2), (2, 0), (0, 1))):
        # d(place) = turn x arm
        jacobian[:, :, a, :count, b] = arms[..., c]
        jacobian[:, :, a, :count, c] = -arms[..., b]
        jacobian[:, :, a, count, a] = 1.0
    size = 3 * (count + 1)
    flat = jacobian.reshape(frames, 72, size)
    weighted = flat * np.repeat(weight, 3, axis=1)[..., None]
    left = np.swapaxes(weighted, 1, 2) @ flat
    right = np.einsum("tij,ti->tj", weighted, residual.reshape(frames, 72))

    parent = np.broadcast_to(np.eye(3), (frames, count, 3, 3)).copy()
    inner = PARENTS[ACTIVE] >= 0
    parent[:, inner] = turns[:, PARENTS[ACTIVE][inner]]
    if keep is None:
        now, spread = matrix_to_axis_angle(local[:, ACTIVE]), _PRIOR
    else:
        now = matrix_to_axis_angle(local[:, ACTIVE] @ np.swapaxes(keep[0][:, ACTIVE], -1, -2))
        spread = np.repeat(keep[1][:, None], 3, axis=1)
    prior = np.where(inner[:, None], 1.0 / spread[ACTIVE] ** 2, 0.0)
    toward = _left_inverse(now) @ np.swapaxes(parent, -1, -2)
    pull = matrix_to_axis_angle(calm[:, ACTIVE] @ np.swapaxes(local[:, ACTIVE], -1, -2)) / SMOOTH_SIGMA**2
    blocks = np.swapaxes(toward, -1, -2) @ (prior[..., None] * toward)
    pushes = np.einsum("tjba,tjb->tja", toward, -prior * now) + np.einsum("tjab,tjb->tja", parent, pull)
    for k in range(count):
        at = slice(3 * k, 3 * k + 3)
        left[:, at, at] += blocks[:, k] + np.eye(3) * (1.0 / SMOOTH_SIGMA**2 + 1.0)
        right[:, at] += pushes[:, k]
    hold = 1.0 / 0.05**2
    left[:, size - 3 :, size - 3 :] += np.eye(3) * hold
    right[:, size - 3 :] += hold * (calm_trans - trans)

    step = np.linalg.solve(left, right[..., None])[..., 0].reshape(frames, count + 1, 3)
    turn = step[:, :count]
    length = np.linalg.norm(turn, axis=-1, keepdims=True)
    turn = turn * np.minimum(1.0, 0.5 / np.maximum(length, 1e-9))
    out = local.copy()
    inward = np.einsum("tjba,tjb->tja", parent, turn)
    out[:, ACTIVE] = axis_angle_to_matrix(inward) @ local[:, ACTIVE]
    return out, trans + step[:, count]


def _left_inverse(turn: np.ndarray) -> np.ndarray:
    """Change (...,3,3) of an axis-angle (...,3) per small turn in its outer frame: inverse left Jacobian of SO(3)."""
    angle = np.linalg.norm(turn, axis=-1)
    safe = np.clip(angle, 1e-4, 3.0)
    factor = 1.0 / safe**2 - (1.0 + np.cos(safe)) / (2.0 * safe * np.sin(safe))
    cross = np.zeros((*turn.shape, 3))
    x, y, z = turn[..., 0], turn[..., 1], turn[..., 2]
    cross[..., 0, 1], cross[..., 0, 2], cross[..., 1, 2] = -z, y, -x
    cross[..., 1, 0], cross[..., 2, 0], cross[..., 2, 1] = z, -y, x
    return np.eye(3) - 0.5 * cross + factor[..., None, None] * (cross @ cross)
