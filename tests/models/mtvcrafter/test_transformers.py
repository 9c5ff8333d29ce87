"""The two denoisers: what their motion attention does, and the quirks that the weights need."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from maquette.backend.models.mtvcrafter import motion_attention
from maquette.backend.models.mtvcrafter.motion_attention import split_keys_17b
from maquette.backend.models.mtvcrafter.names import WAN_TRANSFORMER
from maquette.backend.models.mtvcrafter.rope import key_rope_7b, key_rope_17b, query_rope_7b
from maquette.backend.models.mtvcrafter.transformer_7b import MVDiT7BTransformer3DModel
from maquette.backend.models.mtvcrafter.transformer_17b import MVDiT17BTransformer3DModel
from maquette.backend.shot.framing import read_statistics

from ...parity.fixtures import Fixture
from ...parity.mtvcrafter_dit import build_17b, keys_laid_out_like_values, run_17b, run_17b_with_ordinary_keys
from ...parity.recipe import fill
from ...parity.test_parity import needs_fixtures

MEAN = torch.from_numpy(read_statistics().mean)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def small_7b() -> MVDiT7BTransformer3DModel:
    model = MVDiT7BTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=8, out_channels=4, time_embed_dim=16,
        text_embed_dim=8, num_layers=2, num_motion_tokens=48,
    )  # fmt: skip
    return fill(model, 1)


@pytest.fixture(scope="module")
def small_17b() -> MVDiT17BTransformer3DModel:
    model = MVDiT17BTransformer3DModel(
        num_attention_heads=2, attention_head_dim=18, in_channels=12, out_channels=4, text_dim=8, freq_dim=16,
        ffn_dim=24, num_layers=5, image_dim=16, motion_dim=20,
    )  # fmt: skip
    return fill(model, 2, published=WAN_TRANSFORMER.published)


def run_small_7b(model, motion, latents=None):
    latents = noise(1, 2, 8, 4, 6) if latents is None else latents
    with torch.no_grad():
        return model(
            latents,
            motion,
            torch.tensor([500]),
            query_rope_7b(2, 2, 3, 16),
            key_rope_7b(2, MEAN, 16),
            return_dict=False,
        )[0]


def run_small_17b(model, motion):
    with torch.no_grad():
        return model(
            noise(1, 12, 2, 4, 6), torch.tensor([500.0]), noise(1, 512, 8, seed=1), noise(1, 5, 16, seed=2), motion,
            key_rope_17b(2, MEAN, 18), return_dict=False,
        )[0]  # fmt: skip


def test_7b_without_motion_means_its_learned_tokens(small_7b):
    learned = run_small_7b(small_7b, small_7b.unconditional_motion_token[None])
    torch.testing.assert_close(run_small_7b(small_7b, None), learned)
    assert (run_small_7b(small_7b, noise(1, 48, 32)) - learned).abs().max() > 0.01


def test_7b_motion_attention_has_no_norm_and_no_gate(small_7b):
    block = small_7b.transformer_blocks[0]
    seen = []
    hooks = [
        block.attn0.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output))),
        block.norm2.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0])),
    ]
    run_small_7b(small_7b, noise(1, 48, 32))
    for hook in hooks:
        hook.remove()
    (asked, answered), after = seen
    torch.testing.assert_close(after, asked + answered, rtol=0, atol=0)


def test_7b_uses_half_of_its_modulation(small_7b):
    """The rows for text are published and do nothing."""
    before = run_small_7b(small_7b, None)
    linear = small_7b.transformer_blocks[0].norm1.linear
    kept = linear.weight.detach().clone()
    with torch.no_grad():
        linear.weight[len(kept) // 2 :] += 1
    torch.testing.assert_close(run_small_7b(small_7b, None), before, rtol=0, atol=0)
    with torch.no_grad():
        linear.weight.copy_(kept)


def test_17b_has_motion_in_every_fourth_block(small_17b):
    assert [i for i, block in enumerate(small_17b.blocks) if hasattr(block, "motion_attn")] == [0, 4]
    keys = {WAN_TRANSFORMER.published(key) for key in small_17b.state_dict()}
    assert {"blocks.4.motion_attn.norm_q.weight", "blocks.0.norm4.bias", "head.modulation"} <= keys
    assert not any(key.startswith("blocks.1.motion") for key in keys)


def test_17b_pads_motion_tokens_with_zeros(small_17b):
    motion = noise(1, 48, 20)
    torch.testing.assert_close(
        run_small_17b(small_17b, F.pad(motion, (0, 16))), run_small_17b(small_17b, motion), rtol=0, atol=0
    )
    assert (run_small_17b(small_17b, F.pad(motion, (8, 8))) - run_small_17b(small_17b, motion)).abs().max() > 1e-3


@pytest.mark.parametrize(("tokens", "heads"), [(312, 40), (312, 2), (24, 3)])
def test_17b_keys_are_reinterpreted_and_not_transposed(tokens, heads):
    width = 4
    keys = torch.arange(tokens * heads * width, dtype=torch.float32).reshape(1, tokens, heads * width)
    split = split_keys_17b(keys, heads)
    rng = np.random.default_rng(0)
    for head, slot in zip(rng.integers(0, heads, 20), rng.integers(0, tokens, 20), strict=True):
        token, piece = divmod(int(head * tokens + slot), heads)
        expected = keys[0, token, piece * width : (piece + 1) * width]
        torch.testing.assert_close(split[0, head, slot], expected, rtol=0, atol=0)


def test_17b_output_depends_on_the_key_layout(small_17b, monkeypatch):
    published = run_small_17b(small_17b, noise(1, 48, 20))
    monkeypatch.setattr(motion_attention, "split_keys_17b", keys_laid_out_like_values)
    assert (run_small_17b(small_17b, noise(1, 48, 20)) - published).abs().max() > 1e-3


@needs_fixtures
def test_17b_with_ordinary_keys_gives_the_stored_wrong_output():
    """The control of the fixture is the very thing that the layout prevents."""
    fixture = Fixture.load("mtv_dit17b_tiny")
    model = build_17b(fixture, motion_dim=128)
    wrong = run_17b_with_ordinary_keys(model, fixture)
    assert fixture.close("control_pred_if_k_were_laid_out_like_v", wrong).passed
    assert not fixture.close("pred", wrong).passed
    assert not fixture.close("control_pred_if_k_were_laid_out_like_v", run_17b(model, fixture)).passed


def own(config) -> dict:
    return {key: list(v) if isinstance(v, tuple) else v for key, v in config.items() if not key.startswith("_")}


@pytest.mark.parametrize("which", ["small_7b", "small_17b"])
def test_configurations_survive_a_round_trip(which, request, tmp_path, caplog):
    model = request.getfixturevalue(which)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert own(again.config) == own(model.config)
    assert again.config["num_layers"] == len(again.blocks if which == "small_17b" else again.transformer_blocks)
    assert "not expected" not in caplog.text
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


@pytest.mark.parametrize("which", ["small_7b", "small_17b"])
def test_gradients_are_the_same_with_checkpointing(which, request):
    model = request.getfixturevalue(which)
    grads = []
    for checkpointing in (False, True):
        model.train()
        if checkpointing:
            model.enable_gradient_checkpointing()
        model.zero_grad()
        with torch.enable_grad():
            if which == "small_7b":
                out = model(
                    noise(1, 2, 8, 4, 6), None, torch.tensor([500]), query_rope_7b(2, 2, 3, 16),
                    key_rope_7b(2, MEAN, 16), return_dict=False,
                )[0]  # fmt: skip
            else:
                out = model(
                    noise(1, 12, 2, 4, 6), torch.tensor([500.0]), noise(1, 512, 8), noise(1, 5, 16), noise(1, 48, 20),
                    key_rope_17b(2, MEAN, 18), return_dict=False,
                )[0]  # fmt: skip
            out.square().mean().backward()
        grads.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    model.disable_gradient_checkpointing()
    model.eval()
    assert grads[0].keys() == grads[1].keys() and grads[0]
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, msg=name)
