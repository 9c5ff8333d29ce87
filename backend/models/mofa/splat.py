"""Dense motion of the first frame, and features carried forward along it.

Shape letters: B batch, T frames, N = T-1 frames after the first, C channels, H W picture, h w feature grid.

Flow goes from frame 0 to each later frame: the displacement in pixels of what lies at a pixel of frame 0, x to the
right, y down. NaN stands where the surface cannot be seen in the later frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

_EPS = 1e-7
"""Keeps the division finite where nothing arrives (MOFA-Video)."""

_DEPTH_POWER = 50.0
"""A source 2 % farther than another at the same target counts 1/e as much; relative, so that the scale of the scene
does not matter."""


def splat(features_BChw: Tensor, flow_B2hw: Tensor, metric_B1hw: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Carry every pixel to where the flow points, and average what arrives (Niklaus and Liu 2020, Sec. 3).

    Each source is spread bilinearly on four neighbours; what falls outside is dropped. A source whose flow is not
    finite is skipped. Pixels that nothing reaches are 0.

    Args:
        features_BChw: what is carried.
        flow_B2hw: pixels of the feature grid.
        metric_B1hw: importance Z of a source: where several arrive, each counts exp(Z) ("softmax splatting"); None for
            a plain average.

    Returns:
        The average (B,C,h,w) in the features' type, and the sum of weights (B,1,h,w), float32. With a metric, weights
        are relative to the most important source that reaches the pixel.
    """
    B, C, h, w = features_BChw.shape
    device = features_BChw.device
    flow = flow_B2hw.float()
    rows = torch.arange(h, device=device, dtype=torch.float32)[:, None]
    columns = torch.arange(w, device=device, dtype=torch.float32)
    x_BP, y_BP = (columns + flow[:, 0]).flatten(1), (rows + flow[:, 1]).flatten(1)
    finite_BP = x_BP.isfinite() & y_BP.isfinite()
    # Far targets only have to stay outside; as integers they might overflow.
    x_BP = x_BP.nan_to_num(0.0).clamp(-2.0, w + 1.0)
    y_BP = y_BP.nan_to_num(0.0).clamp(-2.0, h + 1.0)
    left_BP, top_BP = x_BP.floor(), y_BP.floor()

    corners: list[tuple[Tensor, Tensor]] = []
    for down in (0, 1):
        for right in (0, 1):
            column, row = left_BP + right, top_BP + down
            weight = (1 - (x_BP - column).abs()) * (1 - (y_BP - row).abs())
            inside = finite_BP & (column >= 0) & (column < w) & (row >= 0) & (row < h)
            index = (row.clamp(0, h - 1) * w + column.clamp(0, w - 1)).long()
            corners.append((index, torch.where(inside, weight, torch.zeros_like(weight))))

    if metric_B1hw is not None:
        metric_BP = metric_B1hw.float().flatten(1)
        # Relative to the greatest metric at each target, as a softmax, so that nothing over- or underflows.
        greatest_BP = torch.full((B, h * w), -torch.inf, device=device)
        for index, weight in corners:
            reaching = torch.where(weight > 0, metric_BP, torch.full_like(metric_BP, -torch.inf))
            greatest_BP.scatter_reduce_(1, index, reaching, "amax")
        corners = [
            (index, torch.where(weight > 0, weight * (metric_BP - greatest_BP.gather(1, index)).exp(), weight))
            for index, weight in corners
        ]

    values_BCP = features_BChw.float().flatten(2)
    total_BCP = torch.zeros(B, C, h * w, device=device)
    weight_BP = torch.zeros(B, h * w, device=device)
    for index, weight in corners:
        total_BCP.scatter_add_(2, index[:, None].expand(-1, C, -1), values_BCP * weight[:, None])
        weight_BP.scatter_add_(1, index, weight)
    average_BCP = total_BCP / (weight_BP[:, None] + _EPS)
    return average_BCP.view(B, C, h, w).to(features_BChw.dtype), weight_BP.view(B, 1, h, w)


