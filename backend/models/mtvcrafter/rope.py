"""Rotary tables of MTVCrafter's motion attention: video tokens ask, motion tokens answer.

Shape letters: L latent frames, h w grid of video tokens, J joints (24), S tokens, D head width.

A table is a pair (cos, sin), each (S,D) float32 with every angle twice in a row, so that channels 2i and 2i+1 form the
pair that one angle turns. Video tokens lie in the order (frame, row, column), motion tokens in (frame, joint).

Queries and keys share the time axis alone. The places of a key are those of the training set's mean pose about the
mean of its joints, in millimetres: the same for every motion, so in effect a name for each joint. Angles reach
hundreds of radians, which is why they are computed in float32 in a fixed order, as the weights were trained with.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor

Table: TypeAlias = tuple[Tensor, Tensor]
"""(cos, sin), each (S,D) float32."""

THETA = 10000.0


def _angles(positions_P: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """Angles (P, channels/2) of positions at the frequencies ``THETA ** (-2i / channels)``, computed in ``dtype``."""
    if channels % 2:
        raise ValueError(f"channels: {channels} cannot be split into pairs")
    exponents = torch.arange(0, channels, 2, dtype=dtype)[: channels // 2] / channels
    return torch.outer(positions_P.to(dtype), 1.0 / torch.pow(torch.tensor(THETA, dtype=dtype), exponents))


def _table(angles: list[Tensor]) -> Table:
    """Join the angles (S, half of an axis' channels) of the axes to a table."""
    joined = torch.cat(angles, dim=-1)
    cos, sin = joined.cos().float(), joined.sin().float()
    return cos.repeat_interleave(2, dim=-1), sin.repeat_interleave(2, dim=-1)


def _grid_table(sizes: tuple[int, int, int], split: tuple[int, int, int], dtype: torch.dtype) -> Table:
    axes = torch.meshgrid(*(torch.arange(size) for size in sizes), indexing="ij")
    return _table([_angles(axis.flatten(), channels, dtype) for axis, channels in zip(axes, split, strict=True)])


def _key_table(latent_frames: int, mean_joints_J3: Tensor, split: tuple[int, int, int, int]) -> Table:
    joints = len(mean_joints_J3)
    mean = mean_joints_J3.to(device="cpu", dtype=torch.float32)
    # The middle is summed in float64: no order of summation can then move it by a float32 step.
    centred = mean - mean.double().mean(dim=0).float()
    time = torch.arange(latent_frames).repeat_interleave(joints)
    places = [centred[:, axis].repeat(latent_frames) for axis in range(3)]
    return _table(
        [_angles(axis, channels, torch.float32) for axis, channels in zip((time, *places), split, strict=True)]
    )


def split_7b(head_dim: int = 64) -> tuple[tuple[int, int, int], tuple[int, int, int, int]]:
    """Channels of (t, h, w) of a query and of (t, x, y, z) of a key: 16|24|24 and 16|16|16|16 at width 64."""
    quarter = head_dim // 4
    return (quarter, 3 * head_dim // 8, 3 * head_dim // 8), (quarter, quarter, quarter, quarter)


def split_17b(head_dim: int = 128) -> tuple[tuple[int, int, int], tuple[int, int, int, int]]:
    """Channels of (t, h, w) of a query and of (t, x, y, z) of a key: 44|42|42 and 44|28|28|28 at width 128."""
    side = 2 * (head_dim // 6)
    time = head_dim - 2 * side
    third = 2 * side // 3
    return (time, side, side), (time, third, third, third)


def query_rope_7b(frames: int, height: int, width: int, head_dim: int = 64) -> Table:
    """Table of CogVideoX's video tokens, by integer positions whatever the picture's size.

    Args:
        frames: latent frames L.
        height, width: of the token grid (latent size over the patch size).

    Returns:
        cos and sin, (L*h*w, head_dim) float32.
    """
    return _grid_table((frames, height, width), split_7b(head_dim)[0], torch.float32)


def query_rope_17b(frames: int, height: int, width: int, head_dim: int = 128) -> Table:
    """Table of Wan's video tokens; the angles are computed in float64 as Wan does. As ``query_rope_7b``."""
    return _grid_table((frames, height, width), split_17b(head_dim)[0], torch.float64)


def key_rope_7b(latent_frames: int, mean_joints: Tensor, head_dim: int = 64) -> Table:
    """Table of motion tokens for MV-DiT-7B.

    Args:
        latent_frames: L, of the tokenizer (13 for 49 frames).
        mean_joints: (24,3) millimetres, mean of the training set, not of the clip.

    Returns:
        cos and sin, (L*24, head_dim) float32.
    """
    return _key_table(latent_frames, mean_joints, split_7b(head_dim)[1])


def key_rope_17b(latent_frames: int, mean_joints: Tensor, head_dim: int = 128) -> Table:
    """Table of motion tokens for MV-DiT-17B. As ``key_rope_7b``."""
    return _key_table(latent_frames, mean_joints, split_17b(head_dim)[1])


def rotate(x_SD: Tensor, table: Table) -> Tensor:
    """Turn each pair of neighbouring channels of ``x`` (..., S, D) by its angle, in float32; returns x's dtype."""
    cos, sin = (part.to(x_SD.device, torch.float32) for part in table)
    x = x_SD.float()
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = torch.stack((-odd, even), dim=-1).flatten(-2)
    return (x * cos + turned * sin).to(x_SD.dtype)
