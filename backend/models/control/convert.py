"""What VACE's parts are published as: diffusers' own layout, so that nothing is renamed."""

from __future__ import annotations

from ..weights.component import Component
from .build import new_network

_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "spiece.model")

COMPONENTS = {
    part.name: part
    for part in (
        Component(
            name="transformer",
            published=("transformer/diffusion_pytorch_model*.safetensors",),
            build=lambda spec: new_network(spec, "transformer"),
        ),
        Component(
            name="vae",
            published=("vae/diffusion_pytorch_model.safetensors",),
            build=lambda spec: new_network(spec, "vae"),
            keep_dtype=True,
        ),
        Component(
            name="text_encoder",
            published=("text_encoder/model*.safetensors",),
            build=lambda spec: new_network(spec, "text_encoder"),
            # The same table twice: transformers ties it to ``shared`` on loading.
            may_lack=("encoder.embed_tokens.weight",),
            may_drop=("encoder.embed_tokens.weight",),
            weights_name="model",
        ),
        Component(
            name="tokenizer",
            copy={f"tokenizer/{name}": name for name in _TOKENIZER},
            copy_optional=tuple(f"tokenizer/{name}" for name in _TOKENIZER[2:]),
        ),
        Component(name="scheduler", copy={"scheduler/scheduler_config.json": "scheduler_config.json"}),
    )
}
