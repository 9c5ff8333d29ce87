"""Published files of a tiny size, laid out as the real ones, become a model that runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from maquette.backend.catalogue.models import ModelSpec, read_spec
from maquette.backend.models.engine import load_engine
from maquette.backend.models.mimicmotion.build import NETWORKS, new_network
from maquette.backend.models.mimicmotion.plan import make_plan, window_of
from maquette.backend.models.weights.add import add
from maquette.backend.models.weights.check import check
from maquette.backend.models.weights.component import WeightsError
from safetensors.torch import save_file

from ...parity.recipe import fill
from .conftest import make_shot, tiny_toml


@pytest.fixture
def fresh(tmp_path: Path) -> ModelSpec:
    """The tiny model without weights."""
    path = tmp_path / "models" / "mimicmotion.toml"
    (path.parent / "mimicmotion").mkdir(parents=True)
    path.write_text(tiny_toml(), "utf-8")
    return read_spec(path)


@pytest.fixture(scope="module")
def states(spec: ModelSpec) -> dict[str, dict[str, torch.Tensor]]:
    """What is published, by part and in half precision."""
    networks = {part: fill(new_network(spec, part), seed) for seed, part in enumerate(NETWORKS, 1)}
    return {
        part: {key: value.half().contiguous() for key, value in network.state_dict().items()}
        for part, network in networks.items()
    }


def publish(states: dict, folder: Path, own: str = "MimicMotion_1-1.pth", **changes) -> Path:
    """Files as they are published: one .pth for UNet and pose network, Stable Video Diffusion's folders."""
    state = {f"{part}.{key}": value for part in ("unet", "pose_net") for key, value in states[part].items()}
    state |= changes.get("surplus", {})
    for key in changes.get("lost", ()):
        del state[key]
    folder.mkdir()
    torch.save(state, folder / own)
    for part, name in (("vae", "diffusion_pytorch_model.fp16"), ("image_encoder", "model.fp16")):
        (folder / part).mkdir()
        tensors = dict(states[part])
        if part == "image_encoder":
            tensors["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
        save_file(tensors, folder / part / f"{name}.safetensors")
    return folder


def test_published_files_become_a_model_that_renders(fresh, states, tmp_path):
    published = publish(states, tmp_path / "downloads")
    log: list[str] = []
    assert set(add(fresh, [published], log=log.append)) == {"unet", "pose_net", "vae", "image_encoder"}
    assert check(fresh, full=True) == []
    engine = load_engine("mimicmotion", "cpu", [tmp_path / "models"])
    assert engine.generate(make_shot(2), lambda _: None, lambda: False).frames.std() > 1
    values = torch.load(published / "MimicMotion_1-1.pth", weights_only=True)["pose_net.final_proj.weight"]
    loaded = engine.networks["pose_net"].final_proj.weight
    np.testing.assert_array_equal(loaded.detach().numpy(), values.float().numpy())


def test_keys_that_are_missing_or_too_many_are_counted_and_named(fresh, states, tmp_path):
    published = publish(
        states, tmp_path / "downloads", lost=["unet.conv_in.bias"], surplus={"pose_net.more.weight": torch.zeros(1)}
    )
    with pytest.raises(WeightsError, match=r"1 missing \(conv_in.bias\)"):
        add(fresh, [published], only=["unet"], log=lambda _: None)
    with pytest.raises(WeightsError, match=r"1 unexpected \(more.weight\)"):
        add(fresh, [published], only=["pose_net"], log=lambda _: None)


def test_parts_beside_the_own_ones_are_left_out_and_said(fresh, states, tmp_path):
    published = publish(states, tmp_path / "downloads", surplus={"vae.encoder.extra": torch.zeros(1)})
    log: list[str] = []
    add(fresh, [published], log=log.append)
    assert any("vae.encoder.extra" in line for line in log)
    assert check(fresh) == []


def test_the_first_checkpoint_brings_its_own_window(fresh, states, tmp_path):
    published = publish(states, tmp_path / "downloads", "MimicMotion_1.pth")
    add(fresh, [published], log=lambda _: None)
    text = tiny_toml().replace('type = "int"\ndefault = 6\nmin = 4', 'type = "int"\ndefault = 72\nmin = 4')
    (tmp_path / "models" / "mimicmotion.toml").write_text(text, "utf-8")
    spec = read_spec(tmp_path / "models" / "mimicmotion.toml")
    assert window_of(spec, make_shot(2)) == 16
    assert window_of(spec, make_shot(2, options={"window": 40})) == 40
    assert make_plan(spec, make_shot(31)).windows[0] == (0, 15)
