"""Another frame rate without another speed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .kinematics import axis_angle_to_quat, quat_to_axis_angle, slerp
from .types import BodyMotion, MotionError, check_fps

MAX_FRAMES = 1_000_000


def sample_times(frames: int, fps: float, new_fps: float) -> np.ndarray:
    """(T',) seconds of the frames of a clip of ``frames`` at ``fps`` when shown at ``new_fps``.

    The first frame stays, and the last lies at most one new frame before the clip's end: a motion of one second lasts
    one second at any rate.
    """
    duration = (frames - 1) / fps
    # A frame that rounding puts a hair past the end is that end; Blender keeps rates in single precision.
    count = int(np.floor(duration * new_fps + 1e-3)) + 1
    if count > MAX_FRAMES:
        raise MotionError("fps", f"{duration:.0f} s at {new_fps:g} fps are more than {MAX_FRAMES} frames")
    return np.arange(count) / new_fps


def resample(motion: BodyMotion, fps: float, *, cubic: bool = False) -> BodyMotion:
    """The same motion at another rate, any to any, at the same speed.

    Rotations are slerped joint by joint along the shorter arc; translations are interpolated linearly, or with a cubic
    Hermite curve through the frames (Catmull-Rom tangents), which keeps speed smooth when frames are added.

    Raises:
        MotionError: for a rate that is none.
    """
    fps = check_fps(fps)
    if abs(fps - motion.fps) < 1e-9 * fps:
        return motion
    if motion.frames == 1:
        return replace(motion, fps=fps)
    times = sample_times(motion.frames, motion.fps, fps)
    place = np.clip(times * motion.fps, 0, motion.frames - 1)
    low = np.minimum(place.astype(int), motion.frames - 2)
    part = place - low

    quats = axis_angle_to_quat(motion.poses.astype(float))
    first, second = quats[low], quats[low + 1]
    joints = motion.poses.shape[1]
    turned = slerp(first, second, np.repeat(part[:, None], joints, axis=1))
    trans = motion.trans.astype(float)
    a, b, w = trans[low], trans[low + 1], part[:, None]
    if cubic:
        slope = np.gradient(trans, axis=0)
        m, n = slope[low], slope[low + 1]
        moved = (
            (2 * w**3 - 3 * w**2 + 1) * a + (w**3 - 2 * w**2 + w) * m + (3 * w**2 - 2 * w**3) * b + (w**3 - w**2) * n
        )
    else:
        moved = a + w * (b - a)
    return replace(
        motion,
        fps=fps,
        poses=quat_to_axis_angle(turned).astype(np.float32),
        trans=moved.astype(np.float32),
    ).noting(f"{motion.fps:g} fps resampled to {fps:g}: {motion.frames} frames became {len(times)}")
