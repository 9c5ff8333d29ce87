"""Frames in which a tracker lost the body for a moment, and a T-pose before the motion begins.

Letters: T frames.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .kinematics import axis_angle_to_matrix, blend, matrix_to_axis_angle
from .types import BodyMotion

_LONGEST = 0.1
"""Seconds that a glitch lasts at most, or three frames; longer excursions are motion."""
_SMALLEST = 0.08
"""Metres off its path from which on a frame may be a glitch; more at low rates, where bodies move farther a frame."""
_ACCELERATION = 90.0
"""Metres per second squared that no body's middle reaches, landings included."""
_AT_END = 3.0
_TURN = 1.2
"""Distance between rotation matrices from which on a joint's turn may be a glitch: 50 degrees."""
_TURN_AT_END = 1.4
"""Times that far at an end: 73 degrees; half a turn is a distance of 2.8."""
_TURN_ACCELERATION = 1200.0
"""The same distance per second squared that no joint reaches."""
_JOINTS = 22
"""The first joints, the same in every family: without hands and faces."""
_LIMBS = [1, 2, 4, 5, 16, 17, 18, 19]


def longest_glitch(fps: float) -> int:
    """How many frames a glitch lasts at most."""
    return max(3, round(_LONGEST * fps))


def find_glitches(
    path: np.ndarray,
    fps: float,
    smallest: float = _SMALLEST,
    acceleration: float = _ACCELERATION,
    at_end: float = _AT_END,
) -> list[tuple[int, int]]:
    """Runs of frames (first, last) in which a path (T,D), in metres by default, leaves and comes back all at once.

    Off the path is far from the median of the frames around; all at once is a jump from near to far, in and out; and
    both are far beyond what the path's own acceleration around does. In the first and last frames, where nothing comes
    back, it must be ``at_end`` times as far.
    """
    count = len(path)
    longest = longest_glitch(fps)
    if count < 5:
        return []
    radius = min(longest + 1, count - 1)
    padded = np.concatenate([_beyond(path[::-1], radius)[::-1], path, _beyond(path, radius)])
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1, axis=0)
    off = np.linalg.norm(path - np.median(around, axis=-1), axis=-1)
    bends = np.linalg.norm(np.diff(path, n=2, axis=0), axis=-1)
    found: list[tuple[int, int]] = []
    first = 0
    while first < count:
        if off[first] <= smallest:
            first += 1
            continue
        middle = min(first, len(bends) - 1)
        usual = 2 * float(np.percentile(bends[max(0, middle - 15) : middle + 15], 25))
        limit = max(smallest, 0.5 * acceleration / fps**2, 4 * usual)
        last = first
        while last < count and off[last] > limit:
            last += 1
        if last > first:
            # What it drags its neighbours' medians along by is no part of it.
            inside = first + np.flatnonzero(off[first:last] > 0.4 * off[first:last].max())
            a, b = int(inside[0]), int(inside[-1])
            size = off[a : b + 1].min()
            ends = [off[k] for k in (a - 1, b + 1) if 0 <= k < count]
            if b - a < longest and max(ends) < 0.4 * size and (len(ends) == 2 or size > at_end * limit):
                found.append((a, b))
        first = max(last, first + 1)
    return found


def _beyond(path: np.ndarray, frames: int) -> np.ndarray:
    """(frames,3) where a path would go on at its end, by the medians of its last places and steps."""
    last = path[-2 * frames - 1 :]
    step = np.median(np.diff(last, axis=0), axis=0)
    ahead = np.arange(len(last))[::-1, None]
    return np.median(last + ahead * step, axis=0) + np.arange(1, frames + 1)[:, None] * step


def bridged(path: np.ndarray, runs: list[tuple[int, int]]) -> np.ndarray:
    """A path (T,D) with the frames of these runs on the line between their neighbours."""
    good = np.flatnonzero(~_among(runs, len(path)))
    frames = np.arange(len(path))
    out = np.stack([np.interp(frames, good, path[good, a]) for a in range(path.shape[1])], axis=-1)
    for end, step in ((good[0], path[good[1]] - path[good[0]]), (good[-1], path[good[-1]] - path[good[-2]])):
        outside = frames < end if end == good[0] else frames > end
        out[outside] += (frames[outside] - end)[:, None] * step
    return out


