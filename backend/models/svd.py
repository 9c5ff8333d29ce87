"""Stable Video Diffusion, which MimicMotion and MOFA-Video are built on: its networks and how it encodes a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from ..catalogue.models import ModelSpec
from .carried_start import CarriedStart
from .frames import frames_to_tensor


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


def encode_film(vae: Any, film: np.ndarray, device: torch.device, report: Callable[[int, int], None]) -> Tensor:
    """Scaled latents (T,4,h,w) float32 of frames (T,H,W,3) uint8, encoded one by one.

    Args:
        report: called before each with how many are done, of how many.
    """
    parts = []
    for t, frame in enumerate(film):
        report(t, len(film))
        parts.append(encode_picture(vae, frames_to_tensor(frame[None]).transpose(0, 1), device))
    return torch.cat(parts) * vae.config.scaling_factor


def begin(start: CarriedStart | None, scheduler: Any, noise: Tensor) -> tuple[Tensor, int]:
    """What Euler's steps start from, and how many of them are skipped.

    Args:
        scheduler: with its steps set. noise: (...) unit noise, float32.
    """
    if start is None:
        return noise * scheduler.init_noise_sigma, 0
    done = start.begin(len(scheduler.timesteps))
    scheduler.set_begin_index(done)
    return hold(start, noise, done, scheduler, noise), done


def hold(start: CarriedStart | None, x: Tensor, done: int, scheduler: Any, noise: Tensor) -> Tensor:
    """Latents ``x`` (...) after ``done`` of Euler's steps, with what ``start`` holds put back at their noise."""
    if start is None:
        return x
    return start.hold(x, done, len(scheduler.timesteps), lambda z: z + scheduler.sigmas[done].to(z) * noise)
