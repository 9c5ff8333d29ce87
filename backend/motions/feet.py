"""Standing feet held in place: contacts found, and legs bent by two-bone inverse kinematics so that nothing slides.

Letters: T frames, K sole points.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .glitches import listed
from .ground import STANDING_HEIGHT, STANDING_SPEED, sole_positions
from .kinematics import angle_between, axis_angle_to_matrix, matrix_to_axis_angle, place, swing, to_global, unit
from .types import WARNING, BodyMotion

if TYPE_CHECKING:
    from ..bodies import BodyModel

_SHORTEST = 0.08
"""Seconds that a foot must stand to be held, and that it must be away to have made a step."""
_EASE = 0.2
"""Seconds in which a foot comes back to its own path after it was held."""
_PASSES = 8
"""How often contacts are looked for again at most, with feet held; most motions need two or three."""
_REACH = 0.999
"""Of a leg's length, at most: a straight knee pops."""
_SHORT = 0.005
"""Metres that a held foot may be off before the animator is told."""


def contacts(motion: BodyMotion, body: BodyModel) -> np.ndarray:
    """(T,2) bool: whether the left and the right foot stand, some point of the sole being slow and near z = 0."""
    return _contacts(motion, *_soles(motion, body))


def lock_feet(motion: BodyMotion, body: BodyModel, amount: float = 1.0) -> BodyMotion:
    """The same motion with standing feet held where they stand.

    What a foot slides while it stands is taken back at its ankle, spread evenly over the contact, and the leg follows;
    the foot keeps its turn, so that it may roll from heel to toe. Between contacts the foot eases back to its own path.
    A note names the frames in which a leg is too short to hold its foot.

    Args:
        motion: on z = 0, of this body.
        body: whose legs.
        amount: 0 leaves the motion as it is, 1 holds feet entirely.
    """
    if amount <= 0 or motion.frames < 3:
        return motion
    shape = np.zeros(body.shapedirs.shape[2], np.float32)
    if motion.betas is not None:
        shape[: len(motion.betas)] = motion.betas[: len(shape)]
    rest = np.asarray(body.joints_rest(shape), float)
    parents = [int(p) for p in body.parents]
    held, stands = motion, np.zeros((motion.frames, 2), bool)
    ankles = before = _ankles(motion, rest, parents)
    short = np.zeros((motion.frames, 2))
    for _ in range(_PASSES):
        places, left = _soles(held, body)
        # On its way back from where it was held a foot may stand too.
        now = stands | _contacts(held, places, left)
        if (now == stands).all():
            break
        stands = now
        shifts = [_correction(places[:, left == (side == 0)], stands[:, side], motion.fps) for side in (0, 1)]
        goals = ankles + np.stack(shifts, axis=1)
        held = _reached(held, goals, rest, parents)
        ankles = _ankles(held, rest, parents)
        short = np.where(stands, np.linalg.norm(ankles - goals, axis=-1), 0.0)
    if amount < 1:
        held = _reached(motion, before + amount * (ankles - before), rest, parents)
        ankles = _ankles(held, rest, parents)
    farthest = float(np.linalg.norm(ankles - before, axis=-1).max())
    steps = sum(len(_runs(stands[:, side])) for side in (0, 1))
    return held.noting(
        f"feet were held in {steps} steps, by up to {100 * farthest:.0f} cm",
        *(_too_short(name, short[:, side]) for side, name in enumerate(("left", "right"))),
    )


def _too_short(name: str, short: np.ndarray) -> str:
    """The sentence about frames in which a leg misses its goal by ``short`` (T,) metres; "" where there are none."""
    runs = [(a, b - 1) for a, b in _runs(short > _SHORT)]
    if not runs:
        return ""
    return (
        f"{WARNING}the {name} leg is too short by up to {100 * short.max():.0f} cm to hold its foot in frame "
        f"{listed(runs)}; lower the hips there"
    )


def _ankles(motion: BodyMotion, rest: np.ndarray, parents: list[int]) -> np.ndarray:
    """(T,2,3) where the ankles are."""
    turns = to_global(axis_angle_to_matrix(motion.poses.astype(float)), parents)
    return place(turns, rest, motion.trans.astype(float), parents)[:, 7:9]


def _reached(motion: BodyMotion, goals: np.ndarray, rest: np.ndarray, parents: list[int]) -> BodyMotion:
    """The same motion with its ankles at their goals (T,2,3), as far as the legs reach."""
    local = axis_angle_to_matrix(motion.poses.astype(float))
    turns = to_global(local, parents)
    joints = place(turns, rest, motion.trans.astype(float), parents)
    for side in (0, 1):
        hip, knee, ankle = 1 + side, 4 + side, 7 + side
        thigh, shin = bend_leg(joints[:, hip], joints[:, knee], joints[:, ankle], goals[:, side])
        # Knees and ankles keep their turns in the world but for what the leg's bending adds.
        turns[:, hip], turns[:, knee] = thigh @ turns[:, hip], shin @ turns[:, knee]
        for joint, parent in ((hip, parents[hip]), (knee, hip), (ankle, knee)):
            local[:, joint] = np.swapaxes(turns[:, parent], -1, -2) @ turns[:, joint]
    poses = motion.poses.copy()
    poses[:, 1:9] = matrix_to_axis_angle(local[:, 1:9])
    return replace(motion, poses=poses)


