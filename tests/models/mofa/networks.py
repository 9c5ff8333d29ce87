"""MOFA-Video's networks at sizes for tests, with weights by the recipe of the stored examples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from maquette.backend.catalogue.models import ModelSpec, read_spec
from maquette.backend.models.mofa.build import new_network

from ...parity.recipe import fill
from ..tiny import as_toml

_BACKBONE = {
    "block_out_channels": [32, 64, 64, 64],
    "addition_time_embed_dim": 32,
    "projection_class_embeddings_input_dim": 96,
    "cross_attention_dim": 32,
    "layers_per_block": 1,
}
_ADAPTER = {**_BACKBONE, "heads": [2, 4, 4, 4], "embedding_channels": [4, 8, 8, 8]}

TABLES: dict[str, dict[str, Any]] = {
    "image_encoder": {
        "hidden_size": 32,
        "intermediate_size": 32,
        "projection_dim": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    },
    "vae": {
        "block_out_channels": [32, 32, 32, 32],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "layers_per_block": 1,
        "scaling_factor": 0.18215,
    },
    "unet": {**_BACKBONE, "sample_size": 8, "num_attention_heads": [2, 4, 4, 4], "num_frames": 3},
    "controlnet": _ADAPTER,
    "landmark_controlnet": {**_ADAPTER, "landmark_channels": [4, 8, 8, 8], "matting_channels": [8, 16, 32]},
    "cmp": {
        "widths": [8, 8, 8, 8],
        "depths": [1, 1, 1, 1],
        "image_channels": 8,
        "sparse_channels": 4,
        "decoder_channels": 8,
        "bins": 9,
        "size": 64,
    },
    "scheduler": {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "num_train_timesteps": 1000,
        "prediction_type": "v_prediction",
        "sigma_max": 700.0,
        "sigma_min": 0.002,
        "steps_offset": 1,
        "timestep_spacing": "leading",
        "timestep_type": "continuous",
        "use_karras_sigmas": True,
    },
}
"""Configuration of each part, as in a model's description. SVD's scheduler as published."""

TWO_LAYERS = {name: {**TABLES[name], "layers_per_block": 2} for name in ("unet", "controlnet", "landmark_controlnet")}
"""As many skip connections as the published networks have."""

_HEAD = {
    "id": "tiny-mofa",
    "label": "Tiny MOFA",
    "description": "for tests",
    "license": "MIT",
    "engine": "mofa",
    "limits": {"window_frames": 25},
    "defaults": {"steps": 2, "guidance": 3.0, "width": 64, "height": 64, "frames": 3},
}


def tiny_spec(folder: Path, hybrid: bool, tables: Mapping[str, Mapping[str, Any]] = TABLES) -> ModelSpec:
    """A model with the tiny networks, described in ``folder``; its weights belong to ``folder/tiny-mofa``."""
    (folder / "tiny-mofa").mkdir(parents=True, exist_ok=True)
    chosen = {name: table for name, table in tables.items() if hybrid or name != "landmark_controlnet"}
    path = folder / "tiny-mofa.toml"
    path.write_text(as_toml({**_HEAD, **chosen}), "utf-8")
    return read_spec(path)


def network(spec: ModelSpec, part: str, seed: int = 0) -> Any:
    """A part with the recipe's weights."""
    return fill(new_network(spec, part), seed).requires_grad_(False)


def tiny_parts(spec: ModelSpec) -> dict[str, Any]:
    """What a pipeline is made of, but for the scheduler."""
    names = ("vae", "image_encoder", "unet", "controlnet", "landmark_controlnet")
    return {name: network(spec, name) for name in names if name in spec.components}


def without_hooks(net: torch.nn.Module) -> None:
    """Forget what a test attached, so that the next one can use the network."""
    for module in net.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    """Standard normal."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
