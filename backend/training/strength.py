"""How strongly a trained correction of the carried film is applied: as strongly as helps on shots that it never saw.

The output of a network with ``start="carried"`` and ``prediction="residual"`` is scaled. At zero the result is the
carried film itself, so that no model ships that makes it worse.

Shape letters: B shots, L latent frames, T frames, H W image, h w latent.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..models.isa.transformer import ISATransformer3DModel
from ..models.isa.vae import AutoencoderKLISA
from ..worlds.sample import make_sample
from .data import CARRIED, FIELDS, HELD_OUT, DataConfig, carry_sample
from .encode import encode_shots, spread_cover, unpack

STRENGTHS = (0.25, 0.5, 0.75, 1.0)
FIRST = HELD_OUT + 500_000_000
"""Seeds from here on are for this choice alone; evaluations take those from ``HELD_OUT`` on."""
SHOTS = 12

_FIGURE_WEIGHT = 3.0
_ROUNDING = (1 / 127.5) ** 2 / 12
"""Mean square of what rounding to whole levels takes, for pixels from -1 to 1."""


def fresh_shots(vae: AutoencoderKLISA, data: DataConfig, count: int) -> list[dict[str, Tensor]]:
    """Shots like a data set's that nothing is trained or evaluated on, encoded (``encode_shots``) one by one."""
    shots = []
    for i in range(count):
        size = data.size_of(i % data.shards) if data.shards else data.size
        sample = make_sample(FIRST + i, data.frames, size, data.points, dressed=data.dressed_at(i))
        film = carry_sample(sample)
        arrays = {name: (film[name] if name in CARRIED else getattr(sample, name))[None] for name in FIELDS + CARRIED}
        shots.append(encode_shots(vae, arrays, bf16=False, pixels=True))
    return shots


@torch.no_grad()
def gains(vae: AutoencoderKLISA, model: ISATransformer3DModel, shots: list[dict[str, Tensor]]) -> np.ndarray:
    """Decibels (B, strengths) that the correction gains over the carried film, figures counted fourfold."""
    found = []
    for packed in shots:
        _, cover, inputs = unpack(packed)
        base = inputs.base()
        change = model(base, torch.tensor([1000.0]), inputs, residual=True).sample.float()
        target, gap = packed["target"].float(), packed["gap"].float()[0]
        weight = 1 + _FIGURE_WEIGHT * spread_cover(cover, (1, *target.shape[2:]))
        before = float(gap[0] + _FIGURE_WEIGHT * gap[1])
        row = []
        for strength in STRENGTHS:
            film = vae.decode(vae.denormalize(base + strength * change), return_dict=False)[0]
            after = float(((film - target).square().mean(dim=1) * weight).mean())
            row.append(10 * np.log10((before + _ROUNDING) / (after + _ROUNDING)))
        found.append(row)
    return np.array(found)


def choose_strength(decibels: np.ndarray) -> tuple[float, float]:
    """The strength that gains most, and its mean gain; 0 and 0 where no gain exceeds its own standard error."""
    mean = decibels.mean(axis=0)
    error = decibels.std(axis=0, ddof=1) / len(decibels) ** 0.5
    best = int(np.argmax(mean))
    return (STRENGTHS[best], float(mean[best])) if mean[best] > error[best] else (0.0, 0.0)


@torch.no_grad()
def temper(vae: AutoencoderKLISA, model: ISATransformer3DModel, data: DataConfig) -> tuple[float, float]:
    """Scale the model's output to the best strength; returns that and its gain in decibels."""
    strength, gain = choose_strength(gains(vae, model, fresh_shots(vae, data, SHOTS)))
    for parameter in model.patch_out.parameters():
        parameter.mul_(strength)
    return strength, gain
