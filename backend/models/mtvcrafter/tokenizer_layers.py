"""Layers of MTVCrafter's motion tokenizer (4DMoT): residual blocks, resampling of time, nearest codes.

Shape letters: B batch (of chunks), C channels, F frames (or latent frames), J joints (24), D code width, K codes.
Tensors are picture-like, (B,C,F,J): frames down, joints across. Names of parts are those of the published weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_ROWS = 2048
"""Vectors compared with the codebook at once, which bounds memory."""


def dilation(channels: int) -> int:
    """Dilation of a block's 3x3 convolution: 3 at 128 channels, 1 from 256 on. The published weights depend on it."""
    return max(1, 512 // channels - 1)


class ResidualBlock(nn.Module):
    """GroupNorm, SiLU, dilated 3x3; GroupNorm, SiLU, 1x1; plus the input (through a 1x1 where the width changes)."""

    def __init__(self, in_channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        reach = dilation(out_channels)
        self.block = nn.Sequential(
            nn.GroupNorm(groups, in_channels, eps=1e-6),
            nn.SiLU(),
            nn.Conv2d(in_channels, out_channels, 3, padding=reach, dilation=reach),
            nn.GroupNorm(groups, out_channels, eps=1e-6),
            nn.SiLU(),
            nn.Conv2d(out_channels, out_channels, 1),
        )
        self.conv_short = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x_BCFJ: Tensor) -> Tensor:
        norm_1, silu_1, conv_1, norm_2, silu_2, conv_2 = self.block
        h = conv_1(silu_1(norm_1(x_BCFJ)))
        h = conv_2(silu_2(norm_2(h)))
        return h + (x_BCFJ if self.conv_short is None else self.conv_short(x_BCFJ))


def _over_joints(conv: nn.Conv1d, x_BCFJ: Tensor) -> Tensor:
    """Apply a 1D convolution along the joints of every frame."""
    batch, _, frames, joints = x_BCFJ.shape
    y = conv(x_BCFJ.transpose(1, 2).reshape(batch * frames, -1, joints))
    return y.reshape(batch, frames, -1, joints).transpose(1, 2)


def pool_time(x_BCFJ: Tensor, factor: int) -> Tensor:
    """Average every ``factor`` frames; of an odd number of frames the first is kept as it is."""
    if factor == 1:
        return x_BCFJ
    head, rest = (x_BCFJ[:, :, :1], x_BCFJ[:, :, 1:]) if x_BCFJ.shape[2] % 2 else (x_BCFJ[:, :, :0], x_BCFJ)
    return torch.cat([head, F.avg_pool2d(rest, (factor, 1), (factor, 1))], dim=2)


def stretch_time(x_BCFJ: Tensor, factor: int) -> Tensor:
    """Interpolate to ``factor`` times the frames, ends on ends; of an odd number the first is kept as it is."""
    if factor == 1:
        return x_BCFJ
    odd = x_BCFJ.shape[2] % 2
    head, rest = x_BCFJ[:, :, :odd], x_BCFJ[:, :, odd:]
    size = (factor * rest.shape[2], rest.shape[3])
    return torch.cat([head, F.interpolate(rest, size, mode="bilinear", align_corners=True)], dim=2)


class Downsample(nn.Module):
    """Halve the frames, then convolve along the joints."""

    def __init__(self, channels: int, time: int) -> None:
        super().__init__()
        self.time = time
        self.joint_downsample = nn.Conv1d(channels, channels, 3, padding=1)

    def forward(self, x_BCFJ: Tensor) -> Tensor:
        return _over_joints(self.joint_downsample, pool_time(x_BCFJ, self.time))


class Upsample(nn.Module):
    """Double the frames, then convolve along the joints."""

    def __init__(self, channels: int, time: int) -> None:
        super().__init__()
        self.time = time
        self.upsampler = nn.Conv1d(channels, channels, 3, padding=1)

    def forward(self, x_BCFJ: Tensor) -> Tensor:
        return _over_joints(self.upsampler, stretch_time(x_BCFJ, self.time))


class MotionEncoder(nn.Module):
    """One chunk of normalised joints (B,3,F,J) to latents (B,D,F/4,J)."""

    def __init__(self, widths: Sequence[int], code_dim: int, time: Sequence[int], groups: int, layers: int) -> None:
        super().__init__()
        near, far = widths
        self.conv_in = nn.Conv2d(3, near, 3, padding=1)
        self.resnet1 = nn.ModuleList(ResidualBlock(near, near, groups) for _ in range(layers))
        self.downsample1 = Downsample(near, time[0])
        self.resnet2 = ResidualBlock(near, far, groups)
        self.resnet3 = nn.ModuleList(ResidualBlock(far, far, groups) for _ in range(layers))
        self.downsample2 = Downsample(far, time[1])
        self.conv_out = nn.Conv2d(far, code_dim, 3, padding=1)

    def forward(self, x_B3FJ: Tensor) -> Tensor:
        x = self.conv_in(x_B3FJ)
        for block in self.resnet1:
            x = block(x)
        x = self.downsample1(x)
        x = self.resnet2(x)
        for block in self.resnet3:
            x = block(x)
        x = self.downsample2(x)
        return self.conv_out(x)


class MotionDecoder(nn.Module):
    """One chunk of code vectors (B,D,f,J) to normalised joints (B,3,4f,J)."""

    def __init__(self, widths: Sequence[int], code_dim: int, time: Sequence[int], groups: int, layers: int) -> None:
        super().__init__()
        near, far = widths
        self.conv_in = nn.Conv2d(code_dim, far, 3, padding=1)
        self.resnet1 = nn.ModuleList(ResidualBlock(far, far, groups) for _ in range(layers))
        self.upsample1 = Upsample(far, time[1])
        self.resnet2 = ResidualBlock(far, near, groups)
        self.resnet3 = nn.ModuleList(ResidualBlock(near, near, groups) for _ in range(layers))
        self.upsample2 = Upsample(near, time[0])
        self.conv_out = nn.Conv2d(near, 3, 3, padding=1)

    def forward(self, z_BDFJ: Tensor) -> Tensor:
        x = self.conv_in(z_BDFJ)
        for block in self.resnet1:
            x = block(x)
        x = self.upsample1(x)
        x = self.resnet2(x)
        for block in self.resnet3:
            x = block(x)
        x = self.upsample2(x)
        return self.conv_out(x)


@dataclass(frozen=True)
class Quantized:
    """Latents and the codes nearest to them.

    Attributes:
        codes: (B,D,F,J) codebook rows.
        indices: (B,F,J) int64, rows of the codebook.
        loss: () mean squared distance of latents and codes; its gradient reaches the latents alone.
    """

    codes: Tensor
    indices: Tensor
    loss: Tensor


class Codebook(nn.Module):
    """The codes. A buffer, since training moves them by averages and not by gradients."""

    codebook: Tensor

    def __init__(self, codes: int, code_dim: int) -> None:
        super().__init__()
        self.register_buffer("codebook", torch.zeros(codes, code_dim))

    def nearest(self, x_ND: Tensor) -> Tensor:
        """Row of the nearest code by squared distance, (N,) int64. Ties go to the first."""
        codes_KD = self.codebook
        squares_K = codes_KD.square().sum(dim=1)
        # A vector's own square shifts all its distances alike.
        return torch.cat([(squares_K - 2 * rows @ codes_KD.T).argmin(dim=1) for rows in x_ND.split(_ROWS)])

    def forward(self, z_BDFJ: Tensor) -> Quantized:
        batch, width, frames, joints = z_BDFJ.shape
        with torch.no_grad():
            indices = self.nearest(z_BDFJ.permute(0, 2, 3, 1).reshape(-1, width)).view(batch, frames, joints)
            codes = F.embedding(indices, self.codebook).permute(0, 3, 1, 2)
        return Quantized(codes, indices, F.mse_loss(z_BDFJ, codes))
