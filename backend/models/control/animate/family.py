"""Wan 2.2 Animate: a person from a picture, led by body, hands and face, alone or in the shot's background."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ....control.films import ControlFilms, ControlOptions
from ....control.pose_drawing import ANIMATE
from ...carried_start import CarriedPicture, carried_picture
from ...frames import frames_to_tensor, tensor_to_frames
from ...lora.files import shift_of
from ...previews import LatentColours
from ...wan import encode_film, encode_picture, latent_colours
from ..base import WanFamily
from ..build import load_scheduler
from ..inputs import model_films
from ..pipeline import Checked, holder
from ..plan import GROUP, model_rate
from ..returning import finished
from .inputs import KEEPS, Leads, make_leads
from .pipeline import AnimatePipeline

if TYPE_CHECKING:
    from ...generation import Generation

_FIRST = 1
"""Latent frames before the film's: the reference."""


@dataclass(frozen=True, eq=False)
class Conditions:
    """What is denoised with.

    Attributes:
        film: the carried one, to start from; None starts from noise.
    """

    pipeline: AnimatePipeline
    leads: Leads
    colours: LatentColours
    film: CarriedPicture | None


class AnimateFamily(WanFamily):
    """See the module."""

    def prepare(self, run: Generation) -> ControlFilms:
        """See ``Family.prepare``: the shot's films at the model's size and rate, not yet drawn."""
        kinds = ("pose", *(["silhouettes"] if run.options["mode"] == "replace" else []))
        return model_films(run, kinds, ControlOptions(pose=ANIMATE))

    def encode(self, run: Generation, prepared: ControlFilms) -> Conditions:
        """See ``Family.encode``. The pipeline itself encodes a segment's pictures, before its first step."""
        options, size = run.options, run.plan.model_size
        vae, transformer, encoder = (run.networks[name] for name in ("vae", "transformer", "image_encoder"))
        leads = make_leads(
            prepared,
            str(options["mode"]),
            float(options["margin"]),
            str(options["face"]),
            int(transformer.config["motion_encoder_size"]),
            run.device,
            lambda done, count: run.report("encoding", done, count + 1),
        )
        run.notes.extend(leads.notes)
        scheduler = load_scheduler(run.spec, size, shift_of(run.spec, run.shot))
        run.metadata.update(fps=model_rate(run.spec, run.shot), flow_shift=scheduler.config["flow_shift"])
        checked = Checked(transformer, run.dtype, run.check)
        pipeline = AnimatePipeline.of(vae, checked, scheduler, run.device, "image_processor", "image_encoder")
        picture = frames_to_tensor(np.asarray(leads.picture)[None])[:, 0]
        pipeline.seen = encode_picture(encoder, picture, run.device, run.dtype)
        film = carried_picture(replace(run, shot=prepared.shot), size, run.plan.model_frames, size)
        count = 3 * run.plan.model_frames
        run.report("encoding", count + 1, count + 1)
        return Conditions(pipeline, leads, latent_colours(vae, run.device), film)

    def sample(self, run: Generation, conditions: Conditions) -> list[np.ndarray]:
        """The films (T,h,w,3) uint8 of all segments, since each is led by the end of the one before."""
        generator, overlap, parts = run.generator(), int(run.options["overlap"]), []
        count = len(run.plan.windows)
        run.report("denoising", 0, run.steps * count)
        for index, window in enumerate(run.plan.windows):
            film = self._segment(run, conditions, index, slice(*window), generator)
            parts.append(tensor_to_frames(film[0, :, overlap if index else 0 :]))
            conditions.pipeline.before = film[:, :, -overlap:]
            run.report("decoding", index + 1, count + 1)
        return parts

    def _segment(
        self, run: Generation, conditions: Conditions, index: int, frames: slice, generator: torch.Generator
    ) -> Tensor:
        """A segment's film (1,3,T,H,W) in [-1, 1]."""
        pipeline, leads, mode = conditions.pipeline, conditions.leads, str(run.options["mode"])
        positive, *negative = (run.texts[text].to(run.device) for text in self.texts(run))
        (width, height), length = run.plan.model_size, frames.stop - frames.start
        vae, scheduler = pipeline.vae, pipeline.scheduler
        channels, cpu = int(vae.config["z_dim"]), torch.device("cpu")
        noise = pipeline.prepare_latents(1, channels, height, width, length, torch.float32, cpu, generator)
        assert isinstance(noise, Tensor)
        noise = noise.to(run.device)
        start = None
        if conditions.film is not None:
            latents = encode_film(vae, frames_to_tensor(conditions.film.frames[frames]).to(run.device))
            start = conditions.film.start(latents, 1, frames, GROUP)
            scheduler.begin = start.begin(run.steps)
        held = holder(start, scheduler, noise, _FIRST, run.steps)

        def on_step_end(_: Any, step: int, __: Any, given: dict[str, Any]) -> dict[str, Any]:
            # What the scheduler takes the clean film to be by now.
            clean = scheduler.model_outputs[-1][0, :, _FIRST:]
            run.check_finite(given["latents"], "The sampler")
            middle, done = clean[:, clean.shape[1] // 2], scheduler.begin + step + 1
            still = lambda: conditions.colours(middle, width, height)  # noqa: E731
            run.stepped(run.steps * index + done, run.steps * len(run.plan.windows), still)
            return {"latents": held(given["latents"], done)}

        scheduler.set_timesteps(run.steps, device=run.device)
        kept = leads.kept
        found = pipeline(
            image=leads.picture,
            pose_video=pictures(leads.pose[frames]),
            face_video=pictures(leads.face[frames]),
            background_video=None if kept is None else pictures(kept.frames[frames]),
            mask_video=None if kept is None else pictures(255 * kept.make[frames].astype(np.uint8)),
            prompt_embeds=positive,
            negative_prompt_embeds=negative[0] if negative else None,
            height=height,
            width=width,
            segment_frame_length=length,
            num_inference_steps=run.steps,
            mode=mode,
            prev_segment_conditioning_frames=int(run.options["overlap"]),
            guidance_scale=run.guidance,
            latents=held(noise, scheduler.begin),
            output_type="pt",
            return_dict=False,
            callback_on_step_end=on_step_end,  # type: ignore[arg-type]
        )
        return 2 * found[0].transpose(1, 2) - 1

    def decode(self, run: Generation, conditions: Conditions, sampled: list[np.ndarray]) -> np.ndarray:
        """See ``Family.decode``: at the scene's rate, with the background as it was."""
        film = finished(run, np.concatenate(sampled), KEEPS[str(run.options["mode"])])
        run.report("decoding", len(sampled) + 1, len(sampled) + 1)
        return film


def pictures(frames: np.ndarray) -> list[Image.Image]:
    """Frames (T,H,W,3) uint8 as diffusers' pipelines take them."""
    return [Image.fromarray(frame) for frame in frames]
