"""diffusers' context parallelism: members of a group share out a transformer's tokens (Ulysses: attention by heads).

``enable_parallelism`` of diffusers throws the same switches, but only where there is an accelerator, and for good.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.hooks.context_parallel import apply_context_parallel, remove_context_parallel
from diffusers.models._modeling_parallel import (
    ContextParallelConfig,
    ContextParallelInput,
    ContextParallelOutput,
    ParallelConfig,
)
from torch import nn

from .group import Group

SPLIT = ContextParallelInput(split_dim=1, expected_dims=3)
ROTARY = ContextParallelInput(split_dim=1, expected_dims=4, split_output=True)
GATHER = ContextParallelOutput(gather_dim=1, expected_dims=3)
"""Video tokens (B,S,C), their rotary tables (1,S,1,E), and video tokens for everybody again."""

WAN_PLAN: Mapping[str, Any] = {"rope": {0: ROTARY, 1: ROTARY}, "blocks.0": {"hidden_states": SPLIT}, "proj_out": GATHER}
"""Wan's transformer: what of which module is shared out or gathered, as ``_cp_plan`` of diffusers."""

WHOLE = 0.2
"""Share of a transformer's activations that is counted as not divided: embeddings before tokens are shared out, what is
sent and got. It is less the wider a network is: of a VACE of width 512 two members hold 0.57 of what one alone does, of
width 768 0.53 (and 3 and 4 members 0.37 and 0.31), and the published ones have 1536 and 5120."""


def held_of_row(size: int) -> float:
    """Share of a network's activations that each of ``size`` members of a row holds at most."""
    return WHOLE + (1 - WHOLE) / size if size > 1 else 1.0


@contextmanager
def context_parallel(network: Any, group: Group, plan: Mapping[str, Any]) -> Iterator[None]:
    """While it is entered the members of a row (see ``Group.spread``) evaluate a network together; each is given and
    gets everything. Their number must divide its heads.

    Args:
        network: of diffusers, whose attention goes through its dispatcher.
        plan: as ``_cp_plan`` of diffusers; where the tokens begin, where they end.
    """
    if group.size == 1:
        yield
        return
    config = ContextParallelConfig(ulysses_degree=group.size, ulysses_anything=True, mesh=group.mesh)
    both = ParallelConfig(context_parallel_config=config)
    both.setup(group.rank, group.size, torch.device("cpu"), mesh=group.mesh)
    _tell(network, both)
    apply_context_parallel(network, config, dict(plan))
    try:
        yield
    finally:
        remove_context_parallel(network, dict(plan))
        _tell(network, None)


def _tell(network: nn.Module, config: ParallelConfig | None) -> None:
    for module in network.modules():
        processor: Any = getattr(module, "processor", None)
        if hasattr(processor, "_parallel_config"):
            processor._parallel_config = config
