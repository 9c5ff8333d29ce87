"""A network spread over the processes of a run: weights, gradients, averages and the optimiser's state (FSDP2).

torch's ``fully_shard``, which is what accelerate's FSDP 2 calls, applied here because the loop has its own optimisers,
averages and checkpoints. Every block's weights are gathered when it runs and let go afterwards. Checkpoints hold whole
tensors, so that a run is exported, and goes on without sharding, like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from .errors import TrainingError


def shard(model: nn.Module, device: torch.device, bf16: bool) -> None:
    """Spread a network over the processes, in place; one process keeps it all.

    Args:
        model: on ``device``, with the same weights in every process; the kinds of its ``_no_split_modules`` are
            gathered one at a time.
        bf16: gather and compute in bfloat16. Gradients are averaged, and weights kept, in float32.

    Raises:
        TrainingError: its modules do not say where they may be split.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    if not torch.distributed.is_initialized():
        return
    kinds = getattr(model, "_no_split_modules", None)
    if not kinds:
        raise TrainingError(f"sharded = true: {type(model).__name__} does not say which of its modules stay whole")
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bf16 else None, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    for module in model.modules():
        if type(module).__name__ in kinds:
            fully_shard(module, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)


def sharded(model: nn.Module) -> bool:
    """Whether a network is spread over processes."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def whole(state: Any) -> Any:
    """A state as plain tensors on the CPU; every process takes part, and all but the first get empty ones."""
    if isinstance(state, Mapping):
        return {key: whole(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [whole(value) for value in state]
    if not isinstance(state, DTensor):
        return state
    full = state.full_tensor()
    return full.cpu() if torch.distributed.get_rank() == 0 else full.new_empty(0, device="cpu")


def like(full: Tensor, mine: Tensor) -> Tensor:
    """A whole tensor, the same in every process, spread as ``mine`` is; itself where that is whole."""
    if not isinstance(mine, DTensor):
        return full
    spread = distribute_tensor(full.to(mine.device), mine.device_mesh, mine.placements, src_data_rank=None)
    return spread.clone()  # or its part would keep all of ``full``
