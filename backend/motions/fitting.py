"""Joint positions to a body's shape and rotations.

First each joint's turn is read off the bones (Kabsch where several bones leave a joint, else the smallest turn, with
the twist of thighs and upper arms from the bend of knee and elbow); then damped Gauss-Newton steps on all frames
together bring every joint to its place. What positions cannot tell (twist of straight limbs, wrists, head) is held near
rest by weak priors, and neighbouring frames hold each other. Letters: T frames, S shape components.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from .kinematics import (
    JOINT,
    SMPL_PARENTS,
    align,
    axis_angle_to_matrix,
    blend,
    matrix_to_axis_angle,
    place,
    smooth,
    swing,
    to_global,
    to_local,
    unit,
)
from .solver import BLOCK, CHILDREN, PARENTS, solve

if TYPE_CHECKING:
    from ..bodies import BodyModel

BONE_SIGMA = 0.012
"""Metres of bone length that weigh as much as one unit of a shape component."""

SMPL_REST: dict[str, tuple[float, float, float]] = {
    "left_hip": (0.60, -0.80, -0.05),
    "spine1": (0.0, 0.97, -0.25),
    "spine2": (0.0, 1.0, 0.0),
    "spine3": (0.0, 0.90, 0.43),
    "neck": (0.0, 0.98, -0.20),
    "left_collar": (0.55, 0.80, -0.20),
    "head": (0.0, 0.77, 0.64),
    "left_shoulder": (0.95, 0.30, -0.10),
    "left_foot": (0.20, -0.45, 0.87),
    "left_hand": (0.98, -0.10, -0.15),
}
"""About where SMPL's joints lie from their parents at rest, as directions; the right side mirrors the left.

Bodies of other makes have other joint centres under the same names: their heads sit straighter over the neck, their
feet point less down. Positions of SMPL's joints tell rotations only with SMPL's own directions; read with another
body's they would bow its head and lift its heels."""

_TRUST = np.ones(24)
for _name, _value in (
    ("left_hip", 0.2), ("right_hip", 0.2), ("spine1", 0.05), ("spine2", 0.05), ("spine3", 0.1), ("neck", 0.5),
    ("left_collar", 0.2), ("right_collar", 0.2), ("head", 0.0), ("left_foot", 0.0), ("right_foot", 0.0),
):  # fmt: skip
    _TRUST[JOINT[_name]] = _value
_KEEP = np.full(24, 0.5)
for _name in ("spine1", "spine2", "spine3", "neck", "left_collar", "right_collar"):
    _KEEP[JOINT[_name]] = 0.06
