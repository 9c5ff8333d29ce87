"""Train the ISA-DiT on latents of synthetic shots, encoded once.

Shape letters: B batch, C characters, T frames, L latent frames, N points per character, h w latent.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..models.isa.conditions import keep_points, random_drops
from ..models.isa.inputs import ISAInputs
from ..models.isa.transformer import ISATransformer3DModel
from .encode import spread_cover, unpack
from .errors import TrainingError
from .sharding import sharded


@dataclass(frozen=True)
class DiTLossConfig:
    """How the flow is learned.

    Attributes:
        time_mean, time_std: location and scale of the logit-normal draw of t (SD3, Esser et al. 2024, Sec. 3.1, which
            settles on 0 and 1); a location above 0 favours noise, which suits latents as smooth as small pictures'.
        time_uniform: share of steps whose t is drawn evenly instead, so that the ends are seen; SD3 has none.
        time_start: share of clips at t = 1 exactly, where sampling starts; all, for a transformer that corrects the
            carried film in one step.
        least_time: errors of the clean latents count 1/t^2 as in the flow, but no more than at this t.
        figure_weight: how much more a latent pixel counts that a body covers fully.
        floor: above 0, each clip's error counts over what the carried film (or the noise) itself is off by, plus this
            square of normalised latents, so that each clip's decibels count alike.
        latent: weight of ``flow_loss``. pixel: weight of ``pixel_loss`` on decoded films; needs the carried film.
        pixel_floor: as ``floor``, for ``pixel_loss``: the square of a difference of pixels from -1 to 1.
        pair_share, trio_share: share of steps on shots with two and with three characters. Where the data have none
            with so many, those with fewer take the share.
        long_share: share of steps on the longest shots; their batch is smaller, so that a step costs about the same.
        drop_unconditional: share of clips that lose points and reference together, the unconditional half of guidance.
        drop_points, drop_reference, drop_camera, drop_background, drop_carried: share of clips that lose each
            condition by itself, so that shots without it work.
        fewer_points: share of clips that keep only some points of each character.
        least_points: the fewest points that those clips keep; their number is drawn evenly from there to all.
    """

    time_mean: float = 0.6
    time_std: float = 1.1
    time_uniform: float = 0.1
    time_start: float = 0.0
    least_time: float = 0.3
    figure_weight: float = 3.0
    floor: float = 0.0
    latent: float = 1.0
    pixel: float = 0.0
    pixel_floor: float = 2.5e-4
    pair_share: float = 0.06
    trio_share: float = 0.0
    long_share: float = 0.1
    drop_unconditional: float = 0.1
    drop_points: float = 0.02
    drop_reference: float = 0.08
    drop_camera: float = 0.05
    drop_background: float = 0.1
    drop_carried: float = 0.1
    fewer_points: float = 0.2
    least_points: int = 32

    def __post_init__(self) -> None:
        shares = [f.name for f in fields(self) if f.name.endswith("_share") or f.name.startswith("drop_")]
        for name in (*shares, "time_uniform", "time_start", "fewer_points"):
            if not 0 <= getattr(self, name) <= 1:
                raise TrainingError(f"[dit_loss] {name} = {getattr(self, name)} is a share; give 0 to 1")
        if self.pair_share + self.trio_share > 1:
            raise TrainingError("[dit_loss] pair_share and trio_share together are above 1; lower one")
        if self.least_points < 1:
            raise TrainingError(f"[dit_loss] least_points = {self.least_points}: choose at least 1")
        for name in ("floor", "latent", "pixel", "pixel_floor", "figure_weight"):
            if not getattr(self, name) >= 0:
                raise TrainingError(f"[dit_loss] {name} = {getattr(self, name)} must be 0 or more")
        if self.time_std <= 0:
            raise TrainingError(f"[dit_loss] time_std = {self.time_std} must be above 0")

    @property
    def drops(self) -> dict[str, float]:
        """Arguments of ``random_drops``."""
        names = ("unconditional", "points", "reference", "camera", "background", "carried")
        return {name: getattr(self, f"drop_{name}") for name in names}


class Kind(NamedTuple):
    """What shots have in common that can be batched: characters C, latent frames L, latent height and width h, w."""

    characters: int
    frames: int
    height: int
    width: int


class Batch(NamedTuple):
    """Random shots of one kind.

    Attributes:
        clean: (B,16,L,h,w) latents of the true films. cover: (B,L,h,w). inputs: conditions.
        target, gap: of ``encode.difference_target``, or None.
    """

    clean: Tensor
    cover: Tensor
    inputs: ISAInputs
    target: Tensor | None = None
    gap: Tensor | None = None


class Latents:
    """Encoded shots in memory, by their kind."""

    def __init__(self, paths: Sequence[Path]) -> None:
        groups: dict[Kind, list[dict[str, Tensor]]] = {}
        for path in paths:
            shard = torch.load(path, weights_only=True)
            groups.setdefault(Kind(shard["points"].shape[1], *shard["cover"].shape[1:]), []).append(shard)
        self.groups = {
            kind: {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}
            for kind, shards in groups.items()
        }

    def kind(self, step: int, config: DiTLossConfig) -> Kind:
        """Kind of a step's batch; the same for all workers, which so take equally long."""
        several, long, which = torch.rand(3, generator=torch.Generator().manual_seed(step)).tolist()
        wanted = 3 if several < config.trio_share else 2 if several < config.trio_share + config.pair_share else 1
        counts = sorted({kind.characters for kind in self.groups})
        count = max((count for count in counts if count <= wanted), default=counts[0])
        lengths = sorted(kind.frames for kind in self.groups if kind.characters == count)
        length = lengths[-1] if long < config.long_share else lengths[0]
        # Shapes in proportion to their shots.
        kinds = sorted(kind for kind in self.groups if kind[:2] == (count, length))
        shots = [len(self.groups[kind]["cover"]) for kind in kinds]
        place = which * sum(shots)
        return next(kind for kind, upto in zip(kinds, itertools.accumulate(shots), strict=True) if place < upto)

    def batch(self, kind: Kind, count: int, generator: torch.Generator, device: torch.device) -> Batch:
        """Random shots of one kind; fewer than ``count`` where they are longer than the shortest."""
        group = self.groups[kind]
        shortest = min(one.frames for one in self.groups)
        count = max(count * shortest // kind.frames, 1)
        chosen = torch.randint(len(group["cover"]), (count,), generator=generator)
        picked = {name: value[chosen] for name, value in group.items()}
        more = {name: picked[name].to(device).float() for name in ("target", "gap") if name in picked}
        return Batch(*unpack(picked, device), **more)


def draw_times(count: int, config: DiTLossConfig, generator: torch.Generator) -> Tensor:
    """Times t (B,) in (0,1], 1 being the start: logit-normal (SD3's sampling), some even draws, some at the start."""
    normal = torch.sigmoid(config.time_mean + config.time_std * torch.randn(count, generator=generator))
    even = torch.rand(count, generator=generator)
    choose = torch.rand(count, generator=generator) < config.time_uniform
    times = torch.where(choose, even, normal).clamp(1e-3, 1 - 1e-4)
    return torch.where(torch.rand(count, generator=generator) < config.time_start, torch.ones(count), times)


def draw_point_counts(count: int, points: int, config: DiTLossConfig, generator: torch.Generator) -> Tensor:
    """How many of its ``points`` each character of a clip keeps: (B,) long."""
    least = min(config.least_points, points)
    fewer = torch.randint(least, points + 1, (count,), generator=generator)
    choose = torch.rand(count, generator=generator) < config.fewer_points
    return torch.where(choose, fewer, points)


def flow_loss(
    flow: Tensor, clean: Tensor, noise: Tensor, times: Tensor, cover: Tensor, config: DiTLossConfig
) -> tuple[Tensor, Tensor]:
    """What the DiT minimises, and its error where bodies are.

    Args:
        flow: (B,16,L,h,w) predicted ``e - x_0``. clean, noise: the same shape, x_0 and e, which is noise or the
            carried film, as the transformer's ``start`` says.
        times: (B,). cover: (B,L,h,w) share of each latent pixel that bodies cover.

    Returns:
        Scalars: the weighted mean squared error of the flow, times (t / ``least_time``)^2 where t lies below that,
        see ``DiTLossConfig.floor``; and the mean squared error of the covered parts alone, without weights.
    """
    t = times.view(-1, 1, 1, 1, 1)
    # t times the error of the flow is the error of the clean latents that it implies.
    error = (t * (flow.float() - (noise - clean))).square() / t.clamp(min=config.least_time).square()
    weight = (1 + config.figure_weight * cover[:, None]) / (1 + config.figure_weight * cover.mean())
    figure = (error * cover[:, None]).sum() / (cover.sum() * clean.shape[1]).clamp(min=1)
    if not config.floor:
        return (error * weight).mean(), figure
    clips = (1, 2, 3, 4)
    gap = ((noise - clean).square() * weight).mean(dim=clips)
    return ((error * weight).mean(dim=clips) / (gap + config.floor)).mean(), figure


def pixel_loss(film: Tensor, batch: Batch, config: DiTLossConfig) -> Tensor:
    """Error of decoded films, as mean over the clips that have a carried film.

    Args:
        film: (B,3,T,H,W), what the decoder gives of predicted latents; a batch with ``target`` and ``gap``.

    Returns:
        The squared error, weighted towards the figure, over that of the carried film: 1 changes nothing, below is
        better. ``DiTLossConfig.pixel_floor`` keeps clips that are nearly right already from counting most.
    """
    assert batch.target is not None and batch.gap is not None
    error = (film.float() - batch.target).square().mean(dim=1)
    weight = 1 + config.figure_weight * spread_cover(batch.cover, error.shape)
    gap = batch.gap[:, 0] + config.figure_weight * batch.gap[:, 1]
    ratio = (error * weight).mean(dim=(1, 2, 3)) / (gap + config.pixel_floor)
    present = batch.inputs.carried_present
    return (ratio * present).sum() / present.sum().clamp(min=1)


class DiTLoss:
    """Flow matching on the error of the flow ``e - x_0`` (diffusers' sign), weighted towards the figure.

    Where the transformer starts from the carried film, that takes the place of the noise e.
    """

    def __init__(
        self,
        latents: Latents,
        config: DiTLossConfig,
        batch: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        decode: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Prepare.

        Args:
            batch: clips a step of the shortest length.
            dtype: of the computation; the weights that are trained stay float32.
            decode: normalised latents (B,16,L,h,w) to films (B,3,T,H,W), for a loss on pixels.
        """
        self.latents, self.config, self.count, self.device, self.dtype = latents, config, batch, device, dtype
        self.decode = decode

    def draw(self, step: int, generator: torch.Generator) -> tuple[Batch, Tensor, Tensor]:
        """Shots of a step, with some conditions withheld; noise (B,16,L,h,w) and times (B,)."""
        config = self.config
        batch = self.latents.batch(self.latents.kind(step, config), self.count, generator, self.device)
        count = len(batch.clean)
        drops = random_drops(count, generator, **config.drops)
        inputs = batch.inputs.drop(**{name: value.to(self.device) for name, value in drops.items()})
        if config.fewer_points:
            kept = draw_point_counts(count, inputs.points.shape[3], config, generator)
            inputs = keep_points(inputs, kept.to(self.device))
        noise = torch.randn(batch.clean.shape, generator=generator).to(self.device)
        times = draw_times(count, config, generator).to(self.device)
        return batch._replace(inputs=inputs), noise, times

    def __call__(self, model: nn.Module, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one step; deterministic given the step's generator.

        Returns:
            The loss, and the figures ``figure`` of ``flow_loss`` and, where there is one, ``pixel`` of ``pixel_loss``.
        """
        assert isinstance(model, ISATransformer3DModel)
        batch, noise, times = self.draw(step, generator)
        clean, inputs = batch.clean, batch.inputs
        if model.config["start"] == "carried":
            noise = inputs.base()
        t = times.view(-1, 1, 1, 1, 1)
        noisy = (1 - t) * clean + t * noise
        arguments = (noisy, 1000 * times, inputs)
        if self.dtype != torch.float32 and not sharded(model):
            # Every activation in the lower precision: twice as fast as autocast, which keeps most of them float32.
            weights = {name: p.to(self.dtype) for name, p in model.named_parameters()}
            flow = torch.func.functional_call(model, weights, arguments, {"return_dict": False})[0]
        else:
            flow = model(*arguments, return_dict=False)[0]
        loss, figure = flow_loss(flow, clean, noise, times, batch.cover, self.config)
        figures = {"figure": figure.detach()}
        if self.config.pixel and self.decode is not None:
            pixel = pixel_loss(self.decode(noisy - t * flow.float()), batch, self.config)
            figures["pixel"] = pixel.detach()
            loss = self.config.latent * loss + self.config.pixel * pixel
        return loss, figures


@torch.no_grad()
def sample_latents(
    model: ISATransformer3DModel, inputs: ISAInputs, noise: Tensor, steps: int, guidance: float = 1.0
) -> Tensor:
    """Clean latents (B,16,L,h,w) by Euler steps from ``noise``, or from the carried film where the model starts there;
    guidance drops what the pipeline's drops."""
    conditions = model.prepare_conditions(inputs)
    free = model.prepare_conditions(inputs.drop(points=True, reference=True)) if guidance != 1 else None
    x = inputs.base() if model.config["start"] == "carried" else noise
    times = torch.linspace(1, 0, steps + 1).tolist()
    for t, following in itertools.pairwise(times):
        stamp = torch.full((len(x),), 1000 * t, device=x.device)
        flow = model(x, stamp, conditions, return_dict=False)[0].float()
        if free is not None:
            without = model(x, stamp, free, return_dict=False)[0].float()
            flow = without + guidance * (flow - without)
        x = x + (following - t) * flow
    return x
