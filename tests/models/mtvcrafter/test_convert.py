"""Published files become ours: names in both directions, and whole models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import init_empty_weights
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers, convert_wan_vae_to_diffusers
from maquette.backend.catalogue.models import ModelError, model_spec
from maquette.backend.models.engine import Engine
from maquette.backend.models.mtvcrafter.build import load_network, new_network
from maquette.backend.models.mtvcrafter.convert import (
    clip_vision_from_published,
    clip_vision_to_published,
    components,
    vae_names,
)
from maquette.backend.models.mtvcrafter.names import CLIP_VISION, UMT5_ENCODER, WAN_TRANSFORMER, Renaming
from maquette.backend.models.weights.add import add
from maquette.backend.models.weights.check import check
from maquette.backend.models.weights.component import WeightsError
from maquette.backend.shot import Settings
from safetensors.torch import load_file, save_file

from ...parity.recipe import fill
from .builders import dancing
from .published import clip_file, publish

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
    back = clip_vision_from_published(clip_file(clip_vision_to_published(model.state_dict())))
    for key, value in model.state_dict().items():
        torch.testing.assert_close(back[key], value, rtol=0, atol=0)
    assert sorted(back.keys() - model.state_dict().keys()) == [
        "log_scale", "textual.blocks.0.attn.q.weight", "textual.token_embedding.weight", "visual.head",
    ]  # fmt: skip


def test_another_base_is_refused():
    with pytest.raises(ModelError, match="sampling.base is 'sd'; make it one of cogvideox, wan"):
        components(replace(B7, components={**B7.components, "sampling": {"base": "sd"}}))


@pytest.mark.parametrize("which", ["tiny_7b", "tiny_17b"])
def test_published_files_come_in_and_run(which, request, tmp_path):
    """Add, check, render: the same picture as with the weights that were published."""
    source = request.getfixturevalue(which)
    parts = publish(source, tmp_path / "downloads")
    spec = replace(source, folder=tmp_path / "models" / source.id)
    said = []
    written = add(spec, [tmp_path / "downloads"], log=said.append)
    assert set(written) == set(components(spec)), said
    assert not check(spec, full=True)
    for part, state in parts.items():
        loaded = load_network(spec, part, torch.float32).state_dict()
        assert loaded.keys() == state.keys()
        for key, value in state.items():
            torch.testing.assert_close(loaded[key], value, rtol=0, atol=0, msg=key)
    shot = dancing(9, model=spec.id)
    results = [Engine(model, "cpu").generate(shot, lambda _: None, lambda: False).frames for model in (source, spec)]
    np.testing.assert_array_equal(*results)
    if "few_steps" in spec.options:
        fast = replace(shot, settings=Settings(options={"few_steps": True}))
        assert Engine(spec, "cpu").generate(fast, lambda _: None, lambda: False).metadata["few_steps"]


def test_the_other_variant_is_refused_by_name(tiny_7b, tiny_17b, tmp_path):
    publish(tiny_17b, tmp_path / "downloads")
    wrong = tmp_path / "downloads" / "MV-DiT" / "CogVideoX"
    (tmp_path / "downloads" / "MV-DiT" / "Wan-2-1").rename(wrong)
    spec = replace(tiny_7b, folder=tmp_path / "models" / "tiny-7b")
    with pytest.raises(WeightsError, match="these look like keys of MTVCrafter's 17B transformer"):
        add(spec, [tmp_path / "downloads"], only=["transformer"], log=lambda _: None)
    assert not spec.folder.exists()


def test_a_lora_of_another_model_is_refused(tiny_17b, tmp_path):
    publish(tiny_17b, tmp_path / "downloads")
    path = tmp_path / "downloads" / "Wan2.1_I2V_14B_FusionX_LoRA.safetensors"
    state = load_file(path)
    state["diffusion_model.blocks.0.self_attn.q.lora_up.weight"] = torch.ones(40, 2)
    save_file(state, path)
    spec = replace(tiny_17b, folder=tmp_path / "models" / "tiny-17b")
    with pytest.raises(WeightsError, match=r"adds \(40, 36\) to blocks.0.attn1.to_q.weight, which is \(36, 36\)"):
        add(spec, [tmp_path / "downloads"], only=["lora"], log=lambda _: None)
