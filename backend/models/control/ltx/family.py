"""LTX-2.3: films led by a control film in context (IC-LoRA) and by keyframes of the carried film; sound is not kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
from diffusers.pipelines.ltx2.pipeline_ltx2_ic_lora import LTX2ReferenceCondition
from torch import Tensor

from ....catalogue.lora_choice import ChosenLora
from ....catalogue.models import ModelSpec
from ....control.films import ControlFilms
from ....media import squeeze_frames
from ....shot import Shot
from ...carried_start import CarriedPicture, carried_picture
from ...family import EngineError
from ...frames import frames_to_tensor, tensor_to_frames
from ...lora.files import FoundLora, held_against
from ...previews import LatentColours
from ...settings import option
from ...start_picture import first_picture
from ...wan import load_text_tokenizer
from ...weights.component import WeightsError
from ..animate.family import pictures
from ..base import ControlBase
from ..inputs import model_films
from ..plan import DISTILLED, GROUPS, few_steps, model_rate, own_lora, sampling
from ..returning import finished
from .inputs import Pictures, as_before, control_film, keyframes
from .latents import decode_film, denormalized, encode_film, latent_colours
from .pipeline import Listening, LTXPipeline
from .schedule import load_schedule

if TYPE_CHECKING:
    from ...generation import Generation

IC_LORA = "ic_lora"

_TOKENS = 1024
"""What a text is padded to, as the model was trained."""


@dataclass(frozen=True, eq=False)
class Conditions:
    """What is denoised with.

    Attributes:
        control: (T,H,W,3) uint8, or None.
        pictures: to take keyframes of.
        start: the carried film, to start from; None starts from noise.
    """

    pipeline: LTXPipeline
    control: np.ndarray | None
    pictures: Pictures
    start: CarriedPicture | None
    colours: LatentColours


class LTXFamily(ControlBase):
    """See the module."""

    def own_loras(self, spec: ModelSpec, shot: Shot) -> Sequence[FoundLora]:
        """The IC-LoRA, where a control film leads, and the one for few steps, where it is asked for."""
        names = [IC_LORA] if option(spec, shot, "control") != "none" else []
        names += [DISTILLED] if few_steps(spec, shot) is not None else []
        found = []
        for name in names:
            path = own_lora(spec, name)
            try:
                found.append(FoundLora(ChosenLora(name, 1.0), path, held_against(path, spec, "transformer")))
            except WeightsError as error:
                folder = path.parent if str(path) in str(error) else spec.folder / "transformer"
                said = f"{folder}: cannot be read ({error}); run: maquette models check {spec.id}"
                raise EngineError("settings.model", said) from error
        return found

    def sampling(self, spec: ModelSpec, shot: Shot) -> tuple[int, float]:
        """See ``Family.sampling``; few steps are so many at most, without guidance."""
        recipe = few_steps(spec, shot)
        if recipe is None or recipe.steps is None:
            return super().sampling(spec, shot)
        return min(shot.settings.steps or recipe.steps, recipe.steps), 1.0

    def encode_text(self, run: Generation, networks: dict[str, Any], text: str) -> tuple[Tensor, Tensor]:
        """Video's and audio's (1,1024,E) side by side, and their mask (1,1024)."""
        tokenizer = load_text_tokenizer(run.spec, "tokenizer")
        reader = LTXPipeline.of(
            *(None, None, None, run.device, "audio_vae", "vocoder", "connectors"),
            tokenizer=tokenizer,
            text_encoder=networks["text_encoder"],
        )
        states, mask, _, _ = reader.encode_prompt(
            text, do_classifier_free_guidance=False, max_sequence_length=_TOKENS, device=run.device, dtype=run.dtype
        )
        video, audio, seen = networks["text_encoder_connectors"](states, mask, reader.tokenizer_padding_side)
        return torch.cat([video, audio], dim=-1).cpu(), seen.cpu()

    def prepare(self, run: Generation) -> ControlFilms:
        """See ``Family.prepare``: the shot's films at the model's size and rate, not yet drawn."""
        return model_films(run, (str(run.options["control"]),))

    def encode(self, run: Generation, prepared: ControlFilms) -> Conditions:
        """See ``Family.encode``. The pipeline itself encodes a segment's pictures, before its first step."""
        options, size, frames = run.options, run.plan.model_size, run.plan.model_frames
        vae, transformer = (run.networks[name] for name in ("vae", "transformer"))
        film = control_film(
            prepared, str(options["control"]), lambda done, count: run.report("encoding", done, count + 1)
        )
        run.notes.extend(dict.fromkeys(prepared.notes))
        scheduler, levels = load_schedule(run.spec, run.shot, run.steps)
        listening = Listening(transformer, run.dtype, run.check)
        pipeline = LTXPipeline.silent(vae, listening, scheduler, run.device)
        pipeline.noise_levels = levels
        wanted, whole = int(options["keyframes"]), run.shot.background.kind != "none"
        first = first_picture(run.shot) if wanted else None
        more = bool(wanted and whole) and (first is None or wanted > 1 or len(run.plan.windows) > 1)
        carried = carried_picture(replace(run, shot=prepared.shot), size, frames, size, always=more)
        if wanted and first is None and not whole:
            run.notes.append(
                "The shot has no background, so that no whole picture of it is known: no keyframes; the looks come "
                "from the prompt"
            )
        run.metadata.update(fps=model_rate(run.spec, run.shot))
        run.report("encoding", frames + 1, frames + 1)
        first = None if first is None else squeeze_frames(first[None], *size)[0]
        shown = Pictures(first, carried if more else None)
        start = carried if carried is not None and carried.strength else None
        return Conditions(pipeline, film, shown, start, latent_colours(vae, run.device))

    def sample(self, run: Generation, conditions: Conditions) -> list[np.ndarray]:
        """The films (T,h,w,3) uint8 of all segments, since each is led by the end of the one before."""
        generator, overlap, parts = run.generator(), int(run.options["overlap"]), []
        given, left_out = self._keyframes(run, conditions)
        run.metadata.update(keyframes=[place.frame for segment in given for place in segment])
        if left_out:
            run.notes.append(
                f"{left_out} of {left_out + sum(map(len, given))} keyframes left out: the looks show less than half of "
                "the figures there; references from more sides show more"
            )
        count = len(run.plan.windows)
        run.report("denoising", 0, run.steps * count)
        strength, shown = float(run.options["keyframe_strength"]), conditions.pictures
        made = conditions.start is None or conditions.start.strength < 1
        before: np.ndarray | None = None
        for index, window in enumerate(run.plan.windows):
            pinned = [LTX2VideoCondition(shown.frame(place.frame), place.index, strength) for place in given[index]]
            if before is not None:
                pinned.insert(0, LTX2VideoCondition(before))
            film = tensor_to_frames(self._segment(run, conditions, index, slice(*window), pinned, generator))
            film = as_before(film, before) if made and before is not None else film
            parts.append(film if before is None else film[overlap:])
            before = film[-overlap:]
            run.report("decoding", index + 1, count + 1)
        return parts

    def _keyframes(self, run: Generation, conditions: Conditions) -> tuple[list[Any], int]:
        """Keyframes of every segment, and how many were left out."""
        shown, most, overlap = conditions.pictures, int(run.options["keyframes"]), int(run.options["overlap"])
        if shown.first is None and shown.carried is None:
            return [[] for _ in run.plan.windows], 0
        found = [
            keyframes(shown, window, overlap if index else 0, most) for index, window in enumerate(run.plan.windows)
        ]
        return [places for places, _ in found], sum(left for _, left in found)

    def _segment(
        self,
        run: Generation,
        conditions: Conditions,
        index: int,
        frames: slice,
        pinned: list[LTX2VideoCondition],
        generator: torch.Generator,
    ) -> Tensor:
        """A segment's film (3,T,H,W) in [-1, 1]."""
        pipeline, carried, film = conditions.pipeline, conditions.start, conditions.control
        (width, height), vae, scheduler = run.plan.model_size, pipeline.vae, pipeline.scheduler
        pipeline.start, scheduler.begin = None, 0
        if carried is not None:
            latents = encode_film(vae, frames_to_tensor(carried.frames[frames]).to(run.device))
            pipeline.start = carried.start(latents, 1, frames, GROUPS["ltx"])
            scheduler.begin = pipeline.start.begin(run.steps)
        if scheduler.begin == run.steps:
            return decode_film(vae, denormalized(vae, latents))

        def on_step_end(_: Any, step: int, __: Any, given: dict[str, Any]) -> dict[str, Any]:
            run.check_finite(given["latents"], "The sampler")
            clean, done = pipeline.film(scheduler.clean)[0], scheduler.begin + step + 1
            middle = clean[:, clean.shape[1] // 2]
            still = lambda: conditions.colours(middle, width, height)  # noqa: E731
            run.stepped(run.steps * index + done, run.steps * len(run.plan.windows), still)
            return {"latents": pipeline.held(given["latents"], done)}

        read = [tuple(part.to(run.device) for part in run.texts[text]) for text in self.texts(run)]
        (positive, mask), (negative, other) = read[0], read[-1] if len(read) > 1 else (None, None)
        references = None
        if film is not None:
            references = [LTX2ReferenceCondition(pictures(film[frames]))]
        found = pipeline(
            prompt_embeds=positive,
            prompt_attention_mask=mask,
            negative_prompt_embeds=negative,
            negative_prompt_attention_mask=other,
            reference_conditions=references,
            reference_downscale_factor=int(run.spec.limits["control_scale"]),
            conditioning_attention_strength=float(run.options["strength"]),
            conditions=pinned or None,
            height=height,
            width=width,
            num_frames=frames.stop - frames.start,
            frame_rate=model_rate(run.spec, run.shot),
            num_inference_steps=run.steps,
            sigmas=pipeline.noise_levels,
            noise_scale=1.0,
            generator=generator,
            output_type="latent",
            return_dict=False,
            callback_on_step_end=on_step_end,  # type: ignore[arg-type]
            **guidance(run.spec, run.guidance),
        )
        return decode_film(vae, found[0])

    def decode(self, run: Generation, conditions: Conditions, sampled: list[np.ndarray]) -> np.ndarray:
        """See ``Family.decode``: at the scene's rate."""
        film = finished(run, np.concatenate(sampled), "nothing")
        run.report("decoding", len(sampled) + 1, len(sampled) + 1)
        return film


def guidance(spec: ModelSpec, scale: float) -> dict[str, Any]:
    """All that steers the denoising, as diffusers' pipeline takes it; at 1 nothing does, as for few-step LoRAs."""
    table = sampling(spec)
    if scale <= 1:
        neutral = {"guidance_scale": 1.0, "stg_scale": 0.0, "modality_scale": 1.0, "guidance_rescale": 0.0}
        return {**neutral, **{f"audio_{name}": value for name, value in neutral.items()}}
    others = {f"{name}_scale": float(table[name]) for name in ("stg", "modality")}
    others["guidance_rescale"] = float(table["rescale"])
    return {
        "guidance_scale": scale,
        "audio_guidance_scale": float(table["audio_guidance"]),
        **others,
        **{f"audio_{name}": value for name, value in others.items()},
        "spatio_temporal_guidance_blocks": list(table["stg_blocks"]),
    }
