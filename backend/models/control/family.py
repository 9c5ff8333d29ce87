"""Wan 2.1 VACE: films led by a control film, by what is known of them, and by pictures of the looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...catalogue.models import ModelSpec
from ...control.films import ControlFilms
from ..carried_start import CarriedStart, carried_picture
from ..context_parallel import held_of_row
from ..family import Family, Plan
from ..frames import frames_to_tensor, tensor_to_frames
from ..group import table_rows
from ..lora.files import shift_of
from ..previews import LatentColours
from ..wan import denormalized, encode_film, latent_colours
from .animate.family import AnimateFamily
from .base import WanFamily
from .build import load_scheduler
from .inputs import KEPT_FROM, Leads, make_leads, model_films
from .ltx.family import LTXFamily
from .pipeline import VACEPipeline, Windowed, holder
from .plan import GROUP, base, latent_windows, model_rate
from .returning import finished

if TYPE_CHECKING:
    from ..generation import Generation


@dataclass(frozen=True, eq=False)
class Conditions:
    """What is denoised with."""

    pipeline: VACEPipeline
    leads: Leads
    colours: LatentColours
    start: CarriedStart | None


class ControlFamily(WanFamily):
    """See the module."""

    shared = True

    def held(self, spec: ModelSpec, plan: Plan, size: int) -> float:
        """See ``Family.held``: the members of a row share its tokens out, see ``Windowed``."""
        rows = table_rows(size, len(plan.windows), spec.components["transformer"]["num_attention_heads"], even=True)
        return held_of_row(size // rows)

    def prepare(self, run: Generation) -> ControlFilms:
        """See ``Family.prepare``: the shot's films at the model's size and rate, not yet drawn."""
        return model_films(run, (str(run.options["control"]), *KEPT_FROM[str(run.options["keep"])]))

    def encode(self, run: Generation, prepared: ControlFilms) -> Conditions:
        """See ``Family.encode``. What leads the film is encoded by the pipeline itself, before its first step."""
        vae, options, frames = run.networks["vae"], run.options, run.plan.model_frames
        leads = make_leads(
            prepared,
            str(options["control"]),
            str(options["keep"]),
            float(options["margin"]),
            int(options["references"]),
            lambda done, count: run.report("encoding", done, frames + 1),
        )
        run.notes.extend(leads.notes)
        begun: list[bool] = []

        def before_evaluation() -> None:
            if not begun:
                begun.append(True)
                run.report("encoding", frames + 1, frames + 1)
                run.report("denoising", scheduler.begin, run.steps)
            run.check()

        transformer = Windowed(
            run.networks["transformer"],
            run.dtype,
            latent_windows(run.spec, run.plan.model_frames),
            len(leads.references),
            before_evaluation,
            run.group,
        )
        scheduler = load_scheduler(run.spec, run.plan.model_size, shift_of(run.spec, run.shot))
        shift = scheduler.config["flow_shift"]
        run.metadata.update(fps=model_rate(run.spec, run.shot), references=len(leads.references), flow_shift=shift)
        colours = latent_colours(vae, run.device)
        start = None
        size = run.plan.model_size
        if (film := carried_picture(replace(run, shot=prepared.shot), size, frames, size)) is not None:
            start = film.start(encode_film(vae, frames_to_tensor(film.frames).to(run.device)), 1, group=GROUP)
            scheduler.begin = start.begin(run.steps)
        return Conditions(VACEPipeline.of(vae, transformer, scheduler, run.device), leads, colours, start)

    def sample(self, run: Generation, conditions: Conditions) -> Tensor:
        """Normalised latents (1,C,L,h,w), without the references'."""
        pipeline, leads, options = conditions.pipeline, conditions.leads, run.options
        positive, *negative = (run.texts[text].to(run.device) for text in self.texts(run))
        scheduler, first = pipeline.scheduler, len(leads.references)
        width, height = run.plan.model_size
        noise = self._noise(run, conditions)

        held = holder(conditions.start, scheduler, noise, first, run.steps)

        def on_step_end(_: Any, step: int, __: Any, given: dict[str, Any]) -> dict[str, Any]:
            # What the scheduler takes the clean film to be by now.
            clean = scheduler.model_outputs[-1][0, :, first:]
            run.check_finite(given["latents"], "The sampler")
            middle, done = clean[:, clean.shape[1] // 2], scheduler.begin + step + 1
            run.stepped(done, run.steps, lambda: conditions.colours(middle, width, height))
            return {"latents": held(given["latents"], done)}

        scheduler.set_timesteps(run.steps, device=run.device)
        found = pipeline(
            prompt_embeds=positive,
            negative_prompt_embeds=negative[0] if negative else None,
            video=leads.video,  # type: ignore[arg-type]
            mask=leads.mask,  # type: ignore[arg-type]
            reference_images=leads.references or None,  # type: ignore[arg-type]
            conditioning_scale=float(options["strength"]),
            height=height,
            width=width,
            num_frames=run.plan.model_frames,
            num_inference_steps=run.steps,
            guidance_scale=run.guidance,
            latents=held(noise, scheduler.begin),
            output_type="latent",
            callback_on_step_end=on_step_end,  # type: ignore[arg-type]
            return_dict=False,
        )
        return found[0][:, :, first:]

    def _noise(self, run: Generation, conditions: Conditions) -> Tensor:
        """(1,C,R+L,h,w) of the shot's seed: R latent frames of references, L of the film."""
        pipeline, (width, height) = conditions.pipeline, run.plan.model_size
        frames = run.plan.model_frames + GROUP * len(conditions.leads.references)
        channels = int(pipeline.transformer.config["in_channels"])
        cpu = torch.device("cpu")
        noise = pipeline.prepare_latents(1, channels, height, width, frames, torch.float32, cpu, run.generator())
        return noise.to(run.device)

    def decode(self, run: Generation, conditions: Conditions, sampled: Tensor) -> np.ndarray:
        """See ``Family.decode``: at the scene's rate, with what is kept as it was."""
        vae = run.networks["vae"]
        run.report("decoding", 0, 2)
        film = tensor_to_frames(vae.decode(denormalized(vae, sampled.float()).to(vae.dtype)).sample[0])
        run.report("decoding", 1, 2)
        film = finished(run, film, str(run.options["keep"]))
        run.report("decoding", 2, 2)
        return film


def family_of(spec: ModelSpec) -> Family:
    """What runs a model."""
    families: dict[str, Callable[[], Family]] = {"animate": AnimateFamily, "ltx": LTXFamily, "vace": ControlFamily}
    return families[base(spec)]()
