"""Training sees what the engine sees: latents, geometry, CLIP tokens; and how much of a latent pixel a body covers."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from maquette.backend.catalogue.models import ModelSpec, model_spec
from maquette.backend.models.frames import frames_to_tensor, tensor_to_frames
from maquette.backend.models.isa.build import load_image_encoder, new_transformer, new_vae
from maquette.backend.models.isa.inputs import ISAInputs
from maquette.backend.training.data import FIELDS, MAPS, carry_sample
from maquette.backend.training.encode import (
    encode_data,
    encode_films,
    encode_shots,
    spread_cover,
    unpack,
)
from maquette.backend.worlds.sample import Sample, make_sample, to_shot

from ..models.given import isa_engine, isa_inputs

TINY = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 16}


def stacked(*samples: Sample, names: tuple[str, ...] = FIELDS, carried: bool = False) -> dict[str, np.ndarray]:
    found = {name: np.stack([getattr(sample, name) for sample in samples]) for name in names}
    films = [carry_sample(sample) for sample in samples] if carried else []
    return found | ({name: np.stack([film[name] for film in films]) for name in films[0]} if films else {})


def saved_shard(path: Path, *samples: Sample) -> Path:
    np.savez(path, **stacked(*samples, carried=True))  # type: ignore[arg-type]
    return path


@pytest.fixture
def clip_spec(tmp_path: Path) -> ModelSpec:
    """The embedded model's description with a tiny CLIP beside its weights."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    spec = replace(model_spec("isa-nano"), folder=tmp_path / "weights")
    CLIPVisionModel(config).save_pretrained(spec.folder / "image_encoder")
    return spec


@pytest.mark.parametrize("with_clip", [False, True])
def test_training_sees_what_the_engine_sees(tmp_path: Path, clip_spec: ModelSpec, with_clip: bool) -> None:
    torch.manual_seed(0)
    vae = new_vae(clip_spec).eval()
    sample = make_sample(11, frames=5, size=(112, 64), n_points=512, characters=2)
    clip = load_image_encoder(clip_spec, 24) if with_clip else None
    trained = encode_shots(vae, stacked(sample, carried=True), bf16=False, image_encoder=clip)

    engine = isa_engine(replace(clip_spec, files=()), vae=vae, **({"image_encoder": clip} if with_clip else {}))
    shot = to_shot(sample)
    shot = replace(shot, settings=replace(shot.settings, height=64))
    plan = engine.plan(shot)
    assert plan.model_size == (112, 64) == (plan.width, plan.height)
    used = isa_inputs(engine, shot)
    assert (used.image_embeds is not None) == with_clip
    for field in fields(ISAInputs):
        value = getattr(used, field.name)
        if value is None:
            assert field.name not in trained
            continue
        mine = trained[field.name]
        assert mine.shape == value.shape
        half = mine.dtype == torch.float16
        torch.testing.assert_close(
            mine.to(value.dtype), value, atol=4e-3 if half else 1e-5, rtol=2e-3 if half else 1e-5
        )
    if with_clip:
        # One class token and 2 x 2 patches of each character's own picture.
        assert trained["image_embeds"].shape == (1, 2, 5, 24)
        assert not torch.equal(trained["image_embeds"][0, 0], trained["image_embeds"][0, 1])


def test_clip_tokens_reach_the_network(clip_spec: ModelSpec) -> None:
    vae = new_vae(clip_spec).eval()
    sample = make_sample(12, frames=5, size=64, n_points=16, characters=1)
    packed = encode_shots(vae, stacked(sample), bf16=False, image_encoder=load_image_encoder(clip_spec, 24))
    clean, _, inputs = unpack(packed)
    assert inputs.image_embeds is not None and inputs.image_embeds.dtype == torch.float32
    model = new_transformer(clip_spec, **TINY, image_embed_dim=24)
    assert model(clean, torch.tensor([500.0]), inputs).sample.shape == clean.shape


