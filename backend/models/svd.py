"""Stable Video Diffusion, which MimicMotion and MOFA-Video are built on: its networks and how it encodes a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from ..catalogue.models import ModelSpec


def new_network(spec: ModelSpec, part: str, classes: Mapping[str, Any]) -> nn.Module:
    """A part with new weights, as its table in the description configures it."""
    table = dict(spec.components.get(part, {}))
    if part == "image_encoder":
        return CLIPVisionModelWithProjection(CLIPVisionConfig(**table))
    return classes[part](**table)


def new_scheduler(spec: ModelSpec) -> EulerDiscreteScheduler:
    """SVD's Euler scheduler with the description's noise levels."""
    return EulerDiscreteScheduler(**spec.components.get("scheduler", {}))


def encode_picture(vae: Any, picture_B3HW: Tensor, device: torch.device) -> Tensor:
    """(B,4,h,w) float32 latents of a picture in [-1, 1], not scaled: SVD takes them so beside the noisy ones."""
    # Half precision overflows in this VAE's encoder.
    upcast = vae.dtype == torch.float16 and vae.config.force_upcast
    if upcast:
        vae.to(dtype=torch.float32)
    latents = vae.encode(picture_B3HW.to(device, vae.dtype)).latent_dist.mode().float()
    if upcast:
        vae.to(dtype=torch.float16)
    return latents
