"""Feet and floor: where soles are, when they stand, and the body moved so that standing soles are at z = 0.

Letters: T frames, K sole points.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .glitches import longest_glitch
from .kinematics import axis_angle_to_matrix, smooth
from .types import BodyMotion, MotionError

if TYPE_CHECKING:
    from ..bodies import BodyModel

LEFT_FOOT, RIGHT_FOOT = (7, 10), (8, 11)
"""Ankle and ball of each foot, the same in every family."""
STANDING_SPEED = 0.35
"""Metres per second below which a sole near the floor counts as standing."""
_GLITCH = 0.01
"""Metres that a sole may sink more than its neighbours in time before that is a glitch."""
STANDING_HEIGHT = 0.05
"""Metres over the floor up to which a sole may stand."""


@dataclass(frozen=True, eq=False)
class Soles:
    """Points under a body's feet, each fixed to a joint.

    Attributes:
        offsets: (K,3) from the joint's rest place, canonical frame, metres.
        joints: (K,) ankle or ball.
        left: (K,) bool.
    """

    offsets: np.ndarray
    joints: np.ndarray
    left: np.ndarray


def soles(body: BodyModel, betas: np.ndarray | None = None) -> Soles:
    """Heel, ball and toe points of the body's own skin, up to a dozen a foot."""
    shape = _shape(body, betas)
    vertices, rest = np.asarray(body.shaped(shape), float), np.asarray(body.joints_rest(shape), float)
    holder = np.argmax(body.weights, axis=1)
    offsets, joints, left = [], [], []
    for side, pair in ((True, LEFT_FOOT), (False, RIGHT_FOOT)):
        skin = np.flatnonzero(np.isin(holder, pair))
        if not len(skin):
            picks, owners = rest[list(pair)], np.array(pair)
        else:
            low = skin[vertices[skin, 1] < vertices[skin, 1].min() + 0.015]
            picks, owners = _spread(vertices[low], holder[low], 12)
        offsets.append(picks - rest[owners])
        joints.append(owners)
        left.append(np.full(len(owners), side))
    return Soles(np.concatenate(offsets), np.concatenate(joints), np.concatenate(left))


