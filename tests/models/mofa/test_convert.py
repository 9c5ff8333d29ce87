"""Published files, at tiny sizes but laid out as published, become folders that load."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from shutil import copytree

import pytest
import torch
from maquette.backend.catalogue.models import ModelSpec
from maquette.backend.models.family import EngineError
from maquette.backend.models.mofa.build import load_network, network_names, new_network
from maquette.backend.models.mofa.convert import components
from maquette.backend.models.weights.add import add
from maquette.backend.models.weights.component import WeightsError
from safetensors.torch import save_file

from .networks import network, tiny_spec


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Path]:
    """Folders of published files that nobody writes in, of the hybrid model and of the other."""

    @cache
    def folder(hybrid: bool) -> Path:
        home = tmp_path_factory.mktemp("home")
        publish(tiny_spec(home / "models", hybrid), home / "published")
        return home / "published"

    return folder


def publish(spec: ModelSpec, folder: Path) -> None:
    """Write every part as its authors do, adapters beside a configuration with the UNet's heads."""
    hybrid = "landmark_controlnet" in spec.components
    places = {
        "image_encoder": "image_encoder/model.fp16.safetensors",
        "vae": "vae/diffusion_pytorch_model.fp16.safetensors",
        "unet": "unet/diffusion_pytorch_model.fp16.safetensors",
        "controlnet": f"ckpts/{'mofa/traj_controlnet' if hybrid else 'controlnet'}/diffusion_pytorch_model.safetensors",
        "landmark_controlnet": "ckpts/mofa/ldmk_controlnet/diffusion_pytorch_model.safetensors",
    }
    for number, name in enumerate(network_names(spec)):
        state = network(spec, name, number).state_dict()
        if name == "cmp":
            path = folder / "experiments/resnet50_vip+mpii_liteflow/checkpoints/ckpt_iter_42000.pth.tar"
            path.parent.mkdir(parents=True)
            kept = {f"module.{key}": value for key, value in state.items() if "num_batches" not in key}
            torch.save({"step": 42000, "state_dict": kept}, path)
            continue
        path = folder / places[name]
        path.parent.mkdir(parents=True)
        fp16 = "fp16" in path.name
        save_file({key: value.half() if fp16 else value for key, value in state.items()}, path)
        if "controlnet" in name:
            (path.parent / "config.json").write_text(json.dumps({"num_attention_heads": [5, 10, 20, 20]}))


@pytest.mark.parametrize("hybrid", [False, True])
def test_published_files_load(published, tmp_path, hybrid):
    spec = tiny_spec(tmp_path / "models", hybrid)
    assert set(add(spec, [published(hybrid)], log=lambda _: None)) == set(network_names(spec))
    for number, name in enumerate(network_names(spec)):
        loaded = load_network(spec, name, torch.float32)
        own = network(spec, name, number).state_dict()
        assert loaded.state_dict().keys() == own.keys()
        for key, value in loaded.state_dict().items():
            exact = "controlnet" in name or name == "cmp"
            assert torch.equal(value, own[key] if exact else own[key].half().float()), key
        if "controlnet" in name:
            attentions = [m.heads for m in loaded.down_blocks[2].modules() if hasattr(m, "heads")]
            assert set(attentions) == {spec.components[name]["heads"][2]}


def test_which_parts_there_are(tmp_path):
    assert "landmark_controlnet" not in components(tiny_spec(tmp_path / "a", hybrid=False))
    parts = components(tiny_spec(tmp_path / "b", hybrid=True))
    assert set(parts) == {"image_encoder", "vae", "unet", "controlnet", "landmark_controlnet", "cmp"}
    assert [name for name, part in parts.items() if part.optional] == ["cmp"]


def test_the_other_adapter_is_refused(published, tmp_path):
    spec = tiny_spec(tmp_path / "models", hybrid=True)
    copytree(published(True), tmp_path / "published")
    adapters = tmp_path / "published/ckpts/mofa"
    name = "diffusion_pytorch_model.safetensors"
    (adapters / "ldmk_controlnet" / name).replace(adapters / "traj_controlnet" / name)
    with pytest.raises(WeightsError, match="MOFA-Video's landmark adapter"):
        add(spec, [tmp_path / "published"], only=["controlnet"], log=lambda _: None)


def test_missing_keys_are_named(published, tmp_path):
    spec = tiny_spec(tmp_path / "models", hybrid=False)
    copytree(published(False), tmp_path / "published")
    path = tmp_path / "published/experiments/resnet50_vip+mpii_liteflow/checkpoints/ckpt_iter_42000.pth.tar"
    state = torch.load(path, weights_only=True)["state_dict"]
    state["module.extra.weight"] = state.pop("module.flow_decoder.head.weight")
    torch.save({"state_dict": state}, path)
    with pytest.raises(WeightsError, match=r"(?s)flow_decoder\.head\.weight.*extra\.weight"):
        add(spec, [tmp_path / "published"], only=["cmp"], log=lambda _: None)


def test_cmp_stays_in_single_precision(published, tmp_path):
    spec = tiny_spec(tmp_path / "models", hybrid=False)
    add(spec, [published(False)], only=["cmp", "unet"], dtype="fp16", log=lambda _: None)
    assert load_network(spec, "cmp", torch.float16).dtype == torch.float32
    assert load_network(spec, "unet", torch.float16).dtype == torch.float16


def test_a_folder_without_weights_says_so(tmp_path):
    spec = tiny_spec(tmp_path, hybrid=False)
    with pytest.raises(EngineError, match="maquette models check tiny-mofa"):
        load_network(spec, "unet", torch.float32)


def test_the_default_sizes_are_the_published_ones(tmp_path):
    """An empty table in the description gives the published network."""
    spec = tiny_spec(tmp_path, hybrid=True, tables={"controlnet": {}, "landmark_controlnet": {}, "cmp": {}})
    with torch.device("meta"):
        sizes = {name: sum(p.numel() for p in new_network(spec, name).parameters()) for name in network_names(spec)}
    assert round(sizes["controlnet"] / 1e6, 1) == 694.3
    assert round(sizes["landmark_controlnet"] / 1e6, 1) == 722.5
    assert round(sizes["cmp"] / 1e6, 1) == 28.5
