"""What the kinds of LoRA files add to a weight."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def product(parts: Mapping[str, Tensor]) -> Tensor:
    """What a change adds before its factor, float32: (out, in) with kernels' sides flattened, a difference as it is.

    Args:
        parts: tensors by their roles, see ``keys.WHOLE``.
    """
    if "diff" in parts:
        return parts["diff"]
    if "down" in parts:
        return _of_two(parts["up"], parts["down"])
    if "hada_w1_a" in parts:
        one, other = (_of_two(parts[f"hada_{w}_a"], parts[f"hada_{w}_b"]) for w in ("w1", "w2"))
        return one * other
    one, other = (
        parts[name].flatten(1) if name in parts else _of_two(parts[f"{name}_a"], parts[f"{name}_b"])
        for name in ("lokr_w1", "lokr_w2")
    )
    return torch.kron(one, other)


def _of_two(left: Tensor, right: Tensor) -> Tensor:
    return left.flatten(1) @ right.flatten(1)


def stretched(weight: Tensor, magnitude: Tensor) -> Tensor:
    """A weight whose rows have the lengths ``magnitude``, or its columns where that is a row (1, in, ...).

    A row is all that goes into one output, a column all that comes from one input, over the sides of a kernel too.
    """
    of_columns = magnitude.dim() > 1 and magnitude.shape[0] == 1 and weight.shape[0] != 1
    over = [side for side in range(weight.dim()) if side != int(of_columns)]
    length = torch.linalg.vector_norm(weight, dim=over, keepdim=True)
    return weight * (magnitude.reshape(length.shape) / length.clamp_min(torch.finfo(torch.float32).tiny))
