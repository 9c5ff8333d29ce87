"""A face painted on the embedded body: eyes, brows, lips, cheeks and beard, one colour per vertex.

Shape letters: V vertices. Positions are of the embedded body at rest, in metres from its pelvis: Y up, facing +Z.
"""

from __future__ import annotations

import numpy as np

EYES = (0.032, 0.606)
"""Middle of the left eye: x, y."""
MOUTH = 0.538
"""Height of the line between the lips."""
FACE = (0.075, 0.495, 0.66, 0.095)
"""The face: greatest |x|, least and greatest y, least z."""


def in_face(rest: np.ndarray) -> np.ndarray:
    """Which vertices (V,) lie on the face."""
    x, y, z = rest.T
    return (abs(x) < FACE[0]) & (y > FACE[1]) & (y < FACE[2]) & (z > FACE[3])


def _soft(distance: np.ndarray, edge: float) -> np.ndarray:
    """1 inside (``distance`` below 0) and 0 outside, with an edge of ``edge`` metres."""
    return np.clip(0.5 - distance / edge, 0, 1)


def _ellipse(x: np.ndarray, y: np.ndarray, width: float, height: float) -> np.ndarray:
    """About the distance in metres to an ellipse of half axes ``width``, ``height`` around the origin."""
    return (np.hypot(x / width, y / height) - 1) * min(width, height)


def paint_face(
    rng: np.random.Generator,
    rest: np.ndarray,
    colours: np.ndarray,
    skin: np.ndarray,
    hair: np.ndarray,
    eyes: np.ndarray,
) -> None:
    """Paint a face onto ``colours`` (V,3) in place.

    Args:
        rest: (V,3) rest vertices. skin, hair: (3,) colours. eyes: (V,) which vertices are eyeballs.
    """
    x, y, _ = rest.T
    side = abs(x)
    front = in_face(rest)

    def paint(share: np.ndarray, colour: np.ndarray) -> None:
        share = np.where(front & ~eyes, share, 0.0)[:, None]
        colours[:] = colours * (1 - share) + colour * share

    dark = 0.55 * hair + 0.2 * skin
    if rng.random() < 0.6:
        blush = np.clip(skin * [1.12, 0.86, 0.86], 0, 1)
        paint(rng.uniform(0.3, 1.0) * _soft(_ellipse(side - 0.044, y - 0.568, 0.02, 0.016), 0.02), blush)
    beard = rng.choice(["none", "stubble", "full", "moustache"], p=[0.62, 0.16, 0.12, 0.1])
    chin = np.maximum(y - 0.553 - 0.4 * np.clip(side - 0.035, 0, None), 0.0 - y)
    lip = _ellipse(x, y - 0.549, 0.026, 0.008)
    if beard == "moustache":
        paint(_soft(lip, 0.006), dark)
    elif beard != "none":
        paint((1.0 if beard == "full" else rng.uniform(0.2, 0.5)) * _soft(chin, 0.012), dark)
    if rng.random() < 0.3:
        paint(
            rng.uniform(0.4, 0.9) * _soft(_ellipse(side - EYES[0], y - 0.612, 0.02, 0.012), 0.006), rng.random(3) * 0.5
        )
    # Brows rise a little outwards.
    slope = rng.uniform(-0.1, 0.2)
    brow = _ellipse(side - 0.033, y - 0.6265 - slope * (side - 0.033), 0.019, rng.uniform(0.003, 0.0055))
    paint(_soft(brow, 0.004), dark * 0.8)
    red = (
        np.clip(skin * [1.0, 0.62, 0.62], 0, 1) if rng.random() < 0.6 else np.array([rng.uniform(0.5, 0.85), 0.1, 0.2])
    )
    paint(_soft(_ellipse(x, y - MOUTH, 0.026, rng.uniform(0.008, 0.011)), 0.004), red)
    paint(0.8 * _soft(np.maximum(abs(y - MOUTH) - 0.0012, side - 0.022), 0.003), red * 0.3)

    iris = np.array([[0.22, 0.12, 0.07], [0.25, 0.4, 0.6], [0.3, 0.42, 0.25], [0.08, 0.06, 0.05]])[rng.integers(4)]
    colours[eyes] = 0.93
    looked = eyes & (np.hypot(side - EYES[0], y - EYES[1]) < 0.0068)
    colours[looked] = iris
    colours[eyes & (np.hypot(side - EYES[0], y - EYES[1]) < 0.003)] = 0.03
