"""What LTX-2.3's parts are published as: diffusers' own layout, and the IC-LoRA in its authors'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch

from ....catalogue.models import ModelSpec
from ...lora.keys import match
from ...weights.component import Component, without_prefix
from ..build import new_network

if TYPE_CHECKING:
    from torch import Tensor

    State = Mapping[str, Tensor]

_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model",
)  # fmt: skip

_LANGUAGE = ("language_model.model.", "model.language_model.", "language_model.")
"""What stands before the keys of Gemma's language model, by the release of transformers that saved it."""


def check_lora(spec: ModelSpec, state: State) -> Sequence[str]:
    """Sentences about why a LoRA does not fit the description's transformer."""
    with torch.device("meta"):
        transformer = new_network(spec, "transformer")
    given, wanted = ({k: tuple(v.shape) for k, v in each.items()} for each in (state, transformer.state_dict()))
    found = match(given, wanted)
    return [f"no LoRA for {spec.label}: {why}"] if (why := found.problem(spec.label)) else []


PARTS = (
    Component(
        name="transformer",
        published=("transformer/diffusion_pytorch_model*.safetensors",),
        build=partial(new_network, part="transformer"),
    ),
    Component(
        name="vae",
        published=("vae/diffusion_pytorch_model*.safetensors",),
        build=partial(new_network, part="vae"),
    ),
    Component(
        name="text_encoder",
        published=("text_encoder/model*.safetensors",),
        build=partial(new_network, part="text_encoder"),
        convert=lambda state: without_prefix(state, *_LANGUAGE),
        # Only its language model is asked, and only for what its layers say.
        may_drop=("*vision_tower.*", "*multi_modal_projector.*", "*lm_head.*"),
        weights_name="model",
    ),
    Component(
        name="text_encoder_connectors",
        published=("connectors/diffusion_pytorch_model*.safetensors",),
        build=partial(new_network, part="text_encoder_connectors"),
    ),
    Component(
        name="tokenizer",
        copy={f"tokenizer/{name}": name for name in _TOKENIZER},
        copy_optional=tuple(f"tokenizer/{name}" for name in _TOKENIZER[2:]),
    ),
    Component(
        name="ic_lora",
        published=("ltx-2.3-22b-ic-lora-union-control-ref0.5.safetensors",),
        verify=check_lora,
        keep_dtype=True,
    ),
    Component(
        name="distilled_lora",
        published=("ltx-2.3-22b-distilled-lora-384*.safetensors",),
        verify=check_lora,
        keep_dtype=True,
        optional=True,
    ),
)
