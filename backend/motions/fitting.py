"""Joint positions to a body's shape and rotations.

First each joint's turn is read off the bones (Kabsch where several bones leave a joint, else the smallest turn, with
the twist of thighs and upper arms from the bend of knee and elbow); then damped Gauss-Newton steps on all frames
together bring every joint to its place. What positions cannot tell (twist of straight limbs, wrists, head) is held near
rest by weak priors, and neighbouring frames hold each other. Letters: T frames, S shape components.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .kinematics import (
    JOINT,
    SMPL_PARENTS,
    align,
    axis_angle_to_matrix,
    blend,
    matrix_to_axis_angle,
    nearest_rotation,
    place,
    smooth,
    swing,
    to_global,
    to_local,
    unit,
)

if TYPE_CHECKING:
    from ..bodies import BodyModel

PARENTS = np.array(SMPL_PARENTS)
CHILDREN = [np.flatnonzero(np.equal(PARENTS, j)) for j in range(24)]
ACTIVE = np.array([j for j in range(24) if len(CHILDREN[j])])
_BELOW = np.zeros((24, 24), dtype=bool)
for _j in range(23, 0, -1):
    _BELOW[PARENTS[_j]] |= _BELOW[_j]
    _BELOW[PARENTS[_j], _j] = True

POSITION_SIGMA = 0.01
"""Metres by which a joint's position is trusted."""
SMOOTH_SIGMA = 0.15
"""Radians by which a joint may turn against the mean of its neighbouring frames."""
BONE_SIGMA = 0.012
"""Metres of bone length that weigh as much as one unit of a shape component."""

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


@dataclass(frozen=True, eq=False)
class Fit:
    """A body fitted to joint positions.

    Attributes:
        poses: (T,24,3) axis-angle in radians.
        trans: (T,3) metres.
        betas: (S,) shape.
        joints: (T,24,3) joint positions reached, metres.
        error: mean distance of a joint from its target, metres, over joints and frames.
    """

    poses: np.ndarray
    trans: np.ndarray
    betas: np.ndarray
    joints: np.ndarray
    error: float


def smpl24_indices(body: BodyModel) -> np.ndarray:
    """(24,) index in the body of each SMPL-24 joint; the hands are the first joints of the middle fingers."""
    names = {n.lower(): i for i, n in enumerate(body.joint_names)}
    found = []
    for j, name in enumerate(JOINT):
        options = (name, name.replace("_hand", "_middle1"))
        found.append(next((names[o] for o in options if o in names), j))
    return np.array(found)


def rest_basis(body: BodyModel) -> tuple[np.ndarray, np.ndarray]:
    """Rest joints (24,3) of zero shape and their change (24,3,S) for each shape component."""
    count = body.shapedirs.shape[2]
    keep = smpl24_indices(body)
    base = body.joints_rest(np.zeros(count, np.float32))[keep].astype(float)
    steps = [body.joints_rest(row)[keep] - base for row in np.eye(count, dtype=np.float32)]
    return base, np.stack(steps, axis=-1).astype(float) if steps else np.zeros((24, 3, 0))


