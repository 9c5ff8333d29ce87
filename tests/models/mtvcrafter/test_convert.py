"""Published files become ours: names in both directions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from accelerate import init_empty_weights
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers, convert_wan_vae_to_diffusers
from maquette.backend.catalogue.models import ModelError, model_spec
from maquette.backend.models.mtvcrafter.build import new_network
from maquette.backend.models.mtvcrafter.convert import (
    clip_vision_from_published,
    clip_vision_to_published,
    components,
    vae_names,
)
from maquette.backend.models.mtvcrafter.names import CLIP_VISION, UMT5_ENCODER, WAN_TRANSFORMER, Renaming

from ...parity.recipe import fill

B7, B17 = model_spec("mtvcrafter-7b"), model_spec("mtvcrafter-17b")


def empty(spec, part):
    """A network of the published size, without memory."""
    with init_empty_weights():
        return new_network(spec, part)


def test_renaming_takes_the_longest_piece_and_each_stretch_once():
    names = Renaming((("a.b", "x"), ("a", "y"), ("x", "a"), ("l.*.n", "m.*"), ("^t", "^s.u")))
    assert names.published("a.b.a.q") == "x.y.q"
    assert names.ours("x.a") == "a.b.x"
    assert names.published("l.12.n.w") == "m.12.w" and names.ours("m.12.w") == "l.12.n.w"
    assert names.published("t.t") == "s.u.t" and names.ours("s.u.t") == "t.t"
    assert names.published("ab.l.n") == "ab.l.n"
    with pytest.raises(ValueError, match="second weight with the name y"):
        names.to_published({"a": 1, "y": 2})


def test_wan_transformer_names_are_those_that_diffusers_knows():
    """The names that diffusers translates, ours translates alike; its own table stops before ``norm4``."""
    keys = {key: torch.empty(0) for key in empty(B17, "transformer").state_dict()}
    published = WAN_TRANSFORMER.to_published(keys)
    assert WAN_TRANSFORMER.from_published(published).keys() == keys.keys()
    assert convert_wan_transformer_to_diffusers(dict(published)).keys() == keys.keys()
    assert "blocks.36.motion_attn.o.bias" in published and "blocks.37.norm4.weight" not in published
    assert "head.head.weight" in published and "img_emb.proj.4.bias" in published


def test_wan_vae_names_are_those_that_diffusers_knows():
    keys = {key: torch.empty(0) for key in empty(B17, "vae").state_dict()}
    names = vae_names(B17)
    published = names.to_published(keys)
    assert names.from_published(published).keys() == keys.keys()
    assert convert_wan_vae_to_diffusers(dict(published)).keys() == keys.keys()
    for key in ("conv1.weight", "decoder.upsamples.3.time_conv.bias", "decoder.upsamples.14.residual.6.weight"):
        assert key in published
    assert "encoder.downsamples.2.resample.1.weight" in published and "encoder.middle.1.to_qkv.bias" in published


def test_umt5_names():
    keys = empty(B17, "text_encoder").state_dict().keys() - {"encoder.embed_tokens.weight"}
    published = UMT5_ENCODER.to_published(dict.fromkeys(keys, 0))
    assert len(published) == len(keys) == 24 * 10 + 2
    assert UMT5_ENCODER.from_published(published).keys() == keys
    block = {f"blocks.23.{name}.weight" for name in (
        "norm1", "attn.q", "attn.k", "attn.v", "attn.o", "norm2", "ffn.gate.0", "ffn.fc1", "ffn.fc2",
        "pos_embedding.embedding",
    )}  # fmt: skip
    assert {key for key in published if key.startswith("blocks.23.")} == block
    assert {"token_embedding.weight", "norm.weight"} <= published.keys()


def test_clip_names_and_shapes():
    ours = {key: torch.zeros(value.shape) for key, value in empty(B17, "image_encoder").state_dict().items()
            if ".layers." not in key or ".layers.31." in key}  # fmt: skip
    published = clip_vision_to_published(ours)
    assert published["visual.cls_embedding"].shape == (1, 1, 1280)
    assert published["visual.pos_embedding"].shape == (1, 257, 1280)
    assert published["visual.transformer.31.attn.to_qkv.weight"].shape == (3840, 1280)
    assert published["visual.transformer.31.mlp.2.weight"].shape == (1280, 5120)
    assert not any(key.startswith("embeddings") for key in published)
    back = clip_vision_from_published(published)
    assert {key: value.shape for key, value in back.items()} == {key: value.shape for key, value in ours.items()}
    assert "textual.blocks.0.attn.q.weight" in CLIP_VISION.from_published({"textual.blocks.0.attn.q.weight": 0})


def test_clip_values_come_back(tiny_17b):
    model = fill(new_network(tiny_17b, "image_encoder"), 3)
    text_half = {"log_scale": torch.ones(()), "textual.token_embedding.weight": torch.ones(5, 4)}
    back = clip_vision_from_published({**clip_vision_to_published(model.state_dict()), **text_half})
    for key, value in model.state_dict().items():
        torch.testing.assert_close(back[key], value, rtol=0, atol=0)
    assert back.keys() - model.state_dict().keys() == text_half.keys()


def test_another_base_is_refused():
    with pytest.raises(ModelError, match="sampling.base is 'sd'; make it one of cogvideox, wan"):
        components(replace(B7, components={**B7.components, "sampling": {"base": "sd"}}))
