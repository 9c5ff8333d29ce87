"""LTX's latents as they are denoised.

Shape letters: C latent channels, L latent frames, h w latent, T frames, H W picture.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.pipelines.ltx2.pipeline_ltx2_ic_lora import LTX2InContextPipeline
from torch import Tensor

from ...previews import LatentColours, chart_colours

_CHART = 16
"""Latents of a side of the picture by which previews learn what latents look like."""


def encode_film(vae: Any, film_3THW: Tensor) -> Tensor:
    """Normalised latents (1,C,L,h,w) float32 of a film in [-1, 1], on the VAE's device."""
    latents = vae.encode(film_3THW[None].to(vae.dtype)).latent_dist.mode().float()
    return LTX2InContextPipeline._normalize_latents(latents, vae.latents_mean, vae.latents_std)


def decode_film(vae: Any, latents_1CLhw: Tensor) -> Tensor:
    """The film (3,T,H,W) in [-1, 1] of latents that are not normalised, in main memory."""
    return vae.decode(latents_1CLhw.to(vae.dtype), None, return_dict=False)[0][0].cpu()


def denormalized(vae: Any, latents_1CLhw: Tensor) -> Tensor:
    """What ``encode_film`` normalises."""
    scale = vae.config["scaling_factor"]
    return LTX2InContextPipeline._denormalize_latents(latents_1CLhw, vae.latents_mean, vae.latents_std, scale)


def latent_colours(vae: Any, device: torch.device) -> LatentColours:
    """What a VAE's normalised latents look like."""
    side = _CHART * vae.spatial_compression_ratio
    return chart_colours(lambda chart: encode_film(vae, chart[:, None].to(device))[0, :, 0], side)
