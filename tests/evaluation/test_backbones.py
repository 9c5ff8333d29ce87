"""LPIPS and FVD with stand-ins that are laid out like the published files, against direct computations."""

from __future__ import annotations

import hashlib
import io
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
import torchmetrics.functional.image.lpips as published
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.evaluation.backbones import (
    BackboneError,
    backbones_home,
    find_backbones,
    load_alexnet,
    load_i3d,
)
from maquette.backend.evaluation.perceptual import LEAST_FRAMES, alexnet_features, frechet_distance
from scipy.linalg import sqrtm
from torch import nn


class Video(nn.Module):
    """As small as can be with I3D's call."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(12, 5)

    def forward(self, x, rescale: bool = True, resize: bool = True, return_features: bool = False):
        if rescale:
            x = x / 255 * 2 - 1
        if resize:
            x = torch.nn.functional.interpolate(x, size=[10, 8, 8], mode="trilinear")
        features = self.mix(torch.cat([x.mean([3, 4])[:, :, :3].flatten(1), x.std([2, 3, 4])], dim=1))
        return features if return_features else features.softmax(1)


class Other(nn.Module):
    def forward(self, x):
        return x


def write_alexnet(folder: Path, state: object = None, seed: int = 0) -> Path:
    """A file like torchvision's, with random weights, named after its checksum."""
    if state is None:
        torch.manual_seed(seed)
        features = {f"features.{key}": value for key, value in alexnet_features().state_dict().items()}
        state = OrderedDict({**features, "classifier.1.weight": torch.zeros(4, 4)})
    stream = io.BytesIO()
    torch.save(state, stream)
    data = stream.getvalue()
    path = folder / f"alexnet-owt-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    path.write_bytes(data)
    return path


def write_i3d(folder: Path, module: nn.Module | None = None) -> Path:
    torch.manual_seed(1)
    path = folder / "i3d_torchscript.pt"
    torch.jit.script(module or Video()).save(str(path))
    return path


def films(count: int, frames: int = 12, size: int = 48) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, frames, size, size, 3), dtype=np.uint8)


def test_lpips_is_that_of_torchmetrics(tmp_path, monkeypatch):
    path = write_alexnet(tmp_path)
    lpips = find_backbones(tmp_path).lpips
    assert lpips is not None
    # torchmetrics' own network, around the same convolutions in place of the ones that it would download.
    monkeypatch.setattr(published, "_get_tv_model_features", lambda net, pretrained=False: load_alexnet(path))
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda file, **more: load(file, **{"map_location": "cpu", **more}))
    theirs = published._NoTrainLpips(net="alex")
    a, b = films(2)
    x, y = (torch.from_numpy(film).permute(0, 3, 1, 2).float() / 127.5 - 1 for film in (a, b))
    assert lpips.films(a, b) == pytest.approx(float(theirs(x, y).mean()), rel=1e-5)
    assert lpips.films(a, a) == 0.0
    assert np.isnan(lpips.films(a[:, :16, :16], b[:, :16, :16]))


def test_features_are_taken_as_published(tmp_path):
    network = load_i3d(write_i3d(tmp_path))
    i3d = find_backbones(tmp_path).i3d
    assert i3d is not None
    film = films(1)[0]
    x = torch.from_numpy(film).permute(3, 0, 1, 2)[None].float()
    with torch.no_grad():
        expected = network(x, rescale=True, resize=True, return_features=True)[0].numpy()
    np.testing.assert_allclose(i3d(film), expected, rtol=1e-6)
    assert i3d(film[: LEAST_FRAMES - 1]) is None


@given(st.integers(0, 2**16), st.sampled_from([(40, 30, 4), (6, 9, 3), (20, 20, 6)]))
def test_the_frechet_distance_is_that_of_the_gaussians(seed, sizes):
    n, m, width = sizes
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, width)), rng.normal(1, 2, (m, width)) @ rng.normal(size=(width, width))
    covariances = [np.cov(each, rowvar=False) for each in (a, b)]
    root = np.real(sqrtm(covariances[0] @ covariances[1]))
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_the_frechet_distance_with_few_films():
    a = np.random.default_rng(0).normal(size=(5, 400))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 0.5) == pytest.approx(400 * 0.25)
    assert np.isnan(frechet_distance(a[:1], a))


def test_what_is_absent_is_said_with_its_source(tmp_path):
    nothing = find_backbones(None)
    assert nothing.lpips is None and nothing.i3d is None and len(nothing.absent) == 2
    assert "alexnet-owt-*.pth" in nothing.absent[0] and "download.pytorch.org" in nothing.absent[0]
    assert "i3d_torchscript.pt" in nothing.absent[1] and "stylegan-v" in nothing.absent[1]
    write_i3d(tmp_path)
    half = find_backbones(tmp_path)
    assert half.i3d is not None and half.lpips is None
    assert len(half.absent) == 1 and str(tmp_path) in half.absent[0]
    with pytest.raises(BackboneError, match="no such folder"):
        find_backbones(tmp_path / "absent")


def test_a_file_cut_short_is_not_used(tmp_path):
    for path in (write_alexnet(tmp_path), write_i3d(tmp_path)):
        path.write_bytes(path.read_bytes()[:-2000])
        found = find_backbones(tmp_path)
        assert any(str(path) in text and "fetch it again" in text for text in found.absent)
    assert found.lpips is None and found.i3d is None


def test_foreign_files_are_not_used(tmp_path):
    with pytest.raises(BackboneError, match=r"features\.0\.weight .* not AlexNet"):
        load_alexnet(write_alexnet(tmp_path, {"conv.weight": torch.zeros(3)}))
    with pytest.raises(BackboneError, match="not AlexNet"):
        load_alexnet(write_alexnet(tmp_path, [1, 2]))
    with pytest.raises(BackboneError, match="does not take rescale, resize, return_features"):
        load_i3d(write_i3d(tmp_path, Other()))
    text = tmp_path / "i3d_torchscript.pt"
    text.write_text("<html>Not found</html>")
    with pytest.raises(BackboneError, match="TorchScript"):
        load_i3d(text)


def test_a_pickle_that_would_run_something_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    with pytest.raises(BackboneError, match="cannot be read"):
        load_alexnet(write_alexnet(tmp_path, {"features.0.weight": Evil()}))


def test_the_folder_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("MAQUETTE_BACKBONES", str(tmp_path))
    assert backbones_home() == tmp_path
    monkeypatch.delenv("MAQUETTE_BACKBONES")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert backbones_home() is None
    (tmp_path / "maquette" / "backbones").mkdir(parents=True)
    assert backbones_home() == tmp_path / "maquette" / "backbones"
