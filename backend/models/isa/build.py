"""Networks from a model description: with new weights for training, with saved ones for running."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file

from ...catalogue.models import ModelSpec
from ..family import EngineError
from ..loading import load_part
from .head import CarriedHead
from .transformer import ISATransformer3DModel, widened
from .vae import AutoencoderKLISA


def new_vae(spec: ModelSpec, **overrides: Any) -> AutoencoderKLISA:
    """The model's VAE with new weights; ``overrides`` replace entries of its configuration."""
    return AutoencoderKLISA(**{**spec.components["vae"], **overrides})


def new_transformer(spec: ModelSpec, **overrides: Any) -> ISATransformer3DModel:
    """The model's transformer with new weights."""
    return ISATransformer3DModel(**{**spec.components["transformer"], **overrides})


def new_scheduler(spec: ModelSpec) -> FlowMatchEulerDiscreteScheduler:
    """The model's flow matching scheduler; ``shift`` moves its steps towards noise for larger pictures."""
    return FlowMatchEulerDiscreteScheduler(**spec.components.get("scheduler", {}))


def load_vae(spec: ModelSpec, dtype: torch.dtype = torch.float32) -> AutoencoderKLISA:
    """The model's VAE with its saved weights."""
    return load_part(spec, "vae", AutoencoderKLISA, dtype)


def load_transformer(
    spec: ModelSpec, dtype: torch.dtype = torch.float32, like: ISATransformer3DModel | None = None
) -> ISATransformer3DModel:
    """The model's transformer with its saved weights.

    Args:
        like: give these weights as far as they fit this network, see ``transformer.widened``.
    """
    folder = spec.folder / "transformer"
    if like is not None:
        network = ISATransformer3DModel(**{k: v for k, v in like.config.items() if not k.startswith("_")})
        weights = load_file(folder / "diffusion_pytorch_model.safetensors")
        network.load_state_dict(widened(weights, network))
        torch.nn.Module.to(network, dtype)
        return network.eval()
    return load_part(spec, "transformer", ISATransformer3DModel, dtype)


def new_head(spec: ModelSpec) -> CarriedHead:
    """The model's head with new weights: it changes nothing."""
    return CarriedHead(**spec.components["head"])


def load_head(spec: ModelSpec, dtype: torch.dtype = torch.float32) -> CarriedHead:
    """The model's head with its saved weights, which it may lack."""
    return load_part(spec, "head", CarriedHead, dtype)


def image_embed_dim(spec: ModelSpec) -> int | None:
    """Width of the CLIP tokens that the model's saved transformer takes, or None."""
    config: Any = ISATransformer3DModel.load_config(spec.folder / "transformer")
    return config.get("image_embed_dim")


def load_image_encoder(spec: ModelSpec, width: int, dtype: torch.dtype = torch.float32) -> Any:
    """The CLIP vision model (``transformers.CLIPVisionModel``) for a transformer that takes tokens of ``width``.

    Raises EngineError when the folder holds another kind of model or its tokens have another width.
    """
    from transformers import CLIPVisionModel

    folder = spec.folder / "image_encoder"
    try:
        encoder: Any = CLIPVisionModel.from_pretrained(folder, dtype=dtype, local_files_only=True)
    except (OSError, ValueError) as error:
        raise EngineError("settings.model", f"{folder}: not a CLIP vision model ({error})") from error
    if encoder.config.hidden_size != width:
        raise EngineError(
            "settings.model",
            f"{folder}: its tokens are {encoder.config.hidden_size} wide, but {spec.label} was trained with {width}; "
            "put the CLIP there that the model was trained with",
        )
    return encoder.eval()
