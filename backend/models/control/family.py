"""Wan 2.1 VACE: films led by a control film, by what is known of them, and by pictures of the looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...catalogue.models import ModelSpec
from ...control.films import ControlFilms
from ...media import squeeze_frames
from ...shot import Shot
from ..family import Family, Network, Plan
from ..frames import tensor_to_frames
from ..previews import LatentColours
from ..wan import denormalized, encode_text, load_text_tokenizer, normalized
from .build import NETWORKS, load_network, load_scheduler
from .inputs import Leads, check_films, kept_film, laid_over, make_leads, model_shot, shot_errors, sized
from .pipeline import VACEPipeline, Windowed
from .plan import frames_in_time, latent_windows, make_plan
from .retime import at_scene_rate

if TYPE_CHECKING:
    from ..engine import Generation

_CHART = 64
"""Pixels of a side of the picture by which previews learn what latents look like."""


@dataclass(frozen=True, eq=False)
class Conditions:
    """What is denoised with."""

    pipeline: VACEPipeline
    leads: Leads
    colours: LatentColours


class ControlFamily(Family):
    """See the module."""

    def plan(self, spec: ModelSpec, shot: Shot) -> Plan:
        """See ``Family.plan``."""
        return make_plan(spec, shot)

    def networks(self, spec: ModelSpec, shot: Shot, dtype: torch.dtype) -> Mapping[str, Network]:
        """See ``Family.networks``."""
        return {name: Network(lambda name=name: load_network(spec, name, dtype)) for name in NETWORKS}

    def texts(self, run: Generation) -> tuple[str, ...]:
        """See ``Family.texts``: what is to be seen and, with guidance, what is not."""
        texts = (run.shot.prompt.strip(), str(run.options["negative_prompt"]).strip())
        return texts if run.guidance > 1 else texts[:1]

    def encode_text(self, run: Generation, networks: Mapping[str, Any], text: str) -> Tensor:
        """See ``Family.encode_text``."""
        tokenizer = load_text_tokenizer(run.spec, "tokenizer")
        return encode_text(tokenizer, networks["text_encoder"], text, run.device).cpu()

    def prepare(self, run: Generation) -> ControlFilms:
        """See ``Family.prepare``: the shot's films at the model's size and rate, not yet drawn."""
        shot = model_shot(run.shot, run.plan, run.spec.limits["fps"])
        with shot_errors():
            films = ControlFilms(shot, device=run.device, on_progress=lambda done, count: run.check())
        check_films(films, str(run.options["control"]), str(run.options["keep"]))
        return films

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
                run.report("denoising", 0, run.steps)
            run.check()

        transformer = Windowed(
            run.networks["transformer"],
            run.dtype,
            latent_windows(run.spec, run.plan.model_frames),
            len(leads.references),
            before_evaluation,
        )
        scheduler = load_scheduler(run.spec, run.plan.model_size)
        shift = scheduler.config["flow_shift"]
        run.metadata.update(fps=run.spec.limits["fps"], references=len(leads.references), flow_shift=shift)
        chart = _chart()
        latents = vae.encode(chart[None, :, None].to(run.device, vae.dtype)).latent_dist.mode().float()
        colours = LatentColours(normalized(vae, latents)[0, :, 0], chart)
        return Conditions(VACEPipeline.of(vae, transformer, scheduler, run.device), leads, colours)

    def sample(self, run: Generation, conditions: Conditions) -> Tensor:
        """Normalised latents (1,C,L,h,w), without the references'."""
        pipeline, leads, options = conditions.pipeline, conditions.leads, run.options
        positive, *negative = (run.texts[text].to(run.device) for text in self.texts(run))

        def on_step_end(_: Any, step: int, __: Any, given: dict[str, Any]) -> dict[str, Any]:
            # What the scheduler takes the clean film to be by now.
            clean = pipeline.scheduler.model_outputs[-1][0, :, len(leads.references) :]
            run.check_finite(given["latents"], "The sampler")
            middle = clean[:, clean.shape[1] // 2]
            run.stepped(step + 1, run.steps, lambda: conditions.colours(middle, *run.plan.model_size))
            return {}

        width, height = run.plan.model_size
        found = pipeline(
            prompt_embeds=positive,
            negative_prompt_embeds=negative[0] if negative else None,
            video=leads.video,
            mask=leads.mask,
            reference_images=leads.references or None,
            conditioning_scale=float(options["strength"]),
            height=height,
            width=width,
            num_frames=run.plan.model_frames,
            num_inference_steps=run.steps,
            guidance_scale=run.guidance,
            generator=run.generator(),
            output_type="latent",
            callback_on_step_end=on_step_end,
            return_dict=False,
        )
        return found[0][:, :, len(leads.references) :]

    def decode(self, run: Generation, conditions: Conditions, sampled: Tensor) -> np.ndarray:
        """See ``Family.decode``: at the scene's rate, with what is kept as it was."""
        vae, plan, shot = run.networks["vae"], run.plan, run.shot
        run.report("decoding", 0, 2)
        film = tensor_to_frames(vae.decode(denormalized(vae, sampled.float()).to(vae.dtype)).sample[0])
        run.report("decoding", 1, 2)
        rate, keep, margin = run.spec.limits["fps"], str(run.options["keep"]), float(run.options["margin"])
        made = frames_in_time(run.spec, shot.clip)
        film = at_scene_rate(
            film[:made], sized(shot, *plan.model_size), rate, run.device, lambda done, count: run.check()
        )
        if keep != "nothing":
            margin *= plan.height / plan.model_size[1]
            with shot_errors():
                films = ControlFilms(sized(shot, plan.width, plan.height), device=run.device)
                kept = kept_film(films, keep, margin, lambda done, count: run.check())
            if kept is not None:
                film = laid_over(squeeze_frames(film, plan.width, plan.height), kept, margin)
        run.report("decoding", 2, 2)
        return film


FAMILY = ControlFamily()


def _chart() -> Tensor:
    """A picture (3,H,W) in [-1, 1] of all kinds of colours, always the same."""
    colours = 2 * torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) - 1
    return F.interpolate(colours, (_CHART, _CHART), mode="bicubic").clamp(-1, 1)[0]
