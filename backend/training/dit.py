"""Train the ISA-DiT on latents of synthetic shots, encoded once.

Shape letters: B batch, C characters, T frames, L latent frames, N points per character, h w latent.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.isa.conditions import (
    ReferenceView,
    crop_picture,
    make_inputs,
    random_drops,
    reference_view,
    shot_geometry,
)
from ..models.isa.inputs import ISAInputs
from ..models.isa.layers import group_frames
from ..models.isa.transformer import ISATransformer3DModel
from ..models.isa.vae import AutoencoderKLISA
from .loop import autocast
from .vae import to_model

_HALF = ("video_latents", "reference_latents", "background_latents", "plucker")
"""What is kept in float16."""


@dataclass(frozen=True)
class DiTLossConfig:
    """How the flow is learned.

    Attributes:
        time_mean, time_std: of the logit-normal draw of t; above 0 favours noise.
        time_uniform: share of steps whose t is drawn evenly.
        least_time: errors of the clean latents count 1/t^2 as in the flow, but no more than at this t.
        figure_weight: how much more a latent pixel counts that a body covers fully.
        pair_share: share of steps on shots with two characters.
        long_share: share of steps on the longest shots; their batch is smaller, so that a step costs about the same.
        drop_conditions: withhold conditions at random, for guidance and for shots that lack them.
        bf16: compute in bfloat16 throughout; the weights that are trained stay float32.
    """

    time_mean: float = 0.6
    time_std: float = 1.1
    time_uniform: float = 0.1
    least_time: float = 0.3
    figure_weight: float = 3.0
    pair_share: float = 0.06
    long_share: float = 0.1
    drop_conditions: bool = True
    bf16: bool = True


def encode_films(vae: AutoencoderKLISA, films: np.ndarray, batch: int = 8, bf16: bool = True) -> Tensor:
    """Normalised latents (B,16,L,h,w) float16 of films (B,T,H,W,3) uint8."""
    device = next(vae.parameters()).device
    parts = []
    with torch.no_grad(), autocast(device, bf16):
        for start in range(0, len(films), batch):
            x = to_model(films[start : start + batch]).to(device)
            mean = vae.encode(x, return_dict=False)[0].mode().float()
            parts.append(vae.normalize(mean).half().cpu())
    return torch.cat(parts)


def sample_inputs(shard: dict[str, np.ndarray], index: int, reference_latents: Tensor, background: Tensor) -> ISAInputs:
    """Conditions of one sample of a shard, as the engine would make them of its Shot."""
    height, width = shard["video"].shape[2:4]
    h, w = background.shape[-2:]
    geometry = shot_geometry(
        shard["points"][index],
        shard["rest_points"][index],
        shard["visibility"][index],
        shard["viewmats"][index],
        shard["Ks"][index],
        width,
        height,
        (h, w),
    )
    references = []
    for c in range(len(shard["points"][index])):
        view = _reference_view(shard, index, c)
        references.append((reference_latents[c].float(), view.points, view.visible))
    return make_inputs(geometry, references, background.float(), latent_channels=background.shape[0])


def _reference_view(shard: dict[str, np.ndarray], index: int, c: int) -> ReferenceView:
    height, width = shard["video"].shape[2:4]
    return reference_view(
        shard["ref_points"][index, c],
        shard["ref_viewmat"][index, c],
        shard["ref_K"][index, c],
        shard["ref_visibility"][index, c],
        (width, height),
        width / height,
    )


def encode_shard(vae: AutoencoderKLISA, path: Path, bf16: bool = True) -> dict[str, Tensor]:
    """All that the DiT trains on, of one shard: latents of films, backgrounds and references, and the conditions."""
    with np.load(path) as file:
        shard = {name: file[name] for name in file.files}
    device = next(vae.parameters()).device
    height, width = shard["video"].shape[2:4]
    video = encode_films(vae, shard["video"], bf16=bf16)
    frames = video.shape[2]
    background = encode_films(vae, shard["background"], bf16=bf16)
    characters = shard["points"].shape[1]
    crops = [
        crop_picture(shard["ref_image"][i, c], _reference_view(shard, i, c).box, width, height)
        for i in range(len(video))
        for c in range(characters)
    ]
    with torch.no_grad(), autocast(device, bf16):
        parts = [
            vae.normalize(vae.encode(part[:, :, None].to(device), return_dict=False)[0].mode().float())
            for part in torch.stack(crops).split(16)
        ]
    reference = torch.cat(parts)[:, :, 0].cpu().unflatten(0, (len(video), characters))
    inputs = ISAInputs.cat([sample_inputs(shard, i, reference[i], background[i]) for i in range(len(video))])
    masks = torch.from_numpy(shard["mask"]).float()
    factor = height // video.shape[-1]
    cover = F.avg_pool2d(group_frames(masks, 1, vae.temporal_factor).mean(dim=2), factor)
    assert cover.shape[1] == frames
    packed = {"video_latents": video, "cover": cover.half()}
    for field in fields(inputs):
        value = getattr(inputs, field.name)
        if isinstance(value, Tensor):
            packed[field.name] = value.half() if field.name in _HALF else value
    return packed


def encode_data(vae: AutoencoderKLISA, paths: Sequence[Path], folder: Path, bf16: bool = True) -> list[Path]:
    """Encode the shards that are not yet in ``folder``; returns the encoded files in order."""
    from tqdm import tqdm

    folder.mkdir(parents=True, exist_ok=True)
    encoded = []
    for path in tqdm(paths, desc="encoding", unit="shard"):
        target = folder / (path.stem + ".pt")
        if not target.exists():
            partial = target.with_suffix(".partial")
            torch.save(encode_shard(vae, path, bf16), partial)
            os.replace(partial, target)
        encoded.append(target)
    return encoded


class Latents:
    """Encoded shots in memory, by number of characters C and of latent frames L."""

    def __init__(self, paths: Sequence[Path]) -> None:
        groups: dict[tuple[int, int], list[dict[str, Tensor]]] = {}
        for path in paths:
            shard = torch.load(path, weights_only=True)
            groups.setdefault((shard["points"].shape[1], shard["cover"].shape[1]), []).append(shard)
        self.groups = {
            kind: {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}
            for kind, shards in groups.items()
        }

    def kind(self, step: int, config: DiTLossConfig) -> tuple[int, int]:
        """Characters and latent frames of a step's batch; the same for all workers, which so take equally long."""
        pair, long = torch.rand(2, generator=torch.Generator().manual_seed(step)).tolist()
        counts = sorted({count for count, _ in self.groups})
        count = counts[-1] if pair < config.pair_share else counts[0]
        lengths = sorted(length for c, length in self.groups if c == count)
        return count, lengths[-1] if long < config.long_share else lengths[0]

    def batch(
        self, kind: tuple[int, int], count: int, generator: torch.Generator, device: torch.device
    ) -> tuple[Tensor, Tensor, ISAInputs]:
        """Video latents (B,16,L,h,w), cover (B,L,h,w) and conditions of random shots of one kind."""
        group = self.groups[kind]
        shortest = min(length for _, length in self.groups)
        count = max(count * shortest // kind[1], 1)
        chosen = torch.randint(len(group["cover"]), (count,), generator=generator)
        picked = {name: value[chosen].to(device) for name, value in group.items()}
        for name in (*_HALF, "cover"):
            picked[name] = picked[name].float()
        video, cover = picked.pop("video_latents"), picked.pop("cover")
        return video, cover, ISAInputs(**picked)


def draw_times(count: int, config: DiTLossConfig, generator: torch.Generator) -> Tensor:
    """Times t (B,) in (0,1), 1 being noise: logit-normal with a share of even draws."""
    normal = torch.sigmoid(config.time_mean + config.time_std * torch.randn(count, generator=generator))
    even = torch.rand(count, generator=generator)
    choose = torch.rand(count, generator=generator) < config.time_uniform
    return torch.where(choose, even, normal).clamp(1e-3, 1 - 1e-4)


class DiTLoss:
    """Flow matching on the error of the flow ``e - x_0`` (diffusers' sign), weighted towards the figure."""

    def __init__(self, latents: Latents, config: DiTLossConfig, batch: int, device: torch.device) -> None:
        self.latents, self.config, self.count, self.device = latents, config, batch, device

    def __call__(self, model: nn.Module, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        assert isinstance(model, ISATransformer3DModel)
        config = self.config
        clean, cover, inputs = self.latents.batch(self.latents.kind(step, config), self.count, generator, self.device)
        count = len(clean)
        if config.drop_conditions:
            drops = {name: value.to(self.device) for name, value in random_drops(count, generator).items()}
            inputs = inputs.drop(**drops)
        noise = torch.randn(clean.shape, generator=generator).to(self.device)
        times = draw_times(count, config, generator).to(self.device)
        t = times.view(-1, 1, 1, 1, 1)
        noisy = (1 - t) * clean + t * noise
        arguments = (noisy, 1000 * times, inputs)
        if config.bf16:
            # Every activation in bfloat16: twice as fast on a CPU as autocast, which keeps most of them float32.
            weights = {name: p.to(torch.bfloat16) for name, p in model.named_parameters()}
            flow = torch.func.functional_call(model, weights, arguments, {"return_dict": False})[0]
        else:
            flow = model(*arguments, return_dict=False)[0]
        # t times the error of the flow is the error of the clean latents that it implies.
        error = (t * (flow.float() - (noise - clean))).square() / t.clamp(min=config.least_time).square()
        weight = 1 + config.figure_weight * cover[:, None]
        loss = (error * weight).mean() / weight.mean()
        with torch.no_grad():
            figure = (error * cover[:, None]).sum() / (cover.sum() * clean.shape[1]).clamp(min=1)
        return loss, {"figure": float(figure)}


@torch.no_grad()
def sample_latents(
    model: ISATransformer3DModel, inputs: ISAInputs, noise: Tensor, steps: int, guidance: float = 1.0
) -> Tensor:
    """Clean latents (B,16,L,h,w) by Euler steps from ``noise``; guidance drops what the pipeline's drops."""
    conditions = model.prepare_conditions(inputs)
    free = model.prepare_conditions(inputs.drop(points=True, reference=True)) if guidance != 1 else None
    x = noise
    times = torch.linspace(1, 0, steps + 1).tolist()
    for t, following in itertools.pairwise(times):
        stamp = torch.full((len(x),), 1000 * t, device=x.device)
        flow = model(x, stamp, conditions, return_dict=False)[0].float()
        if free is not None:
            without = model(x, stamp, free, return_dict=False)[0].float()
            flow = without + guidance * (flow - without)
        x = x + (following - t) * flow
    return x
