"""Blocks of the ISA-DiT (ISA paper, Sec. 5.2-5.3).

Shape letters: B batch, L latent frames, P video tokens of a latent frame, M point tokens of a latent frame, D width.
A suffix gives a tensor's axes: ``x_BLPD``.

Everything but the two temporal layers is independent per latent frame, so frames ride in the batch axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .inputs import ISAConditions
from .layers import CrossAttention, FeedForward, InterspatialAttention, SelfAttention, Time, modulate

MODULATIONS = 30
"""Shift, scale and gate at ten places of a block."""

KeysValues = tuple[Tensor, Tensor]

Place = Sequence[Tensor]
"""Shift, scale and gate (B,1,1,D) of one place of a block."""


class SpaceTimeBlock(nn.Module):
    """2D spatial transformer -> 2D temporal transformer: what every block does with its video tokens first."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, temporal_mlp_ratio: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.spatial_attention = SelfAttention(width, heads)
        self.spatial_mlp = FeedForward(width, mlp_ratio)
        self.temporal_attention = SelfAttention(width, heads)
        self.temporal_mlp = FeedForward(width, temporal_mlp_ratio) if temporal_mlp_ratio else None

    def space_time(
        self,
        x_BLPD: Tensor,
        spatial: Place,
        spatial_ff: Place,
        temporal: Place,
        temporal_ff: Place,
        time: Time,
    ) -> Tensor:
        """Update video tokens (B,L,P,D)."""
        b, frames = x_BLPD.shape[:2]
        # 2D spatial transformer: tokens of one latent frame (Eq. 15).
        h = modulate(self.norm(x_BLPD), spatial[0], spatial[1]).flatten(0, 1)
        x_BLPD = x_BLPD + spatial[2] * self.spatial_attention(h).unflatten(0, (b, frames))
        h = modulate(self.norm(x_BLPD), spatial_ff[0], spatial_ff[1])
        x_BLPD = x_BLPD + spatial_ff[2] * self.spatial_mlp(h)

        # 2D temporal transformer: one place over time (Eq. 16).
        h = modulate(self.norm(x_BLPD), temporal[0], temporal[1])
        x_BLPD = x_BLPD + temporal[2] * time.attend(self.temporal_attention, h)
        if self.temporal_mlp is not None:
            h = modulate(self.norm(x_BLPD), temporal_ff[0], temporal_ff[1])
            x_BLPD = x_BLPD + temporal_ff[2] * self.temporal_mlp(h)
        return x_BLPD


class LedBlock(SpaceTimeBlock):
    """A block whose video tokens also look at the camera and the references."""

    camera_attention: CrossAttention
    reference_attention: CrossAttention

    def forward(self, *arguments: Any, method: str = "update") -> Any:
        """Run ``update`` or another method: all go through here, for the hooks that move weights to see every use."""
        return getattr(self, method)(*arguments)

    def keys_values(self, camera_XPD: Tensor, reference_BRD: Tensor) -> tuple[KeysValues, KeysValues]:
        """Keys and values of the camera's and of the references' tokens, which all denoising steps share."""
        return self.camera_attention.keys_values(camera_XPD), self.reference_attention.keys_values(reference_BRD)

    def cross_attend(self, x_BLPD: Tensor, encoding_PD: Tensor, conditions: ISAConditions, index: int) -> Tensor:
        """Update video tokens; ``index`` is this block's place in the conditions' keys and values."""
        b, frames, tokens, _ = x_BLPD.shape
        # Camera cross-attention within each latent frame (Eq. 23).
        k, v = conditions.camera_keys[index].flatten(0, 1), conditions.camera_values[index].flatten(0, 1)
        h = self.camera_attention(x_BLPD.flatten(0, 1), k, v, pe=encoding_PD)
        x_BLPD = x_BLPD + h.unflatten(0, (b, frames))

        # Reference cross-attention, every frame to the same tokens (Eq. 21).
        mask = conditions.reference_mask[:, None, None]
        h = self.reference_attention(
            x_BLPD.flatten(1, 2), conditions.reference_keys[index], conditions.reference_values[index], mask
        )
        return x_BLPD + h.unflatten(1, (frames, tokens))


