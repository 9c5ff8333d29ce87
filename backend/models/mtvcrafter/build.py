"""MTVCrafter's networks: as a description configures them, and with their saved weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.schedulers.scheduling_dpm_cogvideox import CogVideoXDPMScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

from ...catalogue.models import ModelError, ModelSpec
from ..family import EngineError
from ..loading import load_part
from .lora import merge_lora
from .plan import LORA, sampling
from .tokenizer import MotionTokenizer
from .transformer_7b import MVDiT7BTransformer3DModel
from .transformer_17b import MVDiT17BTransformer3DModel

NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "cogvideox": {
        "tokenizer": MotionTokenizer,
        "transformer": MVDiT7BTransformer3DModel,
        "vae": AutoencoderKLCogVideoX,
    },
    "wan": {
        "tokenizer": MotionTokenizer,
        "transformer": MVDiT17BTransformer3DModel,
        "vae": AutoencoderKLWan,
        "text_encoder": UMT5EncoderModel,
        "image_encoder": CLIPVisionModel,
    },
}
"""Class of each part, by ``base`` of ``[sampling]``; the part's table in the description configures it."""

_CONFIGS: Mapping[str, Any] = {"text_encoder": UMT5Config, "image_encoder": CLIPVisionConfig}
"""Parts of transformers' kind."""


def base(spec: ModelSpec) -> str:
    """``cogvideox`` or ``wan``. Raises ModelError for another."""
    found = sampling(spec).get("base")
    if found not in NETWORKS:
        raise ModelError(f"{spec.id}.toml: sampling.base is {found!r}; make it one of {', '.join(NETWORKS)}")
    return str(found)


def new_network(spec: ModelSpec, part: str) -> nn.Module:
    """A part with new weights."""
    table = dict(spec.components.get(part, {}))
    network = NETWORKS[base(spec)][part]
    return network(_CONFIGS[part](**table)) if part in _CONFIGS else network(**table)


def part_dtype(spec: ModelSpec, part: str, dtype: torch.dtype) -> torch.dtype:
    """What a part computes in when the transformer computes in ``dtype``."""
    if part == "tokenizer" or (part == "vae" and base(spec) == "wan"):
        return torch.float32
    return dtype


def load_network(spec: ModelSpec, part: str, dtype: torch.dtype) -> Any:
    """A part with its saved weights, on the CPU. Raises EngineError when they cannot be read."""
    return load_part(spec, part, NETWORKS[base(spec)][part], part_dtype(spec, part, dtype))


def load_transformer_with_lora(spec: ModelSpec, dtype: torch.dtype) -> Any:
    """The transformer with the few-step LoRA merged. Raises EngineError when it does not fit."""
    transformer, path = load_network(spec, "transformer", dtype), spec.folder / LORA
    try:
        merge_lora(transformer, load_file(path))
    except (OSError, ValueError, SafetensorError) as error:
        raise EngineError(
            "settings.options.few_steps", f"{path}: not a LoRA for {spec.label} ({error}); run: {_check(spec)}"
        ) from error
    return transformer


def load_scheduler(spec: ModelSpec) -> Any:
    """The base model's scheduler: of CogVideoX as it is published, of Wan as the description says."""
    table = dict(spec.components.get("scheduler", {}))
    if base(spec) == "wan":
        return FlowMatchEulerDiscreteScheduler(**table)
    folder = spec.folder / "scheduler"
    try:
        return CogVideoXDPMScheduler.from_pretrained(folder, local_files_only=True, **table)
    except (OSError, ValueError) as error:
        raise EngineError("settings.model", f"{folder}: cannot be read ({error}); run: {_check(spec)}") from error


def _check(spec: ModelSpec) -> str:
    return f"maquette models check {spec.id}"
