"""A family of models with all that published weights can be, small enough to make a hundred of."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from maquette.backend.catalogue.models import ModelSpec, read_spec
from maquette.backend.models.weights.component import Component
from safetensors.torch import save_file
from torch import Tensor, nn

from ...parity.recipe import recipe_state

TOML = """
id = "paper"
label = "Paper"
description = "for tests"
license = "MIT"
engine = "paper"
[limits]
max_frames = 10
min_size = 8
[defaults]
steps = 2
guidance = 2.0
width = 64
height = 32
frames = 5
[[sources]]
name = "the network"
component = "body"
repository = "somebody/paper"
files = ["ckpt/Paper.pth"]
license = "MIT"
gigabytes = 1.5
note = "ask them first"
[[sources]]
name = "the decoder"
component = "vae"
repository = "somebody/base"
files = ["vae/diffusion_pytorch_model-00001-of-00002.safetensors", "vae/diffusion_pytorch_model-00002-of-00002.safetensors"]
license = "Community"
gigabytes = 0.5
[[sources]]
name = "statistics"
component = "tables"
repository = "somebody/paper"
files = ["data/mean.npy"]
license = "MIT"
gigabytes = 0.001
[files]
required = [
  "body/config.json", "body/diffusion_pytorch_model.safetensors", "head/diffusion_pytorch_model.safetensors",
  "vae/diffusion_pytorch_model.safetensors", "tables/mean.npy",
]
[memory]
weights_gb = 2.0
denoising_gb_per_mpf = 100.0
[body]
width = 6
layers = 3
[head]
width = 4
layers = 1
[vae]
width = 8
layers = 2
"""  # noqa: E501


class Net(ModelMixin, ConfigMixin):
    """Some layers and a counter."""

    @register_to_config
    def __init__(self, width: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(width, width) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.register_buffer("seen", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + torch.tanh(block(x))
        return self.norm(x)


def _rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published ``layer_0_w`` is transposed against ours."""
    new = {}
    for key, value in state.items():
        if key.startswith("layer_"):
            _, i, leaf = key.split("_")
            new[f"blocks.{i}.{'weight' if leaf == 'w' else 'bias'}"] = value.T if leaf == "w" else value
        else:
            new[key] = value
    return new


def publish_body(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The other way round."""
    new = {}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] == "blocks":
            is_weight = parts[2] == "weight"
            new[f"layer_{parts[1]}_{'w' if is_weight else 'b'}"] = (value.T if is_weight else value).contiguous()
        else:
            new[key] = value
    return new


def lora_problems(spec: ModelSpec, state: Mapping[str, Tensor]) -> list[str]:
    return [] if all(".lora_" in key for key in state) else ["not a LoRA"]


COMPONENTS = {
    "body": Component(
        name="body", published=("ckpt/Paper.pth",), prefix="body.", convert=_rename, may_drop=("ema_*",),
        build=lambda spec: Net(**spec.components["body"]), may_lack=("seen",),
    ),
    "head": Component(
        name="head", published=("ckpt/Paper.pth",), prefix="head.",
        build=lambda spec: Net(**spec.components["head"]),
    ),
    "vae": Component(
        name="vae", published=("vae/diffusion_pytorch_model*.safetensors", "vae.safetensors"), keep_dtype=True,
        build=lambda spec: Net(**spec.components["vae"]),
    ),
    "tables": Component(name="tables", copy={"data/mean.npy": "mean.npy", "data/words/*": "words/"},
                        copy_optional=("data/words/*",)),
    "lora": Component(name="lora", published=("few_steps.safetensors",), optional=True, verify=lora_problems),
}  # fmt: skip


def weights(spec: ModelSpec, part: str, seed: int = 3) -> dict[str, Tensor]:
    """Recipe weights of a part in our names."""
    shapes = {key: tuple(value.shape) for key, value in COMPONENTS[part].module(spec).state_dict().items()}
    state = recipe_state({key: shape for key, shape in shapes.items() if key != "seen"}, seed)
    return {**state, "seen": torch.tensor(5)}


def write_tree(spec: ModelSpec, folder: Path) -> Path:
    """The files as they are published."""
    for name in ("ckpt", "vae", "data"):
        (folder / name).mkdir(parents=True)
    body = {f"body.{key}": value for key, value in publish_body(weights(spec, "body")).items() if key != "seen"}
    head = {f"head.{key}": value for key, value in weights(spec, "head").items()}
    more = {"body.ema_decay": torch.ones(1), "optimizer.step": torch.ones(2)}
    torch.save({"epoch": 7, "state_dict": {**body, **head, **more}}, folder / "ckpt" / "Paper.pth")
    vae = weights(spec, "vae")
    names = [f"diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for name, keys in zip(names, (sorted(vae)[::2], sorted(vae)[1::2]), strict=True):
        save_file({key: vae[key] for key in keys}, folder / "vae" / name)
    np.save(folder / "data" / "mean.npy", np.arange(6, dtype=np.float32))
    return folder


@pytest.fixture(autouse=True)
def _family(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = ModuleType("maquette.backend.models.paper.convert")
    module.COMPONENTS = COMPONENTS  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "maquette.backend.models.paper", ModuleType("maquette.backend.models.paper"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("MAQUETTE_WEIGHTS", str(tmp_path / "home"))


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with the description."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "paper.toml").write_text(TOML, "utf-8")
    return folder


@pytest.fixture
def spec(models: Path) -> ModelSpec:
    return read_spec(models / "paper.toml")


@pytest.fixture
def tree(spec: ModelSpec, tmp_path: Path) -> Path:
    return write_tree(spec, tmp_path / "downloads")
