"""Furniture of the dressed world: tables, chairs, shelves, posts, plants, behind the bodies and before them.

Shape letters: T frames, V vertices of the bodies, S vertices and F faces of the furniture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .patterns import random_colour
from .surroundings import Surroundings
from .tailor import grid, outward

_CLEAR, _LENS = 0.22, 0.45
"""Metres that furniture keeps from bodies, and from the camera."""
_TRIES = 4


@dataclass(frozen=True, eq=False)
class Furniture:
    """What stands in a set.

    Attributes:
        vertices: (S,3) float32 world; faces: (F,3) int64, counter-clockwise from outside.
        normals: (F,3) float32 of length one; colours: (F,3) float32 in [0,1].
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    colours: np.ndarray


@dataclass(frozen=True, eq=False)
class _Part:
    """A part of a piece, standing at the origin: corners (S,3), faces (F,3), colour (3,)."""

    corners: np.ndarray
    faces: np.ndarray
    colour: np.ndarray


def _box(colour: np.ndarray, x: float, y: float, low: float, wide: float, deep: float, tall: float) -> _Part:
    """A box from height ``low``, around (x, y)."""
    corners, faces = [], []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            normal = np.eye(3)[axis] * sign
            u, v = np.eye(3)[(axis + 1) % 3], np.eye(3)[(axis + 2) % 3]
            square = [normal - u - v, normal + u - v, normal + u + v, normal - u + v]
            faces += [
                [len(corners) + k for k in (order if sign > 0 else order[::-1])] for order in ((0, 1, 2), (0, 2, 3))
            ]
            corners += square
    half = np.array([wide, deep, tall]) / 2
    return _Part(np.array(corners) * half + [x, y, low + tall / 2], np.array(faces), colour)


def _round(colour: np.ndarray, x: float, y: float, radius: Sequence[float], height: Sequence[float]) -> _Part:
    """A turned thing: radii at heights."""
    turns = np.linspace(0, 2 * np.pi, 11, endpoint=False)[:, None]
    r, z = np.asarray(radius, float), np.asarray(height, float)
    corners = np.stack([x + r * np.cos(turns), y + r * np.sin(turns), z + 0 * turns], axis=-1).reshape(-1, 3)
    return _Part(corners, outward(corners, grid(11, len(r), True)), colour)


def _legs(colour: np.ndarray, wide: float, deep: float, tall: float) -> list[_Part]:
    return [_box(colour, sx * wide, sy * deep, 0, 0.05, 0.05, tall) for sx in (-0.45, 0.45) for sy in (-0.45, 0.45)]


def _piece(rng: np.random.Generator, kind: str) -> list[_Part]:
    first = random_colour(rng, 0.6)
    second = random_colour(rng, 0.8) if rng.random() < 0.5 else first * rng.uniform(0.5, 0.9)
    if kind == "table":
        wide, deep, tall = rng.uniform(0.7, 1.5), rng.uniform(0.5, 0.8), rng.uniform(0.45, 0.78)
        top = _box(first, 0, 0, tall, wide, deep, 0.04)
        things = [
            _round(
                random_colour(rng),
                rng.uniform(-0.35, 0.35) * wide,
                rng.uniform(-0.3, 0.3) * deep,
                [0.0, 0.06, 0.05, 0.03, 0.035],
                [tall + 0.04, tall + 0.04, tall + 0.15, tall + 0.2, tall + 0.25],
            )
            for _ in range(rng.integers(0, 3))
        ]
        return [top, *_legs(second, wide, deep, tall), *things]
    if kind == "chair":
        wide, tall = rng.uniform(0.4, 0.5), rng.uniform(0.42, 0.5)
        back = _box(first, 0, -0.45 * wide, tall, wide, 0.04, rng.uniform(0.35, 0.55))
        return [_box(first, 0, 0, tall, wide, wide, 0.05), back, *_legs(second, wide, wide, tall)]
    if kind == "sofa":
        wide = rng.uniform(1.2, 2.0)
        arms = [_box(second, sx * wide / 2, 0, 0, 0.16, 0.8, 0.6) for sx in (-1, 1)]
        return [_box(first, 0, 0, 0.08, wide, 0.8, 0.35), _box(first, 0, -0.33, 0.1, wide, 0.18, 0.8), *arms]
    if kind == "shelf":
        wide, tall = rng.uniform(0.6, 1.2), rng.uniform(1.1, 2.2)
        boards = [_box(first, 0, 0, z, wide, 0.3, 0.03) for z in np.linspace(0.05, tall, 5)]
        sides = [_box(first, sx * wide / 2, 0, 0, 0.03, 0.3, tall + 0.03) for sx in (-1, 1)]
        books = [
            _box(
                random_colour(rng),
                rng.uniform(-0.4, 0.4) * wide,
                0,
                0.08 + (tall - 0.05) / 4 * rng.integers(0, 4),
                rng.uniform(0.05, 0.2),
                0.2,
                rng.uniform(0.12, 0.22),
            )
            for _ in range(6)
        ]
        return [*boards, *sides, _box(second, 0, -0.15, 0, wide, 0.02, tall), *books]
    if kind == "post":
        width, tall = rng.uniform(0.05, 0.14), rng.uniform(1.4, 2.6)
        return [
            _round(first, 0, 0, [width, width, 0], [0, tall, tall]),
            _round(second, 0, 0, [2 * width, 2 * width, width], [0, 0.05, 0.07]),
        ]
    if kind == "lamp":
        tall = rng.uniform(1.3, 1.8)
        shade = np.clip(first + 0.4, 0, 1)
        return [
            _round(second, 0, 0, [0.15, 0.15, 0.015, 0.015], [0, 0.03, 0.04, tall]),
            _round(shade, 0, 0, [0.2, 0.12, 0], [tall - 0.1, tall + 0.2, tall + 0.2]),
        ]
    if kind == "plant":
        tall = rng.uniform(0.4, 1.1)
        pot = _round(first, 0, 0, [0.1, 0.15, 0.12, 0], [0, 0.25, 0.25, 0.24])
        green = np.array([rng.uniform(0.05, 0.3), rng.uniform(0.25, 0.6), rng.uniform(0.05, 0.25)])
        leaves = []
        for _ in range(rng.integers(4, 9)):
            x, y, z = rng.normal(0, 0.13), rng.normal(0, 0.13), 0.25 + tall * rng.uniform(0.2, 1)
            size = rng.uniform(0.06, 0.16)
            leaves.append(
                _round(
                    green * rng.uniform(0.7, 1.3),
                    x,
                    y,
                    [0, 0.8 * size, size, 0.7 * size, 0],
                    (z + size * np.linspace(-1, 1, 5)).tolist(),
                )
            )
        return [pot, _round(second * 0.5, 0, 0, [0.02, 0.02], [0.2, 0.25 + tall * 0.7]), *leaves]
    side, tall = rng.uniform(0.3, 0.7), rng.uniform(0.25, 1.0)
    return [_box(first, 0, 0, 0, side, side, tall), _box(second, 0, 0, tall, 1.02 * side, 1.02 * side, 0.05)]


