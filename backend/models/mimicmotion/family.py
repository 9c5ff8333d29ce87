"""The engine that makes videos with MimicMotion."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import numpy as np
import torch

from ...catalogue.models import ModelSpec
from ...media import resize_frames
from ...shot import Shot
from ..device import choose_device, choose_svd_dtype
from ..family import Plan, Progress, Result
from ..memory.arrangement import place
from ..memory.placement import Placement
from ..pictures import reference_picture
from ..settings import option
from ..steps import Reporter
from .build import NETWORKS, load_network, new_scheduler
from .inputs import Poses, crop_picture, read_poses
from .pipeline import MimicMotionPipeline
from .plan import make_plan, tiles_of
from .pose_drawing import draw_pose

_PREVIEW_SIDE = 384
"""Pixels of a preview's longer side at most."""


class MimicMotionEngine:
    """One model, loaded on its first generation and kept.

    Args:
        spec: its description; the weights are in its folder.
        device: as torch names it; None for a GPU where there is one.
    """

    def __init__(self, spec: ModelSpec, device: str | None = None) -> None:
        self.spec = spec
        self.device = choose_device(device)
        self.dtype = choose_svd_dtype(self.device)
        self._loaded: tuple[MimicMotionPipeline, Placement] | None = None

    def plan(self, shot: Shot) -> Plan:
        """See ``Engine.plan``."""
        return make_plan(self.spec, shot)

    def load(self, plan: Plan, report: Callable[[int, int], None] = lambda step, steps: None) -> MimicMotionPipeline:
        """Read the weights, unless those of the last job lie so that this one can run.

        Args:
            report: called with the number of parts read and their count.

        Raises:
            EngineError: weights that cannot be read, or a job that does not fit into memory.
        """
        if self._loaded is not None and not self._loaded[1].serves(plan):
            self._loaded = None
            # Hooks of offloading tie a network to itself: its memory comes back only when it is collected.
            gc.collect()
        if self._loaded is None:
            parts = {}
            for i, name in enumerate(NETWORKS):
                report(i, len(NETWORKS))
                parts[name] = load_network(self.spec, name, self.dtype)
            placement = place(parts, self.spec, plan, self.device, self.dtype)
            pipeline = MimicMotionPipeline(
                **parts, scheduler=new_scheduler(self.spec), device=placement.device, dtype=self.dtype
            )
            self._loaded = pipeline, placement
        report(len(NETWORKS), len(NETWORKS))
        return self._loaded[0]

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

        picture = reference_picture(shot, 0)
        poses = read_poses(shot, 0, plan.model_size)
        crop = crop_picture(picture.rgb, poses.box, *plan.model_size)
        pipeline = self.load(plan, lambda step, count: reporter.report("loading", step, count))
        assert self._loaded is not None
        placement = self._loaded[1]

        maps = draw_maps(poses, plan.model_size, lambda step, count: reporter.report("encoding", step, count))
        generator = torch.Generator("cpu").manual_seed(settings.seed)
        noise_augmentation = float(chosen["noise_augmentation"])
        condition = pipeline.encode_picture(crop, noise_augmentation, generator)
        reporter.report("encoding", len(maps), len(maps))

        width, height = _preview_size(plan)
        reporter.report("denoising", 0, steps)

        def on_step(step: int, count: int, clean: torch.Tensor) -> None:
            if not placement.previews:
                reporter.report("denoising", step, count)
                return
            reporter.denoised(
                step,
                count,
                lambda: resize_frames(pipeline.preview(condition, clean[len(clean) // 2])[None], width, height)[0],
            )

        latents = pipeline.sample(
            condition,
            maps,
            tiles_of(self.spec, shot),
            steps,
            guidance,
            (int(chosen["fps"]) - 1, int(chosen["motion_bucket"]), noise_augmentation),
            generator,
            on_step=on_step,
            check=reporter.check,
        )
        reporter.report("decoding", 0, len(maps))
        wanted = int(chosen["decode_chunk"])
        chunk = placement.decoding_chunk(plan, wanted)
        frames = []
        for part in pipeline.decode(latents, chunk):
            frames.append(part)
            reporter.report("decoding", sum(map(len, frames)), len(maps))
        video = resize_frames(np.concatenate(frames)[1:], plan.width, plan.height)
        fewer = () if chunk == wanted else (f"Decoded {chunk} frames at once, for want of memory",)
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
        return Result(video, shot.clip.fps, (*plan.notes, *picture.notes, *placement.notes, *fewer), metadata)


def draw_maps(poses: Poses, size: tuple[int, int], report: Callable[[int, int], None]) -> np.ndarray:
    """Pose maps (1+T,H,W,3) uint8 at ``size`` (width, height), the reference's own first."""
    points = np.concatenate([poses.reference.points, poses.driving.points])
    confidence = np.concatenate([poses.reference.confidence, poses.driving.confidence])
    maps = np.empty((len(points), size[1], size[0], 3), np.uint8)
    for i in range(len(points)):
        report(i, len(points))
        maps[i] = draw_pose(points[i], confidence[i], *size)
    return maps


def _preview_size(plan: Plan) -> tuple[int, int]:
    scale = min(1.0, _PREVIEW_SIDE / max(plan.width, plan.height))
    return max(1, round(plan.width * scale)), max(1, round(plan.height * scale))
