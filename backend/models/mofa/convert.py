"""What MOFA-Video's parts are published as.

The adapters' configuration files are not used: the published code constructs both without arguments, so that what
they say has no effect (see ``FlowControlNet``).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import Tensor

from ...catalogue.models import ModelSpec
from ..weights.component import Component, without_prefix
from .build import network_names, new_network

_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors")


def _cmp(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published with the name that data parallel training puts in front."""
    return without_prefix(state, "module.")


def _component(name: str, published: tuple[str, ...]) -> Component:
    build = partial(new_network, part=name)
    if name == "image_encoder":
        return Component(name, published, build, weights_name="model", may_drop=("*.position_ids",))
    if name == "cmp":
        # Counters that older files lack, which nothing reads once training is over.
        lack = ("*.num_batches_tracked",)
        return Component(name, published, build, convert=_cmp, may_lack=lack, keep_dtype=True, optional=True)
    return Component(name, published, build)


def components(spec: ModelSpec) -> dict[str, Component]:
    """The parts of a model: Stable Video Diffusion XT 1.1, one adapter or two, and CMP."""
    hybrid = "landmark_controlnet" in spec.components
    adapter = "ckpts/mofa/traj_controlnet" if hybrid else "ckpts/controlnet"
    published = {
        "image_encoder": ("image_encoder/model.fp16.safetensors", "image_encoder/model.safetensors"),
        "vae": ("vae/diffusion_pytorch_model.fp16.safetensors", "vae/diffusion_pytorch_model.safetensors"),
        "unet": ("unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.safetensors"),
        "controlnet": tuple(f"{adapter}/{name}" for name in _WEIGHTS),
        "landmark_controlnet": tuple(f"ckpts/mofa/ldmk_controlnet/{name}" for name in _WEIGHTS),
        "cmp": ("resnet50_vip+mpii_liteflow/checkpoints/ckpt_iter_42000.pth.tar",),
    }
    return {name: _component(name, published[name]) for name in network_names(spec)}
