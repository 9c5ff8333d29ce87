"""The engine that makes videos with an ISA-DiT, as corrections of the carried film (``raster.carry``).

What the VAE decodes is only the difference that the network makes: film = carried + D(z) - D(E(carried)), so that the
VAE blurs nothing but the correction, and where the network changes nothing the carried film comes out bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...catalogue.models import ModelSpec
from ...media import MediaError, background_frames, decode_image, squeeze_frames
from ...raster.carry import CarriedFilm, carry_shot
from ...shot import Reference, Shot
from ..device import choose_device, choose_dtype
from ..family import EngineError, Plan, Progress, Result
from ..frames import frames_to_tensor, tensor_to_frames
from ..steps import Reporter
from .build import load_image_encoder, load_transformer, load_vae, new_scheduler
from .conditions import (
    clip_tokens,
    crop_picture,
    latent_known,
    make_inputs,
    pad_frames,
    point_subset,
    reference_view,
    shot_geometry,
    stack_points,
)
from .inputs import ISAInputs
from .pipeline import ISAPipeline
from .plan import make_plan, window_latents

_CHUNK = 8
"""Latent frames that the VAE codes at once: 32 frames."""


@dataclass(frozen=True, eq=False)
class Carried:
    """The carried film of a shot, its last frame repeated up to ``Plan.model_frames``.

    Attributes:
        frames: (T,H,W,3) uint8 at the size of the result.
        model: at the size that the model works at.
        notes: for the animator.
    """

    frames: np.ndarray
    model: CarriedFilm
    notes: tuple[str, ...]


class ISAEngine:
    """One model, loaded on its first generation and kept.

    Args:
        spec: its description; the weights are in its folder.
        device: as torch names it; None for a GPU where there is one.
    """

    def __init__(self, spec: ModelSpec, device: str | None = None) -> None:
        self.spec = spec
        self.device = choose_device(device)
        self.dtype = choose_dtype(self.device)
        self._pipeline: ISAPipeline | None = None
        self._image_encoder: Any = None

    def plan(self, shot: Shot) -> Plan:
        """See ``Engine.plan``."""
        return make_plan(self.spec, shot)

    def load(self) -> ISAPipeline:
        """Read the weights, once."""
        if self._pipeline is None:
            vae = load_vae(self.spec, self.dtype)
            transformer = load_transformer(self.spec, self.dtype)
            if (width := transformer.config["image_embed_dim"]) is not None:
                self._image_encoder = load_image_encoder(self.spec, width, self.dtype).to(self.device)
            pipeline = ISAPipeline(vae=vae, transformer=transformer, scheduler=new_scheduler(self.spec))
            pipeline.set_progress_bar_config(disable=True)
            self._pipeline = pipeline.to(self.device)
        return self._pipeline

    def generate(self, shot: Shot, on_progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> Result:
        """See ``Engine.generate``."""
        plan = self.plan(shot)
        reporter = Reporter(on_progress, cancelled)
        started = time.monotonic()
        reporter.report("loading", 0, 1)
        pipeline = self.load()
        reporter.report("loading", 1, 1)
        settings, defaults = shot.settings, self.spec.defaults
        steps = settings.steps if settings.steps is not None else defaults.steps
        guidance = float(settings.guidance if settings.guidance is not None else defaults.guidance)

        with torch.no_grad():
            reporter.report("encoding", 0, len(shot.characters) + 3)
            carried = self.carry(shot, plan, reporter.check)
            inputs = self.encode(shot, plan, carried, lambda step, steps: reporter.report("encoding", step, steps))
            window, overlap = window_latents(self.spec)
            middle = carried.frames[plan.frames // 2]
            reporter.report("denoising", 0, steps, middle)
            output = pipeline(
                inputs,
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=torch.Generator("cpu").manual_seed(settings.seed),
                window=window,
                overlap=overlap,
                on_step=lambda step, steps, clean: reporter.denoised(
                    step, steps, lambda: middle if steps == 1 else self._preview(clean, plan)
                ),
                check=reporter.check,
                output_type="latent",
            )
            frames = self._correct(
                carried.frames,
                output.latents,
                inputs.carried_latents,
                lambda step, steps: reporter.report("decoding", step, steps),
            )[: plan.frames]
        metadata = {
            "model": self.spec.id,
            "seed": settings.seed,
            "start": pipeline.transformer.config["start"],
            "steps": steps,
            "guidance": guidance,
            "width": plan.width,
            "height": plan.height,
            "model_size": list(plan.model_size),
            "windows": len(plan.windows),
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "seconds": round(time.monotonic() - started, 2),
        }
        return Result(frames, shot.clip.fps, plan.notes + carried.notes, metadata)

    def reconstruct(self, film: np.ndarray) -> np.ndarray:
        """A film (T,H,W,3) uint8, T = 1 + 4k, through the VAE and back: the ceiling of what the model can make."""
        with torch.no_grad():
            return self._decode(self._encode_frames(frames_to_tensor(film)[None]), lambda step, steps: None)

    def carry(self, shot: Shot, plan: Plan, check: Callable[[], None] = lambda: None) -> Carried:
        """Draw the shot's carried film at both sizes; ``check`` is called now and then and may raise to stop."""

        def draw(width: int, height: int) -> CarriedFilm:
            return carry_shot(shot, width, height, self.device, lambda done, count: check())

        try:
            film = draw(plan.width, plan.height)
            same = plan.model_size == (plan.width, plan.height)
            model = film if same else draw(*plan.model_size)
        except MediaError as error:
            field, _, said = str(error).partition(": ")
            raise EngineError(field, said) from error
        return Carried(pad_frames(film.frames, plan.model_frames), model, film.notes)

    def encode(self, shot: Shot, plan: Plan, carried: Carried, on_part: Callable[[int, int], None]) -> ISAInputs:
        """The shot's conditions as a batch of one."""
        width, height = plan.model_size
        frames, clip = plan.model_frames, shot.clip
        factor = self.load().vae.spatial_factor
        points, rest, visibility, mask = stack_points(
            [(c.points, c.rest_points, c.visibility) for c in shot.characters], int(self.spec.limits["points"])
        )
        geometry = shot_geometry(
            pad_frames(points, frames, axis=1),
            rest,
            pad_frames(visibility, frames, axis=1),
            pad_frames(clip.viewmats, frames),
            pad_frames(clip.Ks, frames),
            clip.width,
            clip.height,
            (height // factor, width // factor),
            mask,
        )
        parts = len(shot.characters) + 3
        references, embeds = [], []
        for i, character in enumerate(shot.characters):
            on_part(i + 1, parts)
            field = f"characters[{i}].reference.image"
            reference = character.reference
            encoded = None if reference is None else self._reference(reference, plan, clip.width / clip.height, field)
            references.append(None if encoded is None else encoded[:3])
            embeds.append(None if encoded is None else encoded[3])
        on_part(parts - 2, parts)
        background = self._background(shot, plan)
        on_part(parts - 1, parts)
        film = self._encode_frames(frames_to_tensor(pad_frames(carried.model.frames, frames))[None])[0]
        known = latent_known(pad_frames(carried.model.known, frames), (height // factor, width // factor))
        on_part(parts, parts)
        image_embeds = None
        if self._image_encoder is not None:
            size = self._image_encoder.config
            empty = torch.zeros(1 + (size.image_size // size.patch_size) ** 2, size.hidden_size)
            image_embeds = torch.stack([empty if embed is None else embed for embed in embeds])
        return make_inputs(geometry, references, background, image_embeds=image_embeds, carried=(film, known))

    def _reference(
        self, reference: Reference, plan: Plan, aspect: float, field: str
    ) -> tuple[Tensor, np.ndarray, np.ndarray, Tensor | None]:
        """Normalised latents (16,h,w), points (N,2), visibility (N,) and CLIP tokens of a reference picture."""
        try:
            picture = decode_image(reference.image, field)
        except MediaError as error:
            raise EngineError(field, str(error).removeprefix(f"{field}: ")) from error
        chosen = point_subset(reference.points.shape[0], int(self.spec.limits["points"]))
        view = reference_view(
            reference.points[chosen],
            reference.viewmat,
            reference.K,
            None if reference.visibility is None else reference.visibility[chosen],
            (picture.shape[1], picture.shape[0]),
            aspect,
        )
        crop = crop_picture(picture, view.box, *plan.model_size)
        latents = self._encode_frames(crop[None, :, None])[0, :, 0]
        pad = int(self.spec.limits["points"]) - len(chosen)
        embed = None
        if self._image_encoder is not None:
            embed = clip_tokens(self._image_encoder, crop[None])[0]
        return latents, np.pad(view.points, ((0, pad), (0, 0))), np.pad(view.visible, (0, pad)), embed

    def _background(self, shot: Shot, plan: Plan) -> Tensor | None:
        """Normalised latents (16,L,h,w) of the background, or None."""
        try:
            frames = background_frames(shot, *plan.model_size)
        except MediaError as error:
            raise EngineError("background.media", str(error)) from error
        if frames is None:
            return None
        return self._encode_frames(frames_to_tensor(pad_frames(frames, plan.model_frames))[None])[0]

    def _encode_frames(self, frames: Tensor) -> Tensor:
        """(1,3,T,H,W) in [-1, 1] -> normalised latents (1,16,L,h,w), float32 on the CPU."""
        vae = self.load().vae
        z = vae.encode(frames.to(self.device, self.dtype), chunk=_CHUNK).latent_dist.mode()
        return vae.normalize(z.float()).cpu()

    def _decode(self, latents: Tensor, on_part: Callable[[int, int], None]) -> np.ndarray:
        """Normalised latents (1,16,L,h,w) -> (T,H,W,3) uint8, in chunks."""
        vae = self.load().vae
        z = vae.denormalize(latents).to(self.dtype)
        parts, count = [], -(-z.shape[2] // _CHUNK)
        on_part(0, count)
        for chunk in vae.decode_chunks(z, _CHUNK):
            parts.append(tensor_to_frames(chunk[0]))
            on_part(len(parts), count)
        return np.concatenate(parts)

    def _correct(
        self, film: np.ndarray, latents: Tensor, carried: Tensor, on_part: Callable[[int, int], None]
    ) -> np.ndarray:
        """The carried film with the difference that the network makes, in chunks.

        Args:
            film: (T,H,W,3) uint8, of any size. latents, carried: (1,16,L,h,w) normalised, what the network gives and
                what it was given of the film.

        Returns:
            (T,H,W,3) uint8.
        """
        vae = self.load().vae
        # Apart, not as a batch of two: what is alike in both has to come out alike to the last bit.
        pair = [vae.denormalize(z.to(self.device).float()).to(self.dtype) for z in (latents, carried)]
        parts, start, count = [], 0, -(-latents.shape[2] // _CHUNK)
        on_part(0, count)
        for made, given in zip(*(vae.decode_chunks(z, _CHUNK) for z in pair), strict=True):
            change = (made.float() - given.float())[0].transpose(0, 1) * 127.5
            if change.shape[2:] != film.shape[1:3]:
                change = F.interpolate(change, film.shape[1:3], mode="bilinear", antialias=True, align_corners=False)
            frames = torch.from_numpy(film[start : start + len(change)]).float() + change.permute(0, 2, 3, 1).cpu()
            parts.append(frames.round().clamp(0, 255).to(torch.uint8).numpy())
            start += len(change)
            on_part(len(parts), count)
        return np.concatenate(parts)

    def _preview(self, clean: Tensor, plan: Plan) -> np.ndarray:
        """The middle of the clip, decoded as a still."""
        middle = clean.shape[2] // 2
        z = self.load().vae.denormalize(clean[:, :, middle : middle + 1]).to(self.dtype)
        frame = tensor_to_frames(self.load().vae.decode(z).sample[0])
        return squeeze_frames(frame, plan.width, plan.height)[0]
