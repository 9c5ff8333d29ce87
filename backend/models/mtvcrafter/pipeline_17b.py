"""Sampling MV-DiT-17B: Wan 2.1 from image and text, led by motion tokens, window after window.

Shape letters: T frames, L latent frames, C latent channels, h w latent, H W picture, N motion tokens, M code width.

A window after the first is led by the last frames of the one before: they are encoded as its known frames, and after
each step the latents of these frames are put back at the step's noise level (as RePaint, arXiv 2201.09865, does).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from transformers import CLIPVisionModel

from ..carried_start import CarriedStart
from ..context_parallel import WAN_PLAN, context_parallel
from ..group import ALONE, Group
from ..wan import denormalized, encode_film, encode_picture
from .rope import key_rope_17b
from .transformer_17b import MVDiT17BTransformer3DModel

StepCallback = Callable[[int, int, Tensor], None]
"""Called after each step of each window with the step's number from 1, the number of steps of all windows, and the
present guess of the window's clean latents (C,L,h,w), normalised. An exception that it raises ends the sampling."""


@dataclass(frozen=True)
class Sampling17B:
    """How to sample.

    Attributes:
        steps: of each window.
        guidance: of text, against the negative prompt; 1 or less samples without guidance at half the cost.
        frames: of a window, 4k+1.
        overlap: frames that a window takes over from the one before, 4k+1.
        device, dtype: where and how the transformer computes.
    """

    steps: int = 50
    guidance: float = 6.0
    frames: int = 49
    overlap: int = 9
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True, eq=False)
class Text:
    """Encoded texts, each (1,512,E); ``negative`` is None without guidance."""

    positive: Tensor
    negative: Tensor | None


