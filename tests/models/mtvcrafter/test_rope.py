"""Rotary tables: agreement with the stock ones, millimetre phases, and time as the one shared axis."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.models.mtvcrafter.rope import (
    key_rope_7b,
    key_rope_17b,
    query_rope_7b,
    query_rope_17b,
    rotate,
    split_7b,
    split_17b,
)
from maquette.backend.shot.framing import read_statistics
from torch import Tensor

MEAN = torch.from_numpy(read_statistics().mean)


def test_channels_of_the_axes() -> None:
    assert split_7b() == ((16, 24, 24), (16, 16, 16, 16))
    assert split_17b() == ((44, 42, 42), (44, 28, 28, 28))


@pytest.mark.parametrize(("key", "width"), [(key_rope_7b, 64), (key_rope_17b, 128)])
def test_places_are_millimetres_of_the_mean_pose(key, width: int) -> None:
    cos, sin = key(3, MEAN)
    assert cos.shape == sin.shape == (72, width)
    time, _, _, depth = split_7b()[1] if width == 64 else split_17b()[1]
    centred = MEAN.double() - MEAN.double().mean(dim=0)
    for joint in (0, 10, 15):
        row = cos[2 * 24 + joint].double()
        # The first frequency of an axis is 1 per millimetre, the last pair's is nearly 0.
        assert row[0] == pytest.approx(math.cos(2.0), abs=1e-4)
        for axis, start in enumerate((time, time + depth, time + 2 * depth)):
            assert row[start] == pytest.approx(math.cos(centred[joint, axis]), abs=1e-3)
            assert row[start + 1] == row[start]
    metres = key(3, MEAN / 1000)[0]
    assert (metres[:, time:] - cos[:, time:]).abs().max() > 0.5
    not_centred = key(3, MEAN * 1.0 + torch.tensor([[100.0, 0.0, 0.0]] * 24))[0]
    torch.testing.assert_close(not_centred, cos, atol=1e-3, rtol=0)


@pytest.mark.parametrize("key", [key_rope_7b, key_rope_17b])
def test_places_are_the_same_in_every_frame(key) -> None:
    time = 16 if key is key_rope_7b else 44
    for table in key(5, MEAN):
        frames = table.view(5, 24, -1)
        assert torch.equal(frames[:, :, time:], frames[:1, :, time:].expand(5, -1, -1))
        assert torch.equal(frames[:, :, :time], frames[:, :1, :time].expand(-1, 24, -1))


@pytest.mark.parametrize(("query", "key"), [(query_rope_7b, key_rope_7b), (query_rope_17b, key_rope_17b)])
def test_queries_and_keys_share_time(query, key) -> None:
    time = 16 if key is key_rope_7b else 44
    asked, answered = query(4, 2, 3), key(4, MEAN)
    for ours, theirs in zip(asked, answered, strict=True):
        torch.testing.assert_close(
            ours.view(4, 6, -1)[:, 0, :time], theirs.view(4, 24, -1)[:, 0, :time], atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("query", [query_rope_7b, query_rope_17b])
def test_positions_are_indices_whatever_the_grid(query) -> None:
    small, large = query(3, 4, 5), query(3, 9, 7)
    for a, b in zip(small, large, strict=True):
        assert torch.equal(a.view(3, 4, 5, -1), b.view(3, 9, 7, -1)[:, :4, :5])


def test_wan_queries_are_the_stock_ones() -> None:
    stock = WanRotaryPosEmbed(128, (1, 2, 2), 64)
    cos, sin = stock(torch.zeros(1, 16, 5, 8, 12))
    ours = query_rope_17b(5, 4, 6)
    torch.testing.assert_close(ours[0], cos[0, :, 0], atol=1e-6, rtol=0)
    torch.testing.assert_close(ours[1], sin[0, :, 0], atol=1e-6, rtol=0)


def test_rotation_is_the_stock_one() -> None:
    x = torch.randn(2, 3, 72, 64, generator=torch.Generator().manual_seed(0))
    table = key_rope_7b(3, MEAN)
    torch.testing.assert_close(rotate(x, table), apply_rotary_emb(x, table), atol=1e-6, rtol=0)
    assert rotate(x.bfloat16(), table).dtype == torch.bfloat16


@given(shift=st.integers(0, 20), ahead=st.integers(0, 20), seed=st.integers(0, 1000))
def test_attention_sees_differences_of_time(shift: int, ahead: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, 1, 16, generator=generator)
    table = query_rope_7b(64, 1, 1)

    def at(x: Tensor, frame: int) -> Tensor:
        return rotate(x, (table[0][frame : frame + 1, :16], table[1][frame : frame + 1, :16]))

    near = (at(q, 3 + ahead) * at(k, 3)).sum()
    far = (at(q, 3 + shift + ahead) * at(k, 3 + shift)).sum()
    torch.testing.assert_close(near, far, atol=1e-3, rtol=1e-4)