def _among(runs: list[tuple[int, int]], frames: int) -> np.ndarray:
    """(frames,) bool: which frames are in the runs."""
    out = np.zeros(frames, bool)
    for first, last in runs:
        out[first : last + 1] = True
    return out


def _turned(motion: BodyMotion) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Runs of frames in which a joint turns away and back all at once, and the poses (T,J,3) without them."""
    turns = axis_angle_to_matrix(motion.poses.astype(float))
    bad = np.zeros(motion.frames, bool)
    for joint in range(_JOINTS):
        runs = find_glitches(turns[:, joint].reshape(-1, 9), motion.fps, _TURN, _TURN_ACCELERATION, _TURN_AT_END)
        bad |= _among(runs, motion.frames)
    bad[: leading_pose(motion)] = False  # not a glitch, and said elsewhere
    frames, good = np.flatnonzero(bad), np.flatnonzero(~bad)
    after = np.searchsorted(good, frames)
    low, high = good[np.maximum(after - 1, 0)], good[np.minimum(after, len(good) - 1)]
    part = (frames - low) / np.maximum(high - low, 1)
    poses = motion.poses.copy()
    poses[frames] = matrix_to_axis_angle(blend(turns[low], turns[high], part[:, None, None]))
    breaks = np.flatnonzero(np.diff(frames) > 1)
    ends = zip(frames[[0, *breaks + 1]], frames[[*breaks, -1]], strict=True) if len(frames) else ()
    return [(int(a), int(b)) for a, b in ends], poses


def listed(runs: list[tuple[int, int]]) -> str:
    """Frames of runs, from 1, for the animator."""
    listed = [str(a + 1) if a == b else f"{a + 1} to {b + 1}" for a, b in runs]
    return ", ".join(listed[:12]) + (f" and {len(listed) - 12} more" if len(listed) > 12 else "")


def describe(path: np.ndarray, mended: np.ndarray, runs: list[tuple[int, int]]) -> str:
    """The sentence about mended glitches; "" where there were none."""
    if not runs:
        return ""
    size = 100 * float(np.linalg.norm(path - mended, axis=-1).max())
    where = f"{size:.0f} cm and back in frame {listed(runs)}"
    return f"the body jumped by up to {where}; it was put back between its neighbours"


def mend(motion: BodyMotion) -> BodyMotion:
    """The same motion with jumps of the body and its joints' turns taken out; notes name their frames, from 1."""
    path = motion.trans.astype(float)
    turned, poses = _turned(motion)
    runs = find_glitches(path, motion.fps)
    if runs:
        mended = bridged(path, runs)
        motion = replace(motion, trans=mended.astype(np.float32)).noting(describe(path, mended, runs))
    if turned:
        # What turns the pelvis about moves the place that stands for it, too.
        trans = bridged(motion.trans.astype(float), turned).astype(np.float32)
        motion = replace(motion, poses=poses, trans=trans).noting(
            f"joints turned away and back in frame {listed(turned)}; the pose was put back between its neighbours"
        )
    return motion


def leading_pose(motion: BodyMotion) -> int:
    """How many frames at the start hold a T-pose that the motion then leaves at a jump; 0 where it has none."""
    count = min(motion.frames - 1, max(2, round(2 * motion.fps)))
    if count < 1:
        return 0
    turns = axis_angle_to_matrix(motion.poses[: count + 1][:, _LIMBS].astype(float))
    # Twist apart, which the arms of a T-pose may have: legs lie along Y at rest, arms along X.
    bend = np.arccos(np.clip(np.concatenate([turns[:, :4, 1, 1], turns[:, 4:, 0, 0]], axis=1), -1, 1)).max(axis=-1)
    jumps = np.linalg.norm(matrix_to_axis_angle(np.swapaxes(turns[:-1], -1, -2) @ turns[1:]), axis=-1).max(axis=-1)
    after = int(np.argmax(jumps)) + 1
    held = bend[:after].max() < 0.3 and bend[after] > 0.6
    others = np.delete(jumps, after - 1)
    return after if held and jumps[after - 1] > max(0.6, 4 * float(np.median(others)) if len(others) else 0.0) else 0
