"""Sampling an ISA-DiT: flow matching, guidance, fused windows.

Shape letters: B batch, L latent frames, h w latent.

Sign: with ``x_t = (1-t) x_0 + t e`` the transformer predicts ``e - x_0``, what diffusers' flow matching schedulers
integrate; the paper writes ``v = x_0 - e`` (Sec. 5.3), its negative. A transformer with ``start="carried"`` has the
carried film's latents in the place of the noise e.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from ..group import ALONE, Group, Part
from ..windows import fusion_weights, fusion_windows
from .inputs import ISAConditions, ISAInputs
from .transformer import ISATransformer3DModel
from .vae import AutoencoderKLISA


@dataclass
class ISAPipelineOutput(BaseOutput):
    """Attributes: ``frames`` (B,3,T,H,W) about [-1, 1], or None; ``latents`` (B,16,L,h,w), normalised."""

    frames: Tensor | None
    latents: Tensor


StepCallback = Callable[[int, int, Tensor], None]
"""Called after each step with the step's number from 1, the number of steps, and the present guess of the clean
latents (B,16,L,h,w). An exception that it raises ends the sampling."""


class ISAPipeline(DiffusionPipeline):
    """Video from bodies, references, camera, background and carried film.

    Where a transformer with ``prediction="residual"`` gives nothing, the latents that come out are the carried film's,
    bit for bit, whatever the steps, guidance and windows.

    Args:
        vae, transformer: of one model.
        scheduler: any flow matching Euler scheduler of diffusers.
    """

    model_cpu_offload_seq = "transformer->vae"

    def __init__(
        self,
        vae: AutoencoderKLISA,
        transformer: ISATransformer3DModel,
        scheduler: FlowMatchEulerDiscreteScheduler,
    ) -> None:
        super().__init__()
        self.register_modules(vae=vae, transformer=transformer, scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self,
        inputs: ISAInputs,
        num_inference_steps: int = 30,
        guidance_scale: float = 2.0,
        generator: torch.Generator | None = None,
        latents: Tensor | None = None,
        device: torch.device | None = None,
        window: int | None = None,
        overlap: int = 2,
        guidance_drop: Sequence[str] = ("points", "reference"),
        on_step: StepCallback | None = None,
        check: Callable[[], None] | None = None,
        group: Group = ALONE,
        decode_chunk: int | None = None,
        output_type: str = "pt",
    ) -> ISAPipelineOutput:
        """Sample a video.

        Args:
            inputs: conditions of B clips.
            num_inference_steps: evaluations of the flow.
            guidance_scale: 1 or less samples without guidance, at half the cost.
            generator: on the CPU, so that a seed gives the same noise on every device.
            latents: what to start from (B,16,L,h,w), in place of new noise or the carried film.
            device: where the transformer computes; by default where its weights lie.
            window: latent frames that the transformer takes at once; None for all.
            overlap: latent frames that neighbouring windows share at least.
            guidance_drop: conditions that the unconditional half goes without; camera and background stay, so that
                guidance strengthens bodies and looks and not the set.
            on_step: see ``StepCallback``.
            check: called before each evaluation of the transformer; may raise to stop.
            group: who evaluates the transformer together; all members are given the same and get the same.
            decode_chunk: latent frames that the VAE decodes at once; None for all.
            output_type: ``pt`` for frames, ``latent`` for latents only.
        """
        device = device or self.transformer.device
        batch, frames = inputs.background_latents.shape[0], inputs.background_latents.shape[2]
        inputs = inputs.to(device=device)
        guided = guidance_scale > 1
        branches = [inputs, inputs.drop(**dict.fromkeys(guidance_drop, True))] if guided else [inputs]
        carried = inputs.base()
        x_BCLhw = carried if latents is None else latents.to(device=device, dtype=torch.float32)
        if latents is None and self.transformer.config["start"] == "noise":
            x_BCLhw = randn_tensor(carried.shape, generator=generator, device=torch.device("cpu")).to(device)
        residual = self.transformer.config["prediction"] == "residual"
        windows = fusion_windows(frames, window or frames, overlap)
        if check is not None:
            check()
        evaluations = _Evaluations(self.transformer, branches, windows, group, residual, check)
        places = [torch.tensor(index, device=device) for index in windows]
        weights = [torch.tensor(fusion_weights(len(i)), device=device)[:, None, None] for i in windows]
        total = torch.zeros(frames, 1, 1, device=device)
        for place, weight in zip(places, weights, strict=True):
            total.index_add_(0, place, weight)

        self.scheduler.set_timesteps(num_inference_steps, device=device)
        for step, timestep in enumerate(self.scheduler.timesteps, 1):
            given = torch.zeros_like(x_BCLhw)
            for place, weight, prediction in zip(places, weights, evaluations(x_BCLhw, timestep), strict=True):
                if guided:
                    conditional, unconditional = prediction.split(batch)
                    prediction = unconditional + guidance_scale * (conditional - unconditional)
                given.index_add_(2, place, prediction * weight)
            given /= total
            sigma = timestep / self.scheduler.config["num_train_timesteps"]
            # Residuals are fused, not the flow that follows from them: nothing stays nothing, without rounding.
            clean = carried + given if residual else x_BCLhw - sigma * given
            flow = self.transformer.flow_to(x_BCLhw, clean, sigma) if residual else given
            x_BCLhw = self.scheduler.step(flow, timestep, x_BCLhw, return_dict=False)[0]
            if residual and step == num_inference_steps:
                x_BCLhw = clean
            if on_step is not None:
                on_step(step, num_inference_steps, clean)

        if output_type == "latent":
            return ISAPipelineOutput(frames=None, latents=x_BCLhw)
        z = self.vae.denormalize(x_BCLhw).to(self.vae.dtype)
        return ISAPipelineOutput(frames=self.vae.decode(z, chunk=decode_chunk).sample, latents=x_BCLhw)


class _Evaluations:
    """The transformer's answers for all windows and branches of guidance, made together with the others of a group.

    Alone, the branches are one batch. In a group each branch of each window may be made by another member, or by
    several that share out its latent frames.

    Args:
        branches: conditions of all latent frames, with and without what guidance strengthens.
        windows: latent frames of each.
    """

    def __init__(
        self,
        transformer: ISATransformer3DModel,
        branches: Sequence[ISAInputs],
        windows: Sequence[Sequence[int]],
        group: Group,
        residual: bool,
        check: Callable[[], None] | None,
    ) -> None:
        self._across, within = group.spread(len(branches) * len(windows), len(windows[0]))
        batches = branches if self._across.size > 1 else [ISAInputs.cat(branches)]
        self._branches, self._batches = len(branches) // len(batches), len(batches)
        self._transformer, self._residual, self._check = transformer, residual, check
        self._part = Part(within, len(windows[0]))
        held = [window[self._part.place] for window in windows]
        calls = [(window, batch) for window in range(len(windows)) for batch in range(len(batches))]
        mine = [calls[place] for place in self._across.mine(len(calls))]
        needed = sorted({latent for window, _ in mine for latent in held[window]})
        conditions = {batch: self._prepare(batches[batch], needed) for batch in sorted({batch for _, batch in mine})}
        self._calls: list[Callable[[Tensor, Tensor], Tensor]] = []
        for window, batch in calls:
            index = torch.tensor(held[window], device=branches[0].background_latents.device)
            given = conditions[batch] if (window, batch) in mine else None
            if given is not None and held[window] != needed:
                given = given.frames(torch.tensor([needed.index(latent) for latent in held[window]]).to(index))
            self._calls.append(partial(self._evaluate, index, given))

    def _prepare(self, inputs: ISAInputs, latents: Sequence[int]) -> ISAConditions:
        every = len(latents) == inputs.background_latents.shape[2]
        return cast(ISAConditions, self._transformer(None, None, inputs if every else inputs.frames(latents)))

    def _evaluate(self, index: Tensor, given: ISAConditions | None, x_BCLhw: Tensor, timestep: Tensor) -> Tensor:
        assert given is not None
        if self._check is not None:
            self._check()
        x = torch.cat([x_BCLhw.index_select(2, index)] * self._branches)
        answer = self._transformer(
            x, timestep.expand(x.shape[0]), given, part=self._part, residual=self._residual, return_dict=False
        )
        return self._part.whole(answer[0].float(), 2)

    def __call__(self, x_BCLhw: Tensor, timestep: Tensor) -> list[Tensor]:
        """Of each window, its branches one after the other: (branches * B,16,L,h,w) float32."""
        b, c, _, h, w = x_BCLhw.shape
        like = x_BCLhw.new_empty(self._branches * b, c, self._part.length, h, w)
        answers = self._across.together([partial(call, x_BCLhw, timestep) for call in self._calls], like)
        count = self._batches
        return [torch.cat(answers[first : first + count]) for first in range(0, len(answers), count)]
