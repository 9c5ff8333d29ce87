"""The engine that makes videos with MTVCrafter."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...catalogue.models import ModelSpec
from ...media import resize_frames
from ...shot import Shot
from ..device import choose_device, choose_dtype
from ..family import Plan, Progress, Result
from ..frames import frames_to_tensor, tensor_to_frames
from ..memory.arrangement import place
from ..memory.placement import Placement
from ..steps import Reporter
from .build import NETWORKS, base, load_network, load_scheduler, load_text_tokenizer, load_transformer_with_lora
from .inputs import ShotInputs, onto_canvas, shot_inputs
from .pipeline_7b import MTVCrafter7BPipeline
from .pipeline_17b import MTVCrafter17BPipeline, Sampling17B, Text
from .plan import few_steps, make_plan, sampling, sizes, steps_and_guidance
from .previews import LatentColours
from .tokenizer import HIGH_TOKEN_LOSS, MotionTokenizer, MotionTokens


class MTVCrafterEngine:
    """One model, loaded on its first generation and kept.

    Args:
        spec: its description; the weights are in its folder.
        device: as torch names it; None for a GPU where there is one.
    """

    def __init__(self, spec: ModelSpec, device: str | None = None) -> None:
        self.spec = spec
        self.device = choose_device(device)
        self.dtype = choose_dtype(self.device)
        self._parts: dict[str, nn.Module] = {}
        self._with_lora = False
        self._placement: Placement | None = None

    def plan(self, shot: Shot) -> Plan:
        """See ``Engine.plan``."""
        return make_plan(self.spec, shot)

    def parts(self) -> dict[str, nn.Module]:
        """The networks that are loaded, by name."""
        return dict(self._parts)

    def load(self, plan: Plan, with_lora: bool = False) -> Placement:
        """Read the weights and spread them for a job, unless they lie right for it already.

        Raises:
            EngineError: files that cannot be read, or a job that does not fit into memory.
        """
        placement = self._placement
        if placement is not None and self._with_lora == with_lora and placement.serves(plan):
            return placement
        self._parts, self._placement = {}, None
        gc.collect()
        self._parts = {
            part: load_transformer_with_lora(self.spec, self.dtype)
            if part == "transformer" and with_lora
            else load_network(self.spec, part, self.dtype)
            for part in NETWORKS[base(self.spec)]
        }
        self._with_lora = with_lora
        self._placement = place(
            self._parts, self.spec, plan, self.device, self.dtype, stages={"tokenizer": ("encoding",)}
        )
        return self._placement

    def generate(self, shot: Shot, on_progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> Result:
        """See ``Engine.generate``."""
        plan = self.plan(shot)
        reporter = Reporter(on_progress, cancelled)
        started = time.monotonic()
        inputs = shot_inputs(shot, plan)
        steps, guidance = steps_and_guidance(self.spec, shot)
        with_lora = few_steps(self.spec, shot)
        reporter.report("loading", 0, 1)
        placement = self.load(plan, with_lora)
        reporter.report("loading", 1, 1)
        with torch.no_grad():
            tokens = self._tokens(inputs, plan)
            make = self._make_7b if base(self.spec) == "cogvideox" else self._make_17b
            frames = make(shot, plan, inputs, tokens, steps, guidance, reporter)
        loss = max(float(part.loss) for part in tokens)
        metadata = {
            "model": self.spec.id,
            "seed": shot.settings.seed,
            "steps": steps,
            "guidance": guidance,
            "few_steps": with_lora,
            "width": plan.width,
            "height": plan.height,
            "model_size": list(plan.model_size),
            "windows": len(plan.windows),
            "token_loss": round(loss, 4),
            "device": str(placement.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "placement": str(placement.strategy),
            "seconds": round(time.monotonic() - started, 2),
        }
        notes = (*plan.notes, *inputs.notes, *_loss_notes(loss), *placement.notes)
        return Result(self._fit(frames[: plan.frames], plan), shot.clip.fps, notes, metadata)

    @property
    def _tokenizer(self) -> MotionTokenizer:
        tokenizer = self._parts["tokenizer"]
        assert isinstance(tokenizer, MotionTokenizer)
        return tokenizer

    def _tokens(self, inputs: ShotInputs, plan: Plan) -> list[MotionTokens]:
        """Motion tokens of every window."""
        return [self._tokenizer.motion_tokens(inputs.joints[start:stop]) for start, stop in plan.windows]

    def _reference(self, inputs: ShotInputs) -> Tensor:
        """(3,H,W) in [-1, 1], float32 on the CPU."""
        return frames_to_tensor(inputs.reference[None])[:, 0]

    def _mean_joints(self) -> Tensor:
        return torch.from_numpy(self._tokenizer.statistics.mean)

    def _fit(self, frames: np.ndarray, plan: Plan) -> np.ndarray:
        """Frames at the plan's size: resized, or, of a model of one size, laid in the middle."""
        if frames.shape[1:3] == (plan.height, plan.width):
            return frames
        if len(sizes(self.spec)) == 1:
            return onto_canvas(frames, plan.width, plan.height)
        return resize_frames(frames, plan.width, plan.height)

    def _preview(self, colours: LatentColours, latents_CLhw: Tensor, plan: Plan) -> np.ndarray:
        """The middle of a window, roughly."""
        picture = colours(latents_CLhw[:, latents_CLhw.shape[1] // 2], *plan.model_size)
        return self._fit(picture[None], plan)[0]

    def _make_7b(
        self,
        shot: Shot,
        plan: Plan,
        inputs: ShotInputs,
        tokens: list[MotionTokens],
        steps: int,
        guidance: float,
        reporter: Reporter,
    ) -> np.ndarray:
        """(T,H,W,3) uint8 by MV-DiT-7B."""
        pipeline = MTVCrafter7BPipeline(
            vae=self._part("vae"), transformer=self._part("transformer"), scheduler=load_scheduler(self.spec)
        )
        device = self._on()
        generator = torch.Generator("cpu").manual_seed(shot.settings.seed)
        reporter.report("encoding", 0, 1)
        picture = self._reference(inputs)
        reference = pipeline.reference_latents(
            picture.to(device, self.dtype), plan.model_frames, generator=generator
        ).float()
        reporter.report("encoding", 1, 1)
        colours = LatentColours(reference[0, :, 0], picture)
        reporter.report("denoising", 0, steps)
        latents = pipeline(
            reference,
            tokens[0].tokens,
            self._mean_joints(),
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=generator,
            device=device,
            dtype=self.dtype,
            on_step=lambda step, count, clean: reporter.denoised(
                step, count, lambda: self._preview(colours, clean, plan)
            ),
            check=reporter.check,
        )
        reporter.report("decoding", 0, 1)
        frames = tensor_to_frames(pipeline.decode(latents, self.dtype)[0])
        reporter.report("decoding", 1, 1)
        return frames

    def _make_17b(
        self,
        shot: Shot,
        plan: Plan,
        inputs: ShotInputs,
        tokens: list[MotionTokens],
        steps: int,
        guidance: float,
        reporter: Reporter,
    ) -> np.ndarray:
        """(T,H,W,3) uint8 by MV-DiT-17B."""
        pipeline = MTVCrafter17BPipeline(
            tokenizer=load_text_tokenizer(self.spec),
            text_encoder=self._part("text_encoder"),
            image_encoder=self._part("image_encoder"),
            transformer=self._part("transformer"),
            vae=self._part("vae"),
            scheduler=load_scheduler(self.spec),
        )
        device, table = self._on(), sampling(self.spec)
        reporter.report("encoding", 0, 2)
        positive = pipeline.encode_text(shot.prompt.strip() or table["prompt"], device)
        reporter.report("encoding", 1, 2)
        negative = pipeline.encode_text(table["negative_prompt"], device) if guidance > 1 else None
        reporter.report("encoding", 2, 2)
        settings = Sampling17B(
            steps=steps,
            guidance=guidance,
            frames=int(self.spec.limits["window_frames"]),
            overlap=int(self.spec.limits["window_overlap"]),
            device=device,
            dtype=self.dtype,
        )
        picture = self._reference(inputs)
        colours = LatentColours(pipeline.condition(picture[:, None].to(device), 1)[0, 4:, 0], picture)
        reporter.report("denoising", 0, steps * len(tokens))
        parts = []
        for frames in pipeline(
            picture,
            [part.tokens for part in tokens],
            self._mean_joints(),
            Text(positive, negative),
            settings,
            generator=torch.Generator("cpu").manual_seed(shot.settings.seed),
            on_step=lambda step, count, clean: reporter.denoised(
                step, count, lambda: self._preview(colours, clean, plan)
            ),
            check=reporter.check,
        ):
            parts.append(tensor_to_frames(frames))
            reporter.report("decoding", len(parts), len(tokens))
        return np.concatenate(parts)

    def _part(self, name: str) -> Any:
        return self._parts[name]

    def _on(self) -> torch.device:
        """Where tensors made by hand belong."""
        assert self._placement is not None
        return self._placement.device


def _loss_notes(loss: float) -> tuple[str, ...]:
    if loss <= HIGH_TOKEN_LOSS:
        return ()
    return (
        f"The motion is unlike what the model was trained on (token loss {loss:.2f}; above {HIGH_TOKEN_LOSS:g} "
        "results are often poor); see the framing notes, or play the action at 15 to 30 frames per second",
    )
