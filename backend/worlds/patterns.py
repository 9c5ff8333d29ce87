"""Patterns for garments, one colour per vertex: stripes, checks, dots, emblems, numbers.

Shape letters: V vertices of a garment. Positions are of the body at rest, in metres: Y up, facing +Z, left at +X.
"""

from __future__ import annotations

import colorsys

import numpy as np

_SEGMENTS = (
    ((-1, 1), (1, 1)),
    ((1, 1), (1, 0)),
    ((1, 0), (1, -1)),
    ((-1, -1), (1, -1)),
    ((-1, 0), (-1, -1)),
    ((-1, 1), (-1, 0)),
    ((-1, 0), (1, 0)),
)
"""Ends of the seven strokes of a digit in a box from (-1,-1) to (1,1)."""
_DIGITS = ("012345", "12", "01346", "01236", "1256", "02356", "023456", "012", "0123456", "012356")
"""Strokes of the digits 0 to 9."""


def random_colour(rng: np.random.Generator, saturation: float = 1.0) -> np.ndarray:
    """An RGB colour (3,) in [0,1] with even hue and varied lightness."""
    value = rng.uniform(0.12, 1.0)
    return np.array(colorsys.hsv_to_rgb(rng.random(), saturation * rng.uniform(0.0, 0.95), value))


def contrasting(rng: np.random.Generator, colour: np.ndarray) -> np.ndarray:
    """A colour (3,) that stands out against another."""
    for _ in range(8):
        other = random_colour(rng)
        if np.abs(other - colour).sum() > 0.6:
            return other
    return np.where(colour.mean() > 0.5, 0.08, 0.92) * np.ones(3)


def pattern(rng: np.random.Generator, rest: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Colours (V,3) of one garment over rest positions (V,3)."""
    kinds = ("plain", "halves", "stripes", "back", "gradient", "checks", "dots", "diagonal")
    kind = rng.choice(kinds, p=[0.39, 0.12, 0.12, 0.13, 0.08, 0.06, 0.05, 0.05])
    x, y, z = rest.T
    other = random_colour(rng)
    share = np.zeros(len(rest))
    if kind == "halves":
        share = x > 0
    elif kind == "stripes":
        width = rng.uniform(0.06, 0.16)
        # Across the body, stripes are counted from the middle, so that one runs down the front.
        share = np.floor((x / width if rng.random() < 0.5 else y / width) + 0.5) % 2 == 0
    elif kind == "back":
        share = z < np.median(z)
    elif kind == "gradient":
        share = (y - y.min()) / max(float(y.max() - y.min()), 1e-6)
    elif kind == "checks":
        width = rng.uniform(0.07, 0.14)
        share = (np.floor(x / width + 0.5) + np.floor(y / width) + np.floor((z - 0.07) / width + 0.5)) % 2 == 0
    elif kind == "dots":
        width = rng.uniform(0.09, 0.15)
        row = np.floor(y / width)
        across = (x / width + 0.5 * (row % 2)) % 1 - 0.5
        share = np.hypot(across, y / width - row - 0.5) < rng.uniform(0.25, 0.36)
    elif kind == "diagonal":
        width = rng.uniform(0.08, 0.16)
        share = np.floor((y + rng.choice([-1, 1]) * x) / width) % 2 == 0
    mix = np.asarray(share, float)[:, None]
    return colour * (1 - mix) + other * mix


def emblem(rng: np.random.Generator, rest: np.ndarray) -> np.ndarray:
    """Which vertices (V,) of a shirt a disc, ring, square, bar, cross or triangle on its chest covers."""
    size = rng.uniform(0.05, 0.085)
    x = (rest[:, 0] - rng.choice([0.0, 0.07, -0.07], p=[0.6, 0.2, 0.2])) / size
    y = (rest[:, 1] - rng.uniform(0.2, 0.3)) / size
    inside = {
        "disc": np.hypot(x, y) < 1,
        "ring": (np.hypot(x, y) < 1.2) & (np.hypot(x, y) > 0.55),
        "square": np.maximum(abs(x), abs(y)) < 0.9,
        "bar": (abs(x) < 1.8) & (abs(y) < 0.45),
        "cross": (np.minimum(abs(x), abs(y)) < 0.36) & (np.maximum(abs(x), abs(y)) < 1.3),
        "triangle": (y > -0.8) & (y + 1.8 * abs(x) < 1.1),
    }
    return inside[str(rng.choice(list(inside)))] & (rest[:, 2] > 0.07)


def number(rng: np.random.Generator, rest: np.ndarray) -> np.ndarray:
    """Which vertices (V,) of a shirt a number of one or two digits on its back covers."""
    digits = rng.integers(0, 10, rng.integers(1, 3))
    width, height, stroke = 0.045, rng.uniform(0.075, 0.1), 0.014
    covered = np.zeros(len(rest), bool)
    for place, digit in enumerate(digits):
        # Seen from behind, the left of the picture is the body's left: +x.
        x = -rest[:, 0] - (place - (len(digits) - 1) / 2) * (2 * width + 0.05)
        y = rest[:, 1] - 0.27
        for index in _DIGITS[digit]:
            (x0, y0), (x1, y1) = _SEGMENTS[int(index)]
            beside = np.maximum(min(x0, x1) * width - x, x - max(x0, x1) * width)
            beyond = np.maximum(min(y0, y1) * height - y, y - max(y0, y1) * height)
            covered |= np.maximum(beside, beyond) < stroke
    return covered & (rest[:, 2] < 0.06)


class Cloth:
    """A cloth with its colours: the same wherever it is cut."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._seed = int(rng.integers(2**63))
        self.base = random_colour(rng) if rng.random() < 0.75 else np.full(3, rng.uniform(0.05, 0.95))
        self._fold = rng.uniform(0.0, 0.12)
        self._phase = rng.uniform(0, 2 * np.pi)

    def __call__(self, spots: np.ndarray) -> np.ndarray:
        """Colours (...,3) at spots (...,3)."""
        flat = spots.reshape(-1, 3)
        colours = pattern(np.random.default_rng(self._seed), flat, self.base)
        folds = np.sin(90 * flat[:, 0] + 25 * flat[:, 1] + self._phase) * np.sin(70 * flat[:, 2] - 40 * flat[:, 1])
        return (colours * (1 + self._fold * folds)[:, None]).reshape(spots.shape).clip(0, 1)
