"""MOFA-Video's trajectory adapter: the first frame's features, carried along the motion, beside the UNet's encoder.

Shape letters: B batch, T frames, N = T-1, S = B*T, C channels, D width of the time embedding, H W picture,
h w = H/8 W/8.

Follows the published behaviour, including what looks like an oversight, because the weights were trained with it
(tests/parity). Flags named ``parity`` turn off only how motion is sampled and splatted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_3d_blocks import UNetMidBlockSpatioTemporal, get_down_block
from torch import Tensor, nn

from .flow_controlnet_layers import FeaturePyramid, PictureEmbedding, Residuals
from .splat import PixelMotion

SCALES = (8, 16, 32, 64)
"""How much coarser than the picture each of the carried features is."""


class FlowControlNet(ModelMixin, ConfigMixin):
    """The trajectory adapter (``ckpts/controlnet``, ``ckpts/mofa/traj_controlnet``).

    Args:
        in_channels: noisy and picture latents together.
        block_out_channels: of the encoder's four blocks, as the UNet's.
        heads: attention heads of the four blocks. The published adapter always runs with 5, 10, 10, 20, whatever its
            configuration file says, and SVD's UNet with 5, 10, 20, 20; the weights' shapes are the same for both. The
            entry has a name of its own, so that no published file can set it.
        embedding_channels: of the picture's embedding.
    """

    _supports_gradient_checkpointing = False
    _no_split_modules = ["BasicTransformerBlock", "SpatioTemporalResBlock"]

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
    ) -> None:
        super().__init__()
        widths, blocks = list(block_out_channels), len(block_out_channels)
        time_width = 4 * widths[0]
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.time_proj = Timesteps(widths[0], True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(widths[0], time_width)
        self.add_time_proj = Timesteps(addition_time_embed_dim, True, downscale_freq_shift=0)
        self.add_embedding = TimestepEmbedding(projection_class_embeddings_input_dim, time_width)

        self.down_blocks = nn.ModuleList()
        skips = [widths[0]]
        for index, width in enumerate(widths):
            last = index == blocks - 1
            self.down_blocks.append(
                get_down_block(
                    "DownBlockSpatioTemporal" if last else "CrossAttnDownBlockSpatioTemporal",
                    num_layers=layers_per_block,
                    transformer_layers_per_block=1,
                    in_channels=widths[max(index - 1, 0)],
                    out_channels=width,
                    temb_channels=time_width,
                    add_downsample=not last,
                    resnet_eps=1e-5,
                    resnet_act_fn="silu",
                    cross_attention_dim=cross_attention_dim,
                    num_attention_heads=heads[index],
                )
            )
            skips += [width] * (layers_per_block + (not last))
        self.mid_block = UNetMidBlockSpatioTemporal(
            widths[-1],
            temb_channels=time_width,
            transformer_layers_per_block=1,
            cross_attention_dim=cross_attention_dim,
            num_attention_heads=heads[-1],
        )
        self.controlnet_down_blocks = nn.ModuleList(nn.Conv2d(width, width, 1) for width in skips)
        self.controlnet_mid_block = nn.Conv2d(widths[-1], widths[-1], 1)
        self.controlnet_cond_embedding = PictureEmbedding(widths[0], embedding_channels)
        self._make_pyramid(widths)

    def _make_pyramid(self, widths: list[int]) -> None:
        self.flow_encoder = FeaturePyramid([widths[0], *widths[:3]], projected=True)

    def carried_features(
        self, picture_B3HW: Tensor, motion: PixelMotion, parity: bool
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The first frame's features in all frames, at 1/8, 1/16, 1/32 and 1/64, each (B,T,C,h,w), and their masks.

        The masks are those of an adapter that fills holes; there are none here.
        """
        feature = self.controlnet_cond_embedding(picture_B3HW)
        features = [feature, *self.flow_encoder(feature)]
        return [
            motion.reduced(scale, parity).carry(feature, parity)
            for scale, feature in zip(SCALES, features, strict=True)
        ], []

    def embed_time(self, timestep: Tensor | float, added_time_ids_BI: Tensor, dtype: torch.dtype) -> Tensor:
        """(B,D) from the timestep (a number or (1,) or (B,)) and frame rate, motion bucket and noise."""
        B = added_time_ids_BI.shape[0]
        time_B = torch.as_tensor(timestep, device=added_time_ids_BI.device).reshape(-1).expand(B)
        time_BD = self.time_embedding(self.time_proj(time_B).to(dtype))
        added_BD = self.add_embedding(self.add_time_proj(added_time_ids_BI.flatten()).view(B, -1).to(dtype))
        return time_BD + added_BD

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        added_time_ids: Tensor,
        picture: Tensor,
        motion: PixelMotion,
        conditioning_scale: float = 1.0,
        parity: bool = True,
        landmarks: Tensor | None = None,
    ) -> Residuals:
        """What to add to the UNet's skip connections.

        Args:
            sample: (B,T,8,h,w) scaled noisy latents and the picture's latents.
            timestep: as the UNet's.
            encoder_hidden_states: (B,1,cross_attention_dim) embedding of the picture.
            added_time_ids: (B,3) frame rate - 1, motion bucket, noise augmentation.
            picture: (B',3,H,W) the first frame in [-1, 1]; B a multiple of B', H and W of 64.
            motion: of the picture's pixels, for T frames, B'.
            conditioning_scale: factor of all residuals.
            parity: sample and splat the motion as published (see ``PixelMotion``).
            landmarks: (B',T,3,H,W) in [0, 1], of the adapter that takes them.

        Raises:
            ValueError: a picture whose sides are no multiples of 64, or motion for another number of frames.
        """
        B, T = sample.shape[:2]
        if picture.shape[-1] % SCALES[-1] or picture.shape[-2] % SCALES[-1]:
            raise ValueError(f"picture: {tuple(picture.shape[-2:])} pixels; both sides must be multiples of 64")
        if motion.frames != T:
            raise ValueError(f"motion: for {motion.frames} frames, but the sample has {T}")
        time_SD = self.embed_time(timestep, added_time_ids, sample.dtype).repeat_interleave(T, dim=0)
        context = encoder_hidden_states.repeat_interleave(T, dim=0)
        still = torch.zeros(B, T, dtype=sample.dtype, device=sample.device)

        carried, _ = self.carried_features(picture, motion, parity)
        # The halves of guidance share one picture: the features are made once and repeated.
        f8, f16, f32, f64 = (x.repeat(B // x.shape[0], 1, 1, 1, 1).flatten(0, 1) for x in carried)
        l8, l16 = self.embed_landmarks(landmarks, B)

        x = self.conv_in(sample.flatten(0, 1)) + f8 + l8
        skips = [x]
        x, outputs = self._down(0, x, time_SD, context, still)
        skips += outputs
        x, outputs = self._down(1, x + f16 + l16, time_SD, context, still)
        skips += outputs
        x, outputs = self._down(2, x + f32, time_SD, context, still)
        skips += outputs
        x, outputs = self._down(3, x + f64, time_SD, context, still)
        skips += outputs
        # The coarsest feature enters three times in all, as published: before block 3, after it, and before the middle.
        x = x + f64
        x = x + f64
        x = self.mid_block(x, temb=time_SD, encoder_hidden_states=context, image_only_indicator=still)

        down = [block(skip) for block, skip in zip(self.controlnet_down_blocks, skips, strict=True)]
        mid = self.controlnet_mid_block(x)
        return Residuals(tuple(residual * conditioning_scale for residual in down), mid * conditioning_scale)

    def embed_landmarks(self, landmarks: Tensor | None, batch: int) -> tuple[Any, Any]:
        """What is added at 1/8 and 1/16 for drawn landmarks; nothing in this adapter."""
        if landmarks is not None:
            raise ValueError("landmarks: this adapter takes none")
        return 0.0, 0.0

    def _down(
        self, index: int, x: Tensor, time_SD: Tensor, context: Tensor, still: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Block ``index``: its output, and the skip connections that lie in it."""
        block: Any = self.down_blocks[index]
        if getattr(block, "has_cross_attention", False):
            return block(x, temb=time_SD, encoder_hidden_states=context, image_only_indicator=still)
        return block(x, temb=time_SD, image_only_indicator=still)
