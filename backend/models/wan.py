"""What Wan 2.1's descendants share: umT5's reading of a text, CLIP's of a picture, and latents as they are denoised.

Shape letters: B batch, C latent channels, L latent frames, h w latent, T frames, H W picture, I patches, E width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoTokenizer

from ..catalogue.models import ModelSpec
from . import clip
from .family import EngineError
from .previews import LatentColours, chart_colours

TEXT_TOKENS = 512
"""What a text is padded to with zeros, and what Wan's attention counts on."""

_CHART = 64
"""Pixels of a side of the picture by which previews learn what latents look like."""


def load_text_tokenizer(spec: ModelSpec, part: str) -> Any:
    """umT5's tokenizer, from a folder below the model's. Raises EngineError when it cannot be read."""
    folder = spec.folder / part
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise EngineError(
            "settings.model", f"{folder}: cannot be read ({error}); run: maquette models check {spec.id}"
        ) from error


@torch.no_grad()
def encode_text(tokenizer: Any, encoder: Any, text: str, device: torch.device) -> Tensor:
    """(1,512,E) float32: umT5's tokens of a text, zeros after its end."""
    found = tokenizer(
        " ".join(text.split()),
        padding="max_length",
        max_length=TEXT_TOKENS,
        truncation=True,
        return_attention_mask=True,
        return_tensors="pt",
    )
    mask = found.attention_mask.to(device)
    states = encoder(found.input_ids.to(device), mask).last_hidden_state.float()
    return states * mask[..., None]


@torch.no_grad()
def encode_picture(encoder: Any, picture_3HW: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(1,I,E) float32: CLIP's last but one layer for a picture in [-1, 1], squeezed to a square as Wan does."""
    side = encoder.config.image_size
    small = F.interpolate(picture_3HW[None].float().cpu(), (side, side), mode="bicubic", align_corners=False)
    states = encoder(clip.normalized(small).to(device, dtype), output_hidden_states=True).hidden_states
    return states[-2].float()


def _statistics(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(vae.config[name]) for name in ("latents_mean", "latents_std"))
    return mean.view(1, -1, 1, 1, 1).to(like), std.view(1, -1, 1, 1, 1).to(like)


def normalized(vae: Any, latents_BCLhw: Tensor) -> Tensor:
    """The VAE's latents as they are denoised."""
    mean, std = _statistics(vae, latents_BCLhw)
    return (latents_BCLhw - mean) / std


def encode_film(vae: Any, film_3THW: Tensor) -> Tensor:
    """Normalised latents (1,C,L,h,w) float32 of a film in [-1, 1], on the VAE's device."""
    return normalized(vae, vae.encode(film_3THW[None].to(vae.dtype)).latent_dist.mode().float())


def denormalized(vae: Any, latents_BCLhw: Tensor) -> Tensor:
    """What ``normalized`` undoes."""
    mean, std = _statistics(vae, latents_BCLhw)
    return latents_BCLhw * std + mean


def latent_colours(vae: Any, device: torch.device) -> LatentColours:
    """What a VAE's normalised latents look like."""
    return chart_colours(lambda chart: encode_film(vae, chart[:, None].to(device))[0, :, 0], _CHART)
