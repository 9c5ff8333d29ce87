"""The networks of the control models: as a description configures them, and with their saved weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl_ltx2 import AutoencoderKLLTX2Video
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel
from diffusers.models.transformers.transformer_wan_animate import WanAnimateTransformer3DModel
from diffusers.models.transformers.transformer_wan_vace import WanVACETransformer3DModel
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    Gemma3TextConfig,
    Gemma3TextModel,
    UMT5Config,
    UMT5EncoderModel,
)

from ...catalogue.models import ModelSpec
from ..family import EngineError
from ..loading import load_part
from .plan import base, sampling

S = TypeVar("S", bound="Late")

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
    "ltx": {
        "text_encoder": Gemma3TextModel,
        "text_encoder_connectors": LTX2TextConnectors,
        "transformer": LTX2VideoTransformer3DModel,
        "vae": AutoencoderKLLTX2Video,
    },
}
"""Class of each part, by ``base`` of ``[sampling]``; the part's table in the description configures it."""

_CONFIGS: Mapping[type, Any] = {
    UMT5EncoderModel: UMT5Config,
    CLIPVisionModel: CLIPVisionConfig,
    Gemma3TextModel: Gemma3TextConfig,
}
"""Of classes of transformers' kind."""

_LARGE = 0.75e6
"""Pixels from which the noise is shifted more: between 832 x 480 and 1280 x 720."""
_SHIFTS = (3.0, 5.0)


def new_network(spec: ModelSpec, part: str) -> nn.Module:
    """A part with new weights."""
    table = dict(spec.components.get(part, {}))
    network = NETWORKS[base(spec)][part]
    return network(_CONFIGS[network](**table)) if network in _CONFIGS else network(**table)


def load_network(spec: ModelSpec, part: str, dtype: torch.dtype) -> Any:
    """A part with its saved weights, on the CPU; Wan's VAE in single precision. Raises EngineError."""
    single = NETWORKS[base(spec)][part] is AutoencoderKLWan
    return load_part(spec, part, NETWORKS[base(spec)][part], torch.float32 if single else dtype)


class Late:
    """One of diffusers' schedulers that can leave out its first steps.

    Attributes:
        begin: how many ``set_timesteps`` leaves out.
        levels: (steps + 1,) noise before each step, those that are left out included, and after the last.
    """

    begin = 0
    timesteps: Tensor
    sigmas: Tensor

    def begin_late(self) -> None:
        """Leave them out of what has been set."""
        self.levels = self.sigmas
        self.timesteps, self.sigmas = self.timesteps[self.begin :], self.sigmas[self.begin :]


class Scheduler(Late, UniPCMultistepScheduler):
    """Wan's."""

    def set_timesteps(self, *arguments: Any, **named: Any) -> None:
        """As its parent."""
        super().set_timesteps(*arguments, **named)
        self.begin_late()


def load_scheduler(spec: ModelSpec, size: tuple[int, int], shift: float | None = None) -> Scheduler:
    """Wan's published scheduler.

    Args:
        shift: of the noise; None for what its authors advise for a picture of that size.

    Raises:
        EngineError: it cannot be read.
    """
    if shift is None:
        shift = float(sampling(spec).get("shift", _SHIFTS[size[0] * size[1] >= _LARGE]))
    return read_scheduler(spec, Scheduler, flow_shift=shift)


def read_scheduler(spec: ModelSpec, kind: type[S], **named: Any) -> S:
    """The published scheduler as one of a class, with some of its settings exchanged. Raises EngineError."""
    folder, made = spec.folder / "scheduler", cast(Any, kind)
    try:
        return made.from_pretrained(folder, local_files_only=True, **named)
    except (OSError, ValueError) as error:
        raise EngineError(
            "settings.model", f"{folder}: cannot be read ({error}); run: maquette models check {spec.id}"
        ) from error
