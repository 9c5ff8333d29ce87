"""Layers of the video VAE: all causal in time, all computable in chunks.

Shape letters: B batch, C channels, T frames (at whatever rate the layer works), H W image or feature map.
Tensors are (B, C, T, H, W).

A chunk after the first continues where the last one ended: every layer that looks back in time keeps its last
inputs in a ``CausalCache``. Norms and attention never mix frames, so chunks change nothing but memory.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CausalCache:
    """What the causal layers remember between one chunk and the next; one object for one pass over one clip.

    Attributes:
        first: True while the first chunk is being processed.
    """

    def __init__(self) -> None:
        self.first = True
        self._past: dict[int, Tensor] = {}

    def get(self, layer: nn.Module) -> Tensor | None:
        """Past input of a layer as it was put there, or None in the first chunk."""
        return self._past.get(id(layer))

    def put(self, layer: nn.Module, past: Tensor) -> None:
        """Remember a layer's last inputs, of any shape, for the next chunk."""
        self._past[id(layer)] = past.detach()

    def advance(self) -> None:
        """Call after each chunk."""
        self.first = False


class CausalConv3d(nn.Conv3d):
    """3D convolution that sees the present and the past, never the future.

    Before the first frame the first frame repeats, so that an image convolution inflated to the last temporal tap
    (or spread over the taps) gives the image network's result on a still.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, temporal_kernel: int = 3, stride: int = 1) -> None:
        padding = 0 if stride == 2 else kernel // 2
        super().__init__(
            c_in, c_out, (temporal_kernel, kernel, kernel), stride=(1, stride, stride), padding=(0, padding, padding)
        )
        self.past_frames = temporal_kernel - 1

    def forward(self, x: Tensor, cache: CausalCache | None = None) -> Tensor:  # type: ignore[override]
        """(B, C, T, H, W) -> (B, C', T, H', W')."""
        if self.stride[-1] == 2:
            x = F.pad(x, (0, 1, 0, 1))  # SD3's asymmetric padding before a strided convolution
        # Frames lie before channels in memory wherever convolutions fold them into the batch.
        x = x.transpose(1, 2)
        if self.past_frames:
            past = cache.get(self) if cache is not None else None
            if past is None:
                past = x[:, :1].expand(-1, self.past_frames, -1, -1, -1)
            x = torch.cat([past, x], dim=1)
            if cache is not None:
                cache.put(self, x[:, -self.past_frames :])
        if x.device.type == "cpu":
            return self._forward_folded(x)
        return super().forward(x.transpose(1, 2))

    def _forward_folded(self, x: Tensor) -> Tensor:
        """The same as one 2D convolution over (B, t, C, H, W): several times as fast on a CPU as a 3D one."""
        taps, frames = self.past_frames + 1, x.shape[1] - self.past_frames
        stacked = torch.cat([x[:, i : i + frames] for i in range(taps)], dim=2) if taps > 1 else x
        weight = self.weight.transpose(1, 2).flatten(1, 2)
        y = F.conv2d(stacked.flatten(0, 1), weight, self.bias, self.stride[1:], self.padding[1:])
        return y.unflatten(0, (x.shape[0], frames)).transpose(1, 2)


class FrameGroupNorm(nn.GroupNorm):
    """GroupNorm with the statistics of each frame alone, so that neither future nor chunk length leaks in."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(B, C, T, H, W) -> same."""
        b, c, t, h, w = x.shape
        x = x.transpose(1, 2).reshape(b * t, c, h, w)
        return super().forward(x).view(b, t, c, h, w).transpose(1, 2)


class ResnetBlock(nn.Module):
    """norm, SiLU, conv, norm, SiLU, conv, plus the (1x1-projected) input."""

    def __init__(self, c_in: int, c_out: int, groups: int, temporal_kernels: tuple[int, int]) -> None:
        super().__init__()
        self.norm1 = FrameGroupNorm(min(groups, c_in), c_in, eps=1e-6)
        self.conv1 = CausalConv3d(c_in, c_out, temporal_kernel=temporal_kernels[0])
        self.norm2 = FrameGroupNorm(min(groups, c_out), c_out, eps=1e-6)
        self.conv2 = CausalConv3d(c_out, c_out, temporal_kernel=temporal_kernels[1])
        self.conv_shortcut = CausalConv3d(c_in, c_out, kernel=1, temporal_kernel=1) if c_in != c_out else None

    def forward(self, x: Tensor, cache: CausalCache | None = None) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)), cache)
        h = self.conv2(F.silu(self.norm2(h)), cache)
        if self.conv_shortcut is not None:
            x = self.conv_shortcut(x)
        return x + h


