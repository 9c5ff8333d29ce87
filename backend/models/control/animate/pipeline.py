"""diffusers' Wan-Animate pipeline a segment at a time, so that no more than a segment's pictures lie on the device.

Shape letters: C latent channels, L latent frames, h w latent, T frames, H W picture, I patches, E width.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.pipelines.wan.pipeline_wan_animate import WanAnimatePipeline
from torch import Tensor

from ..pipeline import Placed


class AnimatePipeline(Placed, WanAnimatePipeline):
    """diffusers' own; a call makes a segment.

    Attributes:
        seen: (1,I,E) what CLIP makes of the reference.
        before: (1,3,T,H,W) in [-1, 1], the last frames of the segment before; None for the first one.
    """

    seen: Tensor
    before: Tensor | None = None

    def encode_image(self, image: Any, device: torch.device | None = None) -> Tensor:
        """What CLIP has been asked already."""
        return self.seen.to(device or self._execution_device)

    def prepare_prev_segment_cond_latents(
        self, prev_segment_cond_video: Tensor | None = None, *, start_frame: int = 0, **named: Any
    ) -> Tensor:
        """As its parent; a segment that goes on from another knows its first frames."""
        if self.before is not None:
            prev_segment_cond_video, start_frame = self.before, self.before.shape[2]
        return super().prepare_prev_segment_cond_latents(prev_segment_cond_video, start_frame=start_frame, **named)
