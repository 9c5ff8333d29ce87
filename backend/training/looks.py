"""Clothes, skin and hair in random colours and simple patterns, one colour per vertex.

Front and back, left and right can usually be told apart, so that a model which copies from the reference has to
know which part of the body it paints. Shape letters: V vertices.
"""

from __future__ import annotations

import colorsys

import numpy as np

SKIN_TONES = np.array(
    [
        [0.96, 0.80, 0.69],
        [0.90, 0.70, 0.56],
        [0.78, 0.57, 0.43],
        [0.60, 0.42, 0.31],
        [0.42, 0.28, 0.20],
        [0.28, 0.19, 0.15],
    ]
)
USUAL = {
    "skin": (0.85, 0.65, 0.52),
    "hair": (0.25, 0.15, 0.10),
    "shirt": (0.20, 0.42, 0.78),
    "trousers": (0.20, 0.20, 0.28),
    "shoes": (0.45, 0.12, 0.10),
}
"""About what a new body wears before anyone paints it."""


def random_colour(rng: np.random.Generator, saturation: float = 1.0) -> np.ndarray:
    """An RGB colour (3,) in [0,1] with even hue and varied lightness."""
    value = rng.uniform(0.12, 1.0)
    return np.array(colorsys.hsv_to_rgb(rng.random(), saturation * rng.uniform(0.0, 0.95), value))


def _pattern(rng: np.random.Generator, rest: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Colours (V,3) of one garment over rest positions (V,3), Y up and facing +Z."""
    kind = rng.choice(["plain", "halves", "stripes", "back", "gradient"], p=[0.45, 0.12, 0.15, 0.18, 0.10])
    colours = np.repeat(colour[None], len(rest), axis=0)
    other = random_colour(rng)
    if kind == "halves":
        colours[rest[:, 0] > 0] = other
    elif kind == "stripes":
        axis = rng.integers(2)
        width = rng.uniform(0.06, 0.16)
        colours[np.floor(rest[:, axis] / width).astype(int) % 2 == 0] = other
    elif kind == "back":
        colours[rest[:, 2] < np.median(rest[:, 2])] = other
    elif kind == "gradient":
        low, high = rest[:, 1].min(), rest[:, 1].max()
        mix = ((rest[:, 1] - low) / max(high - low, 1e-6))[:, None]
        colours = colours * (1 - mix) + other * mix
    return colours


def random_look(
    rng: np.random.Generator, rest: np.ndarray, regions: np.ndarray | None, region_names: tuple[str, ...]
) -> np.ndarray:
    """Colours (V,3) float32 in [0,1] for a body.

    Args:
        rest: (V,3) rest vertices, Y up, facing +Z.
        regions: (V,) uint8 indices into ``region_names``, or None for one garment all over.
    """
    if regions is None:
        return _pattern(rng, rest, random_colour(rng)).astype(np.float32)
    colours = np.zeros((len(rest), 3))
    # Now and then a mannequin: one material all over, as an unpainted body in the viewport.
    if rng.random() < 0.08:
        tone = rng.uniform(0.5, 0.9) if rng.random() < 0.5 else random_colour(rng)
        colours[:] = tone
        return colours.astype(np.float32)
    usual = rng.random() < 0.12
    skin = SKIN_TONES[rng.integers(len(SKIN_TONES))] * rng.uniform(0.9, 1.1)
    for index, name in enumerate(region_names):
        chosen = regions == index
        if not chosen.any():
            continue
        if usual and name in USUAL:
            colours[chosen] = np.clip(np.array(USUAL[name]) + rng.normal(0, 0.03, 3), 0, 1)
        elif name == "skin":
            colours[chosen] = skin
        elif name == "hair":
            colours[chosen] = random_colour(rng, 0.7) * rng.uniform(0.2, 1.0)
        elif name == "eyes":
            colours[chosen] = rng.uniform(0.05, 0.9)
        elif name == "shoes":
            colours[chosen] = random_colour(rng)
        else:
            colours[chosen] = _pattern(rng, rest[chosen], random_colour(rng))
    return np.clip(colours, 0, 1).astype(np.float32)
