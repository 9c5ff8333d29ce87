"""Layers of the ISA-DiT.

Shape letters: B batch, Q K query and key tokens, A attention heads, E head width, D = A*E model width,
L latent frames, P video tokens of a latent frame. ``...`` stands for any leading shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..group import Part, shares

_SHORT = 2**17
"""Query-key pairs per head up to which plain products win on a CPU."""


def sinusoids(x: Tensor, frequencies: int, lowest: float, highest: float) -> Tensor:
    """Sinusoidal encoding of coordinates at geometrically spaced angular frequencies.

    Args:
        x: (..., X) coordinates.
        frequencies: per coordinate.
        lowest, highest: radians per unit.

    Returns:
        (..., frequencies, X, 2), sine and cosine, float32.
    """
    steps = torch.linspace(0.0, 1.0, frequencies, device=x.device, dtype=torch.float32)
    omega = lowest * (highest / lowest) ** steps
    angles = omega[:, None] * x.float()[..., None, :]
    return torch.stack([angles.sin(), angles.cos()], dim=-1)


def interspatial_encoding(xyz: Tensor, width: int, heads: int, highest: float) -> Tensor:
    """ISPE: the sinusoidal encoding that video tokens and surface points share (Eq. 10-12).

    The inner product of two encodings falls with their distance. Frequencies are dealt out to the heads in turn, so
    that each head's slice spans all scales and is a distance kernel by itself.

    Args:
        xyz: (..., 3) x and y in NDC, z in [0, 1] with 0 at the near plane. Depth counts a quarter: a point in front
            of a pixel must stay closer to it than one beside it.
        width: D.
        heads: A.
        highest: highest frequency, radians per NDC unit; the lowest has a wavelength of 4 (twice the image).

    Returns:
        (..., D) float32; channels beyond the last multiple of 6 are zero.
    """
    count = width // 6
    xyz = xyz * xyz.new_tensor([1.0, 1.0, 0.25])
    waves = sinusoids(xyz, count, math.pi / 2, highest)
    order = torch.cat([torch.arange(head, count, heads) for head in range(heads)]).to(xyz.device)
    encoding = waves.index_select(-3, order).flatten(-3)
    return F.pad(encoding, (0, width - encoding.shape[-1]))


def group_frames(x: Tensor, dim: int, group: int) -> Tensor:
    """Frames by latent frame: axis ``dim`` of 1 + group*(L-1) frames becomes (L, group); frame 0 is repeated.

    An axis of group*L frames begins later in the film, with no frame 0 to repeat.
    """
    if x.shape[dim] % group == 0:
        return x.unflatten(dim, (-1, group))
    first = x.narrow(dim, 0, 1).repeat_interleave(group, dim=dim)
    return torch.cat([first, x.narrow(dim, 1, x.shape[dim] - 1)], dim=dim).unflatten(dim, (-1, group))


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """adaLN (Peebles & Xie 2023): x (B, ..., D), shift and scale (B, 1..., D)."""
    return torch.addcmul(shift, x, 1 + scale)


def rotary(positions: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Rotary position encoding over time, which extends to any length.

    Args:
        positions: (L,) in latent frames.
        width: E.

    Returns:
        cosines and sines, (L, E/2) float32.
    """
    half = width // 2
    omega = 100.0 ** (-torch.arange(half, device=positions.device, dtype=torch.float32) / half)
    angles = positions.float()[:, None] * omega
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Apply ``rotary`` to (B, A, L, E)."""
    cos, sin = (part.to(x.dtype) for part in rotation)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class TimestepEmbedding(nn.Module):
    """Sinusoids of the timestep, then an MLP."""

    def __init__(self, width: int, frequencies: int = 128) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.linear_in = nn.Linear(2 * frequencies, width)
        self.linear_out = nn.Linear(width, width)

    def forward(self, timestep: Tensor) -> Tensor:
        """(B,) in [0, 1000] -> (B, D)."""
        waves = sinusoids(timestep[:, None], self.frequencies, 1e-4, 1.0).flatten(1)
        return self.linear_out(F.silu(self.linear_in(waves.to(self.linear_in.weight.dtype))))


class FeedForward(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        self.linear_in = nn.Linear(width, int(width * ratio))
        self.linear_out = nn.Linear(int(width * ratio), width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> same."""
        return self.linear_out(F.gelu(self.linear_in(x), approximate="tanh"))


