"""What MTVCrafter's parts are published as, and how their files become ours.

Both variants take the tokenizer from MTVCrafter's own repository. The 7B variant needs CogVideoX-5b's VAE and
scheduler beside, the 17B variant Wan 2.1's VAE, text and image encoders in their authors' names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ...catalogue.models import ModelSpec
from ..weights.component import Component
from .build import base, new_network
from .lora import lora_problems
from .names import CLIP_VISION, UMT5_ENCODER, WAN_TRANSFORMER, Renaming, wan_vae

if TYPE_CHECKING:
    from torch import Tensor

    State = Mapping[str, Tensor]

_QKV = ("q_proj", "k_proj", "v_proj")


def components(spec: ModelSpec) -> dict[str, Component]:
    """The parts of a variant by name. Raises ModelError for a base that there is not."""
    parts = [_tokenizer(), *(_of_cogvideox() if base(spec) == "cogvideox" else _of_wan(spec))]
    return {part.name: part for part in parts}


def _tokenizer() -> Component:
    return Component(
        name="tokenizer",
        published=("4DMoT/mp_rank_00_model_states.pt",),
        build=lambda spec: new_network(spec, "tokenizer"),
        keep_dtype=True,
    )


def _of_cogvideox() -> list[Component]:
    return [
        Component(
            name="transformer",
            published=("MV-DiT/CogVideoX/diffusion_pytorch_model*.safetensors",),
            build=lambda spec: new_network(spec, "transformer"),
        ),
        Component(
            name="vae",
            published=("vae/diffusion_pytorch_model.safetensors",),
            build=lambda spec: new_network(spec, "vae"),
        ),
        Component(name="scheduler", copy={"scheduler/scheduler_config.json": "scheduler_config.json"}),
    ]


def _of_wan(spec: ModelSpec) -> list[Component]:
    return [
        Component(
            name="transformer",
            published=("MV-DiT/Wan-2-1/diffusion_pytorch_model*.safetensors",),
            build=lambda spec: new_network(spec, "transformer"),
            convert=WAN_TRANSFORMER.from_published,
        ),
        Component(
            name="vae",
            published=("Wan2.1_VAE.pth",),
            build=lambda spec: new_network(spec, "vae"),
            convert=vae_names(spec).from_published,
            keep_dtype=True,
        ),
        Component(
            name="text_encoder",
            published=("models_t5_umt5-xxl-enc-bf16.pth",),
            build=lambda spec: new_network(spec, "text_encoder"),
            convert=UMT5_ENCODER.from_published,
            # The same table twice: transformers ties it to ``shared`` on loading.
            may_lack=("encoder.embed_tokens.weight",),
            weights_name="model",
        ),
        Component(
            name="text_tokenizer",
            copy={
                f"google/umt5-xxl/{name}": name
                for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "spiece.model")
            },
            copy_optional=("google/umt5-xxl/special_tokens_map.json", "google/umt5-xxl/spiece.model"),
        ),
        Component(
            name="image_encoder",
            published=("models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth",),
            build=lambda spec: new_network(spec, "image_encoder"),
            convert=clip_vision_from_published,
            # The text half, and what joins the halves.
            may_drop=("textual.*", "log_scale", "visual.head"),
            weights_name="model",
        ),
        Component(
            name="lora",
            published=("Wan2.1_I2V_14B_FusionX_LoRA.safetensors",),
            verify=check_lora,
            keep_dtype=True,
            optional=True,
        ),
    ]


def vae_names(spec: ModelSpec) -> Renaming:
    """Names of Wan's VAE at a description's configuration."""
    with torch.device("meta"):
        config: Any = new_network(spec, "vae").config
    return wan_vae(len(config["dim_mult"]), int(config["num_res_blocks"]))


def clip_vision_from_published(state: State) -> dict[str, Tensor]:
    """Wan's CLIP file to the keys of ``CLIPVisionModel``.

    The image half is renamed, its joint query, key and value weights are taken apart, and its embeddings lose the
    leading axis of length 1. Keys of the text half stay as they are.
    """
    converted: dict[str, Tensor] = {}
    for key, value in CLIP_VISION.from_published(state).items():
        if ".self_attn.qkv." in key:
            for name, part in zip(_QKV, value.chunk(3), strict=True):
                converted[key.replace("qkv", name)] = part
        elif key == "embeddings.class_embedding":
            converted[key] = value.reshape(-1)
        elif key == "embeddings.position_embedding.weight":
            converted[key] = value.reshape(value.shape[-2:])
        else:
            converted[key] = value
    return converted


def clip_vision_to_published(state: State) -> dict[str, Tensor]:
    """What ``clip_vision_from_published`` undoes, of the image half."""
    joined: dict[str, Tensor] = {}
    for key, value in state.items():
        if ".self_attn.q_proj." in key:
            joined[key.replace("q_proj", "qkv")] = torch.cat([state[key.replace("q_proj", name)] for name in _QKV])
        elif key == "embeddings.class_embedding":
            joined[key] = value.reshape(1, 1, -1)
        elif key == "embeddings.position_embedding.weight":
            joined[key] = value[None]
        elif not any(f".self_attn.{name}." in key for name in _QKV):
            joined[key] = value
    return CLIP_VISION.to_published(joined)


def check_lora(spec: ModelSpec, state: State) -> Sequence[str]:
    """Sentences about why a LoRA does not fit the description's transformer."""
    with torch.device("meta"):
        transformer = new_network(spec, "transformer")
    return lora_problems(transformer, state)
