"""MOFA-Video: a first picture set in motion by the flow of its pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...catalogue.models import ModelSpec
from ...shot import Shot
from ..carried_start import CarriedStart, carried_picture
from ..device import choose_svd_dtype
from ..family import Family, Network, Plan
from ..frames import tensor_to_frames
from ..svd import encode_film, new_scheduler
from .build import load_network, network_names
from .inputs import first_picture, make_steering, to_tensor
from .pipeline import MOFAPipeline, Steering
from .plan import fit_picture, make_plan, needs_propagation

if TYPE_CHECKING:
    from ..generation import Generation


@dataclass(frozen=True, eq=False)
class Conditions:
    """What is denoised with; ``picture`` (1,3,H,W) in [0, 1]."""

    pipeline: MOFAPipeline
    picture: Tensor
    steering: Steering
    start: CarriedStart | None


class MOFAFamily(Family):
    """See the module."""

    shared = True

    def plan(self, spec: ModelSpec, shot: Shot) -> Plan:
        """See ``Family.plan``."""
        return make_plan(spec, shot)

    def dtype(self, device: torch.device) -> torch.dtype:
        """See ``Family.dtype``."""
        return choose_svd_dtype(device)

    def networks(self, spec: ModelSpec, shot: Shot, dtype: torch.dtype) -> Mapping[str, Network]:
        """See ``Family.networks``. CMP is one of them only where spots are spread over the picture."""
        names = [name for name in network_names(spec) if name != "cmp" or needs_propagation(spec, shot)]
        return {
            name: Network(lambda name=name: load_network(spec, name, dtype), stages=("encoding",) * (name == "cmp"))
            for name in names
        }

    def prepare(self, run: Generation) -> Tensor:
        """See ``Family.prepare``; the first picture (1,3,H,W) in [0, 1]."""
        first, notes = first_picture(run.shot, fit_picture(run.spec, run.shot))
        run.notes.extend(notes)
        return to_tensor(first)

    def encode(self, run: Generation, prepared: Tensor) -> Conditions:
        """See ``Family.encode``."""
        networks = dict(run.networks)
        cmp = networks.pop("cmp", None)
        pipeline = MOFAPipeline(**networks, scheduler=new_scheduler(run.spec), device=run.device, dtype=run.dtype)
        steering, notes = make_steering(
            run.spec,
            run.shot,
            run.plan.model_frames,
            prepared,
            cmp,
            run.device,
            lambda step, count: run.report("encoding", step, count),
        )
        run.notes.extend(notes)
        return Conditions(pipeline, prepared, steering, self._start(run))

    def _start(self, run: Generation) -> CarriedStart | None:
        """The carried film, if that is to be started from."""
        fit = fit_picture(run.spec, run.shot)
        film = carried_picture(run, fit.size, run.plan.model_frames, fit.scaled)
        if film is None:
            return None
        vae: Any = run.networks["vae"]
        return film.start(encode_film(vae, film.frames, run.device, partial(run.report, "encoding"))[None], 2)

    def sample(self, run: Generation, conditions: Conditions) -> Tensor:
        """Latents (1,T,4,h,w)."""
        pipeline, options, middle = conditions.pipeline, run.options, run.plan.frames // 2

        def still(clean: Tensor) -> np.ndarray:
            return tensor_to_frames(pipeline.decode(clean[:, middle : middle + 1], 1)[0])[0]

        run.report("denoising", 0, run.steps)
        return pipeline(
            conditions.picture,
            conditions.steering,
            num_inference_steps=run.steps,
            max_guidance_scale=run.guidance,
            conditioning_scale=float(options["strength"]),
            landmark_scale=float(options.get("face_strength", 1.0)),
            parity=bool(options["parity"]),
            window=int(run.spec.limits["window_frames"]),
            stride=int(run.spec.limits["window_stride"]),
            generator=run.generator(),
            on_step=lambda step, steps, clean: run.stepped(step, steps, lambda: still(clean), by_vae=True),
            check=run.check,
            output_type="latent",
            start=conditions.start,
            group=run.group,
        ).latents

    def decode(self, run: Generation, conditions: Conditions, sampled: Tensor) -> np.ndarray:
        """See ``Family.decode``."""
        # The frames that only hold the last pose are not decoded.
        video = conditions.pipeline.decode(
            sampled[:, : run.plan.frames],
            run.decoding_chunk(int(run.options["decode_chunk"])),
            lambda step, count: run.report("decoding", step, count),
        )
        return tensor_to_frames(video[0])


FAMILY = MOFAFamily()
