"""A model that cross-attends to CLIP embeddings of the references: from its files to frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from maquette.backend.catalogue.models import ModelError, find_specs
from maquette.backend.models.engine import Engine, load_engine
from maquette.backend.models.family import EngineError, Result
from maquette.backend.models.isa.inputs import ISAInputs
from maquette.backend.models.isa.pipeline import ISAPipeline
from maquette.backend.models.isa.transformer import ISATransformer3DModel
from maquette.backend.models.isa.vae import AutoencoderKLISA
from maquette.backend.models.registry import list_models
from maquette.backend.shot import Media, Shot
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModel

from ..builders import make_shot, png
from .conftest import TINY_TOML, TINY_TRANSFORMER, randomize
from .given import begun, isa_inputs

WIDTH, SIDE, PATCH = 32, 28, 14
TOKENS = 1 + (SIDE // PATCH) ** 2
VISION: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": PATCH,
    "projection_dim": 16,
}
TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 8}
IMAGE_ENCODER = ("image_encoder/config.json", "image_encoder/model.safetensors")
FILES = ("vae/config.json", "transformer/config.json", *IMAGE_ENCODER)

RED, GREEN, BLUE = (png(32, 32, color) for color in ((230, 20, 20), (30, 220, 30), (20, 40, 230)))


def save_encoder(folder: Path, seed: int = 0, **changes: Any) -> None:
    torch.manual_seed(seed)
    encoder = CLIPVisionModel(CLIPVisionConfig(**{**VISION, **changes}))
    randomize(encoder, seed, 0.3)
    encoder.save_pretrained(folder / "tiny" / "image_encoder")


def save_model(folder: Path, vae: AutoencoderKLISA) -> None:
    """Description, VAE and transformer of a model with CLIP tokens; its image encoder is still missing."""
    torch.manual_seed(0)
    # A model that has learnt to look at its references; fresh ones are nearly blind to them.
    transformer = ISATransformer3DModel(**TINY_TRANSFORMER, image_embed_dim=WIDTH).eval()
    randomize(transformer, scale=0.2)
    transformer.save_pretrained(folder / "tiny" / "transformer")
    vae.save_pretrained(folder / "tiny" / "vae")
    files = "required = [" + ", ".join(f'"{name}"' for name in FILES) + "]"
    listed = TINY_TOML.replace('required = ["vae/config.json", "transformer/config.json"]', files)
    assert listed != TINY_TOML
    (folder / "tiny.toml").write_text(listed, "utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, vae: AutoencoderKLISA) -> Path:
    folder = tmp_path_factory.mktemp("clip_models")
    save_model(folder, vae)
    save_encoder(folder)
    return folder


def load(folder: Path) -> Engine:
    engine = load_engine("tiny", device="cpu", extra_dirs=[folder])
    assert isinstance(engine, Engine)
    engine.dtype = torch.float32  # small differences between embeddings survive on every machine
    return engine


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    return load(folder)


def generate(engine: Engine, shot: Shot) -> Result:
    return engine.generate(shot, lambda _: None, lambda: False)


def embeds_of(inputs: ISAInputs) -> torch.Tensor:
    assert inputs.image_embeds is not None
    return inputs.image_embeds


def shot_of(*pictures: Media | None, **settings) -> Shot:
    """One character for each picture, None for one without a reference."""
    shot = make_shot(points=16, characters=len(pictures), width=32, height=32, model="tiny")
    people = []
    for person, picture in zip(shot.characters, pictures, strict=True):
        assert person.reference is not None
        people.append(replace(person, reference=None if picture is None else replace(person.reference, image=picture)))
    return replace(shot, characters=tuple(people), settings=replace(shot.settings, **settings))


@pytest.mark.parametrize("pictures", [(RED,), (RED, BLUE)], ids=["one", "two"])
def test_generates_and_the_reference_changes_the_video(engine: Engine, pictures: tuple[Media, ...]) -> None:
    result = generate(engine, shot_of(*pictures))
    assert result.frames.shape == (5, 32, 32, 3) and result.frames.std() > 0
    assert np.array_equal(result.frames, generate(engine, shot_of(*pictures)).frames)
    for i in range(len(pictures)):
        changed = tuple(GREEN if j == i else picture for j, picture in enumerate(pictures))
        assert not np.array_equal(result.frames, generate(engine, shot_of(*changed)).frames)


def test_guidance_changes_the_video(engine: Engine) -> None:
    one, three, five = (generate(engine, shot_of(RED, BLUE, guidance=g)).frames for g in (1.0, 3.0, 5.0))
    assert not np.array_equal(one, three) and not np.array_equal(three, five)


def test_the_embedding_itself_reaches_the_video(engine: Engine) -> None:
    """The picture also comes in as latents; here only the CLIP tokens differ."""
    shot = shot_of(RED, BLUE)
    inputs = isa_inputs(engine, shot)

    def sample(embeds: torch.Tensor, **changes: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        conditions = replace(inputs, image_embeds=embeds, **changes)
        pipeline = ISAPipeline(
            engine.networks["vae"], engine.networks["transformer"], FlowMatchEulerDiscreteScheduler()
        )
        return pipeline(conditions, 2, 1.0, generator, output_type="latent").latents

    embeds = embeds_of(inputs)
    first = sample(embeds)
    scale = first.abs().mean()
    assert (sample(embeds.flip(1)) - first).abs().mean() > 1e-4 * scale  # whose picture is whose
    absent = torch.tensor([[True, False]])
    anything = torch.stack([embeds[:, 0], torch.randn_like(embeds[:, 1])], dim=1)
    torch.testing.assert_close(sample(anything, reference_present=absent), sample(embeds, reference_present=absent))


def test_each_character_gets_the_tokens_of_its_own_reference(engine: Engine) -> None:
    embeds = embeds_of(isa_inputs(engine, shot_of(RED, BLUE)))
    assert embeds.shape == (1, 2, TOKENS, WIDTH)
    assert not torch.allclose(embeds[0, 0], embeds[0, 1], atol=1e-3)
    other = embeds_of(isa_inputs(engine, shot_of(RED, RED)))
    torch.testing.assert_close(other[0, 0], embeds[0, 0])
    assert not torch.allclose(other[0, 1], embeds[0, 1], atol=1e-3)


def test_the_encoder_sees_what_clips_own_preprocessing_gives_it(engine: Engine, folder: Path) -> None:
    """A picture of one colour that fills the crop: only scaling and normalisation matter."""
    from transformers import CLIPImageProcessor

    color = (230, 20, 20)
    # Large enough for the framed part to lie inside it, with the points in its middle.
    shot = shot_of(RED)
    person = shot.characters[0]
    assert person.reference is not None
    K = person.reference.K.copy()
    K[:2, 2] += 500
    looks = replace(person.reference, image=png(1032, 1032, color), K=K)
    ours = embeds_of(isa_inputs(engine, replace(shot, characters=(replace(person, reference=looks),))))[0, 0]

    processor = CLIPImageProcessor(size={"height": SIDE, "width": SIDE}, do_center_crop=False)
    pixels = processor(Image.new("RGB", (64, 64), color), return_tensors="pt")["pixel_values"]
    encoder = CLIPVisionModel.from_pretrained(folder / "tiny" / "image_encoder").eval()
    with torch.no_grad():
        theirs = encoder(pixels).last_hidden_state[0]
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("pictures", [(None,), (RED, None), (None, None)], ids=["alone", "second", "nobody"])
def test_a_character_without_a_reference(engine: Engine, pictures: tuple[Media | None, ...]) -> None:
    shot = shot_of(*pictures)
    inputs = isa_inputs(engine, shot)
    assert inputs.reference_present.tolist() == [[picture is not None for picture in pictures]]
    embeds = embeds_of(inputs)
    assert embeds.shape == (1, len(pictures), TOKENS, WIDTH) and not embeds[0, -1].any()
    frames = generate(engine, shot).frames
    assert frames.std() > 0
    assert not np.array_equal(frames, generate(engine, shot_of(*(BLUE for _ in pictures))).frames)


def test_missing_files_of_the_encoder_are_named(tmp_path: Path, vae: AutoencoderKLISA) -> None:
    save_model(tmp_path, vae)

    def status():
        return next(status for status in list_models([tmp_path]) if status.spec.id == "tiny")

    assert not status().available and status().missing == IMAGE_ENCODER
    with pytest.raises(ModelError, match=r"Tiny cannot run: image_encoder/config\.json, image_encoder/model\.safe"):
        load_engine("tiny", extra_dirs=[tmp_path])
    save_encoder(tmp_path)
    assert status().available
    (tmp_path / "tiny" / IMAGE_ENCODER[1]).unlink()
    # Somebody who has most of the files wants to hear which are left, not that none are published.
    text = (tmp_path / "tiny.toml").read_text("utf-8")
    (tmp_path / "tiny.toml").write_text(text.replace("[files]", '[files]\nunavailable = "none published"'), "utf-8")
    assert status().missing == IMAGE_ENCODER[1:] and IMAGE_ENCODER[1] in status().reason


def test_models_that_use_clip_ask_for_its_files() -> None:
    using = [spec for spec in find_specs().values() if spec.components.get("transformer", {}).get("image_embed_dim")]
    assert using
    for spec in using:
        assert set(IMAGE_ENCODER) <= set(spec.files), spec.id


def test_a_whole_clip_serves_as_image_encoder(tmp_path: Path, vae: AutoencoderKLISA) -> None:
    """CLIP is mostly published with its text half."""
    save_model(tmp_path, vae)
    torch.manual_seed(3)
    clip = CLIPModel(CLIPConfig(vision_config=VISION, text_config=TEXT, projection_dim=16)).eval()
    randomize(clip, 3, 0.3)
    clip.save_pretrained(tmp_path / "tiny" / "image_encoder")
    engine = load(tmp_path)
    begun(engine, shot_of(RED))
    pixels = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = clip.vision_model(pixels).last_hidden_state
        torch.testing.assert_close(engine.networks["image_encoder"](pixels).last_hidden_state, expected)
    assert generate(engine, shot_of(RED)).frames.std() > 0


def test_an_encoder_of_another_width_is_refused(tmp_path: Path, vae: AutoencoderKLISA) -> None:
    save_model(tmp_path, vae)
    save_encoder(tmp_path, hidden_size=16)
    engine = load(tmp_path)
    with pytest.raises(EngineError, match=r"image_encoder.* 16 .* 32;"):
        generate(engine, shot_of(RED))


def test_weights_that_cannot_be_read_are_explained(tmp_path: Path, vae: AutoencoderKLISA) -> None:
    save_model(tmp_path, vae)
    save_encoder(tmp_path)
    (tmp_path / "tiny" / "image_encoder" / "config.json").write_text("{", "utf-8")
    engine = load(tmp_path)
    with pytest.raises(EngineError, match="image_encoder: not a CLIP vision model"):
        generate(engine, shot_of(RED))
