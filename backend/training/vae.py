"""Train the video VAE on synthetic films.

Shape letters: B batch, T frames, L latent frames, H W image, h w latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.isa.vae import AutoencoderKLISA
from ..models.isa.vae_layers import to_blocks
from .loop import autocast


@dataclass(frozen=True)
class VAELossConfig:
    """Weights of the VAE's losses.

    Attributes:
        l1, l2: of the pixels' error.
        gradient: of the error of differences between neighbouring pixels, at full and half size: keeps edges.
        kl: of the Kullback-Leibler divergence from a unit normal, per latent number.
        frames: lengths of the clips, one a step in turn.
        bf16: train in bfloat16 autocast.
    """

    l1: float = 1.0
    l2: float = 1.0
    gradient: float = 1.0
    kl: float = 3e-4
    frames: tuple[int, ...] = (5, 9)
    bf16: bool = True


class Films:
    """Random clips out of shards: films, now and then an empty background or another rate."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.video: list[np.ndarray] = []
        self.background: list[np.ndarray] = []
        for path in paths:
            with np.load(path) as shard:
                self.video.append(shard["video"])
                self.background.append(shard["background"])

    def batch(self, count: int, frames: int, generator: torch.Generator) -> Tensor:
        """``count`` clips, (B,3,T,H,W) in [-1,1], half of them mirrored and some played backwards."""
        clips = []
        for _ in range(count):
            pick, item, kind, mirror, reverse = torch.rand(5, generator=generator).tolist()
            shard = int(pick * len(self.video))
            source = self.background[shard] if kind < 0.1 else self.video[shard]
            clip = source[int(item * len(source))]
            if reverse < 0.5:
                clip = clip[::-1]
            clip = clip[:frames]
            if mirror < 0.5:
                clip = clip[:, :, ::-1]
            clips.append(np.ascontiguousarray(clip))
        return to_model(np.stack(clips))


def to_model(frames: np.ndarray) -> Tensor:
    """(B,T,H,W,3) uint8 to (B,3,T,H,W) float32 in [-1,1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 4, 1, 2, 3).float().div(127.5).sub(1)


def to_pixels(frames: Tensor) -> np.ndarray:
    """(B,3,T,H,W) in [-1,1] to (B,T,H,W,3) uint8."""
    return frames.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 4, 1).cpu().numpy()


def gradient_loss(error: Tensor) -> Tensor:
    """Mean absolute difference between neighbours of an error image (B,3,T,H,W), at full and half size."""
    total = error.new_zeros(())
    for _ in range(2):
        total = total + error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        error = F.avg_pool3d(error, (1, 2, 2))
    return total / 2


class VAELoss:
    """The loss of one step; deterministic given the step's generator."""

    def __init__(self, films: Films, config: VAELossConfig, batch: int, device: torch.device) -> None:
        self.films, self.config, self.count, self.device = films, config, batch, device

    def __call__(self, model: nn.Module, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        assert isinstance(model, AutoencoderKLISA)
        config = self.config
        frames = config.frames[step % len(config.frames)]
        x = self.films.batch(self.count, frames, generator).to(self.device)
        with autocast(self.device, config.bf16):
            posterior = model.encode(x, return_dict=False)[0]
            mean, deviation = posterior.mean.float(), posterior.std.float()
            noise = torch.randn(mean.shape, generator=generator).to(self.device)
            decoded = model.decode(mean + deviation * noise, return_dict=False)[0]
        error = decoded.float() - x
        squared = error.square().mean()
        kl = 0.5 * (mean.square() + deviation.square() - 1 - 2 * deviation.log()).mean()
        loss = (
            config.l1 * error.abs().mean()
            + config.l2 * squared
            + config.gradient * gradient_loss(error)
            + config.kl * kl
        )
        return loss, {"psnr": float(10 * torch.log10(4 / squared.detach())), "kl": float(kl.detach())}


@torch.no_grad()
def start_from_components(model: AutoencoderKLISA, films: Films, samples: int = 120_000) -> None:
    """Set the VAE's linear shortcut to the principal components of its blocks of pixels.

    Component c is scaled by ``std_c**-0.5``, so that fine detail is neither drowned nor as loud as the coarse parts.
    """
    generator = torch.Generator().manual_seed(0)
    parts, found = [], 0
    while found < samples:
        frames = films.video[0].shape[1]
        x = films.batch(16, frames, generator)
        block = to_blocks(x, model.temporal_factor, model.spatial_factor, True).flatten(0, 3)
        parts.append(block)
        found += len(block)
    blocks = torch.cat(parts)
    mean = blocks.mean(dim=0)
    centred = blocks - mean
    values, vectors = np.linalg.eigh((centred.T @ centred / len(blocks)).double().numpy())
    count = model.config["latent_channels"]
    components = torch.from_numpy(vectors[:, ::-1][:, :count].T.copy()).float()
    deviation = torch.from_numpy(values[::-1][:count].copy()).float().sqrt()
    model.set_linear_shortcut(mean, components, deviation**-0.5)


@torch.no_grad()
def latent_statistics(model: AutoencoderKLISA, films: Films, clips: int = 48, batch: int = 4) -> dict[str, list[float]]:
    """Mean of each channel of the latents and one standard deviation for all, to normalise them by.

    One number for all keeps the coarse channels louder than the fine ones, as in a picture.
    """
    generator = torch.Generator().manual_seed(0)
    device = next(model.parameters()).device
    latents = []
    for _ in range(clips // batch):
        x = films.batch(batch, films.video[0].shape[1], generator).to(device)
        latents.append(model.encode(x, return_dict=False)[0].mean.float().cpu())
    stacked = torch.cat(latents).transpose(0, 1).flatten(1)
    return {
        "latents_mean": [round(float(v), 5) for v in stacked.mean(dim=1)],
        "latents_std": [round(float(stacked.std(dim=1).square().mean().sqrt()), 5)],
    }


@torch.no_grad()
def reconstruction_psnr(model: AutoencoderKLISA, video: np.ndarray) -> tuple[float, np.ndarray]:
    """PSNR in dB over clips (B,T,H,W,3) uint8, and the reconstructions."""
    device = next(model.parameters()).device
    rebuilt = []
    for clip in video:
        mode = model.encode(to_model(clip[None]).to(device), return_dict=False)[0].mode()
        rebuilt.append(to_pixels(model.decode(mode, return_dict=False)[0])[0])
    stacked = np.stack(rebuilt)
    error = np.square(stacked.astype(np.float64) - video).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9))), stacked
