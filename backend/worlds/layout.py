"""Where the characters of a synthetic shot stand.

Shape letters: C characters, T frames, V vertices per character.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_CLEAR = 0.1
"""Metres that the chosen vertices of two bodies keep apart; the skin between them lies some centimetres off."""
_EVERY = 16
"""One of so many vertices is looked at."""
_MOMENTS = 5
"""Frames, spread over the film, at which bodies are kept apart."""
_STEP, _FARTHEST = 0.08, 4.0


def stand_apart(rng: np.random.Generator, bodies: Sequence[Tensor], azimuth: float) -> np.ndarray:
    """Places (C,3) float32 on the floor, around the origin, where bodies do not touch.

    Side by side as the camera sees them, one behind the other, or in between; always as close as that allows and some
    random room more, so that one often hides part of another.

    Args:
        bodies: vertices of each (T,V,3), standing at the origin.
        azimuth: radians towards the camera.
    """
    count = len(bodies)
    order = rng.permutation(count)
    turn = azimuth + np.pi / 2
    kind = rng.choice(["row", "diagonal", "file", "anyhow"], p=[0.4, 0.3, 0.1, 0.2])
    turn += {"row": rng.normal(0, 0.2), "diagonal": rng.choice([-1, 1]) * rng.uniform(0.5, 1.1), "file": np.pi / 2}.get(
        kind, rng.uniform(-np.pi, np.pi)
    )
    directions = np.zeros((count, 3), np.float32)
    if count > 2 and rng.random() < 0.4:
        # A ring rather than a line.
        around = turn + 2 * np.pi * np.arange(count) / count
        directions[:, :2] = np.stack([np.cos(around), np.sin(around)], axis=-1)
    else:
        along = np.arange(count) - (count - 1) / 2
        directions[:, :2] = along[:, None] * [np.cos(turn), np.sin(turn)]
    directions[:, :2] += rng.normal(0, 0.12, (count, 2))
    directions = directions[order]
    moments = np.unique(np.linspace(0, len(bodies[0]) - 1, _MOMENTS).round().astype(int))
    thin = torch.stack([body[moments, ::_EVERY] for body in bodies])
    ways = torch.as_tensor(directions, device=thin.device)[:, None, None]
    spread = rng.uniform(0.3, 0.6)
    while not _clear(thin + spread * ways) and spread < _FARTHEST:
        spread += _STEP
    spread += rng.uniform(0, 0.35) * (rng.random() < 0.6)
    return spread * directions


def _clear(bodies: Tensor) -> bool:
    """Whether no two bodies (C,T,V,3) come closer than ``_CLEAR`` at any moment."""
    pairs = torch.combinations(torch.arange(len(bodies), device=bodies.device))
    return all(float(torch.cdist(bodies[i], bodies[j]).min()) >= _CLEAR for i, j in pairs.tolist())