def fit_joints(
    targets: np.ndarray, body: BodyModel, *, betas: np.ndarray | None = None, iterations: int = 14, block: int = 600
) -> Fit:
    """Fit a body to joint positions.

    Args:
        targets: (T,24,3) metres, any right-handed frame.
        body: whose joints are to reach them.
        betas: shape to keep; None fits it too (ridge-regularised, one shape for all frames).
        iterations: Gauss-Newton steps.
        block: frames solved at once, to bound memory.
    """
    targets = np.asarray(targets, float)
    base, basis = rest_basis(body)
    fixed = betas is not None
    shape = np.zeros(basis.shape[2]) if betas is None else np.zeros(basis.shape[2]) + _padded(betas, basis.shape[2])
    if not fixed:
        shape = _shape_from_bones(targets, base, basis)
    rest = base + basis @ shape
    local = _initial(targets, rest)
    trans = targets[:, 0] - rest[0]
    for step in range(iterations):
        if not fixed and step in (iterations // 3, 2 * iterations // 3):
            shape, trans = _shape_from_pose(targets, local, trans, base, basis)
            rest = base + basis @ shape
        calm, calm_trans = _neighbours(local, trans)
        for first in range(0, len(targets), block):
            part = slice(first, first + block)
            local[part], trans[part] = _gauss_newton(
                targets[part], local[part], trans[part], rest, calm[part], calm_trans[part]
            )
    turns = to_global(local)
    joints = place(turns, rest, trans)
    error = float(np.linalg.norm(joints - targets, axis=-1).mean())
    return Fit(matrix_to_axis_angle(local), trans, shape, joints, error)


def _padded(betas: np.ndarray, count: int) -> np.ndarray:
    out = np.zeros(count)
    n = min(count, len(betas))
    out[:n] = betas[:n]
    return out


def _shape_from_bones(targets: np.ndarray, base: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Shape (S,) whose bones have the median lengths of the targets', by Gauss-Newton with a ridge on the shape."""
    parents = PARENTS[1:]
    wanted = np.median(np.linalg.norm(targets[:, 1:] - targets[:, parents], axis=-1), axis=0)
    offset, change = base[1:] - base[parents], basis[1:] - basis[parents]
    shape = np.zeros(basis.shape[2])
    for _ in range(8):
        bones = offset + change @ shape
        lengths = np.linalg.norm(bones, axis=-1)
        jacobian = np.einsum("ja,jas->js", unit(bones), change)
        left = jacobian.T @ jacobian / BONE_SIGMA**2 + np.eye(len(shape))
        shape = shape + np.linalg.solve(left, jacobian.T @ (wanted - lengths) / BONE_SIGMA**2 - shape)
    return shape


def _shape_from_pose(
    targets: np.ndarray, local: np.ndarray, trans: np.ndarray, base: np.ndarray, basis: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Shape (S,) and translation that bring the joints nearest to the targets with the rotations held."""
    turns = to_global(local)
    count = basis.shape[2]
    jacobian = np.zeros((len(targets), 24, 3, count))
    for j, parent in enumerate(SMPL_PARENTS[1:], start=1):
        jacobian[:, j] = jacobian[:, parent] + turns[:, parent] @ (basis[j] - basis[parent])
    residual = targets - place(turns, base, trans)
    # The translation of each frame is free: it takes the mean over the joints away.
    jacobian -= jacobian.mean(axis=1, keepdims=True)
    centred = residual - residual.mean(axis=1, keepdims=True)
    flat = jacobian.reshape(-1, count)
    weight = 1.0 / (BONE_SIGMA**2 * len(targets))
    shape = np.linalg.solve(weight * flat.T @ flat + np.eye(count), weight * flat.T @ centred.reshape(-1))
    reached = place(turns, base + basis @ shape, trans)
    return shape, trans + (targets - reached).mean(axis=1)


def _initial(targets: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Local rotations (T,24,3,3) read off the bones."""
    bones = rest - rest[PARENTS]
    posed = targets - targets[:, PARENTS]
    turns = np.broadcast_to(np.eye(3), (len(targets), 24, 3, 3)).copy()

    def whole(joint: int, ends: tuple[str, ...]) -> np.ndarray:
        picks = [JOINT[e] for e in ends]
        return align(unit(rest[picks] - rest[joint]), unit(targets[:, picks] - targets[:, [joint]]))

    turns[:, 0] = whole(0, ("left_hip", "right_hip", "spine1"))
    chest = whole(JOINT["spine3"], ("neck", "left_collar", "right_collar", "left_shoulder", "right_shoulder"))
    for j in range(1, 24):
        parent = PARENTS[j]
        if j == JOINT["spine3"]:
            turns[:, j] = chest
            continue
        start = turns[:, parent]
        if j in (JOINT["spine1"], JOINT["spine2"]):
            start = blend(turns[:, 0], chest, 1 / 3 if j == JOINT["spine1"] else 2 / 3)
        if len(CHILDREN[j]):
            child = CHILDREN[j][0]
            turns[:, j] = swing(start @ bones[child], posed[:, child]) @ start
        else:
            turns[:, j] = start
        if j in (JOINT["left_hip"], JOINT["right_hip"]):
            turns[:, j] = _twisted_thigh(turns[:, j], posed, j)
        elif j in (JOINT["left_shoulder"], JOINT["right_shoulder"]):
            turns[:, j] = _twisted_arm(turns[:, j], posed, j)
    return to_local(turns)


def _twisted_thigh(turn: np.ndarray, posed: np.ndarray, hip: int) -> np.ndarray:
    """Twist a thigh so that its knee's hinge (x) is the axis in which the knee bends and the foot points ahead."""
    knee, ankle, foot = hip + 3, hip + 6, hip + 9
    thigh, shin, toes = unit(posed[:, knee]), unit(posed[:, ankle]), unit(posed[:, foot])
    # Bending backwards about x takes the shin from the thigh's direction; the foot stands ahead of the shin.
    hinge = np.cross(thigh, shin) + 0.3 * np.cross(toes, shin)
    return _twist_to(turn, np.array([1.0, 0, 0]), thigh, hinge)


def _twisted_arm(turn: np.ndarray, posed: np.ndarray, shoulder: int) -> np.ndarray:
    """Twist an upper arm so that its elbow's hinge (y) is the axis in which the elbow bends."""
    upper, lower = unit(posed[:, shoulder + 2]), unit(posed[:, shoulder + 4])
    sign = -1.0 if shoulder == JOINT["left_shoulder"] else 1.0
    return _twist_to(turn, np.array([0, sign, 0]), upper, np.cross(upper, lower))


def _twist_to(turn: np.ndarray, hinge: np.ndarray, axis: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Twist turns (T,3,3) about axis (T,3) to bring ``hinge`` near ``wanted`` (T,3), whose length is its certainty."""
    now = turn @ hinge
    across = np.cross(axis, now)
    cosine, sine = np.sum(wanted * now, -1), np.sum(wanted * across, -1)
    # A little certainty for no twist at all, so that a straight limb keeps still; then calm over time.
    pair = smooth(np.stack([cosine + 0.15, sine], axis=-1), 1.0)
    return axis_angle_to_matrix(axis * np.arctan2(pair[:, 1], pair[:, 0])[:, None]) @ turn


def _neighbours(local: np.ndarray, trans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each frame would be by its neighbours alone."""
    if len(local) < 3:
        return local.copy(), trans.copy()
    before = np.concatenate([local[:1], local[:-1]])
    after = np.concatenate([local[1:], local[-1:]])
    mean = trans.copy()
    mean[1:-1] = 0.5 * (trans[:-2] + trans[2:])
    return nearest_rotation(before + after), mean


def _gauss_newton(
    targets: np.ndarray,
    local: np.ndarray,
    trans: np.ndarray,
    rest: np.ndarray,
    calm: np.ndarray,
    calm_trans: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """One damped step. Unknowns: a turn in world axes at each joint with children, and the translation."""
    frames, count = len(targets), len(ACTIVE)
    turns = to_global(local)
    joints = place(turns, rest, trans)
    residual = targets - joints
    distance = np.linalg.norm(residual, axis=-1)
    weight = 1.0 / (POSITION_SIGMA**2 * (1.0 + (distance / 0.15) ** 2))  # Cauchy: one wild joint bends no limb

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
    now = matrix_to_axis_angle(local[:, ACTIVE])
    prior = np.where(inner[:, None], 1.0 / _PRIOR[ACTIVE] ** 2, 0.0)
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
