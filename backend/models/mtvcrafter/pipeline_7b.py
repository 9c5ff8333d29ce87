"""Sampling MV-DiT-7B: a reference held still, motion tokens, guidance against the learned tokens for no motion.

Shape letters: T frames, L latent frames, C latent channels, h w latent, H W picture, N motion tokens, D code width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_dpm_cogvideox import CogVideoXDPMScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from ..carried_start import CarriedStart
from ..group import ALONE, Group
from .rope import Table, key_rope_7b, query_rope_7b
from .transformer_7b import MVDiT7BTransformer3DModel

StepCallback = Callable[[int, int, Tensor], None]
"""Called after each step with its number from 1, the number of steps, and the present guess of the clean latents
(C,L,h,w) as the VAE gives them. An exception that it raises ends the sampling."""


class MTVCrafter7BPipeline(DiffusionPipeline):
    """Video from a reference picture and motion tokens.

    Args:
        vae: CogVideoX's.
        transformer: MV-DiT-7B.
        scheduler: CogVideoX's DPM, at its base model's configuration.
    """

    model_cpu_offload_seq = "transformer->vae"

    def __init__(
        self,
        vae: AutoencoderKLCogVideoX,
        transformer: MVDiT7BTransformer3DModel,
        scheduler: CogVideoXDPMScheduler,
    ) -> None:
        super().__init__()
        self.register_modules(vae=vae, transformer=transformer, scheduler=scheduler)

    def reference_latents(self, reference_3HW: Tensor, frames: int, generator: torch.Generator | None = None) -> Tensor:
        """Latents (1,C,L,h,w) of the reference standing still, drawn from the VAE's posterior.

        They are NOT multiplied by the VAE's ``scaling_factor``, unlike the latents that are denoised: the weights were
        trained so.

        Args:
            reference_3HW: in [-1, 1], on the VAE's device and of its type.
        """
        clip = reference_3HW[None, :, None].expand(-1, -1, frames, -1, -1)
        return self.vae.encode(clip).latent_dist.sample(generator)

    def film_latents(self, film_3THW: Tensor) -> Tensor:
        """Latents (1,L,C,h,w) float32, scaled, of a film in [-1, 1], on the VAE's device and of its type."""
        latents = self.vae.encode(film_3THW[None]).latent_dist.mode().float()
        return latents.transpose(1, 2) * self.vae.config["scaling_factor"]

    def tables(self, latents_shape: tuple[int, ...], mean_joints: Tensor, device: torch.device) -> tuple[Table, Table]:
        """Rotary tables of video and motion tokens for latents (L,C,h,w) on ``device``."""
        frames, _, height, width = latents_shape
        patch, head = self.transformer.config["patch_size"], self.transformer.config["attention_head_dim"]
        query = query_rope_7b(frames, height // patch, width // patch, head)
        key = key_rope_7b(frames, mean_joints, head)
        return (query[0].to(device), query[1].to(device)), (key[0].to(device), key[1].to(device))

    @torch.no_grad()
    def __call__(
        self,
        reference_latents: Tensor,
        motion_tokens: Tensor,
        mean_joints: Tensor,
        num_inference_steps: int = 50,
        guidance_scale: float = 3.0,
        generator: torch.Generator | None = None,
        latents: Tensor | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        on_step: StepCallback | None = None,
        check: Callable[[], None] | None = None,
        start: CarriedStart | None = None,
        group: Group = ALONE,
    ) -> Tensor:
        """Sample the latents of a video.

        Args:
            reference_latents: (1,C,L,h,w) as ``reference_latents`` gives them.
            motion_tokens: (1,N,D).
            mean_joints: (24,3) millimetres, of the tokenizer's training set.
            guidance_scale: of motion, against the learned tokens; 1 or less samples without guidance at half the cost.
            generator: on the CPU, so that a seed gives the same noise on every device.
            latents: noise (1,L,C,h,w) instead of new one.
            device, dtype: where and how the transformer computes.
            check: called before each evaluation of the transformer; may raise to stop.
            start: latents (1,L,C,h,w), scaled, that sampling starts from instead of from noise alone.
            group: who evaluates guidance's two branches together.

        Returns:
            (1,C,L,h,w) float32, as the VAE gives them (divided by its ``scaling_factor``).
        """
        device = torch.device(device)
        reference_BLChw = reference_latents.transpose(1, 2).to(device, dtype)
        shape = tuple(reference_BLChw.shape)
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=torch.device("cpu"), dtype=torch.float32)
        noise = latents.to(device, torch.float32)
        x_BLChw = noise * self.scheduler.init_noise_sigma
        image_table, motion_table = self.tables(shape[1:], mean_joints, device)
        motion_tokens = motion_tokens.to(device, dtype)

        def predict(motion: Tensor | None, timestep: Tensor) -> Tensor:
            if check is not None:
                check()
            noisy = self.scheduler.scale_model_input(x_BLChw, timestep).to(dtype)
            return self.transformer(
                torch.cat([noisy, reference_BLChw], dim=2),
                motion,
                timestep.expand(shape[0]),
                image_table,
                motion_table,
                return_dict=False,
            )[0].float()

        scale = self.vae.config["scaling_factor"]
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        timesteps = self.scheduler.timesteps
        before, begun = None, 0

        def held(x: Tensor, done: int) -> Tensor:
            if start is None:
                return x

            def noised(z: Tensor) -> Tensor:
                last = done == num_inference_steps
                return z if last else self.scheduler.add_noise(z, noise, timesteps[done, None])

            return start.hold(x, done, num_inference_steps, noised)

        if start is not None:
            begun = start.begin(num_inference_steps)
            x_BLChw = held(x_BLChw, begun)
        branches = (motion_tokens, None) if guidance_scale > 1 else (motion_tokens,)
        for i, timestep in enumerate(timesteps[begun:], begun):
            calls = [partial(predict, tokens, timestep) for tokens in branches]
            flow, *unguided = group.together(calls, x_BLChw)
            if unguided:
                flow = unguided[0] + guidance_scale * (flow - unguided[0])
            x_BLChw, before = self.scheduler.step(
                flow,
                before,
                timestep,
                timesteps[i - 1] if i > begun else None,
                x_BLChw,
                generator=generator,
                return_dict=False,
            )
            x_BLChw = held(x_BLChw, i + 1)
            if on_step is not None:
                on_step(i + 1, num_inference_steps, before[0].transpose(0, 1) / scale)
        return x_BLChw.transpose(1, 2) / scale

    @torch.no_grad()
    def decode(self, latents_BCLhw: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Latents as ``__call__`` gives them to a video (1,3,T,H,W) in [-1, 1]."""
        return self.vae.decode(latents_BCLhw.to(dtype)).sample.float().clamp(-1, 1)
