"""Clothes, skin, hair and a face in random colours and patterns, one colour per vertex.

Front and back, left and right mostly differ, so that a model which copies from the reference must know which part of
the body it paints. Shape letters: V vertices.
"""

from __future__ import annotations

import numpy as np

from .face import paint_face
from .patterns import contrasting, emblem, number, pattern, random_colour

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
_WAIST, _SHOULDER, _WRIST, _CROTCH, _ANKLE = 0.048, 0.19, 0.67, -0.12, -0.9
"""Where garments end on the embedded body at rest: heights, and distances from the middle for the arms, in metres."""


def random_colours(
    rng: np.random.Generator, rest: np.ndarray, regions: np.ndarray | None, region_names: tuple[str, ...]
) -> np.ndarray:
    """Colours (V,3) float32 in [0,1] for a body.

    Args:
        rest: (V,3) rest vertices, Y up, facing +Z.
        regions: (V,) uint8 indices into ``region_names``, or None for one garment all over.
    """
    if regions is None:
        return pattern(rng, rest, random_colour(rng)).astype(np.float32)
    colours = np.zeros((len(rest), 3))
    # Now and then a mannequin: one material all over, as an unpainted body in the viewport.
    if rng.random() < 0.08:
        tone = rng.uniform(0.5, 0.9) if rng.random() < 0.5 else random_colour(rng)
        colours[:] = tone
        return colours.astype(np.float32)
    worn = {name: regions == index for index, name in enumerate(region_names)}
    nowhere = np.zeros(len(rest), bool)
    skin = SKIN_TONES[rng.integers(len(SKIN_TONES))] * rng.uniform(0.9, 1.1)
    hair = random_colour(rng, 0.7) * rng.uniform(0.2, 1.0)
    if rng.random() < 0.12:
        # A new body before anyone has painted it, face and all.
        for name, covers in worn.items():
            base = np.array(USUAL[name]) if name in USUAL else np.full(3, rng.uniform(0.05, 0.9))
            colours[covers] = np.clip(base + rng.normal(0, 0.03, 3), 0, 1)
        return np.clip(colours, 0, 1).astype(np.float32)
    for name, covers in worn.items():
        if not covers.any():
            continue
        if name == "skin":
            colours[covers] = skin
        elif name == "hair":
            colours[covers] = hair
        elif name == "shoes":
            colours[covers] = random_colour(rng)
        elif name != "eyes":
            colours[covers] = pattern(rng, rest[covers], random_colour(rng))
    _tailor(rng, rest, colours, skin, *(worn.get(name, nowhere) for name in ("shirt", "trousers", "skin")))
    paint_face(rng, rest, colours, skin, hair, worn.get("eyes", nowhere))
    return np.clip(colours, 0, 1).astype(np.float32)


def _tailor(
    rng: np.random.Generator,
    rest: np.ndarray,
    colours: np.ndarray,
    skin: np.ndarray,
    shirt: np.ndarray,
    trousers: np.ndarray,
    bare: np.ndarray,
) -> None:
    """Sleeves, shorts, socks, gloves, a belt, an emblem and a number on ``colours`` (V,3), in place.

    Args:
        rest: (V,3). skin: (3,). shirt, trousers, bare: (V,) bool, what each covers so far.
    """
    x, y, _ = rest.T
    arm = abs(x)
    cloth = np.median(colours[shirt], axis=0) if shirt.any() else random_colour(rng)
    if rng.random() < 0.3:
        # Long sleeves, of the shirt's colour or their own.
        sleeve = (arm > _SHOULDER) & (arm < rng.uniform(0.4, _WRIST)) & (bare | shirt)
        own = rng.random() < 0.4
        colours[sleeve & (bare | own)] = contrasting(rng, cloth) if own else cloth
    elif rng.random() < 0.12:
        colours[(arm > _SHOULDER) & shirt] = skin
    if rng.random() < 0.2:
        # One sleeve differs.
        colours[(x * rng.choice([-1, 1]) > _SHOULDER) & shirt] = contrasting(rng, cloth)
    legs = trousers & (y < _CROTCH)
    if rng.random() < 0.22:
        colours[legs & (y < rng.uniform(-0.75, -0.25))] = skin
    if rng.random() < 0.25:
        top = rng.uniform(_ANKLE + 0.07, -0.6)
        sock = random_colour(rng)
        colours[legs & (y < top)] = sock
        if rng.random() < 0.4:
            colours[legs & (y < top) & (y > top - 0.045)] = contrasting(rng, sock)
    if rng.random() < 0.15:
        colours[(arm > _WRIST) & bare] = random_colour(rng)
    if rng.random() < 0.3:
        colours[(shirt | trousers) & (abs(y - _WAIST) < rng.uniform(0.014, 0.026)) & (arm < _SHOULDER)] = random_colour(
            rng
        )
    if rng.random() < 0.28:
        colours[shirt & emblem(rng, rest)] = contrasting(rng, cloth)
    if rng.random() < 0.28:
        colours[shirt & number(rng, rest)] = contrasting(rng, cloth)
