"""The families of published models at tiny sizes, their files laid out as they are published.

A tiny model is the shipped description with other tables for its networks, pictures and windows; its files are made of
recipe weights, named, nested, split and cut into files as each publisher does it.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from maquette.backend.catalogue.models import ModelSpec
from maquette.backend.models.mtvcrafter.convert import clip_vision_to_published, vae_names
from maquette.backend.models.mtvcrafter.names import UMT5_ENCODER, WAN_TRANSFORMER
from maquette.backend.models.weights.component import components
from maquette.backend.shot import Mesh, Settings, Shot
from safetensors.torch import save_file
from torch import Tensor

from ...builders import BOX_TRIANGLES
from ...parity.recipe import fill
from ..control.builders import (
    ANIMATE_CHANGES,
    ANIMATE_TABLES,
    LTX_CHANGES,
    LTX_SCHEDULER,
    LTX_TABLES,
    ltx_lora,
    write_small_files,
)
from ..control.builders import CHANGES as VACE_CHANGES
from ..control.builders import TABLES as VACE_TABLES
from ..mimicmotion.conftest import CHANGES as MIMICMOTION_CHANGES
from ..mimicmotion.conftest import TINY_PARTS
from ..mimicmotion.conftest import make_shot as figure
from ..mofa.networks import TABLES as MOFA_TABLES
from ..mofa.shots import CHANGES as MOFA_CHANGES
from ..mofa.shots import tables_of
from ..mtvcrafter.builders import SCHEDULER, TINY_7B, TINY_17B, tiny_lora, write_text_tokenizer
from ..tiny import describe

State = dict[str, Tensor]


@dataclass(frozen=True)
class Tiny:
    """A published model made small.

    Attributes:
        preset: id of the shipped description.
        tables: what takes the place of its networks' tables.
        changes: entries of other tables, by ``table.entry``.
        publish: writes all parts (name -> our state dict) into a folder.
        frames: of a shot for it.
    """

    preset: str
    tables: Mapping[str, Any]
    changes: Mapping[str, Any]
    publish: Callable[[ModelSpec, Mapping[str, State], Path], None]
    frames: int = 4

    def describe(self, folder: Path) -> ModelSpec:
        """Write the tiny description; the weights' place is the home of all weights."""
        return describe(folder, self.preset, self.tables, self.changes, beside=False)

    def states(self, spec: ModelSpec) -> dict[str, State]:
        """Recipe weights of every network, in our names."""
        return {
            name: dict(fill(part.build(spec), seed).state_dict())
            for seed, (name, part) in enumerate(components(spec).items(), 1)
            if part.build is not None
        }

    def shot(self, frames: int | None = None) -> Shot:
        """A figure with all that any of the models takes."""
        shot = figure(frames or self.frames)
        corners = np.array([[x, y, z] for x in (-0.3, 0.3) for y in (-0.2, 0.2) for z in (0.0, 1.7)])
        drift = np.linspace(0, 0.1, len(shot.clip.viewmats))[:, None, None]
        box = Mesh("Anna", 0, (corners[None] + drift).astype(np.float32), BOX_TRIANGLES)
        return replace(shot, meshes=(box,), settings=Settings(model=self.preset, seed=3, steps=1))


def save(state: Mapping[str, Tensor], path: Path, dtype: torch.dtype | None = None) -> None:
    """As safetensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cast = lambda t: t.to(dtype) if dtype is not None and t.is_floating_point() else t  # noqa: E731
    save_file({key: cast(value).contiguous() for key, value in state.items()}, path)


def save_shards(state: State, folder: Path, count: int, dtype: torch.dtype) -> None:
    """As safetensors in ``count`` files with an index."""
    names = [f"diffusion_pytorch_model-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
    keys = sorted(state)
    for i, name in enumerate(names):
        save({key: state[key] for key in keys[i::count]}, folder / name, dtype)
    index = {"metadata": {}, "weight_map": {key: names[i % count] for i, key in enumerate(keys)}}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    (folder / "config.json").write_text("{}", "utf-8")


@contextmanager
def pretended(module: str, name: str) -> Iterator[type]:
    """A class of a module that is not there, for as long as it takes to pickle it."""
    made = type(
        name, (), {"__module__": module, "scale": 1.0, "__reduce__": lambda self: (type(self), (), {"scale": 2.0})}
    )
    names = [module[:end] for end in (*(i for i, c in enumerate(module) if c == "."), None)]
    sys.modules.update({each: ModuleType(each) for each in names})
    setattr(sys.modules[module], name, made)
    try:
        yield made
    finally:
        for each in names:
            del sys.modules[each]


def save_pickle(data: Any, path: Path) -> None:
    """As ``torch.save`` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(data, path)


