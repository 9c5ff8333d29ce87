"""Pictures of a run in progress, for TensorBoard: what a checkpoint's networks make.

Shape letters: B clips, T frames, L latent frames, H W image, h w latent.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..models.isa.transformer import ISATransformer3DModel
from ..models.isa.vae import AutoencoderKLISA
from .clips import Films, to_pixels
from .dit import Latents, sample_latents
from .loop import Loop
from .schedule import step_generator

_CLIPS = 4
_STEPS = 4
_GUIDANCE = 1.5


def _sheet(films: list[Tensor]) -> list[np.ndarray]:
    """A picture (H',W',3) of each clip: of every film (B,3,T,H,W) in [-1,1] a row with its first and last frame."""
    pixels = [to_pixels(film) for film in films]
    return [
        np.concatenate([np.concatenate([one[b][0], one[b][-1]], axis=1) for one in pixels])
        for b in range(len(pixels[0]))
    ]


def _decoded(vae: AutoencoderKLISA, latents: list[Tensor]) -> Tensor:
    """Films (B,3,T,H,W) in [-1,1] of latents (1,16,L,h,w) each; one at a time, so that they need little memory."""
    return torch.cat([vae.decode(one, return_dict=False)[0] for one in latents]).clamp(-1, 1)


def show_clips(films: Films, frames: int) -> Callable[[Loop], None]:
    """Shows clips of ``frames`` frames, above what the VAE under training makes of them."""

    @torch.no_grad()
    def show(loop: Loop) -> None:
        assert isinstance(loop.model, AutoencoderKLISA)
        loop.model.eval()
        x = films.batch(_CLIPS, frames, step_generator(0, 0)).to(loop.device)
        modes = [loop.model.encode(clip[None], return_dict=False)[0].mode() for clip in x]
        loop.show("clip above rebuilt", _sheet([x, _decoded(loop.model, modes)]))

    return show


def show_samples(latents: Latents, load_vae: Callable[[], AutoencoderKLISA]) -> Callable[[Loop], None]:
    """Shows true clips as the VAE decodes them, above what the DiT under training makes of their conditions.

    Args:
        latents: where the clips come from; a few of each number of characters.
        load_vae: gives the VAE that encoded them; asked once.
    """
    loaded: list[AutoencoderKLISA] = []

    @torch.no_grad()
    def show(loop: Loop) -> None:
        assert isinstance(loop.model, ISATransformer3DModel)
        if not loaded:
            loaded.append(load_vae())
        vae = loaded[0]
        loop.model.eval()
        steps, guidance = (1, 1.0) if loop.model.config["start"] == "carried" else (_STEPS, _GUIDANCE)
        shortest = min(kind.frames for kind in latents.groups)
        shown = {kind.characters: kind for kind in sorted(latents.groups, reverse=True) if kind.frames == shortest}
        for characters, kind in sorted(shown.items()):
            generator = step_generator(0, characters)
            clean, _, inputs, *_ = latents.batch(kind, _CLIPS, generator, loop.device)
            noise = torch.randn(clean.shape, generator=generator).to(loop.device)
            made = sample_latents(loop.model, inputs, noise, steps, guidance)
            films = [_decoded(vae, list(vae.denormalize(part).split(1))) for part in (clean, made)]
            loop.show(f"true above made, {characters} character(s)", _sheet(films))

    return show
