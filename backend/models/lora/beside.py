"""LoRAs beside weights that are kept quantised: added to those, most of what they change would be rounded away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

NAME = "lora"
"""Of the part that a linear layer gets, so that it moves along with it."""


class Beside(nn.Module):
    """Adds up @ down @ x to what a linear layer makes of x.

    Args:
        down: (rank, in); ``up``: (out, rank).
        dtype: in which it is kept and computes.
    """

    def __init__(self, down: Tensor, up: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.down, self.up = (nn.Linear(w.shape[1], w.shape[0], bias=False, dtype=dtype) for w in (down, up))
        self.down.weight.copy_(down)
        self.up.weight.copy_(up)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        return self.up(self.down(x))


def run_beside(layer: nn.Module, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Have a quantised linear layer add these products from now on.

    Args:
        pairs: (rank, in) and (out, rank) of each LoRA, its factor in it.
    """
    kept: Any = layer
    layer.add_module(
        NAME, Beside(torch.cat([d for d, _ in pairs]), torch.cat([u for _, u in pairs], 1), kept.compute_dtype)
    )
    layer.register_forward_hook(_add)


def _add(layer: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> Tensor:
    return made + layer.get_submodule(NAME)(given[0])
