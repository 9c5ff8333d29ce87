"""MimicMotion's networks: the pose network, and SVD's UNet with the pose added after its first convolution.

Shape letters: F frames, C channels, H W image, h w latent (an eighth of the image), B batch.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from torch import Tensor, nn


class PoseNet(ModelMixin, ConfigMixin):
    """Pose maps to what is added to the UNet's first features (MimicMotion, Zhang et al. 2024, Sec. 3.2).

    Eight convolutions with SiLU after each, the last included, a projection that starts at zero, and one learned scale.

    Args:
        noise_latent_channels: width of the UNet's first features.
    """

    @register_to_config
    def __init__(self, noise_latent_channels: int = 320) -> None:
        super().__init__()
        self.conv_layers = nn.Sequential(
            nn.Conv2d(3, 3, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(3, 16, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(16, 32, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, 64, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(64, 128, 3, padding=1),
            nn.SiLU(),
        )
        self.final_proj = nn.Conv2d(128, noise_latent_channels, 1)
        for parameter in self.final_proj.parameters():
            nn.init.zeros_(parameter)
        self.scale = nn.Parameter(torch.full((1,), 2.0))

    def forward(self, maps_F3HW: Tensor) -> Tensor:
        """Pose maps in [-1, 1], RGB (F,3,H,W) or (1,F,3,H,W) -> (F,C,h,w)."""
        if maps_F3HW.ndim == 5:
            maps_F3HW = maps_F3HW.flatten(0, 1)
        return self.final_proj(self.conv_layers(maps_F3HW)) * self.scale


class PoseUNet(UNetSpatioTemporalConditionModel):
    """SVD's UNet, key for key, that takes pose latents as well."""

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        added_time_ids: Tensor,
        pose_latents: Tensor | None = None,
        return_dict: bool = True,
    ) -> Any:
        """One evaluation.

        Args:
            sample: (B,F,8,h,w), noisy latents and the reference's.
            timestep: (B,) continuous.
            encoder_hidden_states: (B,1,D) image embedding.
            added_time_ids: (B,3) frame rate - 1, motion bucket, noise augmentation.
            pose_latents: (B*F,C,h,w) of the pose network, added once and unscaled after ``conv_in``; None, and not
                the latents of an empty map, in the unconditional pass.

        Returns:
            v-prediction (B,F,4,h,w), as the stock model returns it.
        """
        if pose_latents is None:
            return super().forward(sample, timestep, encoder_hidden_states, added_time_ids, return_dict)
        handle = self.conv_in.register_forward_hook(lambda _module, _inputs, output: output.add_(pose_latents))
        try:
            return super().forward(sample, timestep, encoder_hidden_states, added_time_ids, return_dict)
        finally:
            handle.remove()