def _publish_svd(states: Mapping[str, State], folder: Path, parts: tuple[str, ...]) -> None:
    for part in parts:
        stem = "model" if part == "image_encoder" else "diffusion_pytorch_model"
        save(states[part], folder / part / f"{stem}.fp16.safetensors", torch.float16)


def _publish_mimicmotion(spec: ModelSpec, states: Mapping[str, State], folder: Path) -> None:
    own = {f"{part}.{key}": value.half() for part in ("unet", "pose_net") for key, value in states[part].items()}
    save_pickle(own, folder / "MimicMotion" / "MimicMotion_1-1.pth")
    _publish_svd(states, folder / "svd", ("vae", "image_encoder"))


def _publish_mofa(spec: ModelSpec, states: Mapping[str, State], folder: Path) -> None:
    hybrid = "landmark_controlnet" in states
    _publish_svd(states, folder / "svd", ("vae", "image_encoder", "unet"))
    name = "diffusion_pytorch_model.safetensors"
    adapter = folder / "mofa" / "ckpts" / ("mofa/traj_controlnet" if hybrid else "controlnet")
    save(states["controlnet"], adapter / name)
    (adapter / "config.json").write_text(json.dumps({"num_attention_heads": [5, 10, 20, 20]}), "utf-8")
    if hybrid:
        save(states["landmark_controlnet"], folder / "mofa" / "ckpts" / "mofa" / "ldmk_controlnet" / name)
    cmp = {f"module.{key}": value for key, value in states["cmp"].items() if "num_batches_tracked" not in key}
    path = "cmp/experiments/semiauto_annot/resnet50_vip+mpii_liteflow/checkpoints/ckpt_iter_42000.pth.tar"
    save_pickle({"step": 42000, "state_dict": cmp}, folder / path)


def _publish_tokenizer(states: Mapping[str, State], folder: Path) -> None:
    # As DeepSpeed writes it, which is not installed here.
    with pretended("deepspeed.runtime.fp16.loss_scaler", "LossScaler") as scaler:
        notes = {"global_steps": 500000, "optimizer": {"loss_scaler": scaler()}, "mp_world_size": 1}
        save_pickle({"module": states["tokenizer"], **notes}, folder / "4DMoT" / "mp_rank_00_model_states.pt")


def _publish_7b(spec: ModelSpec, states: Mapping[str, State], folder: Path) -> None:
    own, base = folder / "MTVCrafter", folder / "CogVideoX-5b"
    _publish_tokenizer(states, own)
    save_shards(states["transformer"], own / "MV-DiT" / "CogVideoX", 2, torch.bfloat16)
    save(states["vae"], base / "vae" / "diffusion_pytorch_model.safetensors", torch.bfloat16)
    (base / "scheduler").mkdir()
    (base / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER), "utf-8")


def _publish_17b(spec: ModelSpec, states: Mapping[str, State], folder: Path) -> None:
    own, base = folder / "MTVCrafter", folder / "Wan2.1-I2V-14B-480P"
    _publish_tokenizer(states, own)
    save_shards(WAN_TRANSFORMER.to_published(states["transformer"]), own / "MV-DiT" / "Wan-2-1", 3, torch.bfloat16)
    save_pickle(vae_names(spec).to_published(states["vae"]), base / "Wan2.1_VAE.pth")
    text = {k: v.bfloat16() for k, v in states["text_encoder"].items() if k != "encoder.embed_tokens.weight"}
    save_pickle(UMT5_ENCODER.to_published(text), base / "models_t5_umt5-xxl-enc-bf16.pth")
    vision = {key: value.half() for key, value in clip_vision_to_published(states["image_encoder"]).items()}
    more = {
        "textual.token_embedding.weight": torch.ones(3, 2),
        "log_scale": torch.ones(()),
        "visual.head": torch.ones(2),
    }
    save_pickle({**vision, **more}, base / "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth")
    write_text_tokenizer(base / "google" / "umt5-xxl")
    save(tiny_lora(), folder / "lora" / "Wan2.1_I2V_14B_FusionX_LoRA.safetensors")


