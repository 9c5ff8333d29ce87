"""Each published model, tiny but laid out as published: add, check, render, by the command line alone."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch
from maquette.backend.catalogue.models import ModelSpec, find_specs
from maquette.backend.cli import main
from maquette.backend.media import decode_video
from maquette.backend.models.registry import status
from maquette.backend.models.weights.component import components
from maquette.backend.shot import save_shot
from safetensors.torch import load_file

from .families import DISTINCT, FAMILIES, Tiny


def test_every_model_with_published_weights_is_here():
    assert {spec.id for spec in find_specs().values() if spec.sources} == set(FAMILIES)


class Published:
    """A tiny model's files, made once; nobody writes here."""

    def __init__(self, tiny: Tiny, folder: Path) -> None:
        self.tiny, self.folder = tiny, folder / "download"
        spec = tiny.describe(folder / "models")
        self.states = tiny.states(spec)
        tiny.publish(spec, self.states, self.folder)


class Download:
    """A copy of a tiny model's files, and the commands on them."""

    def __init__(self, published: Published, folder: Path, capsys: Any) -> None:
        self.tiny, self.states = published.tiny, published.states
        self.folder, self.models = folder / "download", folder / "models"
        self._capsys = capsys
        self.spec: ModelSpec = self.tiny.describe(self.models)
        copytree(published.folder, self.folder)

    def run(self, *words: str) -> tuple[int, str]:
        """A command's exit code and all that it says."""
        code = main([*words, "--models", str(self.models)])
        said = self._capsys.readouterr()
        return code, said.out + said.err

    def add(self, *words: str) -> tuple[int, str]:
        return self.run("models", "add", self.spec.id, "--from", str(self.folder), *words)

    def files(self, *endings: str) -> list[Path]:
        return files(self.folder, *endings)


def files(folder: Path, *endings: str) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.name.endswith(endings))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Published]:
    return cache(lambda name: Published(FAMILIES[name], tmp_path_factory.mktemp(name)))


@pytest.fixture(params=DISTINCT)
def download(request, published, tmp_path, capsys) -> Download:
    torch.set_num_threads(1)
    return Download(published(request.param), tmp_path, capsys)


@pytest.mark.parametrize("download", list(FAMILIES), indirect=True)
def test_add_check_render(download, tmp_path):
    spec = download.spec
    assert not status(spec).available
    code, said = download.add()
    assert code == 0, said
    found = status(spec)
    assert found.available, found.reason
    for name, part in components(spec).items():
        if part.build is None:
            continue
        stored: dict[str, torch.Tensor] = {}
        for path in (spec.folder / name).glob("*.safetensors"):
            stored.update(load_file(path))
        for key, want in download.states[name].items():
            if not part.lacks(key):
                # Rounded to the precision that its publisher chose, and nothing else.
                assert torch.equal(stored[key], want.to(stored[key].dtype)), (name, key)
    code, said = download.run("models", "check", spec.id, "--full")
    assert code == 0, said
    assert download.add()[1].rstrip().endswith("nothing was written")

    shot, out = tmp_path / "a.shot", tmp_path / "a.mp4"
    save_shot(download.tiny.shot(), shot)
    code, said = download.run("render", str(shot), "-o", str(out), "--device", "cpu", "--quiet")
    assert code == 0, said
    video, fps = decode_video(out)
    assert len(video) == download.tiny.frames and fps == 12
    assert np.isfinite(video).all() and video.std() > 1

    code, said = download.run("models", "remove", spec.id, "--yes")
    assert code == 0 and not spec.folder.exists()
    code, said = download.run("render", str(shot), "-o", str(out), "--device", "cpu", "--quiet")
    assert code == 2 and f"maquette models add {spec.id} --from DIR" in said


