"""Frames in which a tracker lost the body for a moment, and a T-pose before the motion begins.

Letters: T frames.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .kinematics import axis_angle_to_matrix, matrix_to_axis_angle
from .types import BodyMotion

_LONGEST = 0.1
"""Seconds that a glitch lasts at most, or three frames; longer excursions are motion."""
_SMALLEST = 0.08
"""Metres off its path from which on a frame may be a glitch; more at low rates, where bodies move farther a frame."""
_ACCELERATION = 90.0
"""Metres per second squared that no body's middle reaches, landings included."""
_LIMBS = [1, 2, 4, 5, 16, 17, 18, 19]


def longest_glitch(fps: float) -> int:
    """How many frames a glitch lasts at most."""
    return max(3, round(_LONGEST * fps))


def find_glitches(path: np.ndarray, fps: float) -> list[tuple[int, int]]:
    """Runs of frames (first, last) in which a path (T,3) in metres leaves and comes back all at once.

    Off the path is far from the median of the frames around; all at once is a jump from near to far, in and out; and
    both are far beyond what the path's own acceleration around does.
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
        if off[first] <= _SMALLEST:
            first += 1
            continue
        middle = min(first, len(bends) - 1)
        usual = float(np.percentile(bends[max(0, middle - 15) : middle + 15], 30))  # some bends are glitches' own
        limit = max(_SMALLEST, 0.5 * _ACCELERATION / fps**2, 4 * usual)
        last = first
        while last < count and off[last] > limit:
            last += 1
        if last > first:
            # What it drags its neighbours' medians along by is no part of it.
            inside = first + np.flatnonzero(off[first:last] > 0.4 * off[first:last].max())
            a, b = int(inside[0]), int(inside[-1])
            size = off[a : b + 1].min()
            ends = [off[k] for k in (a - 1, b + 1) if 0 <= k < count]
            if b - a < longest and max(ends) < 0.4 * size and (len(ends) == 2 or size > 3 * limit):
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
    """A path (T,3) with the frames of these runs on the line between their neighbours."""
    bad = np.zeros(len(path), bool)
    for first, last in runs:
        bad[first : last + 1] = True
    good = np.flatnonzero(~bad)
    frames = np.arange(len(path))
    out = np.stack([np.interp(frames, good, path[good, a]) for a in range(3)], axis=-1)
    for end, step in ((good[0], path[good[1]] - path[good[0]]), (good[-1], path[good[-1]] - path[good[-2]])):
        outside = frames < end if end == good[0] else frames > end
        out[outside] += (frames[outside] - end)[:, None] * step
    return out


def describe(path: np.ndarray, mended: np.ndarray, runs: list[tuple[int, int]]) -> str:
    """The sentence about mended glitches; "" where there were none."""
    if not runs:
        return ""
    size = 100 * float(np.linalg.norm(path - mended, axis=-1).max())
    listed = [str(a + 1) if a == b else f"{a + 1} to {b + 1}" for a, b in runs]
    shown = ", ".join(listed[:12]) + (f" and {len(listed) - 12} more" if len(listed) > 12 else "")
    return f"the body jumped by up to {size:.0f} cm and back in frame {shown}; it was put back between its neighbours"


def mend(motion: BodyMotion) -> BodyMotion:
    """The same motion with jumps of the whole body taken out; its notes name their frames, from 1."""
    path = motion.trans.astype(float)
    runs = find_glitches(path, motion.fps)
    mended = bridged(path, runs) if runs else path
    return replace(motion, trans=mended.astype(np.float32)).noting(describe(path, mended, runs)) if runs else motion


def leading_pose(motion: BodyMotion) -> int:
    """How many frames at the start hold a T-pose that the motion then leaves at a jump; 0 where it has none."""
    count = min(motion.frames - 1, max(2, round(2 * motion.fps)))
    if count < 1:
        return 0
    turns = axis_angle_to_matrix(motion.poses[: count + 1][:, _LIMBS].astype(float))
    bend = np.linalg.norm(matrix_to_axis_angle(turns), axis=-1).max(axis=-1)
    jumps = np.linalg.norm(matrix_to_axis_angle(np.swapaxes(turns[:-1], -1, -2) @ turns[1:]), axis=-1).max(axis=-1)
    after = int(np.argmax(jumps)) + 1
    held = bend[:after].max() < 0.3 and bend[after] > 0.6
    others = np.delete(jumps, after - 1)
    return after if held and jumps[after - 1] > max(0.6, 4 * float(np.median(others)) if len(others) else 0.0) else 0
