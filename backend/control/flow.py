"""How far every pixel of a frame moves until the next, from the scene's geometry.

Shape letters: H W film, P covered pixels, V vertices.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..raster.occlusion import hidden, inside
from ..raster.rasterise import project_torch
from .drawing import Drawn

_STILL = 2e-3
"""Pixels of motion that are rounding: of single precision, at the far end of a large set."""
_NEAR = 0.01
"""Metres from the camera's plane that still count as in front of it."""


@dataclass(frozen=True, eq=False)
class Flow:
    """Motion of one frame.

    Attributes:
        pixels: (H,W,2) float32, right and down.
        seen: (H,W) bool, the next frame shows the same spot.
    """

    pixels: Tensor
    seen: Tensor


def exact_flow(drawn: Drawn, after: Drawn) -> Flow:
    """Motion of what a frame shows until the next, which is drawn at the same size.

    What no surface shows is infinitely far away, as a sky is: it moves as the camera turns. What gets behind the camera
    keeps the place that it has.
    """
    _, height, width = drawn.raster.depth.shape
    device = drawn.vertices.device
    rows, columns = torch.meshgrid(
        torch.arange(height, device=device) + 0.5, torch.arange(width, device=device) + 0.5,
        indexing="ij",
    )  # fmt: skip
    here = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1).view(-1, 3)
    turn = after.view[:3, :3] @ drawn.view[:3, :3].T
    there = here @ torch.linalg.inv(drawn.lens).T @ turn.T @ after.lens.T
    depth = there[:, 2].clone()
    pixels = there[:, :2] / depth.clamp(min=1e-6)[:, None]
    spots = drawn.places(after.vertices)
    moved = project_torch(spots[None], after.view[None], after.lens[None])[0]
    pixels[drawn.raster.index], depth[drawn.raster.index] = moved[:, :2], moved[:, 2]
    known = torch.isfinite(drawn.depth()).flatten()
    before = depth > _NEAR * known
    pixels = torch.where(before[:, None], pixels, here[:, :2])
    seen = before & inside(pixels, height, width) & ~hidden(after.depth(), pixels, torch.where(known, depth, torch.inf))
    moved = pixels - here[:, :2]
    # What stands still does so exactly, whatever rounding makes of it.
    moved[moved.norm(dim=-1) < _STILL] = 0
    return Flow(moved.view(height, width, 2), seen.view(height, width))


def taken(picture: Tensor, pixels: Tensor) -> Tensor:
    """A picture (H,W,3) at spots that lie ``pixels`` (H,W,2) away."""
    height, width = picture.shape[:2]
    y, x = torch.meshgrid(
        torch.arange(height, device=picture.device), torch.arange(width, device=picture.device), indexing="ij"
    )
    places = torch.stack([x, y], dim=-1) + 0.5 + pixels
    grid = 2 * places / torch.tensor([width, height], device=picture.device) - 1
    found = F.grid_sample(
        picture.permute(2, 0, 1)[None], grid[None].float(), padding_mode="border", align_corners=False
    )
    return found[0].permute(1, 2, 0)