def test_cover_is_the_mask_at_latent_size() -> None:
    sample = make_sample(12, frames=5, size=64, n_points=16, characters=1)
    packed = encode_shots(new_vae(model_spec("isa-nano")).eval(), stacked(sample), bf16=False)
    cover = packed["cover"].float()[0]
    assert cover.shape == (2, 8, 8)
    assert float(cover[0].mean()) == pytest.approx(sample.mask[0].mean(), abs=2e-3)
    assert float(cover[1].mean()) == pytest.approx(sample.mask[1:].mean(), abs=2e-3)


def test_normal_maps_are_encoded_like_films() -> None:
    vae = new_vae(model_spec("isa-nano")).eval()
    sample = make_sample(13, frames=5, size=64, n_points=16, characters=1, maps=True)
    shots = stacked(sample, names=FIELDS + MAPS)
    packed = encode_shots(vae, shots, bf16=False, control=True)
    assert torch.equal(packed["control_latents"], encode_films(vae, shots["normals"], bf16=False))
    assert not torch.equal(packed["control_latents"], packed["video_latents"])
    _, _, inputs = unpack(packed)
    assert inputs.control_latents is not None
    assert "control_latents" not in encode_shots(vae, shots, bf16=False)
    with pytest.raises(ValueError, match="maps = true"):
        encode_shots(vae, stacked(sample), bf16=False, control=True)


def test_decoding_the_target_latents_difference_gives_the_true_film() -> None:
    """What is kept for a loss on pixels: carried + target - D(E(carried)) is the true film."""
    torch.manual_seed(0)
    vae = new_vae(model_spec("isa-nano")).eval()
    sample = make_sample(14, frames=5, size=(64, 48), n_points=16, characters=1)
    packed = encode_shots(vae, stacked(sample, carried=True), bf16=False, pixels=True)
    clean, cover, inputs = unpack(packed)
    assert clean.shape == inputs.carried_latents.shape and bool(inputs.carried_present.all())
    carried = frames_to_tensor(carry_sample(sample)["carried"])
    with torch.no_grad():
        decoded = vae.decode(vae.denormalize(inputs.carried_latents)).sample[0]
    film = tensor_to_frames(carried + packed["target"][0].float() - decoded)
    assert np.abs(film.astype(int) - sample.video).max() <= 1
    gap = (frames_to_tensor(sample.video) - carried).square().mean(dim=0)
    assert float(packed["gap"][0, 0]) == pytest.approx(float(gap.mean()), rel=1e-3)
    weighted = (gap * spread_cover(cover, (1, *gap.shape))[0]).mean()
    assert float(packed["gap"][0, 1]) == pytest.approx(float(weighted), rel=2e-2)
    with pytest.raises(ValueError, match="carried = true"):
        encode_shots(vae, stacked(sample), bf16=False, pixels=True)
    assert not bool(unpack(encode_shots(vae, stacked(sample), bf16=False))[2].carried_present.any())


def test_cover_is_spread_over_the_frames_of_its_latent() -> None:
    cover = torch.rand(1, 3, 2, 3)
    spread = spread_cover(cover, (1, 9, 16, 24))
    assert torch.equal(spread[0, 0, ::8, ::8], cover[0, 0])
    for frame in range(1, 9):
        assert torch.equal(spread[0, frame, 7::8, 7::8], cover[0, 1 + (frame - 1) // 4])


def test_what_is_encoded_is_not_encoded_again(tmp_path: Path) -> None:
    vae = new_vae(model_spec("isa-nano")).eval()
    shards = [
        saved_shard(tmp_path / f"{seed}.npz", make_sample(seed, frames=5, size=64, n_points=16, characters=1))
        for seed in (1, 2)
    ]
    first = encode_data(vae, shards[:1], tmp_path / "latents", bf16=False)
    stamp = first[0].stat().st_mtime_ns
    both = encode_data(vae, shards, tmp_path / "latents", bf16=False)
    assert [path.name for path in both] == ["1.pt", "2.pt"]
    assert both[0].stat().st_mtime_ns == stamp
    late = encode_data(vae, shards, tmp_path / "late", bf16=False, until=0.0)
    assert not any(path.exists() for path in late)
    assert set(torch.load(both[1], weights_only=True)) == set(torch.load(both[0], weights_only=True))
