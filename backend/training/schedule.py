"""How long and how fast a loop trains, and with which random numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .errors import TrainingError

OPTIMIZERS = ("adamw", "muon")
PRECISIONS = ("auto", "bf16", "no")


@dataclass(frozen=True)
class LoopConfig:
    """How to train.

    Attributes:
        steps: steps of the whole run.
        batch: samples per step and process.
        lr: learning rate after ``warmup`` steps; constant until the last ``decay`` share of the steps, then linear
            to zero.
        weight_decay: of the optimisers, on matrices only.
        ema: decay of the averaged weights, which are the ones exported.
        clip: largest norm of the gradient, of the model and of each rival for itself.
        betas: of AdamW.
        milestones, gamma: from each of these steps on, the learning rate is ``gamma`` times what it was.
        seed: of everything random.
        save_minutes: between checkpoints.
        optimizer: ``adamw``; or ``muon``, which moves the matrices inside the model's blocks, with AdamW for the rest.
        precision: ``no`` for float32, ``bf16``, or ``auto``: bfloat16 where the device computes in it.
        rival_lr: learning rate of the rivals, as a multiple of ``lr``. Rivals are always AdamW's.
        sharded: spread weights, gradients, averages and optimiser over the processes, see ``sharding``.
        checkpointing: remember only what goes into each block, and compute the rest again on the way back.
    """

    steps: int
    batch: int
    lr: float
    warmup: int = 100
    decay: float = 0.2
    weight_decay: float = 0.01
    ema: float = 0.999
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.95)
    milestones: tuple[int, ...] = ()
    gamma: float = 1.0
    seed: int = 0
    save_minutes: float = 4.0
    optimizer: str = "adamw"
    precision: str = "auto"
    rival_lr: float = 1.0
    sharded: bool = False
    checkpointing: bool = False

    def __post_init__(self) -> None:
        for name, choices in (("optimizer", OPTIMIZERS), ("precision", PRECISIONS)):
            if (value := getattr(self, name)) not in choices:
                raise TrainingError(f"{name} = {value!r} is not known; choose from {', '.join(choices)}")
        if self.sharded and self.optimizer == "muon":
            raise TrainingError("sharded = true needs whole matrices for muon; choose optimizer = 'adamw'")
        for name in ("steps", "batch", "lr"):
            if not getattr(self, name) > 0:
                raise TrainingError(f"{name} = {getattr(self, name)} must be above 0")
        # Asked so that nan, too, is refused.
        for name, holds, range_ in (
            ("ema", 0 <= self.ema < 1, "at least 0 and below 1"),
            ("decay", 0 <= self.decay <= 1, "0 to 1"),
            ("clip", self.clip > 0, "above 0 (inf for no limit)"),
            ("warmup", self.warmup >= 0, "at least 0"),
            ("weight_decay", self.weight_decay >= 0, "at least 0"),
        ):
            if not holds:
                raise TrainingError(f"{name} = {getattr(self, name)} must be {range_}")

    def lr_at(self, step: int) -> float:
        """Learning rate of a step (0-based)."""
        start = self.steps * (1 - self.decay)
        fall = (self.steps - step) / max(self.steps - start, 1)
        passed = sum(step >= milestone for milestone in self.milestones)
        return self.lr * self.gamma**passed * min(1.0, (step + 1) / max(self.warmup, 1), max(fall, 0.0))


def step_generator(seed: int, step: int, stream: int = 0) -> torch.Generator:
    """The random numbers of one step, on the CPU."""
    return torch.Generator().manual_seed(((seed * 7919 + stream) * 2_000_003 + step) % (2**63 - 1))
