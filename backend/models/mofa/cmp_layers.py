"""Parts of the network that turns a few known displacements into dense flow.

Shape letters: B batch, C channels, h w feature grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Bottleneck(nn.Module):
    """A residual unit 1x1 - 3x3 - 1x1 (He et al. 2016), the 3x3 with stride or dilation."""

    def __init__(self, in_channels: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        out_channels = 4 * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x_BChw: Tensor) -> Tensor:
        """(B,C,h,w) -> (B,4*width,h/stride,w/stride)."""
        y = F.relu(self.bn1(self.conv1(x_BChw)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        shortcut = x_BChw if self.downsample is None else self.downsample(x_BChw)
        return F.relu(y + shortcut)


class ImageEncoder(nn.Module):
    """A ResNet whose last two stages are dilated instead of reduced: features at 1/8.

    Args:
        widths, depths: of the four stages; a stage has 4 * width channels. The stem has ``widths[0]``.
        out_channels: of the result.
    """

    def __init__(self, widths: Sequence[int], depths: Sequence[int], out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = self._stage(widths[0], widths[0], depths[0], 1, 1)
        self.layer2 = self._stage(4 * widths[0], widths[1], depths[1], 2, 1)
        self.layer3 = self._stage(4 * widths[1], widths[2], depths[2], 1, 2)
        self.layer4 = self._stage(4 * widths[2], widths[3], depths[3], 1, 4)
        self.conv5 = nn.Conv2d(4 * widths[3], out_channels, 1)

    @staticmethod
    def _stage(in_channels: int, width: int, depth: int, stride: int, dilation: int) -> nn.Sequential:
        first = Bottleneck(in_channels, width, stride, dilation)
        return nn.Sequential(first, *(Bottleneck(4 * width, width, 1, dilation) for _ in range(depth - 1)))

    def forward(self, picture_B3HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features at 1/2 (the stem), 1/4 (stage 1) and 1/8 (the result)."""
        half = F.relu(self.bn1(self.conv1(picture_B3HW)))
        quarter = self.layer1(F.max_pool2d(half, 3, stride=2, padding=1))
        x = self.layer2(quarter)
        x = self.layer3(x)
        x = self.layer4(x)
        return half, quarter, self.conv5(x)


class SparseEncoder(nn.Module):
    """Known displacements and where they are known, at 1/8."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 5, stride=2, padding=2),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.AvgPool2d(2),
        )

    def forward(self, x_BChw: Tensor) -> Tensor:
        """(B,C,H,W) -> (B,C',H/8,W/8)."""
        return self.features(x_BChw)


def _convolution(in_channels: int, out_channels: int) -> list[nn.Module]:
    return [nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), nn.ReLU()]


def _branch(in_channels: int, width: int, pool: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.MaxPool2d(pool)] if pool > 1 else []
    for before in (in_channels, width, width):
        layers += _convolution(before, width)
    return nn.Sequential(*layers)


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)


class FlowDecoder(nn.Module):
    """Four branches at 1/8 to 1/64, fused, then refined at 1/4 and 1/2 with the picture's early features.

    Args:
        in_channels: at 1/8.
        quarter_channels, half_channels: of the picture's features at 1/4 and 1/2.
        width: of a branch.
        out_channels: of the result at 1/2.
    """

    def __init__(
        self, in_channels: int, quarter_channels: int, half_channels: int, width: int, out_channels: int
    ) -> None:
        super().__init__()
        self.decoder1 = _branch(in_channels, width, 1)
        self.decoder2 = _branch(in_channels, width, 2)
        self.decoder4 = _branch(in_channels, width, 4)
        self.decoder8 = _branch(in_channels, width, 8)
        self.fusion8 = nn.Sequential(*_convolution(4 * width, 2 * width))
        self.skipconv4 = nn.Sequential(*_convolution(quarter_channels, width))
        self.fusion4 = nn.Sequential(*_convolution(3 * width, width))
        self.skipconv2 = nn.Sequential(*_convolution(half_channels, width // 4))
        self.fusion2 = nn.Sequential(*_convolution(width + width // 4, width // 2))
        self.head = nn.Conv2d(width // 2, out_channels, 1)

    def forward(self, x_BChw: Tensor, quarter: Tensor, half: Tensor) -> Tensor:
        """(B,C,H/8,W/8) -> (B,out_channels,H/2,W/2)."""
        branches = [self.decoder1(x_BChw)]
        for branch in (self.decoder2, self.decoder4, self.decoder8):
            branches.append(_enlarge(branch(x_BChw), x_BChw))
        x = self.fusion8(torch.cat(branches, dim=1))
        x = self.fusion4(torch.cat([_enlarge(x, quarter), self.skipconv4(quarter)], dim=1))
        x = self.fusion2(torch.cat([_enlarge(x, half), self.skipconv2(half)], dim=1))
        return self.head(x)
