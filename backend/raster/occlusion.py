"""Whether a spot is still seen in another frame, by the depth that is drawn there.

Shape letters: H W picture, P spots.
"""

from __future__ import annotations

import torch
from torch import Tensor

BEHIND = 0.003
"""A spot counts as hidden when it lies this share of its distance behind what is drawn in its place."""

_NEAR = 0.01
"""Metres from the camera's plane that still count as in front of it."""


def hidden(depth_HW: Tensor, uv_P2: Tensor, z_P: Tensor) -> Tensor:
    """(P,) bool: spots in the picture that lie behind all four pixels around them.

    Four, as the drawn depths are those of pixel centres: on a slanted surface they bracket the spot's own.
    """
    height, width = depth_HW.shape
    within = inside(uv_P2, height, width) & (z_P > _NEAR)
    corner = torch.floor(torch.where(within[:, None], uv_P2, torch.zeros_like(uv_P2)) - 0.5).long()
    farthest = torch.zeros_like(z_P)
    for down in (0, 1):
        for right in (0, 1):
            column, row = (corner[:, 0] + right).clamp(0, width - 1), (corner[:, 1] + down).clamp(0, height - 1)
            farthest = torch.maximum(farthest, depth_HW[row, column])
    return within & (farthest < z_P * (1 - BEHIND))


def inside(uv_P2: Tensor, height: int, width: int) -> Tensor:
    """(P,) bool: in the picture; False where not finite."""
    return (uv_P2 >= 0).all(dim=1) & (uv_P2[:, 0] < width) & (uv_P2[:, 1] < height)
