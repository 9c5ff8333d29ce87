"""Small models and shots. One thread: the tests share their machine."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from maquette.backend.catalogue.models import ModelSpec, read_spec
from maquette.backend.control import films
from maquette.backend.models import carried_start
from maquette.backend.models.isa import family as isa_family
from maquette.backend.models.isa.inputs import ISAInputs
from maquette.backend.models.isa.transformer import ISATransformer3DModel
from maquette.backend.models.isa.vae import AutoencoderKLISA
from maquette.backend.raster import carry
from maquette.backend.shot import Background, Character, Clip, Media, Reference, Settings, Shot
from maquette.backend.shot.cameras import look_at
from PIL import Image

TINY_VAE = {
    "block_out_channels": (8, 8, 8),
    "spatial_resample": (True, False),
    "temporal_resample": (True, True),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "temporal_kernels": (3, 2),
    "mid_block_attention": True,
    "patch_size": 4,
    "latents_mean": (0.1,),
    "latents_std": (0.5,),
}
TINY_TRANSFORMER = {
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 24,
    "points_per_character": 16,
    "reference_grid": 2,
    "adaln_rank": 8,
    "max_characters": 4,
}


@pytest.fixture(scope="session", autouse=True)
def float32() -> Iterator[None]:
    """The tests compare numbers, which are the same on CPUs that compute in bfloat16 as on those that do not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        yield


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package", autouse=True)
def _carried_films_are_drawn_once() -> Iterator[None]:
    """A carried film depends on the shot's contents and a size alone (tests/raster), and takes most of a tiny job."""
    known: dict[bytes, dict[str, Any]] = {}
    carrier = carry.Carrier

    class Once(carrier):
        def __init__(self, shot: Shot, width: int, height: int, device="cpu", blind: bool = False) -> None:
            key = pickle.dumps((replace(shot, prompt="", settings=Settings(), name=""), width, height, blind))
            if key not in known:
                super().__init__(shot, width, height, device, blind)
                known[key] = {**vars(self), "drawn": {}}
            self.__dict__ = known[key]

        def parts(self, on_frames=None, only=None) -> Iterator[carry.CarriedFilm]:
            if only not in self.drawn:
                self.drawn[only] = list(super().parts(None, only))
            done, count = 0, self.shape[0] if only is None else len(only)
            for part in [None, *self.drawn[only]]:
                if part is not None:
                    yield deepcopy(part)
                    done += len(part.frames)
                if on_frames is not None:
                    on_frames(done, count)

    with pytest.MonkeyPatch.context() as patch:
        for module in (carry, films, carried_start, isa_family):
            patch.setattr(module, "Carrier", Once)
        yield


def randomize(model: torch.nn.Module, seed: int = 0, scale: float = 0.05) -> None:
    """Shake every weight, so that nothing is zero by initialisation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape, generator=generator) * scale


@pytest.fixture(scope="session")
def vae() -> AutoencoderKLISA:
    torch.manual_seed(0)
    model = AutoencoderKLISA(**TINY_VAE).eval()
    randomize(model)
    return model


@pytest.fixture(scope="session")
def transformer() -> ISATransformer3DModel:
    torch.manual_seed(0)
    model = ISATransformer3DModel(**TINY_TRANSFORMER).eval()
    randomize(model)
    return model


def random_inputs(batch: int = 1, characters: int = 1, frames: int = 9, points: int = 16, size: int = 4) -> ISAInputs:
    """Conditions of random clips, all present."""
    generator = torch.Generator().manual_seed(1)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator) * 2 - 1

    latents = 1 + (frames - 1) // 4
    yes = torch.ones(batch, characters, frames, points, dtype=torch.bool)
    return ISAInputs(
        points=rand(batch, characters, frames, points, 3),
        rest_points=rand(batch, characters, points, 3),
        point_mask=yes,
        point_visibility=torch.sign(rand(batch, characters, frames, points)),
        reference_latents=rand(batch, characters, 16, size, size),
        reference_points=rand(batch, characters, points, 2),
        reference_visibility=yes[:, :, 0],
        reference_present=yes[:, :, 0, 0],
        plucker=rand(batch, frames, 6, size, size),
        camera_present=torch.ones(batch, dtype=torch.bool),
        background_latents=rand(batch, 16, latents, size, size),
        background_present=torch.ones(batch, dtype=torch.bool),
        carried_latents=rand(batch, 16, latents, size, size),
        known=rand(batch, latents, size, size).abs(),
        carried_present=torch.ones(batch, dtype=torch.bool),
    )


def png(width: int = 40, height: int = 50, seed: int = 0) -> Media:
    """A noisy picture."""
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return Media(buffer.getvalue(), "image/png")


def make_shot(
    frames: int = 9,
    width: int = 64,
    height: int = 64,
    characters: int = 1,
    points: int = 20,
    reference: bool = True,
    background: bool = True,
    **settings,
) -> Shot:
    """Clouds of points that drift past a still camera."""
    rng = np.random.default_rng(0)
    viewmats = np.repeat(look_at(np.array([0.0, -5.0, 1.0]), np.array([0.0, 0.0, 1.0]))[None], frames, 0)
    K = np.array([[1.5 * height, 0, width / 2], [0, 1.5 * height, height / 2], [0, 0, 1]])
    people = []
    for i in range(characters):
        rest = rng.uniform(-0.8, 0.8, (points, 3))
        drift = np.linspace(0, 0.5, frames)[:, None, None] * np.array([1.0, 0.0, 0.0])
        cloud = (rest + [i - (characters - 1) / 2, 0, 1])[None] + drift
        looks = Reference(png(seed=i), cloud[0].astype(np.float32), *(m.astype(np.float32) for m in (viewmats[0], K)))
        people.append(
            Character(
                name=f"person {i}",
                points=cloud.astype(np.float32),
                rest_points=rest.astype(np.float32),
                visibility=rng.random((frames, points)) < 0.5,
                reference=looks if reference else None,
            )
        )
    clip = Clip(12.0, width, height, viewmats.astype(np.float32), np.repeat(K[None], frames, 0).astype(np.float32))
    still = Background("still", (png(seed=9),)) if background else Background()
    return Shot(clip, tuple(people), still, settings=Settings(model="tiny", **settings))


TINY_TOML = """
id = "tiny"
label = "Tiny"
description = "for tests"
license = "GPL-3.0-or-later"
engine = "isa"
[inputs]
characters = "required"
reference = "optional"
[limits]
points = 16
window_frames = 9
window_overlap = 4
max_frames = 200
size_multiple = 16
min_size = 32
max_size = 64
[defaults]
steps = 2
guidance = 2.0
width = 32
height = 32
frames = 9
[options.look]
type = "choice"
default = "plain"
label = "Look"
choices = ["plain", "warm"]
[options.grain]
type = "float"
default = 0.0
label = "Grain"
max = 1.0
[files]
required = ["vae/config.json", "transformer/config.json"]
"""


@pytest.fixture(scope="session")
def model_dir(
    tmp_path_factory: pytest.TempPathFactory, vae: AutoencoderKLISA, transformer: ISATransformer3DModel
) -> Path:
    """A folder of models with one tiny one, its weights saved."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "tiny.toml").write_text(TINY_TOML, "utf-8")
    vae.save_pretrained(folder / "tiny" / "vae")
    transformer.save_pretrained(folder / "tiny" / "transformer")
    return folder


@pytest.fixture(scope="session")
def tiny_spec(model_dir: Path) -> ModelSpec:
    return read_spec(model_dir / "tiny.toml")
