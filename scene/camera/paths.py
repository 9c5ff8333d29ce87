"""Camera moves as numbers: paths and framing, without Blender.

A move is a path about a pivot (the characters' middle, which may travel) in units of one distance D. D is the
smallest from which every point of the characters lies inside the picture in every sampled frame.

World is Z up, metres. Shape letters: T frames, N points, K sampled frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...backend.catalogue.cameras import Move

MARGIN = 0.05
"""Part of the picture's width and height kept free at each side."""
_CLOSEST = 0.15
_NEAREST = 0.15
"""Metres in front of the camera at which a character may begin."""


class MoveError(ValueError):
    """A camera move that cannot be made.

    Attributes:
        field: the part at fault.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


@dataclass(frozen=True, eq=False)
class CameraPath:
    """A camera over time.

    Attributes:
        viewmats: (T,4,4) float64, world to OpenCV camera.
        lenses: (T,) millimetres.
        distance: D in metres.
    """

    viewmats: np.ndarray
    lenses: np.ndarray
    distance: float


def channel(move: Move, name: str, time: np.ndarray, amount: float) -> np.ndarray:
    """One entry of the path at ``time`` (T,) from 0 to 1, with ``amount`` applied."""
    stops = np.array(getattr(move.path, name), float)
    if len(stops) == 1:
        return np.full(len(time), stops[0])
    rest = 1.0 if name == "distance" else stops.mean()
    stops = rest + amount * (stops - rest)
    if name == "distance":
        stops = np.maximum(stops, _CLOSEST)
    eased = time * time * (3 - 2 * time) if move.ease == "smooth" else time
    return np.interp(eased, np.linspace(0, 1, len(stops)), stops)


def noise(seed: int, seconds: np.ndarray, frequency: float, rows: int) -> np.ndarray:
    """(rows,T) smooth noise with standard deviation 1: octaves of sines of random phase, quieter as they get faster.

    A function of the time in ``seconds`` (T,) alone, so that another frame rate shows the same motion.
    """
    rng = np.random.default_rng(seed)
    waves = 12
    rates = frequency * np.geomspace(0.12, 1.0, waves) * rng.uniform(0.9, 1.1, (rows, waves))
    phases = rng.uniform(0, 2 * np.pi, (rows, waves))
    strength = 1 / np.sqrt(rates)
    strength /= np.sqrt((strength**2).sum(axis=1, keepdims=True) / 2)
    return (strength[..., None] * np.sin(2 * np.pi * rates[..., None] * seconds + phases[..., None])).sum(axis=1)


def make_path(
    move: Move,
    frames: np.ndarray,
    fps: float,
    sample_frames: np.ndarray,
    points: list[np.ndarray],
    front: float,
    intrinsics: Callable[[float], np.ndarray],
    size: tuple[int, int],
    *,
    amount: float = 1.0,
    distance: float = 1.0,
    seed: int = 0,
) -> CameraPath:
    """Frame the characters along a move.

    Args:
        move: what to do.
        frames: (T,) frame numbers to key, ascending.
        fps: of the scene.
        sample_frames: (K,) frames at which the characters were looked at.
        points: K arrays (N,3) world, points that must be seen at that frame.
        front: radians about Z of the direction in which the characters face; 0 is +X.
        intrinsics: lens in mm -> K (3,3) in pixels.
        size: width and height of the picture in pixels.
        amount: scales the move.
        distance: factor on the distance that just fits.
        seed: of the handheld motion.

    Raises MoveError when no distance shows the characters.
    """
    pivots = _pivots(move, frames, fps, sample_frames, points)

    def at(when: np.ndarray, around: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
        time = (when - frames[0]) / max(frames[-1] - frames[0], 1e-9)
        return _place(move, time, when / fps, around, front, reach, amount, seed)

    around = _interpolate(sample_frames, frames, pivots)
    viewmats, lenses = at(sample_frames, around, 1.0)
    ks = np.array([intrinsics(lens) for lens in lenses])
    reach = distance * _closest(around, points, viewmats, ks, size)
    viewmats, lenses = at(frames, pivots, reach)
    return CameraPath(viewmats, lenses, reach)


def _pivots(
    move: Move, frames: np.ndarray, fps: float, sample_frames: np.ndarray, points: list[np.ndarray]
) -> np.ndarray:
    """(T,3) what the camera looks at: the characters' middle, smoothed over time so that limbs do not shake it."""
    lows = np.array([p.min(axis=0) for p in points])
    highs = np.array([p.max(axis=0) for p in points])
    whole = (lows.min(axis=0) + highs.max(axis=0)) / 2
    middles = _interpolate(frames, sample_frames, (lows + highs) / 2)
    return whole + move.follow * (_smooth(middles, 0.4 * fps) - whole)


