"""Sampling with MOFA-Video: Stable Video Diffusion, its UNet steered by adapters that know the motion.

Shape letters: B batch, T frames, N = T-1, H W picture, h w = H/8 W/8 latent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from ..carried_start import CarriedStart
from ..group import ALONE, Group
from ..svd import begin, encode_picture, hold
from ..windows import periodic_windows
from .flow_controlnet import FlowControlNet
from .flow_controlnet_layers import Residuals
from .landmark_controlnet import LandmarkControlNet
from .residuals import blend, predict
from .splat import PixelMotion

FPS_ID, MOTION_BUCKET, NOISE_AUGMENTATION = 6.0, 128.0, 0.02
"""SVD's added ids. MOFA-Video runs with these whatever the video's frame rate."""


@dataclass
class MOFAPipelineOutput(BaseOutput):
    """Attributes: ``frames`` (B,3,T,H,W) about [-1, 1], or None; ``latents`` (B,T,4,h,w)."""

    frames: Tensor | None
    latents: Tensor


StepCallback = Callable[[int, int, Tensor], None]
"""Called after each step with the step's number from 1, the number of steps, and the present guess of the clean
latents (B,T,4,h,w). An exception that it raises ends the sampling."""


@dataclass(frozen=True, eq=False)
class Steering:
    """What steers a clip of T frames.

    Attributes:
        motion: of the first frame's pixels, for the trajectory adapter.
        landmarks: (B,T,3,H,W) drawings of the face in [0, 1], for the landmark adapter; None: without that adapter.
        face_motion: motion for the landmark adapter; None: the same as ``motion``.
        face_mask: (B,T,H,W) or (B,1,H,W), 1 where the landmark adapter rules, 0 where the trajectory adapter does.
            Needed with landmarks.
    """

    motion: PixelMotion
    landmarks: Tensor | None = None
    face_motion: PixelMotion | None = None
    face_mask: Tensor | None = None

    def __post_init__(self) -> None:
        if self.landmarks is None:
            return
        if self.face_mask is None:
            raise ValueError("face_mask: needed with landmarks; give 1 everywhere to let them rule the whole picture")
        if self.landmarks.shape[1] != self.motion.frames:
            raise ValueError(f"landmarks: {self.landmarks.shape[1]} frames, but motion for {self.motion.frames}")
        if self.face_mask.shape[1] not in (1, self.motion.frames):
            raise ValueError(f"face_mask: {self.face_mask.shape[1]} frames, but motion for {self.motion.frames}")
        if self.face_motion is not None and self.face_motion.frames != self.motion.frames:
            raise ValueError(f"face_motion: for {self.face_motion.frames} frames, motion for {self.motion.frames}")

    def to(self, device: torch.device | str) -> Steering:
        """The same on another device."""
        values: dict[str, Any] = {key: x if x is None else x.to(device) for key, x in vars(self).items()}
        return Steering(**values)

    def select(self, frames: list[int]) -> Steering:
        """What steers some frames, given as increasing numbers of the clip that begin with 0."""
        mask = self.face_mask
        return Steering(
            self.motion.select(frames),
            None if self.landmarks is None else self.landmarks[:, frames],
            None if self.face_motion is None else self.face_motion.select(frames),
            mask if mask is None or mask.shape[1] == 1 else mask[:, frames],
        )


class MOFAPipeline:
    """Video from a picture and the motion of its pixels.

    Args:
        vae, image_encoder, unet, scheduler: of Stable Video Diffusion XT 1.1, stock classes.
        controlnet: the trajectory adapter.
        landmark_controlnet: the landmark adapter of the hybrid model, or None.
        device, dtype: what the networks compute on and in. The networks cannot always tell, because those that are
            offloaded lie elsewhere meanwhile; None where they can.
    """

    def __init__(
        self,
        vae: AutoencoderKLTemporalDecoder,
        image_encoder: CLIPVisionModelWithProjection,
        unet: UNetSpatioTemporalConditionModel,
        controlnet: FlowControlNet,
        scheduler: EulerDiscreteScheduler,
        landmark_controlnet: LandmarkControlNet | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.vae = vae
        self.image_encoder = image_encoder
        self.unet = unet
        self.controlnet = controlnet
        self.landmark_controlnet = landmark_controlnet
        self.scheduler = scheduler
        self.device = device or unet.device
        self.dtype = dtype or unet.dtype

    @torch.no_grad()
    def __call__(
        self,
        picture: Tensor,
        steering: Steering,
        num_inference_steps: int = 25,
        min_guidance_scale: float = 1.0,
        max_guidance_scale: float = 3.0,
        conditioning_scale: float = 0.6,
        landmark_scale: float = 0.6,
        parity: bool = True,
        window: int = 25,
        stride: int = 12,
        generator: torch.Generator | None = None,
        latents: Tensor | None = None,
        on_step: StepCallback | None = None,
        check: Callable[[], None] | None = None,
        decode_chunk: int = 8,
        output_type: str = "pt",
        start: CarriedStart | None = None,
        group: Group = ALONE,
    ) -> MOFAPipelineOutput:
        """Sample a video.

        Args:
            picture: (B,3,H,W) the first frame in [0, 1]; H and W multiples of 64.
            steering: motion (and landmarks) for T frames.
            num_inference_steps: Euler steps.
            min_guidance_scale, max_guidance_scale: of the first and the last frame of a window, linear between. A
                greatest of 1 or less samples without guidance, at half the cost.
            conditioning_scale, landmark_scale: strength of the two adapters; 1 mostly twists bodies (MOFA-Video).
            parity: sample and splat the motion as published (see ``PixelMotion``).
            window: frames that the UNet takes at once, frame 0 included; it was trained with 25.
            stride: frames by which windows advance when the clip is longer.
            generator: on the CPU, so that a seed gives the same noise on every device.
            latents: (B,T,4,h,w) standard normal noise instead of new one.
            on_step: see ``StepCallback``.
            check: called before each evaluation of a network, in every window; may raise to stop.
            decode_chunk: frames that the VAE decodes at once.
            output_type: ``pt`` for frames, ``latent`` for latents only.
            start: latents (B,T,4,h,w), scaled, that sampling starts from instead of from noise alone.
            group: who evaluates the windows together.

        Raises:
            ValueError: sizes that do not fit each other, or landmarks without the adapter for them.
        """

        def pause() -> None:
            if check is not None:
                check()

        device, T = self.device, steering.motion.frames
        if steering.landmarks is not None and self.landmark_controlnet is None:
            raise ValueError("landmarks: this model has no landmark adapter")
        picture = picture.to(device=device, dtype=torch.float32)
        guided = max_guidance_scale > 1
        halves = 2 if guided else 1

        pause()
        embeds_B1D = self.embed_picture(picture)
        pause()
        noise = randn_tensor(picture.shape, generator=generator, device=torch.device("cpu"), dtype=torch.float32)
        first_B4hw = encode_picture(self.vae, 2 * picture - 1 + NOISE_AUGMENTATION * noise.to(device), device)
        B, _, h, w = first_B4hw.shape
        if latents is None:
            latents = randn_tensor(
                (B, T, 4, h, w), generator=generator, device=torch.device("cpu"), dtype=torch.float32
            )
        elif tuple(latents.shape) != (B, T, 4, h, w):
            raise ValueError(f"latents: {tuple(latents.shape)}; this clip takes {(B, T, 4, h, w)}")
        if guided:
            embeds_B1D = torch.cat([torch.zeros_like(embeds_B1D), embeds_B1D])
            first_B4hw = torch.cat([torch.zeros_like(first_B4hw), first_B4hw])
        ids = torch.tensor([[FPS_ID, MOTION_BUCKET, NOISE_AUGMENTATION]], device=device).repeat(B * halves, 1)

        self.scheduler.set_timesteps(num_inference_steps, device=device)
        latents = latents.to(device=device, dtype=torch.float32)
        x_BT4hw, begun = begin(start, self.scheduler, latents)
        windows = periodic_windows(T, window, stride)
        # Motion of a long clip is large: on the device is what one window needs.
        whole = steering.to(device) if len(windows) == 1 else None
        # Frame 0 belongs to window 0; elsewhere it is an anchor only.
        owned = [frames if index == 0 else frames[1:] for index, frames in enumerate(windows)]
        counts = torch.zeros(T, device=device)
        for frames in owned:
            counts[frames] += 1

        # Alone, guidance's halves are one batch; in a group another member may make the other half.
        lots = [slice(i * B, (i + 1) * B) for i in range(halves)] if group.size > 1 else [slice(None)]

        def evaluate(scaled: Tensor, timestep: Tensor, frames: list[int], lot: slice) -> Tensor:
            part = whole or steering.select(frames).to(device)
            sample = torch.cat([scaled[:, frames]] * halves)
            sample = torch.cat([sample, first_B4hw[:, None].expand(-1, len(frames), -1, -1, -1)], dim=2)[lot]
            given = (sample, timestep, embeds_B1D[lot], ids[lot], picture, part)
            return self._predict(*given, conditioning_scale, landmark_scale, parity, pause)

        for step, timestep in enumerate(self.scheduler.timesteps[begun:], begun + 1):
            scaled = self.scheduler.scale_model_input(x_BT4hw, timestep)
            # An Euler step is affine in the prediction: averaging predictions is averaging stepped latents.
            total = torch.zeros_like(x_BT4hw)
            calls = [partial(evaluate, scaled, timestep, frames, lot) for frames in windows for lot in lots]
            answers = group.together(calls, scaled[:, windows[0]])
            for place, (frames, own) in enumerate(zip(windows, owned, strict=True)):
                prediction = torch.cat(answers[place * len(lots) : (place + 1) * len(lots)])
                if guided:
                    unconditional, conditional = prediction.chunk(2)
                    ramp = torch.linspace(min_guidance_scale, max_guidance_scale, len(frames), device=device)
                    prediction = unconditional + ramp[:, None, None, None] * (conditional - unconditional)
                total[:, own] += prediction[:, len(frames) - len(own) :]
            output = self.scheduler.step(total / counts[:, None, None, None], timestep, x_BT4hw)
            x_BT4hw = hold(start, cast(Any, output).prev_sample, step, self.scheduler, latents)
            if on_step is not None:
                on_step(step, num_inference_steps, cast(Any, output).pred_original_sample)

        frames_B3THW = None if output_type == "latent" else self.decode(x_BT4hw, decode_chunk, lambda *_: pause())
        return MOFAPipelineOutput(frames=frames_B3THW, latents=x_BT4hw)

    def _predict(
        self,
        sample: Tensor,
        timestep: Tensor,
        embeds: Tensor,
        ids: Tensor,
        picture: Tensor,
        part: Steering,
        conditioning_scale: float,
        landmark_scale: float,
        parity: bool,
        pause: Callable[[], None],
    ) -> Tensor:
        """The steered UNet's prediction (B,T,4,h,w), float32, for one window; both halves of guidance are steered."""
        dtype = self.dtype
        sample, embeds, ids = sample.to(dtype), embeds.to(dtype), ids.to(dtype)
        shown = (2 * picture - 1).to(dtype)
        pause()
        residuals = self.controlnet(sample, timestep, embeds, ids, shown, part.motion, conditioning_scale, parity)
        if part.landmarks is not None and part.face_mask is not None and self.landmark_controlnet is not None:
            pause()
            face: Residuals = self.landmark_controlnet(
                sample,
                timestep,
                embeds,
                ids,
                shown,
                part.face_motion or part.motion,
                landmark_scale,
                parity,
                part.landmarks.to(dtype),
            )
            mask = part.face_mask.expand(-1, part.motion.frames, -1, -1).flatten(0, 1)[:, None]
            residuals = blend(face, residuals, mask.repeat(sample.shape[0] // part.face_mask.shape[0], 1, 1, 1))
        pause()
        return predict(self.unet, sample, timestep, embeds, ids, residuals).float()

    def embed_picture(self, picture_B3HW: Tensor) -> Tensor:
        """(B,1,D) CLIP embedding of a picture in [0, 1].

        The picture is not normalised by CLIP's mean and deviation, unlike SVD's own pipeline: so MOFA-Video runs.
        """
        side = self.image_encoder.config.image_size
        small = _resize_with_antialiasing(picture_B3HW.float(), (side, side))
        small = small.to(device=self.device, dtype=self.dtype)
        return self.image_encoder(small).image_embeds[:, None].float()

    @torch.no_grad()
    def decode(
        self, latents_BT4hw: Tensor, chunk: int = 8, on_chunk: Callable[[int, int], None] | None = None
    ) -> Tensor:
        """(B,3,T,H,W) float32 about [-1, 1].

        Args:
            chunk: frames that the VAE decodes at once.
            on_chunk: called before each with how many are done, of how many; and at the end.
        """
        vae, done, parts = self.vae, 0, []
        pieces = [clip.split(chunk) for clip in latents_BT4hw / vae.config["scaling_factor"]]
        steps = sum(len(clip) for clip in pieces)
        for clip in pieces:
            frames = []
            for z_T4hw in clip:
                if on_chunk is not None:
                    on_chunk(done, steps)
                z_T4hw = z_T4hw.to(device=self.device, dtype=vae.dtype)
                frames.append(cast(Any, vae.decode(z_T4hw, num_frames=len(z_T4hw))).sample.float())
                done += 1
            parts.append(torch.cat(frames).transpose(0, 1))
        if on_chunk is not None:
            on_chunk(done, steps)
        return torch.stack(parts)