def _spread(points: np.ndarray, owners: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Up to ``count`` of the points, far from each other (farthest-point order, from the hindmost on)."""
    chosen = [int(np.argmin(points[:, 2]))]
    distance = np.linalg.norm(points - points[chosen[0]], axis=-1)
    while len(chosen) < min(count, len(points)):
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=-1))
    return points[chosen], owners[chosen]


def _shape(body: BodyModel, betas: np.ndarray | None) -> np.ndarray:
    out = np.zeros(body.shapedirs.shape[2], np.float32)
    if betas is not None:
        count = min(len(out), len(betas))
        out[:count] = betas[:count]
    return out


def sole_positions(motion: BodyMotion, body: BodyModel, under: Soles | None = None) -> tuple[np.ndarray, Soles]:
    """World places (T,K,3) of the points under the feet, in metres."""
    if motion.poses.shape[1] != len(body.parents):
        raise MotionError(
            "body", f"the motion has {motion.poses.shape[1]} joints, body '{body.id}' {len(body.parents)}"
        )
    under = under or soles(body, motion.betas)
    rest = np.asarray(body.joints_rest(_shape(body, motion.betas)), float)
    turns, places = {}, {}
    for joint in sorted({*LEFT_FOOT, *RIGHT_FOOT} | _lines(body)):
        parent = int(body.parents[joint])
        local = axis_angle_to_matrix(motion.poses[:, joint].astype(float))
        if parent < 0:
            turns[joint], places[joint] = local, rest[joint] + motion.trans
        else:
            turns[joint] = turns[parent] @ local
            places[joint] = places[parent] + turns[parent] @ (rest[joint] - rest[parent])
    out = np.empty((motion.frames, len(under.joints), 3))
    for k, joint in enumerate(under.joints):
        out[:, k] = places[int(joint)] + turns[int(joint)] @ under.offsets[k]
    return out, under


def _lines(body: BodyModel) -> set[int]:
    """Joints from the root to the feet."""
    found: set[int] = set()
    for joint in (*LEFT_FOOT, *RIGHT_FOOT):
        while joint >= 0:
            found.add(joint)
            joint = int(body.parents[joint])
    return found


def standing(places: np.ndarray, fps: float, level: float = 0.0) -> np.ndarray:
    """(T,K) bool: which sole points stand, being slow and near the height ``level``."""
    if len(places) < 2:
        return places[..., 2] < level + STANDING_HEIGHT
    speed = np.linalg.norm(np.gradient(places, axis=0), axis=-1) * fps
    return (speed < STANDING_SPEED) & (places[..., 2] < level + STANDING_HEIGHT)


def floor_height(places: np.ndarray, fps: float) -> tuple[float, bool]:
    """The floor's height under sole points (T,K,3), and whether contact told it.

    Contact is a lowest point of the body that is slow and not far above the clip's lowest; the floor is the median of
    their heights, so that a jump or one sunk frame moves nothing. Without contact it is the lowest point.
    """
    lowest = places[..., 2].min(axis=1)
    if len(places) < 2:
        return float(lowest.min()), True
    index = places[..., 2].argmin(axis=1)
    speed = np.linalg.norm(np.gradient(places, axis=0), axis=-1) * fps
    slow = speed[np.arange(len(places)), index] < STANDING_SPEED
    near = lowest < np.percentile(_calm(lowest, fps), 2) + 0.15
    contact = slow & near
    if contact.sum() < max(2, 0.02 * len(places)):
        return float(lowest.min()), False
    return float(np.median(lowest[contact])), True


def floor(motion: BodyMotion, body: BodyModel, *, lift: bool = True, follow: bool = False) -> BodyMotion:
    """The same motion with standing soles at z = 0, and none below.

    The whole motion moves up or down once. What would still sink is lifted by a smooth curve over time, which never
    lowers anything; jumps stay jumps.

    Args:
        motion: Z up, of this body.
        body: whose soles.
        lift: raise what would sink.
        follow: let the height follow the standing soles through the clip instead of moving it once. For motions seen by
            one camera, whose distance, and with it the height, wanders by centimetres.
    """
    places, _ = sole_positions(motion, body)
    lowest = places[..., 2].min(axis=1)
    height, told = floor_height(places, motion.fps)
    level = np.full(motion.frames, height)
    note = "" if told else "no foot stands still in this clip: its lowest point was put on the floor"
    if follow and told and motion.frames >= 8:
        level = _standing_level(lowest, motion.fps)
        if np.ptp(level) > 0.05:
            note = f"the height wandered by {100 * np.ptp(level):.0f} cm; standing feet were kept on the floor"
    trans = motion.trans.astype(float).copy()
    trans[:, 2] -= level
    if lift:
        sunk = np.maximum(0.0, level - lowest)
        # A glitch is lifted by itself: it raises no neighbour.
        steady = np.minimum(sunk, _calm(sunk, motion.fps) + _GLITCH)
        raised = np.maximum(sunk, _cover(steady, 0.06 * motion.fps))
        trans[:, 2] += raised
        if raised.max() > 0.03:
            note = note or f"feet sank up to {100 * sunk.max():.0f} cm into the floor and were lifted smoothly"
    return replace(motion, trans=trans.astype(np.float32)).noting(note)


def _standing_level(lowest: np.ndarray, fps: float) -> np.ndarray:
    """Height (T,) of the floor under the lowest sole (T,): through frames in which it stands, smooth over the others.

    It stands where it hardly rises or falls and lies low among its neighbours within half a second, so that a jump's
    top, where nothing moves either, is none.
    """
    radius = min(max(1, round(0.5 * fps)), len(lowest) - 1)
    padded = np.pad(lowest, radius, mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1)
    speed = np.abs(np.gradient(smooth(lowest, 0.04 * fps))) * fps
    stands = (speed < 0.25) & (lowest < np.percentile(around, 20, axis=1) + 0.04)
    if stands.sum() < 2:
        return np.full(len(lowest), float(np.median(lowest)))
    frames = np.arange(len(lowest))
    return smooth(np.interp(frames, frames[stands], lowest[stands]), 0.12 * fps)


def _calm(series: np.ndarray, fps: float) -> np.ndarray:
    """A series (T,) without glitches: by medians of a little more than twice the longest one."""
    radius = min(longest_glitch(fps), len(series) - 1)
    padded = np.pad(series, radius, mode="reflect")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1), axis=1)


def _cover(depths: np.ndarray, frames: float) -> np.ndarray:
    """A smooth curve (T,) that is nowhere below depths (T,): running maximum, then a Gaussian."""
    if not depths.any() or len(depths) < 3:
        return depths
    radius = min(max(1, int(np.ceil(3 * frames))), len(depths) - 1)
    padded = np.pad(depths, radius, mode="edge")
    peak = np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1).max(axis=1)
    return np.maximum(smooth(peak, frames), depths)


@dataclass(frozen=True)
class FootReport:
    """How feet meet the floor.

    Attributes:
        sinking_mm: deepest sole point under z = 0.
        skate_mm_s: mean horizontal speed of standing sole points, the stillest of each foot in each frame.
        standing: part of the frames in which a foot stands.
    """

    sinking_mm: float
    skate_mm_s: float
    standing: float


def foot_report(motion: BodyMotion, body: BodyModel) -> FootReport:
    """Measure sinking and skating of a motion on z = 0."""
    places, under = sole_positions(motion, body)
    sinking = 1000 * max(0.0, -float(places[..., 2].min()))
    if motion.frames < 2:
        return FootReport(sinking, 0.0, 1.0)
    velocity = np.linalg.norm(np.diff(places[..., :2], axis=0), axis=-1) * motion.fps
    height = np.maximum(places[1:, :, 2], places[:-1, :, 2])
    speeds, stood = [], np.zeros(motion.frames - 1, bool)
    for side in (True, False):
        pick = under.left == side
        # The foot stands where one of its points is within 2 cm of the floor; that point should not slide.
        down = height[:, pick] < 0.02
        still = np.where(down, velocity[:, pick], np.inf).min(axis=1)
        stands = down.any(axis=1) & (still < STANDING_SPEED)
        speeds.append(still[stands])
        stood |= stands
    every = np.concatenate(speeds)
    return FootReport(sinking, 1000 * float(every.mean()) if len(every) else 0.0, float(stood.mean()))


def stride_scale(motion: BodyMotion, body: BodyModel) -> tuple[float, bool]:
    """How far to stretch a motion's path so that standing feet slide least, and whether the motion tells it.

    While a foot stands, the pelvis' velocity and the foot's velocity relative to the pelvis cancel; the factor is the
    median of their ratio over frames in which the body travels and a foot is lowest near the floor.
    """
    if motion.frames < 8:
        return 1.0, False
    places, _ = sole_positions(motion, body)
    height, told = floor_height(places, motion.fps)
    index = places[..., 2].argmin(axis=1)
    rows = np.arange(len(places))
    relative = places - motion.trans[:, None].astype(float)
    stance = np.gradient(relative, axis=0)[rows, index, :2] * motion.fps
    travel = np.gradient(motion.trans.astype(float), axis=0)[:, :2] * motion.fps
    speed = np.sum(travel**2, axis=1)
    same = np.concatenate([[False], index[1:] == index[:-1]])
    near = places[rows, index, 2] < height + 0.04
    use = (speed > 0.3**2) & near & same
    if not told or use.sum() < max(8, 0.1 * len(places)):
        return 1.0, False
    ratio = -np.sum(travel * stance, axis=1)[use] / speed[use]
    middle = float(np.median(ratio))
    if np.median(np.abs(ratio - middle)) > 0.15 or not 0.7 < middle < 1.4:
        return 1.0, False
    return middle, True
