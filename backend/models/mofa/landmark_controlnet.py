"""MOFA-Video's landmark adapter: as the trajectory adapter, with holes filled and a drawing of the face's landmarks.

Shape letters: B batch, T frames, N = T-1, S = B*T, C channels, H W picture, h w feature grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from torch import Tensor, cat, nn

from .flow_controlnet import SCALES, FlowControlNet
from .flow_controlnet_layers import FeaturePyramid, Matting, PictureEmbedding
from .splat import PixelMotion


class LandmarkControlNet(FlowControlNet):
    """The landmark adapter (``ckpts/mofa/ldmk_controlnet``).

    Args:
        landmark_channels: of the embedding of the drawn landmarks.
        matting_channels: of the hourglass that fills holes.
        Others as in ``FlowControlNet``.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int = 8,
        block_out_channels: Sequence[int] = (320, 640, 1280, 1280),
        heads: Sequence[int] = (5, 10, 10, 20),
        layers_per_block: int = 2,
        cross_attention_dim: int = 1024,
        addition_time_embed_dim: int = 256,
        projection_class_embeddings_input_dim: int = 768,
        embedding_channels: Sequence[int] = (16, 32, 96, 256),
        landmark_channels: Sequence[int] = (16, 32, 64, 128),
        matting_channels: Sequence[int] = (128, 256, 512),
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            block_out_channels=block_out_channels,
            heads=heads,
            layers_per_block=layers_per_block,
            cross_attention_dim=cross_attention_dim,
            addition_time_embed_dim=addition_time_embed_dim,
            projection_class_embeddings_input_dim=projection_class_embeddings_input_dim,
            embedding_channels=embedding_channels,
        )
        widths = [block_out_channels[0], *block_out_channels[:3]]
        self.controlnet_ldmk_embedding = PictureEmbedding(widths[0], landmark_channels)
        self.occlusions = nn.ModuleDict(
            {str(scale): Matting(width, matting_channels) for scale, width in zip(SCALES, widths, strict=True)}
        )
        self.zero_outs = nn.ModuleDict(
            {str(scale): nn.Conv2d(width, width, 1) for scale, width in zip(SCALES, widths, strict=True)}
        )

    def _make_pyramid(self, widths: list[int]) -> None:
        self.flow_encoder = FeaturePyramid([widths[0], *widths[:3]], projected=False)

    def carried_features(
        self, picture_B3HW: Tensor, motion: PixelMotion, parity: bool
    ) -> tuple[list[Tensor], list[Tensor]]:
        """As in ``FlowControlNet``, holes filled in frames 1..N, and the masks (B*N,1,h,w) by which they were."""
        feature = self.controlnet_cond_embedding(picture_B3HW)
        features = [feature, *self.flow_encoder(feature)]
        carried, masks = [], []
        for scale, source in zip(SCALES, features, strict=True):
            coarse = motion.reduced(scale, parity)
            moved = coarse.carry(source, parity)
            # A source that cannot be seen has no flow; the network knows numbers only.
            flow = coarse.flow.flatten(0, 1).nan_to_num(0.0).to(source.dtype)
            still = source.repeat_interleave(motion.frames - 1, dim=0)
            filled, mask = self.occlusions[str(scale)](still, moved[:, 1:].flatten(0, 1), flow)
            filled = self.zero_outs[str(scale)](filled).unflatten(0, (source.shape[0], -1))
            carried.append(cat([moved[:, :1], filled], dim=1))
            masks.append(mask)
        return carried, masks

    def embed_landmarks(self, landmarks: Tensor | None, batch: int) -> tuple[Tensor, Tensor]:
        """(S,C,h,w) at 1/8, and at 1/16 by taking every second pixel.

        Raises:
            ValueError: no landmarks.
        """
        if landmarks is None:
            raise ValueError("landmarks: this adapter needs a drawing of the face for every frame")
        fine = self.controlnet_ldmk_embedding(landmarks.flatten(0, 1))
        fine = fine.repeat(batch // landmarks.shape[0], 1, 1, 1)
        return fine, F.interpolate(fine, scale_factor=0.5, mode="nearest")