@dataclass(frozen=True, eq=False)
class PixelMotion:
    """Where the first frame's pixels go.

    Attributes:
        flow: (B,N,2,H,W) pixels, from frame 0 to frames 1..N; NaN where the surface cannot be seen any more.
        depth: (B,N,H,W) distance from the camera along its axis, in frames 1..N, of what lies at each pixel of frame
            0; any unit, above zero. Settles which of two surfaces is in front where both arrive. None: unknown.
        labels: (B,H,W) integers, which body a pixel of frame 0 shows. None: unknown.
    """

    flow: Tensor
    depth: Tensor | None = None
    labels: Tensor | None = None

    @property
    def frames(self) -> int:
        """Of the clip, the first included."""
        return self.flow.shape[1] + 1

    def to(self, device: torch.device | str) -> PixelMotion:
        """The same on another device."""
        values: dict[str, Any] = {key: x if x is None else x.to(device) for key, x in vars(self).items()}
        return PixelMotion(**values)

    def select(self, frames: list[int]) -> PixelMotion:
        """The motion of some frames, given as increasing numbers of the clip that begin with 0."""
        later = [frame - 1 for frame in frames[1:]]
        depth = None if self.depth is None else self.depth[:, later]
        return replace(self, flow=self.flow[:, later], depth=depth)

    def reduced(self, factor: int, parity: bool) -> PixelMotion:
        """The motion on a grid that is ``factor`` times coarser, in that grid's pixels.

        Args:
            parity: as published, the top-left pixel stands for its block. Otherwise the mean over the block's visible
                pixels; with labels, over those of the block's most frequent body, so that a silhouette does not drag
                the background along.
        """
        if parity:
            flow = self.flow[..., ::factor, ::factor] / factor
            return PixelMotion(flow, None if self.depth is None else self.depth[..., ::factor, ::factor])
        blocks_BNXhwP = _blocks(self.flow, factor)
        valid_BNhwP = blocks_BNXhwP.isfinite().all(2)
        if self.labels is not None:
            labels_BhwP = _blocks(self.labels, factor)
            valid_BNhwP &= (labels_BhwP == labels_BhwP.mode(-1, keepdim=True).values)[:, None]
        depth = None if self.depth is None else _mean(_blocks(self.depth, factor), valid_BNhwP)
        return PixelMotion(_mean(blocks_BNXhwP, valid_BNhwP[:, :, None]) / factor, depth)

    def carry(self, features_BChw: Tensor, parity: bool) -> Tensor:
        """The first frame's features in every frame.

        Args:
            features_BChw: of frame 0, on the motion's own grid.
            parity: as published, a plain average of what arrives; otherwise, if there is depth, nearer sources hide
                farther ones.

        Returns:
            (B,T,C,h,w): frame 0 as it is, then what arrives in each later frame.
        """
        B, N = self.flow.shape[:2]
        metric = None
        if self.depth is not None and not parity:
            metric = (-_DEPTH_POWER * self.depth.float().clamp(min=1e-6).log()).flatten(0, 1)[:, None]
            metric = metric.nan_to_num(nan=-1e30, neginf=-1e30)
        sources = features_BChw.repeat_interleave(N, dim=0)
        moved, _ = splat(sources, self.flow.flatten(0, 1), metric)
        return torch.cat([features_BChw[:, None], moved.unflatten(0, (B, N))], dim=1)


def _blocks(x: Tensor, factor: int) -> Tensor:
    """(...,H,W) -> (...,h,w,factor*factor)."""
    x = x.unflatten(-2, (-1, factor)).unflatten(-1, (-1, factor))
    return x.transpose(-3, -2).flatten(-2)


def _mean(x: Tensor, valid: Tensor) -> Tensor:
    """Mean over the last axis where valid; NaN where nothing is."""
    return torch.where(valid, x, torch.zeros_like(x)).sum(-1) / valid.sum(-1)
