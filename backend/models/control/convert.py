"""What the parts of the control models are published as: diffusers' own layout, so that hardly a name changes."""

from __future__ import annotations

from functools import partial

from ...catalogue.models import ModelSpec
from ..weights.component import Component
from .build import NETWORKS, new_network
from .ltx.convert import PARTS as LTX_PARTS
from .plan import base

_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "spiece.model")

_PARTS = (
    Component(
        name="transformer",
        published=("transformer/diffusion_pytorch_model*.safetensors",),
        build=partial(new_network, part="transformer"),
        # Filters of the motion encoder, which are always the same.
        may_drop=("motion_encoder.enc.*.kernel",),
    ),
    Component(
        name="vae",
        published=("vae/diffusion_pytorch_model.safetensors",),
        build=partial(new_network, part="vae"),
        keep_dtype=True,
    ),
    Component(
        name="text_encoder",
        published=("text_encoder/model*.safetensors",),
        build=partial(new_network, part="text_encoder"),
        # The same table twice: transformers ties it to ``shared`` on loading.
        may_lack=("encoder.embed_tokens.weight",),
        may_drop=("encoder.embed_tokens.weight",),
        weights_name="model",
    ),
    Component(
        name="image_encoder",
        published=("image_encoder/model*.safetensors",),
        build=partial(new_network, part="image_encoder"),
        # The class has lost this part of its names since.
        prefix="vision_model.",
        may_drop=("*.position_ids",),
        weights_name="model",
    ),
    Component(
        name="tokenizer",
        copy={f"tokenizer/{name}": name for name in _TOKENIZER},
        copy_optional=tuple(f"tokenizer/{name}" for name in _TOKENIZER[2:]),
    ),
)
"""Of Wan's models."""

_SCHEDULER = Component(name="scheduler", copy={"scheduler/scheduler_config.json": "scheduler_config.json"})


def components(spec: ModelSpec) -> dict[str, Component]:
    """The parts of a model by name. Raises ModelError for a base that there is not."""
    networks, parts = NETWORKS[base(spec)], LTX_PARTS if base(spec) == "ltx" else _PARTS
    return {p.name: p for p in (*(p for p in parts if p.build is None or p.name in networks), _SCHEDULER)}