@pytest.mark.parametrize("download", list(FAMILIES), indirect=True)
def test_each_missing_file_is_named_with_its_publisher(download):
    for path in download.files(".safetensors", ".pt", ".pth", ".tar", "tokenizer.json", "scheduler_config.json"):
        hidden = path.with_name("hidden")
        path.rename(hidden)
        code, said = download.add()
        hidden.rename(path)
        optional = [part.name for part in components(download.spec).values() if part.optional]
        if code == 0:
            assert any(f"{name}: left out" in said for name in optional), path
            assert download.run("models", "remove", download.spec.id, "--yes")[0] == 0
            continue
        assert code == 1 and "cannot be added" in said and "nothing was written" in said, path
        assert "published by " in said and " GB)" in said, path
        assert "GB are to be fetched" in said and "GB of GPU memory" in said
        assert not download.spec.folder.exists()


def test_each_file_cut_short_is_told(download):
    for path in download.files(".safetensors", ".pt", ".pth", ".tar"):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) * 2 // 3])
        code, said = download.add()
        path.write_bytes(whole)
        assert code == 2 and str(path) in said and "cut short" in said, said
        assert not download.spec.folder.exists()


class Program:
    def __reduce__(self):
        return os.mkdir, ("made-by-a-pickle",)


def test_no_pickle_is_run(download, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in download.files(".pt", ".pth", ".tar"):
        whole = path.read_bytes()
        torch.save({"state_dict": {"a": torch.ones(1)}, "hook": Program()}, path)
        code, said = download.add()
        path.write_bytes(whole)
        assert code == 2 and "asks to run" in said and "mkdir" in said, said
        assert not (tmp_path / "made-by-a-pickle").exists() and not download.spec.folder.exists()


@pytest.mark.parametrize("name", DISTINCT)
def test_other_models_checkpoints_are_recognised(name, published, tmp_path, capsys):
    """Every weight file in turn is replaced by one that is published with another model."""
    other_name = {"mimicmotion": "mofa-hybrid", "mofa-hybrid": "mtvcrafter-17b", "vace-1.3b": "mimicmotion",
                  "wan-animate-14b": "vace-1.3b", "ltx-2.3": "vace-1.3b", "mtvcrafter-7b": "mofa-hybrid",
                  "mtvcrafter-17b": "mtvcrafter-7b"}[name]  # fmt: skip
    download = Download(published(name), tmp_path, capsys)
    other = published(other_name)
    for i, path in enumerate(download.files(".safetensors", ".pt", ".pth", ".tar")):
        whole = path.read_bytes()
        pickled = path.suffix != ".safetensors"
        strangers = [
            stranger
            for stranger in files(other.folder, *((".pt", ".pth", ".tar") if pickled else (".safetensors",)))
            # Stable Video Diffusion's parts and the motion tokenizer belong to several models.
            if stranger.relative_to(other.folder).parts[-2:] != path.relative_to(download.folder).parts[-2:]
        ]
        if not strangers:
            continue
        stranger = strangers[i % len(strangers)]
        path.write_bytes(stranger.read_bytes())
        code, said = download.add()
        path.write_bytes(whole)
        assert code == 2 and re.search("wanted here; these look like keys of|is in another file|LoRA", said), said
        # Found out before anything was written.
        assert " tensors, " not in said and not download.spec.folder.exists()


def test_wrong_shapes_are_those_of_another_size(download):
    smaller = download.tiny.describe(download.models)
    text = (download.models / f"{smaller.id}.toml").read_text("utf-8")
    before, after = {
        "mimicmotion": ("cross_attention_dim = 32", "cross_attention_dim = 64"),
        "mofa-hybrid": ("cross_attention_dim = 32", "cross_attention_dim = 64"),
        "vace-1.3b": ("ffn_dim = 24", "ffn_dim = 48"),
        "wan-animate-14b": ("ffn_dim = 24", "ffn_dim = 48"),
        "ltx-2.3": ("attention_head_dim = 12", "attention_head_dim = 24"),
        "mtvcrafter-7b": ("attention_head_dim = 16", "attention_head_dim = 32"),
        "mtvcrafter-17b": ("ffn_dim = 24", "ffn_dim = 48"),
    }[smaller.id]
    assert before in text
    (download.models / f"{smaller.id}.toml").write_text(text.replace(before, after), "utf-8")
    code, said = download.add()
    assert code == 2 and "of another shape (" in said and " instead of " in said, said
