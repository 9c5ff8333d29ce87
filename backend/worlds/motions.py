"""Procedural motions for training: kinds of motion blended and retimed, within joint limits, smooth in time.

Shape letters: T frames, J joints.

Poses are made as Euler angles (degrees, matrix ``Rx @ Ry @ Rz``) in SMPL's frame (Y up, facing +Z, left at +X,
arms out at rest), where a lowered left arm is -75 degrees about z and a bent knee is positive about x. Limits are an
interval for each angle, so that blending angles never leaves them.
"""

from __future__ import annotations

import numpy as np

from ..bodies.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from .actions import ACTIONS, Action, jump, turn_around
from .poses import HIGHEST, INDEX, LOWEST

_FASTEST = 26.0
"""Degrees that a joint may turn from one frame to the next; what is faster is slowed down."""
_LEG = ((0.110, -0.093, 0.030), (0.034, -0.382, 0.0), (-0.012, -0.434, -0.042))
"""Metres from pelvis to left hip, hip to knee and knee to ankle of the embedded body."""
_SOLES = ((0.0, -0.065, -0.02), (0.015, -0.065, 0.14))
"""Metres from the left ankle to heel and ball."""
_TREAD = 0.012
"""Metres above the lower foot's height within which the other one carries weight too."""
_PACE = 2.5
"""Metres a second that feet may carry a body; feet of quicker legs slide."""


def euler_to_matrix(degrees: np.ndarray) -> np.ndarray:
    """``Rx @ Ry @ Rz`` of Euler angles (...,3) in degrees: (...,3,3)."""
    radians = np.radians(degrees)
    (cx, cy, cz), (sx, sy, sz) = np.moveaxis(np.cos(radians), -1, 0), np.moveaxis(np.sin(radians), -1, 0)
    rows = [cy * cz, -cy * sz, sy]
    rows += [cx * sz + sx * sy * cz, cx * cz - sx * sy * sz, -sx * cy]
    rows += [sx * sz - cx * sy * cz, sx * cz + cx * sy * sz, cx * cy]
    return np.stack(rows, axis=-1).reshape(*degrees.shape[:-1], 3, 3)


