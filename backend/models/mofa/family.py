"""The engine that makes videos with MOFA-Video."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...catalogue.models import ModelSpec
from ...media import squeeze_frames
from ...shot import Shot
from ..device import choose_device, choose_svd_dtype
from ..family import Plan, Progress, Result
from ..frames import tensor_to_frames
from ..memory.arrangement import place
from ..memory.placement import Placement
from ..settings import option
from ..steps import Reporter
from .build import load_network, network_names, new_scheduler
from .cmp import MotionPropagation
from .inputs import first_picture, make_steering, to_tensor
from .pipeline import MOFAPipeline
from .plan import fit_picture, make_plan

_PREVIEW_SIDE = 384
"""Pixels of a preview's longer side at most."""


class MOFAEngine:
    """One model, loaded on its first generation and kept.

    Args:
        spec: its description; the weights are in its folder.
        device: as torch names it; None for a GPU where there is one.
    """

    def __init__(self, spec: ModelSpec, device: str | None = None) -> None:
        self.spec = spec
        self.device = choose_device(device)
        self.dtype = choose_svd_dtype(self.device)
        self._loaded: tuple[MOFAPipeline, Placement] | None = None
        self._cmp: MotionPropagation | None = None

    def plan(self, shot: Shot) -> Plan:
        """See ``Engine.plan``."""
        return make_plan(self.spec, shot)

    def load(
        self, plan: Plan, report: Callable[[int, int], None] = lambda step, steps: None
    ) -> tuple[MOFAPipeline, Placement]:
        """Read the weights, unless those of the last job lie so that this one can run.

        Args:
            report: called with the number of parts read and their count.

        Raises:
            EngineError: weights that cannot be read, or a job that does not fit into memory.
        """
        names = [name for name in network_names(self.spec) if name != "cmp"]
        if self._loaded is not None and not self._loaded[1].serves(plan):
            self._loaded = None
            # Hooks of offloading tie a network to itself: its memory comes back only when it is collected.
            gc.collect()
        if self._loaded is None:
            parts: dict[str, Any] = {}
            for i, name in enumerate(names):
                report(i, len(names))
                parts[name] = load_network(self.spec, name, self.dtype)
            placement = place(parts, self.spec, plan, self.device, self.dtype)
            pipeline = MOFAPipeline(
                **parts, scheduler=new_scheduler(self.spec), device=placement.device, dtype=self.dtype
            )
            self._loaded = pipeline, placement
        report(len(names), len(names))
        return self._loaded

    def propagation(self) -> MotionPropagation:
        """CMP, read when it is first needed: exact motion does without. Small enough to stay where it runs.

        Raises:
            EngineError: weights that cannot be read.
        """
        cmp = self._cmp
        if cmp is None:
            cmp = self._cmp = load_network(self.spec, "cmp", torch.float32).to(self.device)
        return cmp

    @torch.no_grad()
    def generate(self, shot: Shot, on_progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> Result:
        """See ``Engine.generate``."""
        plan = self.plan(shot)
        reporter = Reporter(on_progress, cancelled)
        started = time.monotonic()
        settings, defaults = shot.settings, self.spec.defaults
        steps = settings.steps if settings.steps is not None else defaults.steps
        guidance = float(settings.guidance if settings.guidance is not None else defaults.guidance)
        chosen = {name: option(self.spec, shot, name) for name in self.spec.options}

        first, picture_notes = first_picture(shot, fit_picture(self.spec, shot))
        pipeline, placement = self.load(plan, lambda step, count: reporter.report("loading", step, count))
        picture = to_tensor(first)
        steering, notes = make_steering(
            self.spec,
            shot,
            plan.model_frames,
            picture,
            self.propagation,
            placement.device if placement.device.type == "cuda" else "cpu",
            lambda step, count: reporter.report("encoding", step, count),
        )

        def on_step(step: int, count: int, clean: Tensor) -> None:
            if placement.previews:
                reporter.denoised(step, count, lambda: self._preview(pipeline, clean, plan))
            else:
                reporter.report("denoising", step, count)

        reporter.report("denoising", 0, steps)
        output = pipeline(
            picture,
            steering,
            num_inference_steps=steps,
            max_guidance_scale=guidance,
            conditioning_scale=float(chosen["strength"]),
            landmark_scale=float(chosen.get("face_strength", 1.0)),
            parity=bool(chosen["parity"]),
            window=int(self.spec.limits["window_frames"]),
            stride=int(self.spec.limits["window_stride"]),
            generator=torch.Generator("cpu").manual_seed(settings.seed),
            on_step=on_step,
            check=reporter.check,
            output_type="latent",
        )
        wanted = int(chosen["decode_chunk"])
        chunk = placement.decoding_chunk(plan, wanted)
        fewer = () if chunk == wanted else (f"Decoded {chunk} frames at once, for want of memory",)
        # The frames that only hold the last pose are not decoded.
        video = pipeline.decode(
            output.latents[:, : plan.frames],
            chunk,
            lambda step, count: reporter.report("decoding", step, count),
        )
        frames = squeeze_frames(tensor_to_frames(video[0]), plan.width, plan.height)
        metadata = {
            "model": self.spec.id,
            "seed": settings.seed,
            "steps": steps,
            "guidance": guidance,
            "options": chosen,
            "width": plan.width,
            "height": plan.height,
            "model_size": list(plan.model_size),
            "windows": len(plan.windows),
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "placement": str(placement.strategy),
            "seconds": round(time.monotonic() - started, 2),
        }
        return Result(frames, shot.clip.fps, (*plan.notes, *picture_notes, *notes, *placement.notes, *fewer), metadata)

    def _preview(self, pipeline: MOFAPipeline, clean: Tensor, plan: Plan) -> np.ndarray:
        """The middle of the clip, decoded as a still."""
        middle = plan.frames // 2
        frame = tensor_to_frames(pipeline.decode(clean[:, middle : middle + 1], 1)[0])
        scale = min(1.0, _PREVIEW_SIDE / max(plan.width, plan.height))
        return squeeze_frames(frame, max(1, round(plan.width * scale)), max(1, round(plan.height * scale)))[0]
