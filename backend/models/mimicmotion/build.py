"""MimicMotion's networks: as a description configures them, and with their saved weights."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from transformers import CLIPVisionModelWithProjection

from ...catalogue.models import ModelSpec
from .. import svd
from ..loading import load_part
from .pose_net import PoseNet, PoseUNet

NETWORKS: dict[str, Any] = {
    "unet": PoseUNet,
    "pose_net": PoseNet,
    "vae": AutoencoderKLTemporalDecoder,
    "image_encoder": CLIPVisionModelWithProjection,
}
"""Class of each part; the part's table in the description configures it."""


def new_network(spec: ModelSpec, part: str) -> torch.nn.Module:
    """A part with new weights."""
    return svd.new_network(spec, part, NETWORKS)


def load_network(spec: ModelSpec, part: str, dtype: torch.dtype) -> Any:
    """A part with its saved weights, on the CPU. Raises EngineError when they cannot be read."""
    return load_part(spec, part, NETWORKS[part], dtype)
