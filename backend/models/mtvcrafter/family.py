"""MTVCrafter: a reference picture that follows motion tokens, by MV-DiT-7B or -17B."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...catalogue.models import ModelSpec
from ...media import background_frames, resize_frames
from ...raster.carry import Carrier
from ...shot import Shot
from ..carried_start import CarriedStart, carried_picture
from ..family import Family, Network, Plan
from ..frames import frames_to_tensor, tensor_to_frames
from ..lora.files import find_loras
from ..lora.fuse import with_loras
from ..previews import LatentColours
from ..wan import encode_text, load_text_tokenizer
from .build import NETWORKS, base, load_network, load_scheduler, load_transformer_with_lora
from .inputs import ShotInputs, onto_canvas, onto_frames, shot_inputs
from .pipeline_7b import MTVCrafter7BPipeline
from .pipeline_17b import MTVCrafter17BPipeline, Sampling17B, Text
from .plan import few_steps, lies_in_the_middle, make_plan, sampling, steps_and_guidance
from .tokenizer import HIGH_TOKEN_LOSS, MotionTokens

if TYPE_CHECKING:
    from ..generation import Generation

_GROUP = 4
"""Frames of a latent frame; latent 0 holds one."""


@dataclass(frozen=True, eq=False)
class Conditions:
    """What is denoised with.

    Attributes:
        pipeline: of the base model.
        picture: (3,H,W) in [-1, 1], float32 on the CPU.
        tokens: of every window.
        mean_joints: (24,3) millimetres, of the tokenizer's training set.
        colours: what latents look like, roughly.
        generator: has drawn what encoding took.
        reference: (1,C,L,h,w) latents, 7B's.
        text: encoded, 17B's.
        starts: of every window, where they start from the carried film; empty where from noise alone.
    """

    pipeline: Any
    picture: Tensor
    tokens: list[MotionTokens]
    mean_joints: Tensor
    colours: LatentColours
    generator: torch.Generator
    reference: Tensor | None = None
    text: Text | None = None
    starts: tuple[CarriedStart, ...] = ()


class MTVCrafterFamily(Family):
    """See the module."""

    shared = True

    def plan(self, spec: ModelSpec, shot: Shot) -> Plan:
        """See ``Family.plan``."""
        return make_plan(spec, shot)

    def networks(self, spec: ModelSpec, shot: Shot, dtype: torch.dtype) -> Mapping[str, Network]:
        """See ``Family.networks``."""
        found = {name: Network(lambda name=name: load_network(spec, name, dtype)) for name in NETWORKS[base(spec)]}
        found["tokenizer"] = Network(found["tokenizer"].load, stages=("encoding",))
        if few_steps(spec, shot):
            found["transformer"] = Network(lambda: load_transformer_with_lora(spec, dtype), variant="few steps")
        return with_loras(found, find_loras(spec, shot))

    def sampling(self, spec: ModelSpec, shot: Shot) -> tuple[int, float]:
        """See ``Family.sampling``."""
        return steps_and_guidance(spec, shot)

    def texts(self, run: Generation) -> tuple[str, ...]:
        """See ``Family.texts``: what is to be seen and, with guidance, what is not; 17B's."""
        if base(run.spec) != "wan":
            return ()
        table = sampling(run.spec)
        positive = run.shot.prompt.strip() or table["prompt"]
        return (positive, table["negative_prompt"]) if run.guidance > 1 else (positive,)

    def encode_text(self, run: Generation, networks: Mapping[str, Any], text: str) -> Tensor:
        """See ``TextReader.encode_text``."""
        tokenizer = load_text_tokenizer(run.spec, "text_tokenizer")
        return encode_text(tokenizer, networks["text_encoder"], text, run.device).cpu()

    def prepare(self, run: Generation) -> ShotInputs:
        """See ``Family.prepare``."""
        inputs = shot_inputs(run.shot, run.plan)
        run.notes.extend(inputs.notes)
        run.metadata["few_steps"] = few_steps(run.spec, run.shot)
        return inputs

    def encode(self, run: Generation, prepared: ShotInputs) -> Conditions:
        """See ``Family.encode``."""
        tokenizer = run.networks["tokenizer"]
        tokens = [tokenizer.motion_tokens(prepared.joints[start:stop]) for start, stop in run.plan.windows]
        loss = max(float(part.loss) for part in tokens)
        run.metadata["token_loss"] = round(loss, 4)
        if loss > HIGH_TOKEN_LOSS:
            run.notes.append(
                f"The motion is unlike what the model was trained on (token loss {loss:.2f}; above "
                f"{HIGH_TOKEN_LOSS:g} results are often poor); see the framing notes, or play the action at 15 to 30 "
                "frames per second"
            )
        picture = frames_to_tensor(prepared.reference[None])[:, 0]
        led = (picture, tokens, torch.from_numpy(tokenizer.statistics.mean))
        return self._encode_7b(run, *led) if base(run.spec) == "cogvideox" else self._encode_17b(run, *led)

    def _encode_7b(self, run: Generation, picture: Tensor, tokens: list[MotionTokens], mean: Tensor) -> Conditions:
        pipeline = MTVCrafter7BPipeline(
            vae=run.networks["vae"], transformer=run.networks["transformer"], scheduler=load_scheduler(run.spec)
        )
        generator = run.generator()
        run.report("encoding", 0, 1)
        still = picture.to(run.device, run.dtype)
        reference = pipeline.reference_latents(still, run.plan.model_frames, generator=generator).float()
        run.report("encoding", 1, 1)
        colours = LatentColours(reference[0, :, 0], picture)
        starts = self._starts(run, lambda film: pipeline.film_latents(film.to(run.device, run.dtype)), 2)
        return Conditions(pipeline, picture, tokens, mean, colours, generator, reference=reference, starts=starts)

    def _encode_17b(self, run: Generation, picture: Tensor, tokens: list[MotionTokens], mean: Tensor) -> Conditions:
        networks = {name: run.networks[name] for name in ("image_encoder", "transformer", "vae")}
        pipeline = MTVCrafter17BPipeline(scheduler=load_scheduler(run.spec), **networks)
        positive, *negative = (run.texts[text] for text in self.texts(run))
        run.report("encoding", 0, 1)
        colours = LatentColours(pipeline.condition(picture[:, None].to(run.device), 1)[0, 4:, 0], picture)
        run.report("encoding", 1, 1)
        text = Text(positive, negative[0] if negative else None)
        starts = self._starts(run, lambda film: pipeline.encode_film(film.to(run.device)), 1)
        return Conditions(pipeline, picture, tokens, mean, colours, run.generator(), text=text, starts=starts)

    def _starts(self, run: Generation, encode: Callable[[Tensor], Tensor], channels: int) -> tuple[CarriedStart, ...]:
        """The carried film of every window, if that is to be started from.

        Args:
            encode: makes latents (1,C,L,h,w) or (1,L,C,h,w) of a film (3,T,H,W) in [-1, 1].
            channels: which dimension of these is C.
        """
        plan, clip = run.plan, run.shot.clip
        aspect = clip.width / clip.height
        # The model of one size sees the middle of the clip's picture, the other one all of it.
        side = max if lies_in_the_middle(run.spec) else min
        wide, high = plan.model_size
        drawn = round(side(wide, high * aspect)), round(side(high, wide / aspect))
        film = carried_picture(run, plan.model_size, plan.model_frames, drawn)
        if film is None:
            return ()
        starts = []
        for first, stop in plan.windows:
            run.check()
            latents = encode(frames_to_tensor(film.frames[first:stop]))
            starts.append(film.start(latents, channels, slice(first, stop), _GROUP))
        return tuple(starts)

    def sample(self, run: Generation, conditions: Conditions) -> Tensor | list[np.ndarray]:
        """Latents (1,C,L,h,w) of 7B; of 17B the films of all windows, since each one is led by the one before."""

        def on_step(step: int, steps: int, clean: Tensor) -> None:
            middle = clean[:, clean.shape[1] // 2]
            run.stepped(step, steps, lambda: conditions.colours(middle, *run.plan.model_size))

        count = len(conditions.tokens)
        run.report("denoising", 0, run.steps * count)
        if conditions.text is None:
            return conditions.pipeline(
                conditions.reference,
                conditions.tokens[0].tokens,
                conditions.mean_joints,
                num_inference_steps=run.steps,
                guidance_scale=run.guidance,
                generator=conditions.generator,
                device=run.device,
                dtype=run.dtype,
                on_step=on_step,
                check=run.check,
                start=conditions.starts[0] if conditions.starts else None,
                group=run.group,
            )
        settings = Sampling17B(
            steps=run.steps,
            guidance=run.guidance,
            frames=int(run.spec.limits["window_frames"]),
            overlap=int(run.spec.limits["window_overlap"]),
            device=run.device,
            dtype=run.dtype,
        )
        parts: list[np.ndarray] = []
        for frames in conditions.pipeline(
            conditions.picture,
            [part.tokens for part in conditions.tokens],
            conditions.mean_joints,
            conditions.text,
            settings,
            generator=conditions.generator,
            on_step=on_step,
            check=run.check,
            starts=conditions.starts,
            group=run.group,
        ):
            parts.append(tensor_to_frames(frames))
            run.report("decoding", len(parts), count)
        return parts

    def decode(self, run: Generation, conditions: Conditions, sampled: Tensor | list[np.ndarray]) -> np.ndarray:
        """See ``Family.decode``."""
        if isinstance(sampled, list):
            return np.concatenate(sampled)
        run.report("decoding", 0, 1)
        frames = tensor_to_frames(conditions.pipeline.decode(sampled, run.dtype)[0])
        run.report("decoding", 1, 1)
        return self._framed(run, frames)

    def _framed(self, run: Generation, frames: np.ndarray) -> np.ndarray:
        """7B's frames (T,h,w,3) in the middle of what stands beside them (T,H,W,3), at the size of the result."""
        plan, beside = run.plan, run.options["beside"]
        size = plan.width, plan.height
        if size == plan.model_size or beside == "black":
            return frames
        if beside == "carried":
            carrier = Carrier(run.shot, *size, run.device)
            run.notes.extend(note for note in carrier.notes if note not in run.notes)
            (around,) = carrier.maps("frames", on_frames=lambda *_: run.check())
        elif (around := background_frames(run.shot, *size)) is None:
            return frames
        return onto_frames(frames[: plan.frames], around)

    def fit(self, spec: ModelSpec, frames: np.ndarray, width: int, height: int) -> np.ndarray:
        """Resized; or, of a model of one size, laid in the middle."""
        if not lies_in_the_middle(spec):
            return resize_frames(frames, width, height)
        high, wide = frames.shape[1:3]
        scale = min(width / wide, height / high)
        return onto_canvas(resize_frames(frames, round(wide * scale), round(high * scale)), width, height)


FAMILY = MTVCrafterFamily()