def _smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian mean over time of (T,3). The ends continue as they run (point reflection), so motion goes on."""
    radius = min(int(3 * sigma) + 1, len(values) - 1)
    if radius < 1:
        return values
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    before = 2 * values[0] - values[1 : radius + 1][::-1]
    after = 2 * values[-1] - values[-radius - 1 : -1][::-1]
    padded = np.concatenate([before, values, after])
    return np.stack([np.convolve(padded[:, k], kernel / kernel.sum(), mode="valid") for k in range(3)], axis=1)


def _interpolate(when: np.ndarray, known: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.stack([np.interp(when, known, values[:, k]) for k in range(3)], axis=1)


def _place(
    move: Move,
    time: np.ndarray,
    seconds: np.ndarray,
    pivots: np.ndarray,
    front: float,
    reach: float,
    amount: float,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Cameras (T,4,4) and lenses (T,) at ``time`` (T,) from 0 to 1, ``reach`` metres being distance 1."""
    azimuth = front + np.radians(channel(move, "azimuth", time, amount))
    elevation = np.radians(np.clip(channel(move, "elevation", time, amount), -85, 85))
    distance = channel(move, "distance", time, amount)
    track = channel(move, "track", time, amount)
    out = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], axis=1
    )
    right = np.stack([-np.sin(azimuth), np.cos(azimuth), np.zeros_like(azimuth)], axis=1)
    eyes = pivots + reach * (distance[:, None] * out + track[:, None] * right)
    viewmats = _look_at(eyes, pivots)
    if move.shake is not None:
        sway = noise(seed, seconds, move.shake.frequency, 6)
        viewmats[:, :3, 3] += amount * move.shake.position * reach * sway[:3].T
        viewmats = _turns(np.radians(amount * move.shake.rotation) * sway[3:].T) @ viewmats
    lenses = move.lens * (distance if move.hold_size else np.ones_like(distance))
    return viewmats, lenses


def _look_at(eyes: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """World to camera (T,4,4) of level cameras at ``eyes`` (T,3) that look at ``targets`` (T,3)."""
    forward = targets - eyes
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    right = np.stack([forward[:, 1], -forward[:, 0], np.zeros(len(eyes))], axis=1)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    viewmats = np.tile(np.eye(4), (len(eyes), 1, 1))
    viewmats[:, :3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    viewmats[:, :3, 3] = -np.einsum("tij,tj->ti", viewmats[:, :3, :3], eyes)
    return viewmats


def _turns(angles: np.ndarray) -> np.ndarray:
    """(T,4,4) turns about the camera's own x, y and z by ``angles`` (T,3) in radians, one after the other."""
    turns = np.tile(np.eye(4), (len(angles), 1, 1))
    for axis in range(3):
        step = np.tile(np.eye(4), (len(angles), 1, 1))
        i, j = (axis + 1) % 3, (axis + 2) % 3
        cos, sin = np.cos(angles[:, axis]), np.sin(angles[:, axis])
        step[:, i, i], step[:, i, j], step[:, j, i], step[:, j, j] = cos, -sin, sin, cos
        turns = step @ turns
    return turns


def _closest(
    pivots: np.ndarray, points: list[np.ndarray], viewmats: np.ndarray, Ks: np.ndarray, size: tuple[int, int]
) -> float:
    """The smallest distance D from which every point lies in front of its camera and inside the picture's margins.

    A path at distance D sees a point at ``q + D o`` in camera space: o is where it sees its pivot at distance 1, q the
    point relative to the pivot. Each side of the picture is then a condition ``a + D b <= 0``, linear in D.

    Args:
        pivots: (K,3); points: K arrays (N,3) world.
        viewmats: (K,4,4) at distance 1; Ks: (K,3,3) pixels.
        size: width and height of the picture.
    """
    closest = 0.0
    for pivot, cloud, viewmat, K in zip(pivots, points, viewmats, Ks, strict=True):
        turn = viewmat[:3, :3]
        q = (cloud - pivot) @ turn.T
        o = turn @ pivot + viewmat[:3, 3]
        closest = max(closest, float((_NEAREST - q[:, 2]).max() / o[2]))
        for axis in range(2):
            focal, middle = K[axis, axis], K[axis, 2]
            for side, edge in ((1.0, (1 - MARGIN) * size[axis]), (-1.0, MARGIN * size[axis])):
                a = side * (focal * q[:, axis] + (middle - edge) * q[:, 2])
                b = side * (focal * o[axis] + (middle - edge) * o[2])
                if b >= 0:
                    raise MoveError("camera", "its lens shift or the shake hides the characters; set them lower")
                closest = max(closest, float(a.max() / -b))
    return closest
