"""MOFA-Video's networks: as a description configures them, and with their saved weights."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from transformers import CLIPVisionModelWithProjection

from ...catalogue.models import ModelSpec
from .. import svd
from ..loading import load_part
from .cmp import MotionPropagation
from .flow_controlnet import FlowControlNet
from .landmark_controlnet import LandmarkControlNet

NETWORKS: dict[str, Any] = {
    "image_encoder": CLIPVisionModelWithProjection,
    "vae": AutoencoderKLTemporalDecoder,
    "unet": UNetSpatioTemporalConditionModel,
    "controlnet": FlowControlNet,
    "landmark_controlnet": LandmarkControlNet,
    "cmp": MotionPropagation,
}
"""Class of each part; the part's table in the description configures it."""


def network_names(spec: ModelSpec) -> tuple[str, ...]:
    """Parts of a model: those for which its description has a table, if only an empty one.

    The hybrid model has ``landmark_controlnet``. ``cmp`` may be missing from a model's folder: exact motion needs none.
    """
    return tuple(name for name in NETWORKS if name in spec.components)


def new_network(spec: ModelSpec, part: str) -> torch.nn.Module:
    """A part with new weights."""
    return svd.new_network(spec, part, NETWORKS)


def load_network(spec: ModelSpec, part: str, dtype: torch.dtype) -> Any:
    """A part with its saved weights, on the CPU; CMP always in float32, in which it was published.

    Raises:
        EngineError: weights that cannot be read.
    """
    return load_part(spec, part, NETWORKS[part], torch.float32 if part == "cmp" else dtype)