# Lengths that all bodies measure alike, between joints: limbs, shoulders' width, trunk.
_SPANS = np.array([(1, 4), (2, 5), (4, 7), (5, 8), (16, 18), (17, 19), (18, 20), (19, 21), (16, 17), (0, 12)])
_SPAN_TRUST = np.array([1.0] * 8 + [0.5, 0.5])


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
    targets: np.ndarray,
    body: BodyModel,
    *,
    betas: np.ndarray | None = None,
    iterations: int = 12,
    watch: Callable[[float], None] | None = None,
) -> Fit:
    """Fit a body to positions of SMPL's 24 joints.

    In two stages: rotations are found on a skeleton of the data's own bone lengths and SMPL's rest directions; then the
    body's limbs are brought to the same places, its trunk, head and feet keeping the rotations found.

    Args:
        targets: (T,24,3) metres, any right-handed frame.
        body: whose joints are to reach them.
        betas: shape to keep; None fits it too (ridge-regularised, one shape for all frames).
        iterations: Gauss-Newton steps of each stage.
        watch: told the part done, 0 to 1; what it raises ends the fit.
    """
    targets = np.asarray(targets, float)
    base, basis = rest_basis(body)
    shape = _shape_from_spans(targets, base, basis) if betas is None else _padded(betas, basis.shape[2])
    rest = base + basis @ shape

    steps = (iterations + (iterations // 2) * (2 if betas is None else 1)) * -(-len(targets) // BLOCK)
    ticks = count(1)

    def tick() -> None:
        if watch is not None:
            watch(next(ticks) / steps)

    theirs = _source_rest(targets, rest)
    found, _ = solve(
        targets, _initial(targets, theirs), targets[:, 0] - theirs[0], theirs, iterations=iterations, tick=tick
    )
    oriented = to_global(found)

    trans = targets[:, 0] - rest[0]
    local, trans = solve(
        targets, found, trans, rest, iterations=iterations // 2, trust=_TRUST, keep=(found, _KEEP), tick=tick
    )
    if betas is None:
        shape, trans = _shape_from_pose(targets, local, trans, base, basis)
        rest = base + basis @ shape
        local, trans = solve(
            targets, local, trans, rest, iterations=iterations // 2, trust=_TRUST, keep=(found, _KEEP), tick=tick
        )
    turns = to_global(local)
    for name in ("left_ankle", "right_ankle", "left_foot", "right_foot", "neck", "head"):
        turns[:, JOINT[name]] = oriented[:, JOINT[name]]
    local = to_local(turns)
    joints = place(turns, rest, trans)
    error = float(np.linalg.norm(joints - targets, axis=-1).mean())
    return Fit(matrix_to_axis_angle(local), trans, shape, joints, error)


def _source_rest(targets: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """(24,3) rest joints of the data's own skeleton: median bone lengths along SMPL's rest directions."""
    lengths = np.median(np.linalg.norm(targets[:, 1:] - targets[:, PARENTS[1:]], axis=-1), axis=0)
    out = np.zeros((24, 3))
    for name, j in JOINT.items():
        if j == 0:
            continue
        direction = np.array(SMPL_REST.get(name.replace("right_", "left_"), rest[j] - rest[PARENTS[j]]))
        if name in SMPL_REST or name.replace("right_", "left_") not in SMPL_REST:
            mirrored = direction
        else:
            mirrored = direction * (-1, 1, 1)
        out[j] = out[PARENTS[j]] + lengths[j - 1] * unit(mirrored)
    return out


def _padded(betas: np.ndarray, count: int) -> np.ndarray:
    out = np.zeros(count)
    n = min(count, len(betas))
    out[:n] = betas[:n]
    return out


def _shape_from_spans(targets: np.ndarray, base: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Shape (S,) whose limbs, shoulders and trunk have the targets' median lengths: Gauss-Newton with a ridge."""
    first, second = _SPANS.T
    wanted = np.median(np.linalg.norm(targets[:, second] - targets[:, first], axis=-1), axis=0)
    offset, change = base[second] - base[first], basis[second] - basis[first]
    weight = _SPAN_TRUST[:, None] / BONE_SIGMA**2
    shape = np.zeros(basis.shape[2])
    for _ in range(8):
        spans = offset + change @ shape
        jacobian = np.einsum("ja,jas->js", unit(spans), change)
        left = jacobian.T @ (weight * jacobian) + np.eye(len(shape))
        missing = (wanted - np.linalg.norm(spans, axis=-1))[:, None]
        shape = shape + np.linalg.solve(left, (jacobian.T @ (weight * missing))[:, 0] - shape)
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
    trust = (_TRUST / _TRUST.sum())[:, None]
    jacobian -= (trust[..., None] * jacobian).sum(axis=1, keepdims=True)
    centred = residual - (trust * residual).sum(axis=1, keepdims=True)
    flat = jacobian.reshape(-1, count)
    weighted = flat * np.tile(np.repeat(_TRUST, 3), len(targets))[:, None] / (BONE_SIGMA**2 * len(targets))
    shape = np.linalg.solve(weighted.T @ flat + np.eye(count), weighted.T @ centred.reshape(-1))
    reached = place(turns, base + basis @ shape, trans)
    return shape, trans + (trust * (targets - reached)).sum(axis=1)


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
