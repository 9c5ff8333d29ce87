"""Cameras of the synthetic shots.

Shape letters: T frames, V vertices.

A camera is framed on the bodies, so that they fill much of the picture, and moves as an animator would move it: by one
of the kinds of move of ``presets/cameras``, each of random extent, or along a smooth random path.
"""

from __future__ import annotations

import numpy as np

from ..shot.cameras import look_at, project

MOVES = ("static", "orbit", "dolly", "crane", "push_in", "dolly_zoom", "handheld", "random")
_MOVE_WEIGHTS = (0.21, 0.29, 0.11, 0.09, 0.1, 0.06, 0.07, 0.07)
_CLOSEST, _FARTHEST = 0.5, 2.4
"""Bounds of a moving camera's distance, as shares of the distance that it was framed at."""


_HELD = 0.3
"""Least share of the bodies that every frame should show."""


def random_camera(
    rng: np.random.Generator,
    vertices: np.ndarray,
    fps: float,
    width: int,
    height: int,
    toward: float | None = None,
    crowd: bool = False,
    move: str | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """A camera move around posed bodies; one that loses them is drawn again, three times at most.

    Args:
        vertices: (T,V,3) world.
        toward: azimuth in radians to look from at the first frame; random when None.
        crowd: frame so that all of the bodies fit, or nearly so, however they stand.
        move: one of MOVES; drawn when None.

    Returns:
        viewmats (T,4,4) world to OpenCV camera and Ks (T,3,3) in pixels, both float32.
    """
    thin = vertices[:, ::23]
    viewmats, Ks = _camera(rng, vertices, fps, width, height, toward, crowd, move)
    for _ in range(3):
        uv, depth = project(thin, viewmats, Ks)
        shown = ((uv >= 0) & (uv < (width, height))).all(axis=-1) & (depth > 0)
        if shown.mean(axis=1).min() >= _HELD:
            break
        viewmats, Ks = _camera(rng, vertices, fps, width, height, toward, crowd, move)
    return viewmats, Ks


def _camera(
    rng: np.random.Generator,
    vertices: np.ndarray,
    fps: float,
    width: int,
    height: int,
    toward: float | None,
    crowd: bool,
    move: str | None,
) -> tuple[np.ndarray, np.ndarray]:
    """One camera move, as ``random_camera`` describes it."""
    frames = vertices.shape[0]
    # Of a 36 mm sensor, as long as the picture's longer side.
    focal = rng.uniform(24, 85) / 36 * max(width, height)
    azimuth = rng.uniform(-np.pi, np.pi) if toward is None else toward
    elevation = np.radians(rng.uniform(-6, 26) if rng.random() < 0.85 else rng.uniform(20, 60))
    low, high = vertices.min(axis=(0, 1)), vertices.max(axis=(0, 1))
    centre = (low + high) / 2
    side = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    span_up = high[2] - low[2]
    across = vertices.reshape(-1, 3) @ side
    span_across = float(across.max() - across.min())
    # What the picture's shorter side spans at the body, in metres: the whole body, or its upper part.
    shorter = min(width, height)
    tall, wide = height / shorter, width / shorter
    if rng.random() < 0.6 or crowd:
        span = max(span_up / tall, 0.9 * span_across / wide) * rng.uniform(0.98, 1.2)
        target = centre.copy()
    else:
        shown = max(span_up, 1.0) * rng.uniform(0.5, 0.85)
        span = shown / tall
        target = centre.copy()
        target[2] = high[2] - shown * rng.uniform(0.42, 0.5)
    target = target + side * rng.normal(0, 0.06) * span + np.array([0, 0, rng.normal(0, 0.03) * span])
    distance = focal * span / shorter
    if crowd:
        # Those in front look larger than their span: what counts is where each of them ends in the picture.
        share = rng.uniform(0.75, 0.92) if rng.random() < 0.25 else rng.uniform(0.98, 1.15)
        spots = vertices[:, ::7].reshape(-1, 3) - target
        zoom = 2 * focal / np.array([width, height])
        distance = share * _fitting(spots, _direction(azimuth, elevation), zoom)

    s = np.arange(frames) / fps
    middle = s[-1] / 2 if frames > 1 else 0.0
    angles = np.full(frames, azimuth)
    elevations = np.full(frames, elevation)
    distances = np.full(frames, distance)
    targets = np.repeat(target[None], frames, axis=0)
    if rng.random() < 0.75:
        walk = vertices.mean(axis=1) - vertices.mean(axis=(0, 1))
        targets[:, :2] += walk[:, :2]
    move = str(rng.choice(MOVES, p=_MOVE_WEIGHTS)) if move is None else move
    pace = rng.normal(0, 1)
    lens, roll = np.full(frames, focal), np.zeros(frames)
    if move == "orbit":
        angles = azimuth + 0.7 * pace * (s - middle)
    elif move == "dolly":
        targets = targets + (0.5 * pace * (s - middle))[:, None] * side * span
    elif move == "crane":
        elevations = elevation + 0.35 * pace * (s - middle)
    elif move == "push_in":
        distances = distance * np.exp(0.3 * pace * (s - middle))
    elif move == "dolly_zoom":
        # The lens changes with the distance, so that the bodies keep their size.
        share = np.exp(np.clip(np.copysign(0.4 + 0.5 * abs(pace), pace) * (s - middle), -0.65, 0.8))
        distances, lens = distance * share, focal * share
    elif move == "handheld":
        wave = 2 * np.pi * s[:, None] * rng.uniform(0.4, 2.0, 6) + rng.uniform(0, 2 * np.pi, 6)
        shake = np.sin(wave) * rng.uniform(0.2, 1.0)
        targets = targets + shake[:, :3] * 0.02 * span
        angles = angles + shake[:, 3] * 0.02
        distances = distances * (1 + 0.015 * shake[:, 4])
        roll = 0.012 * shake[:, 5]
    elif move == "random":
        path = _wander(rng, s) * rng.uniform(0.4, 1.3)
        path -= path[frames // 2]
        angles, elevations = azimuth + 0.5 * path[:, 0], elevation + 0.25 * path[:, 1]
        distances = distance * np.exp(0.2 * path[:, 2])
        targets = targets + 0.1 * span * path[:, 3:6]
        lens, roll = focal * np.exp(0.12 * path[:, 6]), 0.05 * path[:, 7]
    elevations = np.clip(elevations, np.radians(-35), np.radians(75))
    distances = np.clip(distances, _CLOSEST * distance, _FARTHEST * distance)
    eyes = targets + _direction(angles, elevations) * distances[:, None]
    eyes[:, 2] = np.maximum(eyes[:, 2], 0.12)
    viewmats = np.stack([look_at(eye, aim) for eye, aim in zip(eyes, targets, strict=True)])
    if roll.any():
        viewmats = _rolled(viewmats, roll)
    Ks = np.zeros((frames, 3, 3))
    Ks[:, 0, 0] = Ks[:, 1, 1] = lens
    Ks[:, :, 2] = width / 2, height / 2, 1
    return viewmats.astype(np.float32), Ks.astype(np.float32)


def _direction(azimuth: np.ndarray | float, elevation: np.ndarray | float) -> np.ndarray:
    """Unit vectors (...,3) towards an azimuth and elevation in radians."""
    flat = np.cos(elevation)
    return np.stack([np.cos(azimuth) * flat, np.sin(azimuth) * flat, np.sin(elevation)], axis=-1)


def _fitting(spots: np.ndarray, towards_eye: np.ndarray, zoom: np.ndarray) -> float:
    """Least distance from the origin, along ``towards_eye`` (3,), from which all ``spots`` (V,3) are in the picture.

    Args:
        zoom: (2,) twice the focal length over the picture's width and height.
    """
    right = np.cross([0.0, 0.0, 1.0], towards_eye)
    right /= np.linalg.norm(right)
    across = np.abs(spots @ np.stack([right, np.cross(towards_eye, right)], axis=-1))
    return float(((zoom * across).max(axis=-1) + spots @ towards_eye).max())


def _wander(rng: np.random.Generator, seconds: np.ndarray) -> np.ndarray:
    """Eight smooth random walks (T,8) of about unit speed: three slow waves each."""
    speed = rng.uniform(0.3, 2.5, (3, 8))
    waves = np.sin(seconds[:, None, None] * speed + rng.uniform(0, 2 * np.pi, (3, 8)))
    return (waves * rng.normal(0, 1, (3, 8)) / speed).sum(axis=1)


def _rolled(viewmats: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Cameras (T,4,4) turned about their own axis by ``roll`` (T,) radians."""
    turn = np.repeat(np.eye(4)[None], len(roll), axis=0)
    turn[:, 0, 0] = turn[:, 1, 1] = np.cos(roll)
    turn[:, 0, 1], turn[:, 1, 0] = -np.sin(roll), np.sin(roll)
    return turn @ viewmats
