"""Progressive latent fusion: a video of any length from a model that takes T frames (MimicMotion, Sec. 3.4).

Shape letters: N frames of the whole sequence, the reference first; T frames of a tile; C channels; h w latent.

Every tile begins with frame 0, the reference. At each step the model's output of each branch is fused over the tiles
with triangular weights, guidance follows, then one Euler step of the whole sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from ..carried_start import CarriedStart
from ..group import ALONE, Group
from ..svd import begin, hold
from ..windows import fusion_weights


class Predict(Protocol):
    """The model on one tile."""

    def __call__(self, x_TChw: Tensor, timestep: Tensor, frames: Sequence[int], conditional: bool) -> Tensor:
        """Scaled noisy latents (T,C,h,w) of ``frames`` -> model output (T,C,h,w)."""
        ...


StepCallback = Callable[[int, int, Tensor], None]
"""Called after each step with its number from 1, the number of steps, and the present guess of the clean latents
(N,C,h,w), scaled. An exception that it raises ends the sampling."""


def repeat_noise(noise_TChw: Tensor, frames: int) -> Tensor:
    """The noise of one tile, repeated with its own period: (frames,C,h,w)."""
    return noise_TChw[torch.arange(frames) % noise_TChw.shape[0]]


def fused_sampling(
    predict: Predict,
    scheduler: Any,
    noise_NChw: Tensor,
    tiles: Sequence[Sequence[int]],
    steps: int,
    guidance: float,
    on_step: StepCallback | None = None,
    check: Callable[[], None] | None = None,
    start: CarriedStart | None = None,
    group: Group = ALONE,
) -> Tensor:
    """Denoise a sequence in overlapping tiles.

    Args:
        predict: see ``Predict``; called once per tile and branch, so that memory does not grow with N.
        scheduler: diffusers' ``EulerDiscreteScheduler``.
        noise_NChw: unit noise, float32, on the device of the sampling.
        tiles: frames of each tile; together they hold every frame.
        steps: Euler steps.
        guidance: scale; 1 leaves the unconditional branch out.
        check: called before every evaluation of the model; may raise to stop.
        start: latents (N,C,h,w), scaled, that sampling starts from instead of from noise alone.
        group: who evaluates the tiles' branches together.

    Returns:
        Scaled latents (N,C,h,w).
    """
    device = noise_NChw.device
    scheduler.set_timesteps(steps, device=device)
    x_NChw, begun = begin(start, scheduler, noise_NChw)
    places = [torch.tensor(list(tile), device=device) for tile in tiles]
    weights = [torch.tensor(fusion_weights(len(tile)), device=device)[:, None, None, None] for tile in tiles]
    total = torch.zeros(len(x_NChw), 1, 1, 1, device=device)
    for place, weight in zip(places, weights, strict=True):
        total.index_add_(0, place, weight)
    branches = (False, True) if guidance != 1 else (True,)

    def evaluate(x: Tensor, timestep: Tensor, tile: Sequence[int], place: Tensor, conditional: bool) -> Tensor:
        if check is not None:
            check()
        return predict(x[place], timestep, tile, conditional).float()

    for step, timestep in enumerate(scheduler.timesteps[begun:], begun + 1):
        scaled = scheduler.scale_model_input(x_NChw, timestep)
        calls = [
            partial(evaluate, scaled, timestep, tile, place, conditional)
            for tile, place in zip(tiles, places, strict=True)
            for conditional in branches
        ]
        answers = iter(group.together(calls, x_NChw[: len(tiles[0])]))
        fused = [torch.zeros_like(x_NChw) for _ in branches]
        for place, weight in zip(places, weights, strict=True):
            for branch in fused:
                branch.index_add_(0, place, next(answers) * weight)
        outputs = [branch / total for branch in fused]
        output = outputs[-1] if len(outputs) == 1 else outputs[0] + guidance * (outputs[1] - outputs[0])
        x_NChw, clean = scheduler.step(output, timestep, x_NChw, return_dict=False)
        x_NChw = hold(start, x_NChw, step, scheduler, noise_NChw)
        if on_step is not None:
            on_step(step, steps, clean)
    return x_NChw
