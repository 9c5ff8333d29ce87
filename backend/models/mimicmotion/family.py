"""MimicMotion: a reference picture that follows drawn poses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...catalogue.models import ModelSpec
from ...control.pose_drawing import MIMICMOTION, draw_pose
from ...media import resize_frames
from ...shot import Shot
from ..carried_start import CarriedStart, carried_picture
from ..device import choose_svd_dtype
from ..family import Family, Network, Plan
from ..start_picture import reference_picture
from ..svd import encode_film, new_scheduler
from .build import NETWORKS, load_network
from .inputs import Poses, crop_picture, read_poses
from .pipeline import MimicMotionPipeline, PictureCondition
from .plan import make_plan, tiles_of

if TYPE_CHECKING:
    from ..generation import Generation


@dataclass(frozen=True, eq=False)
class Pictures:
    """What is read of a shot: the reference (H,W,3) uint8 at the model's size, and the poses to draw."""

    reference: np.ndarray
    poses: Poses


@dataclass(frozen=True, eq=False)
class Conditions:
    """What is denoised with; ``maps`` (1+T,H,W,3) uint8, the reference's own first."""

    pipeline: MimicMotionPipeline
    picture: PictureCondition
    maps: np.ndarray
    generator: torch.Generator
    start: CarriedStart | None


class MimicMotionFamily(Family):
    """See the module."""

    shared = True

    def plan(self, spec: ModelSpec, shot: Shot) -> Plan:
        """See ``Family.plan``."""
        return make_plan(spec, shot)

    def dtype(self, device: torch.device) -> torch.dtype:
        """See ``Family.dtype``."""
        return choose_svd_dtype(device)

    def networks(self, spec: ModelSpec, shot: Shot, dtype: torch.dtype) -> Mapping[str, Network]:
        """See ``Family.networks``."""
        return {name: Network(lambda name=name: load_network(spec, name, dtype)) for name in NETWORKS}

    def prepare(self, run: Generation) -> Pictures:
        """See ``Family.prepare``."""
        picture = reference_picture(run.shot, 0)
        run.notes.extend(picture.notes)
        poses = read_poses(run.shot, 0, run.plan.model_size)
        return Pictures(crop_picture(picture.rgb, poses.box, *run.plan.model_size), poses)

    def encode(self, run: Generation, prepared: Pictures) -> Conditions:
        """See ``Family.encode``."""
        pipeline = MimicMotionPipeline(
            **run.networks, scheduler=new_scheduler(run.spec), device=run.device, dtype=run.dtype
        )
        size = run.plan.model_size
        maps = draw_maps(prepared.poses, size, lambda step, count: run.report("encoding", step, count))
        generator = run.generator()
        noise = float(run.options["noise_augmentation"])
        picture = pipeline.encode_picture(prepared.reference, noise, generator)
        run.report("encoding", len(maps), len(maps))
        return Conditions(pipeline, picture, maps, generator, self._start(run, picture))

    def _start(self, run: Generation, picture: PictureCondition) -> CarriedStart | None:
        """The reference and the carried film, if that is to be started from."""
        film = carried_picture(run, run.plan.model_size, run.plan.frames)
        if film is None:
            return None
        vae: Any = run.networks["vae"]
        start = film.start(encode_film(vae, film.frames, run.device, partial(run.report, "encoding")), 1)
        first = picture.latents[None] * vae.config.scaling_factor
        sure = torch.full_like(start.part[:1], film.strength)
        return CarriedStart(torch.cat([first, start.latents]), torch.cat([sure, start.part]))

    def sample(self, run: Generation, conditions: Conditions) -> Tensor:
        """Scaled latents (1+T,4,h,w), the reference's own first."""
        pipeline, options = conditions.pipeline, run.options
        scale = pipeline.vae.config.scaling_factor

        def still(clean: Tensor) -> np.ndarray:
            return conditions.picture.colours(clean[len(clean) // 2] / scale, *run.plan.model_size)

        run.report("denoising", 0, run.steps)
        return pipeline.sample(
            conditions.picture,
            conditions.maps,
            tiles_of(run.spec, run.shot),
            run.steps,
            run.guidance,
            (int(options["fps"]) - 1, int(options["motion_bucket"]), float(options["noise_augmentation"])),
            conditions.generator,
            on_step=lambda step, steps, clean: run.stepped(step, steps, lambda: still(clean)),
            check=run.check,
            start=conditions.start,
            group=run.group,
        )

    def decode(self, run: Generation, conditions: Conditions, sampled: Tensor) -> np.ndarray:
        """See ``Family.decode``."""
        frames: list[np.ndarray] = []
        run.report("decoding", 0, len(sampled))
        for part in conditions.pipeline.decode(sampled, run.decoding_chunk(int(run.options["decode_chunk"]))):
            frames.append(part)
            run.report("decoding", sum(map(len, frames)), len(sampled))
        return np.concatenate(frames)[1:]

    def fit(self, spec: ModelSpec, frames: np.ndarray, width: int, height: int) -> np.ndarray:
        """See ``Family.fit``."""
        return resize_frames(frames, width, height)


FAMILY = MimicMotionFamily()


def draw_maps(poses: Poses, size: tuple[int, int], report: Callable[[int, int], None]) -> np.ndarray:
    """Pose maps (1+T,H,W,3) uint8 at ``size`` (width, height), the reference's own first."""
    points = np.concatenate([poses.reference.points, poses.driving.points])
    confidence = np.concatenate([poses.reference.confidence, poses.driving.confidence])
    maps = np.empty((len(points), size[1], size[0], 3), np.uint8)
    for i in range(len(points)):
        report(i, len(points))
        maps[i] = draw_pose(points[i], confidence[i], *size, MIMICMOTION)
    return maps
