"""What latents look like, roughly, without the VAE: colours as a linear function of a latent's channels.

The function is fitted to a picture whose latents are known, the reference, so it serves any VAE.

Shape letters: C latent channels, h w latent, H W picture.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_DAMPING = 1e-2


class LatentColours:
    """A fit of colours to latents.

    Args:
        latents_Chw: of the picture.
        picture_3HW: in [-1, 1].
    """

    def __init__(self, latents_Chw: Tensor, picture_3HW: Tensor) -> None:
        x = self._rows(latents_Chw)
        h, w = latents_Chw.shape[-2:]
        y = F.adaptive_avg_pool2d(picture_3HW.float().cpu(), (h, w)).flatten(1).T
        damping = _DAMPING * len(x) * torch.eye(x.shape[1])
        self._weights = torch.linalg.solve(x.T @ x + damping, x.T @ y)

    @staticmethod
    def _rows(latents_Chw: Tensor) -> Tensor:
        flat = latents_Chw.float().cpu().flatten(1).T
        return torch.cat([flat, torch.ones(len(flat), 1)], dim=1)

    def __call__(self, latents_Chw: Tensor, width: int, height: int) -> np.ndarray:
        """Latents as a picture (height, width, 3) uint8."""
        h, w = latents_Chw.shape[-2:]
        colours = (self._rows(latents_Chw) @ self._weights).T.reshape(1, 3, h, w)
        picture = F.interpolate(colours, (height, width), mode="bilinear", align_corners=False)[0]
        picture = torch.nan_to_num(picture).clamp(-1, 1)
        return ((picture + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()


def chart_colours(encode: Callable[[Tensor], Tensor], side: int) -> LatentColours:
    """What latents look like, by a picture of all kinds of colours, always the same.

    Args:
        encode: a picture (3,S,S) in [-1, 1] as latents (C,h,w).
        side: S, pixels.
    """
    colours = 2 * torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) - 1
    chart = F.interpolate(colours, (side, side), mode="bicubic").clamp(-1, 1)[0]
    return LatentColours(encode(chart), chart)
