"""Films between pictures (uint8) and networks ([-1, 1]). Shape letters: T frames, H W picture."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def frames_to_tensor(frames: np.ndarray) -> Tensor:
    """(T,H,W,3) uint8 -> (3,T,H,W) float32 in [-1, 1]."""
    return torch.from_numpy(np.array(frames)).permute(3, 0, 1, 2).float() / 127.5 - 1


def tensor_to_frames(video: Tensor) -> np.ndarray:
    """(3,T,H,W) about [-1, 1] -> (T,H,W,3) uint8."""
    pixels = ((video.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.permute(1, 2, 3, 0).cpu().numpy()