def _publish_vace(spec: ModelSpec, states: Mapping[str, State], folder: Path) -> None:
    save_shards(states["transformer"], folder / "transformer", 2, torch.bfloat16)
    save(states["vae"], folder / "vae" / "diffusion_pytorch_model.safetensors")
    text = {k: v for k, v in states["text_encoder"].items() if k != "encoder.embed_tokens.weight"}
    save(text, folder / "text_encoder" / "model.safetensors", torch.bfloat16)
    write_small_files(folder)


def _publish_animate(spec: ModelSpec, states: Mapping[str, State], folder: Path) -> None:
    _publish_vace(spec, states, folder)
    save_shards(states["transformer"], folder / "transformer", 2, torch.float32)
    # As the class was when it was published.
    vision = {f"vision_model.{key}": value for key, value in states["image_encoder"].items()}
    save(vision, folder / "image_encoder" / "model.safetensors", torch.bfloat16)


def _publish_ltx(spec: ModelSpec, states: Mapping[str, State], folder: Path) -> None:
    own, name = folder / "LTX-2.3-Diffusers", "diffusion_pytorch_model.safetensors"
    save_shards(states["transformer"], own / "transformer", 2, torch.bfloat16)
    save(states["vae"], own / "vae" / name, torch.bfloat16)
    save(states["text_encoder_connectors"], own / "connectors" / name, torch.bfloat16)
    # Gemma whole, as transformers 4 saved it: with eyes, and with a head that is not used here.
    text = {f"language_model.model.{key}": value for key, value in states["text_encoder"].items()}
    more = {"vision_tower.vision_model.embeddings.patch_embedding.weight": torch.ones(4, 3, 2, 2),
            "multi_modal_projector.mm_input_projection_weight": torch.ones(4, 16),
            "language_model.lm_head.weight": torch.ones(40, 16)}  # fmt: skip
    save({**text, **more}, own / "text_encoder" / "model-00001-of-00001.safetensors", torch.bfloat16)
    write_small_files(own, LTX_SCHEDULER)
    lora = folder / "LTX-2.3-22b-IC-LoRA-Union-Control" / "ltx-2.3-22b-ic-lora-union-control-ref0.5.safetensors"
    save(ltx_lora(spec), lora, torch.bfloat16)
    save(ltx_lora(spec, 2), folder / "LTX-2.3" / "ltx-2.3-22b-distilled-lora-384-1.1.safetensors", torch.bfloat16)


def _tables(text: str) -> dict[str, Any]:
    keep = ("tokenizer", "transformer", "vae", "text_encoder", "image_encoder", "scheduler", "sampling")
    return {key: value for key, value in tomllib.loads(text).items() if key in keep}


def _mtv(text: str, publish: Callable[..., None], preset: str, frames: int) -> Tiny:
    limits = tomllib.loads(text)["limits"]
    sizes = {f"limits.{key}": limits[key] for key in ("min_size", "max_size", "size_multiple")}
    changes = {**sizes, "defaults.steps": 2, "defaults.width": 32, "defaults.height": 32}
    return Tiny(preset, _tables(text), changes, publish, frames)


FAMILIES = {
    tiny.preset: tiny
    for tiny in (
        Tiny("mimicmotion", tomllib.loads(TINY_PARTS), MIMICMOTION_CHANGES, _publish_mimicmotion),
        Tiny("mofa-trajectory", tables_of("mofa-trajectory"), MOFA_CHANGES, _publish_mofa),
        Tiny("mofa-hybrid", MOFA_TABLES, MOFA_CHANGES, _publish_mofa),
        Tiny("vace-1.3b", VACE_TABLES, VACE_CHANGES, _publish_vace),
        Tiny("vace-14b", VACE_TABLES, VACE_CHANGES, _publish_vace),
        Tiny("wan-animate-14b", ANIMATE_TABLES, ANIMATE_CHANGES, _publish_animate),
        Tiny("ltx-2.3", LTX_TABLES, LTX_CHANGES, _publish_ltx),
        _mtv(TINY_7B, _publish_7b, "mtvcrafter-7b", 49),
        _mtv(TINY_17B, _publish_17b, "mtvcrafter-17b", 9),
    )
}

DISTINCT = [name for name in FAMILIES if name not in ("vace-14b", "mofa-trajectory")]
"""Without those whose files are of the same kinds as another's."""
