"""Pictures as CLIP's image encoders were trained to see them."""

from __future__ import annotations

import torch
from torch import Tensor

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


def normalized(pictures: Tensor) -> Tensor:
    """Pictures (...,3,H,W) in [-1, 1] with the mean and deviation of CLIP's training set taken out."""
    mean, std = (torch.tensor(values).to(pictures).view(3, 1, 1) for values in (_MEAN, _STD))
    return ((pictures + 1) / 2 - mean) / std
