"""Sampling an ISA-DiT: flow matching, guidance, fused windows.

Shape letters: B batch, L latent frames, h w latent.

Sign: with ``x_t = (1-t) x_0 + t e`` the transformer predicts ``e - x_0``, what diffusers' flow matching schedulers
integrate; the paper writes ``v = x_0 - e`` (Sec. 5.3), its negative. A transformer with ``start="carried"`` has the
carried film's latents in the place of the noise e.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from ..windows import fusion_weights, fusion_windows
from .inputs import ISAInputs
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
            decode_chunk: latent frames that the VAE decodes at once; None for all.
            output_type: ``pt`` for frames, ``latent`` for latents only.
        """
        device = device or self.transformer.device
        shape = inputs.background_latents.shape
        batch, frames = shape[0], shape[2]
        inputs = inputs.to(device=device)
        guided = guidance_scale > 1
        if guided:
            inputs = ISAInputs.cat([inputs, inputs.drop(**dict.fromkeys(guidance_drop, True))])
        if check is not None:
            check()
        conditions = self.transformer(None, None, inputs)
        carried = conditions.carried[:batch]
        x_BCLhw = carried if latents is None else latents.to(device=device, dtype=torch.float32)
        if latents is None and self.transformer.config["start"] == "noise":
            x_BCLhw = randn_tensor(shape, generator=generator, device=torch.device("cpu")).to(device)
        residual = self.transformer.config["prediction"] == "residual"
        windows = [torch.tensor(index, device=device) for index in fusion_windows(frames, window or frames, overlap)]
        parts = [conditions] if len(windows) == 1 else [conditions.frames(index) for index in windows]
        weights = [torch.tensor(fusion_weights(len(i)), device=device)[:, None, None] for i in windows]
        total = torch.zeros(frames, 1, 1, device=device)
        for index, weight in zip(windows, weights, strict=True):
            total.index_add_(0, index, weight)

        self.scheduler.set_timesteps(num_inference_steps, device=device)
        for step, timestep in enumerate(self.scheduler.timesteps, 1):
            given = torch.zeros_like(x_BCLhw)
            for index, weight, part in zip(windows, weights, parts, strict=True):
                if check is not None:
                    check()
                x = x_BCLhw.index_select(2, index)
                x = torch.cat([x, x]) if guided else x
                time = timestep.expand(x.shape[0])
                prediction = self.transformer(x, time, part, residual=residual, return_dict=False)[0].float()
                if guided:
                    conditional, unconditional = prediction.split(batch)
                    prediction = unconditional + guidance_scale * (conditional - unconditional)
                given.index_add_(2, index, prediction * weight)
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
