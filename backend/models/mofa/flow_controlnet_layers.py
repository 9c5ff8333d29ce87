"""Parts of MOFA-Video's adapters.

Shape letters: B batch, C channels, H W picture, h w feature grid, S = frames of a batch in one axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Residuals(NamedTuple):
    """What an adapter adds to the UNet.

    Attributes:
        down: one per skip connection, each (S,C,h,w) with the batch's frames in the first axis.
        mid: (S,C,h,w), for the middle block's output.
    """

    down: tuple[Tensor, ...]
    mid: Tensor


class PictureEmbedding(nn.Module):
    """A picture at an eighth of its size: 3x3 convolutions, every second of the inner ones with stride 2.

    Args:
        out_channels: of the result.
        widths: inner channels, four of them for an eighth.
    """

    def __init__(self, out_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for width, wider in pairwise(widths):
            self.blocks.append(nn.Conv2d(width, width, 3, padding=1))
            self.blocks.append(nn.Conv2d(width, wider, 3, padding=1, stride=2))
        self.conv_out = nn.Conv2d(widths[-1], out_channels, 3, padding=1)

    def forward(self, picture_B3HW: Tensor) -> Tensor:
        """(B,3,H,W) -> (B,C,H/8,W/8)."""
        x = F.silu(self.conv_in(picture_B3HW))
        for block in self.blocks:
            x = F.silu(block(x))
        return self.conv_out(x)


class FeatureStage(nn.Module):
    """Half the size: a 3x3 convolution with stride 2, and SiLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels, out_channels, 3, padding=1, stride=2)

    def forward(self, x_BChw: Tensor) -> Tensor:
        """(B,C,h,w) -> (B,C',h/2,w/2)."""
        return F.silu(self.conv_in(x_BChw))


class FeaturePyramid(nn.Module):
    """Features of the first frame at 1/16, 1/32 and 1/64.

    Args:
        channels: of the 1/8 feature that comes in, then of the three that go out.
        projected: whether what goes out passes a 1x1 convolution first. The next stage takes what did not.
    """

    def __init__(self, channels: Sequence[int], projected: bool) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(FeatureStage(fine, coarse) for fine, coarse in pairwise(channels))
        self.zeroconvs = nn.ModuleList(nn.Conv2d(width, width, 1) for width in channels[1:]) if projected else None

    def forward(self, x_BChw: Tensor) -> list[Tensor]:
        """(B,C,H/8,W/8) -> features at 1/16, 1/32, 1/64."""
        features = []
        for index, encoder in enumerate(self.encoders):
            x_BChw = encoder(x_BChw)
            features.append(x_BChw if self.zeroconvs is None else self.zeroconvs[index](x_BChw))
        return features


class _Layer(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)

    def forward(self, x_BChw: Tensor) -> Tensor:
        return F.relu(self.conv(x_BChw))


class _Encoder(nn.Module):
    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.down_blocks = nn.ModuleList(
            _Layer(before, after) for before, after in zip((in_channels, *widths[:-1]), widths, strict=True)
        )

    def forward(self, x_BChw: Tensor) -> list[Tensor]:
        outputs = []
        for block in self.down_blocks:
            x_BChw = block(x_BChw)
            outputs.append(x_BChw)
        return outputs


class _Decoder(nn.Module):
    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.up_blocks = nn.ModuleList()
        for index, width in enumerate(reversed(widths)):
            self.up_blocks.append(_Layer(width if index == 0 else 2 * width, width // 2))

    def forward(self, features: list[Tensor]) -> Tensor:
        x_BChw = self.up_blocks[0](features[-1])
        for block, skip in zip(self.up_blocks[1:], reversed(features[:-1]), strict=True):
            x_BChw = block(torch.cat([skip, x_BChw], dim=1))
        return x_BChw


class Hourglass(nn.Module):
    """Encoder and decoder with skip connections; in spite of the name, all at one resolution.

    Args:
        widths: doubling channels of the encoder; the decoder ends at half of the first.
    """

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.encoder = _Encoder(in_channels, widths)
        self.decoder = _Decoder(widths)

    def forward(self, x_BChw: Tensor) -> Tensor:
        """(B,C,h,w) -> (B,widths[0]/2,h,w)."""
        return self.decoder(self.encoder(x_BChw))


class Matting(nn.Module):
    """Fill what the forward splat left empty or wrong, from the feature before and after and the flow.

    Args:
        channels: of the feature.
        widths: of the hourglass.
    """

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.hourglass = Hourglass(2 * channels + 2, widths)
        self.matting_mask = nn.Conv2d(widths[0] // 2, 1, 7, padding=3)
        self.matting = nn.Conv2d(widths[0] // 2, channels, 7, padding=3)

    def forward(self, source_SChw: Tensor, moved_SChw: Tensor, flow_S2hw: Tensor) -> tuple[Tensor, Tensor]:
        """The mended feature (S,C,h,w), and the mask (S,1,h,w): 1 where the moved feature is kept."""
        x = self.hourglass(torch.cat([source_SChw, flow_S2hw, moved_SChw], dim=1))
        mask = torch.sigmoid(self.matting_mask(x))
        return mask * moved_SChw + (1 - mask) * self.matting(x), mask
