"""What MimicMotion's parts are published as.

Its own file holds the UNet and the pose network, told apart by the beginning of their keys. It is loaded leniently by
the published code and may hold copies of SVD's other parts as well; those are taken from SVD's own files.
"""

from __future__ import annotations

from ..weights.component import Component
from .build import new_network

_OWN = ("MimicMotion_1-1.pth", "MimicMotion_1.pth")
"""The 72-frame checkpoint, else the 16-frame one."""

COMPONENTS: dict[str, Component] = {
    "unet": Component(
        name="unet",
        published=_OWN,
        prefix="unet.",
        build=lambda spec: new_network(spec, "unet"),
    ),
    "pose_net": Component(
        name="pose_net",
        published=_OWN,
        prefix="pose_net.",
        build=lambda spec: new_network(spec, "pose_net"),
    ),
    "vae": Component(
        name="vae",
        published=("vae/diffusion_pytorch_model.fp16.safetensors", "vae/diffusion_pytorch_model.safetensors"),
        build=lambda spec: new_network(spec, "vae"),
    ),
    "image_encoder": Component(
        name="image_encoder",
        published=("image_encoder/model.fp16.safetensors", "image_encoder/model.safetensors"),
        build=lambda spec: new_network(spec, "image_encoder"),
        weights_name="model",
        may_drop=("*.position_ids",),
    ),
}
"""The parts by name."""