def retime(rng: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    """Moments (T,) of a motion to show at ``seconds`` (T,): faster or slower, with a pause, back and forth, reversed.

    None lies before 0.
    """
    kind = rng.choice(["as it is", "ramp", "pause", "turn back", "reverse"], p=[0.66, 0.14, 0.08, 0.06, 0.06])
    if kind == "as it is" or len(seconds) < 2:
        return seconds
    length = seconds[-1]
    share = seconds / length
    if kind == "ramp":
        first, last = rng.uniform(0.35, 1.6, 2)
        moments = length * (first * share + (last - first) * share**2 / 2)
    elif kind == "reverse":
        moments = seconds[::-1]
    else:
        # The pace falls as a bell does: to a stand for a pause, to the same pace backwards for a turn.
        centre, width = rng.uniform(0.2, 0.8), max(rng.uniform(0.1, 0.3) * length, 0.08)
        if kind == "pause":
            pace = 1 - np.exp(-(((seconds - centre * length) / width) ** 2))
        else:
            pace = -np.tanh((seconds - centre * length) / width)
        moments = np.concatenate([[0.0], np.cumsum((pace[1:] + pace[:-1]) / 2 * np.diff(seconds))])
    return moments - min(float(moments.min()), 0.0)


def _one(rng: np.random.Generator, seconds: np.ndarray) -> Action:
    kinds, weights = zip(*ACTIONS, strict=True)
    kind = kinds[rng.choice(len(kinds), p=weights)]
    # A jump falls at gravity's pace; run backwards it still does.
    moments = seconds if kind is jump else retime(rng, seconds)
    if kind is jump and rng.random() < 0.1:
        moments = seconds[::-1]
    seed = int(rng.integers(2**63))
    action = kind(np.random.default_rng(seed), moments)
    for _ in range(4):
        fastest = _quickest(action)
        if fastest <= _FASTEST or kind is jump:
            break
        moments = moments * (0.95 * _FASTEST / fastest)
        action = kind(np.random.default_rng(seed), moments)
    wander = rng.normal(0, 0.7) if kind is not turn_around and rng.random() < 0.4 else 0.0
    return Action(np.clip(action.degrees, LOWEST, HIGHEST), action.yaw + wander * seconds, action.air, action.leap)


def _quickest(action: Action) -> float:
    """Most degrees from one frame to the next, of any joint or of the whole body."""
    if len(action.degrees) < 2:
        return 0.0
    joints = np.linalg.norm(np.diff(action.degrees, axis=0), axis=-1).max()
    return float(max(joints, np.degrees(np.abs(np.diff(action.yaw)).max())))


def _blend(rng: np.random.Generator, first: Action, second: Action, seconds: np.ndarray) -> Action:
    """From one action to another within a quarter to six tenths of a second; never while a body is in the air."""
    for _ in range(6):
        length = rng.uniform(0.25, 0.6)
        begin = rng.uniform(-0.5 * length, seconds[-1] - 0.5 * length)
        share = np.clip((seconds - begin) / length, 0, 1)
        share = share * share * (3 - 2 * share)
        if not ((first.air + second.air)[(share > 0) & (share < 1)]).any():
            break
    else:
        return first
    between = (share[1:] + share[:-1]) / 2

    def sum_up(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.concatenate([[0.0], np.cumsum(np.diff(a) * (1 - between) + np.diff(b) * between)])

    return Action(
        first.degrees * (1 - share[:, None, None]) + second.degrees * share[:, None, None],
        sum_up(first.yaw, second.yaw),
        np.where(share >= 1, second.air, np.where(share <= 0, first.air, 0.0)),
        sum_up(first.leap, second.leap),
    )


def random_action(rng: np.random.Generator, frames: int, fps: float) -> Action:
    """One kind of motion, or two of them blended, at the moments of a film's frames."""
    seconds = np.arange(frames) / fps
    action = _one(rng, seconds)
    if frames > 1 and rng.random() < 0.2:
        other = _one(rng, seconds)
        blended = _blend(rng, action, other, seconds)
        # Two quick motions together may be too quick.
        if _quickest(blended) <= 1.3 * _FASTEST:
            return blended
    return action


def _soles(matrices: np.ndarray) -> np.ndarray:
    """Heels and balls of both feet (T,4,3) from the pelvis, in the world, of posed joints (T,24,3,3)."""
    spots = []
    for side, mirror in (("left_", 1.0), ("right_", -1.0)):
        flip = np.array([mirror, 1.0, 1.0])
        turn = matrices[:, 0]
        place = turn @ (flip * _LEG[0])
        for joint, bone in (("hip", _LEG[1]), ("knee", _LEG[2])):
            turn = turn @ matrices[:, INDEX[side + joint]]
            place = place + turn @ (flip * bone)
        turn = turn @ matrices[:, INDEX[side + "ankle"]]
        spots += [place + turn @ (flip * sole) for sole in _SOLES]
    return np.stack(spots, axis=1)


def _carried(soles: np.ndarray, air: np.ndarray, fps: float) -> np.ndarray:
    """Ways (T,2) over the floor that keep the soles (T,4,3) which bear the body from sliding."""
    height = (soles[1:, :, 2] + soles[:-1, :, 2]) / 2
    weight = np.exp(-(height - height.min(axis=1, keepdims=True)) / _TREAD)
    weight /= weight.sum(axis=1, keepdims=True)
    step = -(np.diff(soles[..., :2], axis=0) * weight[..., None]).sum(axis=1)
    step *= np.minimum(1, _PACE / fps / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-9))
    step[(air[1:] > 0) | (air[:-1] > 0)] = 0.0
    return np.concatenate([np.zeros((1, 2)), np.cumsum(step, axis=0)])


def random_motion(rng: np.random.Generator, frames: int, fps: float) -> tuple[np.ndarray, np.ndarray]:
    """A motion of SMPL's 24 joints in the world (Z up), near the origin.

    Returns:
        poses (T,24,3) axis-angle in radians, and the path (T,3) of the pelvis over the floor in metres: the caller puts
        the body on the floor where z is 0. Elsewhere the body is in the air, and z is how far the pelvis has risen
        above the straight line from take-off to landing.
    """
    action = random_action(rng, frames, fps)
    yaw = rng.uniform(-np.pi, np.pi) + action.yaw
    lean = euler_to_matrix(np.array([rng.normal(0, 3), 0.0, rng.normal(0, 3)]))
    matrices = euler_to_matrix(action.degrees)
    upright = euler_to_matrix(np.array([90.0, 0.0, 0.0]))
    facing = axis_angle_to_matrix(yaw[:, None] * np.array([0.0, 0.0, 1.0]))
    matrices[:, 0] = facing @ upright @ lean @ matrices[:, 0]
    path = np.zeros((frames, 3))
    # Canonical +Z (forward) becomes -Y of the world before the turn by yaw.
    direction = np.stack([np.sin(yaw), -np.cos(yaw)], axis=-1)
    leap = np.diff(action.leap, prepend=action.leap[:1])
    path[:, :2] = _carried(_soles(matrices), action.air, fps) + np.cumsum(direction * leap[:, None], axis=0)
    path[:, :2] -= path[frames // 2, :2]
    path[:, 2] = action.air
    return matrix_to_axis_angle(matrices).astype(np.float32), path.astype(np.float32)
