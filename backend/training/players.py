"""What is trained: networks with the optimisers that move them, and the average of the weights.

Two optimisers: AdamW (Loshchilov and Hutter 2019), and Muon (Jordan et al. 2024; scaled as in Liu et al. 2025, "Muon is
scalable for LLM training", so that it takes AdamW's learning rate) for the matrices inside the blocks of a network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from .schedule import LoopConfig

if TYPE_CHECKING:
    from accelerate import Accelerator


class EMA:
    """Exponential moving average of a module's parameters, where they are (CPU or GPU)."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Average in the weights after step ``step`` (0-based); early steps are forgotten fast."""
        decay = min(self.decay, (1 + step) / (10 + step))
        mine = list(self.weights.values())
        theirs = [p.detach() for p in model.parameters()]
        torch._foreach_lerp_(mine, theirs, 1 - decay)

    @torch.no_grad()
    def reset(self, model: nn.Module) -> None:
        """Start again from the weights that ``model`` has now."""
        for name, parameter in model.named_parameters():
            self.weights[name].copy_(parameter)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Put the averaged weights into ``model``."""
        for name, parameter in model.named_parameters():
            parameter.copy_(self.weights[name])


def _in_a_block(name: str) -> bool:
    """Whether a parameter belongs to one of several blocks in a row, as ``blocks.3.mlp.weight`` does."""
    return any(part.isdigit() for part in name.split("."))


class Player:
    """Networks that one loss trains together, and their optimisers.

    Attributes:
        modules: the networks by name.
        parameters: those that are trained, once each.
        optimizers: ``adamw``, and ``muon`` where the run asks for it and there is a matrix for it.
    """

    def __init__(
        self, modules: Mapping[str, nn.Module], config: LoopConfig, factor: float = 1.0, muon: bool = True
    ) -> None:
        """Collect what is to be trained.

        Args:
            factor: times the run's learning rate is this player's.
            muon: whether Muon may move its matrices, where the run asks for it.
        """
        self.modules = dict(modules)
        self.factor = factor
        self._clip = config.clip
        named: dict[int, tuple[str, Tensor]] = {}
        for module in self.modules.values():
            for name, parameter in module.named_parameters():
                if parameter.requires_grad:
                    named.setdefault(id(parameter), (name, parameter))
        self.parameters = [parameter for _, parameter in named.values()]
        # Muon is for the hidden matrices: what leads in and out of a network, and kernels, are AdamW's.
        muon = muon and config.optimizer == "muon"
        hidden = [p for n, p in named.values() if muon and p.ndim == 2 and _in_a_block(n)]
        taken = {id(p) for p in hidden}
        rest = [p for p in self.parameters if id(p) not in taken]
        groups = [
            {"params": [p for p in rest if p.ndim >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.optimizers: dict[str, torch.optim.Optimizer] = {
            "adamw": torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)
        }
        if hidden:
            self.optimizers["muon"] = torch.optim.Muon(
                hidden, lr=config.lr, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"
            )

    def step(self, loss: Tensor, lr: float, accelerator: Accelerator) -> tuple[Tensor, bool]:
        """Move the parameters one step down ``loss``.

        Only this player's gradients are computed. When the gradient is not finite, nothing moves.

        Args:
            loss: scalar of this process; gradients are averaged over the processes.
            lr: the run's learning rate.

        Returns:
            The gradient's norm before clipping, on the device, and whether the parameters moved.
        """
        for parameter in self.parameters:
            parameter.grad = None
        if any(isinstance(p, DTensor) for p in self.parameters):
            loss.backward()  # which averages, too
        else:
            loss.backward(inputs=self.parameters)
            if accelerator.num_processes > 1:
                average_gradients(self.parameters, accelerator)
        norm = nn.utils.clip_grad_norm_(self.parameters, self._clip)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        moves = bool(torch.isfinite(norm))
        if moves:
            for optimizer in self.optimizers.values():
                for group in optimizer.param_groups:
                    group["lr"] = lr * self.factor
                optimizer.step()
        # Nothing that a loss of the next turn leaves behind here is added to by accident.
        for parameter in self.parameters:
            parameter.grad = None
        return norm, moves

    def state(self) -> dict[str, Any]:
        """What the optimisers remember, by name."""
        return {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}


def average_gradients(parameters: list[Tensor], accelerator: Accelerator) -> None:
    """Replace every gradient by its mean over the processes, by one all-reduce of all of them in one vector.

    A loop of its own in place of DistributedDataParallel: several losses a step, functional calls with other weights
    and players that take turns all go through one ``backward`` each, in which the wrapper's hooks would see nothing or
    too much; and the result is exactly the mean. A parameter that no process used keeps no gradient, so that weight
    decay and momentum leave it alone as they do with one process; one that some did not use counts as zero there.
    """
    device = parameters[0].device
    used = torch.tensor([p.grad is not None for p in parameters], dtype=torch.float32, device=device)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = accelerator.reduce(torch.cat([g.flatten().float() for g in gradients] + [used]), "mean")
    assert isinstance(flat, Tensor)
    *parts, used = flat.split([p.numel() for p in parameters] + [len(parameters)])
    for parameter, part, count in zip(parameters, parts, used.tolist(), strict=True):
        parameter.grad = part.view_as(parameter).to(parameter.dtype) if count > 0 else None


@torch.no_grad()
def share(tensors: Iterable[Tensor]) -> None:
    """Make the first process' values those of all, in place."""
    from accelerate.utils import broadcast

    for tensor in tensors:
        shared = broadcast(tensor.detach().contiguous())
        assert isinstance(shared, Tensor)
        tensor.copy_(shared)
