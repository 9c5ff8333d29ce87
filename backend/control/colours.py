"""The palettes that public tools read control films by (torch and numpy).

Shape letters: H W film.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

PURE = (
    (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255),
    (255, 128, 0), (128, 0, 255), (0, 255, 128), (255, 0, 128), (128, 255, 0), (0, 128, 255),
)  # fmt: skip
"""Colours of the characters, in their order. The first six are those that masks are picked by."""

_SPANS = (15, 6, 4, 11, 13, 6)
"""Steps from red to yellow, green, cyan, blue, magenta and back to red (Baker et al., "A database and evaluation
methodology for optical flow", 2007)."""


def character_colour(index: int) -> tuple[int, int, int]:
    """The colour of a character; after the palette's end it begins again, darker."""
    dim = 2.0 ** -(index // len(PURE))
    return tuple(round(channel * dim) for channel in PURE[index % len(PURE)])  # type: ignore[return-value]


def _wheel() -> np.ndarray:
    """(55,3) float32 0..255, the hues of directions."""
    ends = np.array([(255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255), (255, 0, 255)], float)
    steps = []
    for k, span in enumerate(_SPANS):
        start, stop = ends[k], ends[(k + 1) % len(ends)]
        share = np.floor(255 * np.arange(span) / span)[:, None] / 255
        steps.append(start + (stop - start) * share)
    return np.concatenate(steps).astype(np.float32)


def flow_colours(flow: Tensor, longest: float) -> Tensor:
    """Flow (H,W,2), right and down, as RAFT and the Middlebury benchmark colour it: (H,W,3) float32 0..255.

    No motion is white; the direction is the hue, and the length its saturation up to ``longest`` pixels.
    """
    wheel = torch.as_tensor(_wheel(), device=flow.device)
    scaled = flow / max(longest, 1e-5)
    length = scaled.norm(dim=-1, keepdim=True).clamp(max=1)
    turn = torch.atan2(-scaled[..., 1], -scaled[..., 0]) / math.pi
    place = (turn + 1) / 2 * (len(wheel) - 1)
    low = torch.floor(place).long().clamp(max=len(wheel) - 1)
    high = (low + 1) % len(wheel)
    share = (place - low)[..., None]
    hue = ((1 - share) * wheel[low] + share * wheel[high]) / 255
    return torch.floor(255 * (1 - length * (1 - hue)))