class FrameAttention(nn.Module):
    """Single-head self-attention over the pixels of one frame, as in the middle of SD3's VAE."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = FrameGroupNorm(min(groups, channels), channels, eps=1e-6)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> same."""
        b, c, t, h, w = x.shape
        y = self.group_norm(x).permute(0, 2, 3, 4, 1).reshape(b * t, 1, h * w, c)
        y = F.scaled_dot_product_attention(self.to_q(y), self.to_k(y), self.to_v(y))
        y = self.to_out(y).view(b, t, h, w, c).permute(0, 4, 1, 2, 3)
        return x + y


class Downsample(nn.Module):
    """Halve space, time or both by averaging; then a convolution.

    In time the first frame stays alone and the others are averaged in pairs: 1+2k frames -> 1+k.
    ``kind`` "pool": average pooling, then a 3x3 convolution (the paper's account of SD3).
    ``kind`` "conv": the strided 3x3 convolution that diffusers' SD3 weights have.
    """

    def __init__(self, channels: int, spatial: bool, temporal: bool, kind: str, temporal_kernel: int) -> None:
        super().__init__()
        self.spatial, self.temporal, self.kind = spatial, temporal, kind
        stride = 2 if spatial and kind == "conv" else 1
        self.conv = CausalConv3d(channels, channels, temporal_kernel=temporal_kernel, stride=stride)

    def forward(self, x: Tensor, cache: CausalCache | None = None) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T', H', W')."""
        if self.temporal:
            has_first = cache is None or cache.first
            head, rest = (x[:, :, :1], x[:, :, 1:]) if has_first else (x[:, :, :0], x)
            if rest.shape[2] % 2:
                raise ValueError(f"a chunk has {x.shape[2]} frames where a temporal layer needs pairs")
            rest = rest.unflatten(2, (-1, 2)).mean(dim=3) if rest.shape[2] else rest
            x = torch.cat([head, rest], dim=2)
        if self.spatial and self.kind == "pool":
            b, c, t, h, w = x.shape
            x = F.avg_pool2d(x.transpose(1, 2).reshape(b * t, c, h, w), 2).view(b, t, c, h // 2, w // 2).transpose(1, 2)
        return self.conv(x, cache)


class Upsample(nn.Module):
    """Double space by repeating, then a convolution; double time by letting it give two frames for each one.

    In time 1+k frames -> 1+2k: of the first frame's two only the second is kept. Repeating frames instead would
    give a pair no way of telling its members apart where nothing has changed before it.
    """

    def __init__(self, channels: int, spatial: bool, temporal: bool, temporal_kernel: int) -> None:
        super().__init__()
        self.spatial, self.temporal = spatial, temporal
        self.conv = CausalConv3d(channels, channels * (2 if temporal else 1), temporal_kernel=temporal_kernel)

    def forward(self, x: Tensor, cache: CausalCache | None = None) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T', H', W')."""
        b, c, t, h, w = x.shape
        if self.spatial:
            x = x[:, :, :, :, None, :, None].expand(b, c, t, h, 2, w, 2).reshape(b, c, t, 2 * h, 2 * w)
        x = self.conv(x, cache)
        if self.temporal:
            x = torch.stack(x.chunk(2, dim=1), dim=3).flatten(2, 3)
            if cache is None or cache.first:
                x = x[:, :, 1:]
        return x


def to_blocks(x: Tensor, group: int, size: int, first: bool) -> Tensor:
    """Space-time to channels: (B, C, T, H, W) -> (B, L, h, w, C*group*size*size).

    ``group`` frames make one latent frame; with ``first`` the first frame makes one alone and counts ``group`` times.
    """
    if first:
        x = torch.cat([x[:, :, :1].expand(-1, -1, group - 1, -1, -1), x], dim=2)
    b, c, t, h, w = x.shape
    x = x.reshape(b, c, t // group, group, h // size, size, w // size, size)
    return x.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)


def from_blocks(x: Tensor, group: int, size: int, first: bool) -> Tensor:
    """The inverse of ``to_blocks``; what the first latent frame says of its one frame is averaged."""
    b, frames, h, w, _ = x.shape
    x = x.view(b, frames, h, w, -1, group, size, size).permute(0, 4, 1, 5, 2, 6, 3, 7)
    x = x.reshape(b, -1, frames, group, h * size, w * size)
    if not first:
        return x.flatten(2, 3)
    return torch.cat([x[:, :, :1].mean(dim=3), x[:, :, 1:].flatten(2, 3)], dim=2)


class MidBlock(nn.Module):
    """Residual block, attention within each frame (optional), residual block."""

    def __init__(self, channels: int, groups: int, attention: bool, temporal_kernels: tuple[int, int]) -> None:
        super().__init__()
        self.resnet_in = ResnetBlock(channels, channels, groups, temporal_kernels)
        self.attention = FrameAttention(channels, groups) if attention else None
        self.resnet_out = ResnetBlock(channels, channels, groups, temporal_kernels)

    def forward(self, x: Tensor, cache: CausalCache | None = None) -> Tensor:
        """(B, C, T, H, W) -> same."""
        x = self.resnet_in(x, cache)
        if self.attention is not None:
            x = self.attention(x)
        return self.resnet_out(x, cache)


class ResolutionLevel(nn.Module):
    """Residual blocks at one resolution, then the change to the next one (None at the end)."""

    def __init__(
        self, c_in: int, c_out: int, layers: int, groups: int, kernels: tuple[int, int], resample: nn.Module | None
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            ResnetBlock(c_in if i == 0 else c_out, c_out, groups, kernels) for i in range(layers)
        )
        self.resample = resample

    def forward(self, x: Tensor, cache: CausalCache | None = None) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T', H', W')."""
        for resnet in self.resnets:
            x = resnet(x, cache)
        if self.resample is not None:
            x = self.resample(x, cache)
        return x


class VideoEncoder(nn.Module):
    """Frames (B, 3, 1+4k, H, W) -> moments (B, 2*latent, 1+k, H/8, W/8)."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        channels: tuple[int, ...],
        spatial: tuple[bool, ...],
        temporal: tuple[bool, ...],
        layers: int,
        groups: int,
        kernels: tuple[int, int],
        attention: bool,
        downsample: str,
        patch_size: int,
        temporal_patch_size: int,
    ) -> None:
        super().__init__()
        self.patch = temporal_patch_size, patch_size
        c_in *= temporal_patch_size * patch_size**2
        self.conv_in = CausalConv3d(c_in, channels[0], temporal_kernel=kernels[0])
        self.levels = nn.ModuleList()
        for i, width in enumerate(channels):
            last = i == len(channels) - 1
            resample = None if last else Downsample(width, spatial[i], temporal[i], downsample, kernels[1])
            self.levels.append(ResolutionLevel(channels[max(i - 1, 0)], width, layers, groups, kernels, resample))
        self.mid = MidBlock(channels[-1], groups, attention, kernels)
        self.norm_out = FrameGroupNorm(min(groups, channels[-1]), channels[-1], eps=1e-6)
        self.conv_out = CausalConv3d(channels[-1], c_out, temporal_kernel=kernels[0])

    def forward(self, x: Tensor, cache: CausalCache | None = None) -> Tensor:
        """One chunk: 1+4a frames first, then any multiples of 4."""
        first = cache is None or cache.first
        x = to_blocks(x, *self.patch, first).permute(0, 4, 1, 2, 3)
        x = self.conv_in(x, cache)
        for level in self.levels:
            x = level(x, cache)
        x = self.mid(x, cache)
        return self.conv_out(F.silu(self.norm_out(x)), cache)


class VideoDecoder(nn.Module):
    """Latents (B, latent, 1+k, H/8, W/8) -> frames (B, 3, 1+4k, H, W)."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        channels: tuple[int, ...],
        spatial: tuple[bool, ...],
        temporal: tuple[bool, ...],
        layers: int,
        groups: int,
        kernels: tuple[int, int],
        attention: bool,
        patch_size: int,
        temporal_patch_size: int,
    ) -> None:
        super().__init__()
        self.patch = temporal_patch_size, patch_size
        widths = channels[::-1]
        self.conv_in = CausalConv3d(c_in, widths[0], temporal_kernel=kernels[0])
        self.mid = MidBlock(widths[0], groups, attention, kernels)
        self.levels = nn.ModuleList()
        for i, width in enumerate(widths):
            last = i == len(widths) - 1
            resample = None if last else Upsample(width, spatial[::-1][i], temporal[::-1][i], kernels[1])
            self.levels.append(ResolutionLevel(widths[max(i - 1, 0)], width, layers, groups, kernels, resample))
        self.norm_out = FrameGroupNorm(min(groups, widths[-1]), widths[-1], eps=1e-6)
        c_out *= temporal_patch_size * patch_size**2
        self.conv_out = CausalConv3d(widths[-1], c_out, temporal_kernel=kernels[0])

    def forward(self, z: Tensor, cache: CausalCache | None = None) -> Tensor:
        """One chunk of any number of latent frames."""
        first = cache is None or cache.first
        x = self.mid(self.conv_in(z, cache), cache)
        for level in self.levels:
            x = level(x, cache)
        x = self.conv_out(F.silu(self.norm_out(x)), cache)
        return from_blocks(x.permute(0, 2, 3, 4, 1), *self.patch, first)