_KINDS = ("table", "chair", "sofa", "shelf", "post", "lamp", "plant", "crate")
_BEFORE = ("table", "chair", "post", "plant", "crate")


def random_furniture(
    rng: np.random.Generator,
    place: Surroundings,
    bodies: np.ndarray,
    eyes: np.ndarray,
    before: bool,
) -> Furniture | None:
    """Furniture around bodies, none of it in their way.

    Args:
        bodies: (T,V,3) world, all of them. eyes: (T,3) the camera's places.
        before: some may stand between the camera and the bodies.
    """
    spots = bodies[:, ::17].reshape(-1, 3)
    middle = (spots[:, :2].min(axis=0) + spots[:, :2].max(axis=0)) / 2
    to_eye = eyes[len(eyes) // 2, :2] - middle
    azimuth = np.arctan2(to_eye[1], to_eye[0])
    parts: list[_Part] = []
    for _ in range(rng.integers(1, 5)):
        for _ in range(_TRIES):
            piece = _piece(rng, str(rng.choice(_KINDS)))
            angle, far = azimuth + np.pi + rng.normal(0, 0.8), rng.uniform(0.7, 3.2)
            at = middle + far * np.array([np.cos(angle), np.sin(angle)])
            placed = _placed(piece, at, azimuth + rng.normal(0, 0.6) - np.pi / 2)
            if _stands(placed, place, spots, eyes):
                parts += placed
                break
    for _ in range(int(rng.choice([1, 2])) if before and rng.random() < 0.55 else 0):
        for _ in range(2 * _TRIES):
            piece = _piece(rng, str(rng.choice(_BEFORE)))
            gone = rng.uniform(0.25, 0.6)
            aside = rng.choice([-1, 1]) * rng.uniform(0.1, 0.75) * (1 - gone)
            at = middle + gone * to_eye + aside * np.array([-np.sin(azimuth), np.cos(azimuth)])
            placed = _placed(piece, at, rng.uniform(0, 2 * np.pi))
            if _stands(placed, place, spots, eyes):
                parts += placed
                break
    if not parts:
        return None
    starts = np.cumsum([0, *(len(part.corners) for part in parts)])
    vertices = np.concatenate([part.corners for part in parts])
    faces = np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=False)])
    colours = np.concatenate([np.tile(part.colour, (len(part.faces), 1)) for part in parts]).clip(0, 1)
    a, b, c = vertices[faces].transpose(1, 0, 2)
    normals = np.cross(b - a, c - a)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-9)
    return Furniture(vertices.astype(np.float32), faces, normals.astype(np.float32), colours.astype(np.float32))


def _placed(piece: list[_Part], at: np.ndarray, turn: float) -> list[_Part]:
    c, s = np.cos(turn), np.sin(turn)
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return [_Part(part.corners @ rotation.T + [*at, 0], part.faces, part.colour) for part in piece]


def _stands(piece: list[_Part], place: Surroundings, spots: np.ndarray, eyes: np.ndarray) -> bool:
    """Whether a piece neither touches a body nor the wall, nor stands in the lens."""
    corners = np.concatenate([part.corners for part in piece])
    if place.wall is not None:
        angle, distance = place.wall_at
        if (corners[:, 0] * np.cos(angle) + corners[:, 1] * np.sin(angle)).max() > distance - 0.02:
            return False
    low, high = corners.min(axis=0), corners.max(axis=0)
    beside = np.maximum(np.maximum(low - spots, spots - high), 0)
    if np.linalg.norm(beside, axis=1).min() < _CLEAR:
        return False
    beside = np.maximum(np.maximum(low - eyes, eyes - high), 0)
    return bool(np.linalg.norm(beside, axis=1).min() >= _LENS)