class MTVCrafter17BPipeline(DiffusionPipeline):
    """Video from a reference picture, a text and motion tokens.

    Args:
        image_encoder: CLIP ViT-H/14, the image half.
        transformer: MV-DiT-17B.
        vae: Wan 2.1's.
        scheduler: flow matching Euler, shifted by 5.
    """

    model_cpu_offload_seq = "image_encoder->transformer->vae"

    def __init__(
        self,
        image_encoder: CLIPVisionModel,
        transformer: MVDiT17BTransformer3DModel,
        vae: AutoencoderKLWan,
        scheduler: FlowMatchEulerDiscreteScheduler,
    ) -> None:
        super().__init__()
        self.register_modules(
            image_encoder=image_encoder,
            transformer=transformer,
            vae=vae,
            scheduler=scheduler,
        )

    @torch.no_grad()
    def encode_picture(self, picture_3HW: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
        """(1,I,E) float32: what CLIP makes of a picture in [-1, 1]."""
        return encode_picture(self.image_encoder, picture_3HW, device, dtype)

    @torch.no_grad()
    def encode_film(self, film_3THW: Tensor) -> Tensor:
        """Normalised latents (1,C,L,h,w) float32 of a window's film in [-1, 1]."""
        return encode_film(self.vae, film_3THW)

    @torch.no_grad()
    def condition(self, known_3THW: Tensor, frames: int) -> Tensor:
        """What the transformer is told of a window's first frames.

        Args:
            known_3THW: in [-1, 1], 4k+1 frames.
            frames: of the window; the others are grey.

        Returns:
            (1,4+C,L,h,w) float32: a mask, 1 on latent frames that are known, and normalised latents.
        """
        count = known_3THW.shape[1]
        latents = self.encode_film(F.pad(known_3THW, (0, 0, 0, 0, 0, frames - count)))
        mask = torch.zeros(1, 4, *latents.shape[2:], device=latents.device)
        mask[:, :, : known_latents(count)] = 1
        return torch.cat([mask, latents], dim=1)

    @torch.no_grad()
    def __call__(
        self,
        reference_3HW: Tensor,
        motion_tokens: Sequence[Tensor],
        mean_joints: Tensor,
        text: Text,
        settings: Sampling17B,
        generator: torch.Generator | None = None,
        on_step: StepCallback | None = None,
        check: Callable[[], None] | None = None,
        starts: Sequence[CarriedStart] = (),
        group: Group = ALONE,
    ) -> Iterator[Tensor]:
        """Sample and decode window after window.

        Args:
            reference_3HW: in [-1, 1]; the video's first frame.
            motion_tokens: (1,N,M) of each window.
            mean_joints: (24,3) millimetres, of the tokenizer's training set.
            generator: on the CPU, so that a seed gives the same noise on every device.
            check: called before each evaluation of the transformer; may raise to stop.
            starts: normalised latents (1,C,L,h,w) that each window starts from; none where from noise alone.
            group: who evaluates the transformer together: guidance's branches, and the tokens of each. Windows follow
                each other in any case.

        Yields:
            New frames (3,T,H,W) in [-1, 1], float32 on the CPU: all of the first window, and of each other one those
            after the overlap.
        """
        device, steps = settings.device, settings.steps
        known = reference_3HW[:, None].to(device)
        for window, tokens in enumerate(motion_tokens):

            def stepped(step: int, clean: Tensor, done: int = window * steps) -> None:
                if on_step is not None:
                    on_step(done + step, steps * len(motion_tokens), clean)

            start = starts[window] if starts else None
            latents = self.sample_window(
                *(known, tokens, mean_joints, text, settings, generator, stepped, check or (lambda: None)),
                *(start, group),
            )
            z = denormalized(self.vae, latents).to(self.vae.dtype)
            frames = self.vae.decode(z).sample[0].float().clamp(-1, 1).cpu()
            yield frames[:, settings.overlap if window else 0 :]
            known = frames[:, -settings.overlap :].to(device)

    @torch.no_grad()
    def sample_window(
        self,
        known_3THW: Tensor,
        motion_tokens: Tensor,
        mean_joints: Tensor,
        text: Text,
        settings: Sampling17B,
        generator: torch.Generator | None,
        stepped: Callable[[int, Tensor], None],
        check: Callable[[], None],
        start: CarriedStart | None = None,
        group: Group = ALONE,
    ) -> Tensor:
        """Normalised latents (1,C,L,h,w) of one window that goes on from ``known_3THW``.

        Args:
            known_3THW: the reference as one frame, or the last frames of the window before; CLIP sees the last.
            start, group: see ``__call__``.
        """
        device, dtype = settings.device, settings.dtype
        condition = self.condition(known_3THW, settings.frames).to(device)
        given = condition[:, 4:]
        # A lone reference only informs; frames that were made before are kept.
        kept = known_latents(known_3THW.shape[1]) if known_3THW.shape[1] > 1 else 0
        condition = condition.to(dtype)
        image = self.encode_picture(known_3THW[:, -1], device, dtype).to(dtype)
        texts = [text.positive] if text.negative is None or settings.guidance <= 1 else [text.positive, text.negative]
        texts = [part.to(device, dtype) for part in texts]
        head = self.transformer.config["attention_head_dim"]
        cos, sin = key_rope_17b(given.shape[2], mean_joints, head)
        table, motion_tokens = (cos.to(device), sin.to(device)), motion_tokens.to(device, dtype)
        x_BCLhw = noise = _noise(given, generator)

        self.scheduler.set_timesteps(settings.steps, device=device)

        def held(x: Tensor, done: int) -> Tensor:
            if start is None:
                return x
            level = float(self.scheduler.sigmas[done])
            return start.hold(x, done, settings.steps, lambda z: (1 - level) * z + level * noise)

        def predict(x: Tensor, timestep: Tensor, part: Tensor) -> Tensor:
            check()
            x = torch.cat([x.to(dtype), condition], dim=1)
            given = (timestep.expand(1), part, image, motion_tokens, table)
            with context_parallel(self.transformer, within, WAN_PLAN):
                return self.transformer(x, *given, return_dict=False)[0].float()

        across, within = group.spread(len(texts), self.transformer.config["num_attention_heads"], even=True)
        begun = 0 if start is None else start.begin(settings.steps)
        if begun:
            self.scheduler.set_begin_index(begun)
        x_BCLhw = held(x_BCLhw, begun)
        for i, timestep in enumerate(self.scheduler.timesteps[begun:], begun):
            flows = across.together([partial(predict, x_BCLhw, timestep, part) for part in texts], x_BCLhw)
            flow = flows[0] if len(flows) == 1 else flows[1] + settings.guidance * (flows[0] - flows[1])
            sigma, following = (float(level) for level in self.scheduler.sigmas[i : i + 2])
            clean = x_BCLhw - sigma * flow
            x_BCLhw = held(self.scheduler.step(flow, timestep, x_BCLhw, return_dict=False)[0], i + 1)
            if kept:
                x_0 = given[:, :, :kept]
                x_BCLhw[:, :, :kept] = (1 - following) * x_0 + following * _noise(x_0, generator)
            stepped(i + 1, clean[0])
        return x_BCLhw


def known_latents(frames: int) -> int:
    """Latent frames that ``frames`` known frames fill: 1 for 1, 3 for 9."""
    return 1 + (frames - 1) // 4


def _noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Normal noise of a tensor's shape and device, drawn on the CPU."""
    cpu = torch.device("cpu")
    return randn_tensor(tuple(like.shape), generator=generator, device=cpu, dtype=torch.float32).to(like.device)
