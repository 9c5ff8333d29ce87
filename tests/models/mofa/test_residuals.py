"""Residuals in the stock UNet, against a forward pass written out with the published loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.models.mofa.flow_controlnet_layers import Residuals
from maquette.backend.models.mofa.residuals import adding, blend, multiplicities, predict
from torch import Tensor

from .networks import TWO_LAYERS, network, noise, tiny_spec


@pytest.fixture(scope="module")
def unet(tmp_path_factory) -> UNetSpatioTemporalConditionModel:
    return network(tiny_spec(tmp_path_factory.mktemp("models"), False, TWO_LAYERS), "unet")


def arguments() -> tuple[Tensor, ...]:
    return noise(1, 3, 8, 8, 16), torch.tensor(0.7), noise(1, 1, 32, seed=1), torch.tensor([[6.0, 128.0, 0.02]])


def residuals() -> Residuals:
    shapes = [
        (32, 8),
        (32, 8),
        (32, 8),
        (32, 4),
        (64, 4),
        (64, 4),
        (64, 2),
        (64, 2),
        (64, 2),
        (64, 1),
        (64, 1),
        (64, 1),
    ]
    down = tuple(noise(3, width, side, 2 * side, seed=i) for i, (width, side) in enumerate(shapes))
    return Residuals(down, noise(3, 64, 1, 2, seed=20))


def written_out(unet: Any, added: Residuals) -> Tensor:
    """The forward pass; after every block of the encoder all skip connections so far receive their residuals."""
    sample, timestep, context, ids = arguments()
    emb = unet.time_embedding(unet.time_proj(timestep[None]))
    emb = emb + unet.add_embedding(unet.add_time_proj(ids.flatten())[None].flatten(1))
    emb, context = emb.repeat(3, 1), context.repeat(3, 1, 1)
    still = torch.zeros(1, 3)
    x = unet.conv_in(sample[0])
    skips = [x]
    for index, block in enumerate(unet.down_blocks):
        attends = {"encoder_hidden_states": context} if index < 3 else {}
        x, new = block(hidden_states=x, temb=emb, image_only_indicator=still, **attends)
        skips += new
        skips = [skip + residual for skip, residual in zip(skips, added.down, strict=False)]
    x = unet.mid_block(x, temb=emb, encoder_hidden_states=context, image_only_indicator=still) + added.mid
    for index, block in enumerate(unet.up_blocks):
        attends = {"encoder_hidden_states": context} if index else {}
        taken, skips = tuple(skips[-3:]), skips[:-3]
        x = block(hidden_states=x, temb=emb, res_hidden_states_tuple=taken, image_only_indicator=still, **attends)
    return unet.conv_out(unet.conv_act(unet.conv_norm_out(x)))[None]


def test_the_published_loop_gives_the_same(unet):
    expected = written_out(unet, residuals())
    assert torch.allclose(predict(unet, *arguments(), residuals()), expected, atol=1e-5)
    assert not torch.allclose(predict(unet, *arguments(), None), expected, atol=1e-2)


def test_early_residuals_count_four_times():
    assert multiplicities([2, 2, 2, 2]) == [4, 4, 4, 4, 3, 3, 3, 2, 2, 2, 1, 1]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_one_count_for_every_skip_connection(layers):
    counts = multiplicities(layers)
    assert len(counts) == 1 + sum(layers) + len(layers) - 1
    assert counts == sorted(counts, reverse=True) and counts[-1] == 1 and counts[0] == len(layers)


def test_the_unet_is_as_before_afterwards(unet):
    plain = predict(unet, *arguments(), None)
    predict(unet, *arguments(), residuals())
    with pytest.raises(RuntimeError), adding(unet, residuals()):
        raise RuntimeError
    assert torch.equal(predict(unet, *arguments(), None), plain)


def test_another_adapter_is_refused(unet):
    with pytest.raises(ValueError, match="11, but the UNet has 12"):
        predict(unet, *arguments(), Residuals(residuals().down[:-1], residuals().mid))


def test_a_mask_divides_the_picture():
    face, rest = residuals(), Residuals(tuple(map(torch.zeros_like, residuals().down)), torch.zeros(3, 64, 1, 2))
    mask = torch.zeros(3, 1, 64, 128)
    mask[..., 64:] = 1
    mask[1] = 0
    blended = blend(face, rest, mask)
    for ours, own in zip([*blended.down, blended.mid], [*face.down, face.mid], strict=True):
        half = own.shape[-1] // 2
        assert torch.equal(ours[::2, ..., half:], own[::2, ..., half:])
        assert not ours[..., :half].any() and not ours[1].any()