def modulation_places(modulation: Tensor, offset: Tensor, dtype: torch.dtype) -> list[Place]:
    """Shift, scale and gate of each place, from what all blocks share (B,3k,D) and a block's own offset (3k,D)."""
    places = (modulation + offset).to(dtype)[:, :, None, None].unflatten(1, (-1, 3))
    return [place.unbind(1) for place in places.unbind(1)]


class ISABlock(LedBlock):
    """2D spatial -> 2D temporal, in parallel 3D temporal -> symmetric ISA -> camera -> reference.

    Args:
        gain: see ``InterspatialAttention``.
        encoded: False leaves ISPE out of the interspatial attention (and there only), for the ablation of Sec. 6.4.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_ratio: float,
        temporal_mlp_ratio: float,
        gain: float,
        encoded: bool = True,
    ) -> None:
        super().__init__(width, heads, mlp_ratio, temporal_mlp_ratio)
        self.encoded = encoded
        self.point_temporal_attention = SelfAttention(width, heads)
        self.point_temporal_mlp = FeedForward(width, temporal_mlp_ratio) if temporal_mlp_ratio else None
        self.interspatial_attention = InterspatialAttention(width, heads, gain)
        self.video_mlp = FeedForward(width, mlp_ratio)
        self.point_mlp = FeedForward(width, mlp_ratio)
        self.camera_attention = CrossAttention(width, heads, kernel=True)
        self.reference_attention = CrossAttention(width, heads)
        # This block's own offset to the modulation that all blocks share.
        self.modulation = nn.Parameter(torch.zeros(MODULATIONS, width))

    def init_weights(self) -> None:
        """What does not start as linear layers usually do."""
        self.interspatial_attention.init_weights()
        self.camera_attention.init_weights()
        self.reference_attention.init_weights()

    def update(
        self,
        x_BLPD: Tensor,
        y_BLMD: Tensor,
        modulation: Tensor,
        encoding_PD: Tensor,
        time: Time,
        conditions: ISAConditions,
        index: int,
    ) -> tuple[Tensor, Tensor]:
        """Update video tokens x and point tokens y.

        Args:
            modulation: (B,30,D) shift, scale and gate of the ten places.
            encoding_PD: ISPE of the video tokens.
            time: the latent frames; those of x and y are this process's part of them.
            index: this block's place in the conditions' keys and values.
        """
        b, frames = x_BLPD.shape[:2]
        spatial, spatial_ff, temporal, temporal_ff, point_time, point_time_ff, video, video_ff, point, point_ff = (
            modulation_places(modulation, self.modulation, x_BLPD.dtype)
        )
        x_BLPD = self.space_time(x_BLPD, spatial, spatial_ff, temporal, temporal_ff, time)

        # 3D temporal transformer: one spot on the skin over time (Eq. 17).
        h = modulate(self.norm(y_BLMD), point_time[0], point_time[1])
        y_BLMD = y_BLMD + point_time[2] * time.attend(self.point_temporal_attention, h)
        if self.point_temporal_mlp is not None:
            h = modulate(self.norm(y_BLMD), point_time_ff[0], point_time_ff[1])
            y_BLMD = y_BLMD + point_time_ff[2] * self.point_temporal_mlp(h)

        # Symmetric interspatial transformer within each latent frame (Eq. 12-14, 18).
        h_x = modulate(self.norm(x_BLPD), video[0], video[1])
        h_y = modulate(self.norm(y_BLMD), point[0], point[1])
        if self.encoded:
            h_x, h_y = h_x + encoding_PD, h_y + conditions.point_encoding
        mask = conditions.point_mask.flatten(0, 1)[:, None, None]
        h_x, h_y = self.interspatial_attention(h_x.flatten(0, 1), h_y.flatten(0, 1), mask)
        x_BLPD = x_BLPD + video[2] * h_x.unflatten(0, (b, frames))
        y_BLMD = y_BLMD + point[2] * h_y.unflatten(0, (b, frames))
        x_BLPD = x_BLPD + video_ff[2] * self.video_mlp(modulate(self.norm(x_BLPD), video_ff[0], video_ff[1]))
        y_BLMD = y_BLMD + point_ff[2] * self.point_mlp(modulate(self.norm(y_BLMD), point_ff[0], point_ff[1]))

        return self.cross_attend(x_BLPD, encoding_PD, conditions, index), y_BLMD
