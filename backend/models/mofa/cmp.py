"""Dense flow from a few known displacements: Conditional Motion Propagation (Zhan et al. 2019), as MOFA-Video uses it.

Shape letters: B batch, C channels, H W picture, P points, K bins of one axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from .cmp_layers import FlowDecoder, ImageEncoder, SparseEncoder


class MotionPropagation(ModelMixin, ConfigMixin):
    """The published network (``resnet50_vip+mpii_liteflow``).

    Args:
        widths, depths: of the image encoder's stages, ResNet-50's.
        image_channels, sparse_channels: that meet at 1/8.
        decoder_channels: of a branch of the decoder.
        bins: of one axis of the flow.
        max_flow: pixels; the bins divide -max_flow to max_flow evenly.
        size: pixels of the square picture that it was trained with.
    """

    @register_to_config
    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256, 512),
        depths: Sequence[int] = (3, 4, 6, 3),
        image_channels: int = 256,
        sparse_channels: int = 16,
        decoder_channels: int = 128,
        bins: int = 99,
        max_flow: float = 50.0,
        size: int = 384,
    ) -> None:
        super().__init__()
        self.image_encoder = ImageEncoder(widths, depths, image_channels)
        self.flow_encoder = SparseEncoder(4, sparse_channels)
        self.flow_decoder = FlowDecoder(
            image_channels + sparse_channels, 4 * widths[0], widths[0], decoder_channels, 2 * bins
        )

    def bin_logits(self, picture: Tensor, sparse: Tensor, mask: Tensor) -> Tensor:
        """(B,2K,H/2,W/2): scores of the bins of x, then of y. Arguments as in ``forward``."""
        half, quarter, image = self.image_encoder(2 * picture - 1)
        # The mask enters twice, once per axis.
        known = self.flow_encoder(torch.cat([sparse, mask.expand(-1, 2, -1, -1)], dim=1))
        return self.flow_decoder(torch.cat([image, known], dim=1), quarter, half)

    def forward(self, picture: Tensor, sparse: Tensor, mask: Tensor) -> Tensor:
        """Dense flow (B,2,H,W) in pixels of the picture, x right and y down, always below ``max_flow``.

        Args:
            picture: (B,3,H,W) in [0, 1]; H = W = ``size``.
            sparse: (B,2,H,W) displacement where it is known, 0 elsewhere.
            mask: (B,1 or 2,H,W) 1 where it is known.
        """
        logits_B2Khw = self.bin_logits(picture, sparse, mask).unflatten(1, (2, -1)).float()
        bins, most = int(self.config["bins"]), float(self.config["max_flow"])
        width = 2 * most / bins
        centres_K = torch.arange(bins, device=logits_B2Khw.device) * width + (width / 2 - most)
        flow_B2hw = torch.einsum("bakhw,k->bahw", logits_B2Khw.softmax(2), centres_K)
        # The values stay as they are: they already count pixels of the full picture.
        return F.interpolate(flow_B2hw, size=picture.shape[-2:], mode="bilinear", align_corners=True)

    @torch.no_grad()
    def propagate(self, picture: Tensor, points_P2: Tensor, displacements_NP2: Tensor, parity: bool = True) -> Tensor:
        """Dense flow (1,N,2,H,W) of a picture of any size, in its pixels, from points that are followed.

        Picture and displacements are squeezed to the network's square, and the flow is stretched back (MOFA-Video).

        Args:
            picture: (1,3,H,W) in [0, 1].
            points_P2: where the points are in frame 0, (x, y) pixels, pixel centres at +0.5. Those outside of the
                picture are left out.
            displacements_NP2: from there to frames 1..N, pixels; NaN for a point that is not seen.
            parity: cut displacements to whole pixels of the square, as published.
        """
        side = int(self.config["size"])
        H, W = picture.shape[-2:]
        small = F.interpolate(picture.to(self.device, self.dtype), (side, side), mode="bilinear", antialias=True)
        scale = torch.tensor([side / W, side / H])
        points = (points_P2.cpu().float() * scale).floor().long()
        inside = ((points >= 0) & (points < side)).all(1)
        flows = []
        for displacement_P2 in displacements_NP2.cpu().float() * scale:
            sparse, mask = torch.zeros(1, 2, side, side), torch.zeros(1, 1, side, side)
            known = inside & displacement_P2.isfinite().all(1)
            value = displacement_P2[known].trunc() if parity else displacement_P2[known]
            for (x, y), displacement in zip(points[known].tolist(), value, strict=True):
                # Where two points share a pixel, the later one counts.
                sparse[0, :, y, x] = displacement
                mask[0, 0, y, x] = 1
            flows.append(self(small, sparse.to(small), mask.to(small)))
        flow_N2HW = F.interpolate(torch.cat(flows), (H, W), mode="nearest")
        return (flow_N2HW / scale.to(flow_N2HW)[:, None, None])[None]
