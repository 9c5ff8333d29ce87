"""The networks of Wan's control models: as a description configures them, and with their saved weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan_animate import WanAnimateTransformer3DModel
from diffusers.models.transformers.transformer_wan_vace import WanVACETransformer3DModel
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

from ...catalogue.models import ModelSpec
from ..family import EngineError
from ..loading import load_part
from .plan import base, sampling

NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "vace": {
        "text_encoder": UMT5EncoderModel,
        "transformer": WanVACETransformer3DModel,
        "vae": AutoencoderKLWan,
    },
    "animate": {
        "text_encoder": UMT5EncoderModel,
        "image_encoder": CLIPVisionModel,
        "transformer": WanAnimateTransformer3DModel,
        "vae": AutoencoderKLWan,
    },
}
"""Class of each part, by ``base`` of ``[sampling]``; the part's table in the description configures it."""

_CONFIGS: Mapping[str, Any] = {"text_encoder": UMT5Config, "image_encoder": CLIPVisionConfig}
"""Parts of transformers' kind."""

_LARGE = 0.75e6
"""Pixels from which the noise is shifted more: between 832 x 480 and 1280 x 720."""
_SHIFTS = (3.0, 5.0)


def new_network(spec: ModelSpec, part: str) -> nn.Module:
    """A part with new weights."""
    table = dict(spec.components.get(part, {}))
    network = NETWORKS[base(spec)][part]
    return network(_CONFIGS[part](**table)) if part in _CONFIGS else network(**table)


def load_network(spec: ModelSpec, part: str, dtype: torch.dtype) -> Any:
    """A part with its saved weights, on the CPU; the VAE in single precision. Raises EngineError."""
    return load_part(spec, part, NETWORKS[base(spec)][part], torch.float32 if part == "vae" else dtype)


class Scheduler(UniPCMultistepScheduler):
    """The published kind, which can leave out its first steps.

    Attributes:
        begin: how many ``set_timesteps`` leaves out.
        levels: (steps + 1,) noise before each step, those that are left out included, and after the last.
    """

    begin = 0

    def set_timesteps(self, *arguments: Any, **named: Any) -> None:
        """As its parent."""
        super().set_timesteps(*arguments, **named)
        self.levels = self.sigmas
        self.timesteps, self.sigmas = self.timesteps[self.begin :], self.sigmas[self.begin :]


def load_scheduler(spec: ModelSpec, size: tuple[int, int], shift: float | None = None) -> Scheduler:
    """The published scheduler.

    Args:
        shift: of the noise; None for what its authors advise for a picture of that size.

    Raises:
        EngineError: it cannot be read.
    """
    folder = spec.folder / "scheduler"
    if shift is None:
        shift = float(sampling(spec).get("shift", _SHIFTS[size[0] * size[1] >= _LARGE]))
    try:
        return Scheduler.from_pretrained(folder, local_files_only=True, flow_shift=shift)  # type: ignore[return-value]
    except (OSError, ValueError) as error:
        raise EngineError(
            "settings.model", f"{folder}: cannot be read ({error}); run: maquette models check {spec.id}"
        ) from error