class QKNorm(nn.Module):
    """RMS norm of queries or keys per head, with a learned scale: keeps logits bounded."""

    def __init__(self, width: int, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), gain))

    def forward(self, x: Tensor) -> Tensor:
        """(..., E) -> same."""
        # Not F.rms_norm: on a CPU it is several times slower than these four operations.
        inverse = (torch.linalg.vector_norm(x, dim=-1, keepdim=True) + 1e-6).reciprocal()
        return x * inverse * (self.weight * x.shape[-1] ** 0.5).to(x.dtype)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, Q, A*E) -> (B, A, Q, E)."""
    return x.unflatten(-1, (heads, -1)).transpose(-3, -2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, A, Q, E) -> (B, Q, A*E)."""
    return x.transpose(-3, -2).flatten(-2)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention of queries (B, A, Q, E) to keys and values (B, A, K, E); mask (B, 1, 1, K) True where a key counts.

    torch's fused attention, except for short sequences on a CPU, where its blocking costs more than it saves: plain
    products are there 2 to 4 times as fast, backward pass included.
    """
    if q.device.type == "cpu" and q.shape[-2] * k.shape[-2] <= _SHORT:
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        return scores.softmax(dim=-1) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class SelfAttention(nn.Module):
    """Self-attention with normalised queries and keys; optional rotary encoding over the token axis."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width)
        self.norm_q = QKNorm(width // heads)
        self.norm_k = QKNorm(width // heads)
        self.to_out = nn.Linear(width, width)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """(B, Q, D) -> same."""
        q, k, v = (split_heads(part, self.heads) for part in self.to_qkv(x).chunk(3, dim=-1))
        q, k = self.norm_q(q), self.norm_k(k)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        return self.to_out(merge_heads(attend(q, k, v)))


@dataclass(frozen=True, eq=False)
class Time:
    """The latent frames of a film, for the layers that look along them.

    Attributes:
        rotation: rotary encoding of all of them.
        part: those that this process has.
    """

    rotation: tuple[Tensor, Tensor]
    part: Part

    def attend(self, attention: SelfAttention, x_BLQD: Tensor) -> Tensor:
        """Each of Q places or spots over all time, whoever has the other frames: (B,L,Q,D) -> same.

        Members of a group exchange frames for places and back: that moves less than to bring everybody all keys and
        values, and projections are shared out too.
        """
        group, b = self.part.group, x_BLQD.shape[0]
        x = group.exchange(x_BLQD, split=2, join=1, joined=self.part.counts)
        x = attention(x.transpose(1, 2).flatten(0, 1), self.rotation).unflatten(0, (b, -1)).transpose(1, 2)
        return group.exchange(x, split=1, join=2, joined=shares(x_BLQD.shape[2], group.size))


class CrossAttention(nn.Module):
    """Cross-attention whose keys and values depend on static conditions alone, and so are computed once a shot."""

    def __init__(self, width: int, heads: int, kernel: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.to_q = nn.Linear(width, width)
        self.to_kv = nn.Linear(width, 2 * width)
        self.norm_q = QKNorm(width // heads)
        self.norm_k = QKNorm(width // heads)
        self.to_out = nn.Linear(width, width)
        self.kernel = kernel

    def keys_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K, D) -> keys and values (B, A, K, E)."""
        k, v = (split_heads(part, self.heads) for part in self.to_kv(context).chunk(2, dim=-1))
        return self.norm_k(k), v

    def forward(self, x: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, pe: Tensor | None = None) -> Tensor:
        """x (B, Q, D), mask (B, 1, 1, K) True where a key counts, pe added to the queries -> (B, Q, D)."""
        h = self.norm(x)
        q = self.norm_q(split_heads(self.to_q(h if pe is None else h + pe), self.heads))
        return self.to_out(merge_heads(attend(q, k, v, mask)))

    def init_weights(self) -> None:
        """The output is zero at first; with ``kernel``, queries and keys are a distance kernel at first."""
        if self.kernel:
            nn.init.eye_(self.to_q.weight)
            nn.init.eye_(self.to_kv.weight.data[: self.to_q.out_features])
        nn.init.zeros_(self.to_out.weight)


class InterspatialAttention(nn.Module):
    """Symmetric interspatial attention (Eq. 12-14): video looks at points (rendering), points at video.

    Each side's tokens get the shared encoding ISPE added before queries, keys **and values**. Queries and keys start
    as the identity, so that at step 0 attention already is a kernel of distance in NDC and nothing has to be learned
    before points and pixels find each other; ``gain`` sets its sharpness.
    """

    def __init__(self, width: int, heads: int, gain: float) -> None:
        super().__init__()
        self.heads = heads
        self.video_to_qkv = nn.Linear(width, 3 * width)
        self.point_to_qkv = nn.Linear(width, 3 * width)
        self.video_norm_q = QKNorm(width // heads, gain)
        self.video_norm_k = QKNorm(width // heads, gain)
        self.point_norm_q = QKNorm(width // heads, gain)
        self.point_norm_k = QKNorm(width // heads, gain)
        self.video_to_out = nn.Linear(width, width)
        self.point_to_out = nn.Linear(width, width)

    def forward(self, video: Tensor, points: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Attend both ways within each latent frame.

        Args:
            video: (B, P, D) tokens with ISPE added.
            points: (B, M, D) tokens of all characters' points, with ISPE added.
            mask: (B, 1, 1, M) True for points that exist, or None when all do.

        Returns:
            Updates (B, P, D) and (B, M, D).
        """
        q_v, k_v, v_v = (split_heads(part, self.heads) for part in self.video_to_qkv(video).chunk(3, dim=-1))
        q_p, k_p, v_p = (split_heads(part, self.heads) for part in self.point_to_qkv(points).chunk(3, dim=-1))
        q_v, k_v = self.video_norm_q(q_v), self.video_norm_k(k_v)
        q_p, k_p = self.point_norm_q(q_p), self.point_norm_k(k_p)
        rendered = attend(q_v, k_p, v_p, mask)
        reconstructed = attend(q_p, k_v, v_v)
        return self.video_to_out(merge_heads(rendered)), self.point_to_out(merge_heads(reconstructed))

    def init_weights(self) -> None:
        """Queries and keys start as the identity."""
        width = self.video_to_out.in_features
        for linear in (self.video_to_qkv, self.point_to_qkv):
            nn.init.eye_(linear.weight.data[:width])
            nn.init.eye_(linear.weight.data[width : 2 * width])