def bend_leg(hip: np.ndarray, knee: np.ndarray, ankle: np.ndarray, goal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turns (T,3,3) in the world, of thigh and shin, that bring the ankle to its goal; all places (T,3).

    The knee bends in the plane in which it is bent already; a goal out of reach is approached as far as the leg goes.
    """
    thigh, shin = knee - hip, ankle - knee
    lengths = [np.linalg.norm(bone, axis=-1) for bone in (thigh, shin)]
    most = _REACH * (lengths[0] + lengths[1])
    now = np.linalg.norm(ankle - hip, axis=-1)
    far = np.clip(np.linalg.norm(goal - hip, axis=-1), 1.001 * np.abs(lengths[0] - lengths[1]), np.maximum(most, now))
    cosine = (far**2 - lengths[0] ** 2 - lengths[1] ** 2) / (2 * lengths[0] * lengths[1])
    bend = np.arccos(np.clip(cosine, -1, 1)) - angle_between(thigh, shin)
    fold = axis_angle_to_matrix(unit(np.cross(thigh, shin)) * bend[:, None])
    reach = thigh + (fold @ shin[..., None])[..., 0]
    whole = swing(reach, goal - hip)
    return whole, whole @ fold


def _soles(motion: BodyMotion, body: BodyModel) -> tuple[np.ndarray, np.ndarray]:
    places, under = sole_positions(motion, body)
    return places, under.left


def _contacts(motion: BodyMotion, places: np.ndarray, left: np.ndarray) -> np.ndarray:
    out = np.zeros((motion.frames, 2), bool)
    if motion.frames < 2:
        return places[..., 2].min(axis=1, keepdims=True) < np.full((1, 2), STANDING_HEIGHT)
    speed = np.linalg.norm(np.gradient(places, axis=0), axis=-1) * motion.fps
    shortest = max(2, round(_SHORTEST * motion.fps))
    for side in (0, 1):
        pick = left == (side == 0)
        low = places[:, pick, 2] < STANDING_HEIGHT
        down, slow = (((low & (speed[:, pick] < times * STANDING_SPEED)).any(axis=1)) for times in (1, 2))
        # A step begins and ends somewhat faster than it stands.
        for first, last in _runs(slow):
            out[first:last, side] = np.count_nonzero(down[first:last]) >= shortest
        # No step is that short: a foot that stays low in between slides on.
        for first, last in _runs(~out[:, side] & low.any(axis=1)):
            inner = first > 0 and last < len(out) and out[first - 1, side] and out[last, side]
            out[first:last, side] = inner and last - first < shortest
    return out


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Where flags (T,) are set: first, and one past the last."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _correction(places: np.ndarray, stands: np.ndarray, fps: float) -> np.ndarray:
    """(T,3) metres along the ground that take back what a foot with sole points (T,K,3) slides while it stands."""
    frames = len(places)
    steps = np.diff(places[..., :2], axis=0)
    height = np.maximum(places[1:, :, 2], places[:-1, :, 2])
    # Of points near the ground the stillest is what the foot stands on.
    near = height < np.maximum(0.02, height.min(axis=1, keepdims=True) + 0.005)
    still = np.linalg.norm(steps, axis=-1) + np.where(near, 0.0, 1e3)
    slid = np.take_along_axis(steps, still.argmin(axis=1)[:, None, None], axis=1)[:, 0]
    out = np.zeros((frames, 3))
    known = np.zeros(frames, bool)
    for first, last in _runs(stands):
        path = np.concatenate([np.zeros((1, 2)), np.cumsum(slid[first : last - 1], axis=0)])
        out[first:last, :2] = path.mean(axis=0) - path
        known[first:last] = True
    if not known.any():
        return out
    # Between contacts: from one correction to nothing and from nothing to the next, smoothly; straight from one to the
    # next as far as there is no time for that.
    index = np.arange(frames)
    before = np.maximum.accumulate(np.where(known, index, -1))
    after = np.minimum.accumulate(np.where(known, index, frames)[::-1])[::-1]
    ease = max(1.0, _EASE * fps)
    first, last = before >= 0, after < frames
    gap = np.where(first & last, np.maximum(after - before, 1), 2 * frames)
    room = np.minimum(ease, np.maximum(gap / 2, 1))
    back = np.where(first, 1 - _smooth((index - before) / room), 0.0)
    ahead = np.where(last, 1 - _smooth((after - index) / room), 0.0)
    across = _smooth((index - before) / gap)
    free = np.clip(gap / (2 * ease), 0, 1)
    weights = free * back + (1 - free) * (1 - across), free * ahead + (1 - free) * across
    held = [out[np.clip(anchor, 0, frames - 1)] for anchor in (before, after)]
    blended = weights[0][:, None] * held[0] + weights[1][:, None] * held[1]
    out[~known] = blended[~known]
    return out


def _smooth(part: np.ndarray) -> np.ndarray:
    """From 0 to 1 with level ends."""
    part = np.clip(part, 0, 1)
    return part**2 * (3 - 2 * part)
