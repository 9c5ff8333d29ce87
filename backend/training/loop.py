"""What every training run shares: schedule, EMA, checkpoints, the loop itself.

A step's random numbers depend on the run's seed, the step's number and the worker's only, so a run that is stopped
and resumed gives the same weights as one that was not.

Several single-threaded workers that average their gradients once a step train a small network faster on a busy CPU
than one process whose threads wait for each other in every operation.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class LoopConfig:
    """How to train.

    Attributes:
        steps: steps of the whole run.
        batch: samples per step and worker.
        lr: learning rate after ``warmup`` steps; constant until the last ``decay`` share of the steps, then linear
            to zero.
        weight_decay: of AdamW, on matrices only.
        ema: decay of the averaged weights, which are the ones exported.
        clip: largest norm of the gradient.
        betas: of AdamW.
        milestones, gamma: from each of these steps on, the learning rate is ``gamma`` times what it was.
        seed: of everything random.
        save_minutes: between checkpoints.
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

    def lr_at(self, step: int) -> float:
        """Learning rate of a step (0-based)."""
        start = self.steps * (1 - self.decay)
        fall = (self.steps - step) / max(self.steps - start, 1)
        passed = sum(step >= milestone for milestone in self.milestones)
        return self.lr * self.gamma**passed * min(1.0, (step + 1) / max(self.warmup, 1), max(fall, 0.0))


def step_generator(seed: int, step: int, stream: int = 0) -> torch.Generator:
    """The random numbers of one step, on the CPU."""
    return torch.Generator().manual_seed(((seed * 7919 + stream) * 2_000_003 + step) % (2**63 - 1))


def worker() -> tuple[int, int]:
    """This worker's number and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def _average_gradients(model: nn.Module, stop: bool) -> bool:
    """Average gradients over the workers; returns whether any of them wants to stop."""
    if not dist.is_initialized():
        return stop
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients] + [gradients[0].new_tensor([float(stop)])])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()
    return float(flat[-1]) > 0


class EMA:
    """Exponential moving average of a module's parameters."""

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

    def reset(self, model: nn.Module) -> None:
        """Start again from the weights that ``model`` has now."""
        for name, parameter in model.named_parameters():
            self.weights[name].copy_(parameter.detach())

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Put the averaged weights into ``model``."""
        for name, parameter in model.named_parameters():
            parameter.copy_(self.weights[name])


def autocast(device: torch.device, enabled: bool) -> torch.autocast:
    """bfloat16 where it pays; parameters, norms and losses stay float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


class Loop:
    """Trains ``model`` on ``loss(model, step, generator) -> (loss, figures)``.

    Attributes:
        step: steps done.
        figures: moving averages of what ``loss`` reported.
    """

    def __init__(
        self, model: nn.Module, config: LoopConfig, checkpoint: Path, meta: dict[str, Any] | None = None
    ) -> None:
        self.model, self.config, self.checkpoint = model, config, checkpoint
        self.meta = meta or {}
        matrices = [p for p in model.parameters() if p.ndim >= 2]
        others = [p for p in model.parameters() if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=config.lr,
            betas=config.betas,
            fused=True,
        )
        self.ema = EMA(model, config.ema)
        self.step = 0
        self.figures: dict[str, float] = {}

    def resume(self) -> bool:
        """Continue from the checkpoint when there is one; returns whether there was."""
        if not self.checkpoint.exists():
            return False
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, value in state["ema"].items():
            self.ema.weights[name].copy_(value)
        self.step = state["step"]
        self.figures = state["figures"]
        self.meta.update(state["meta"])
        return True

    def save(self) -> None:
        """Write the checkpoint; the old one stays until the new one is whole. Only the first worker writes."""
        if worker()[0] != 0:
            return
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "ema": self.ema.weights,
                "step": self.step,
                "figures": self.figures,
                "meta": self.meta,
            },
            partial,
        )
        os.replace(partial, self.checkpoint)

    def run(
        self,
        loss: Callable[[nn.Module, int, torch.Generator], tuple[Tensor, dict[str, float]]],
        until: float | None = None,
        label: str = "training",
        log: Path | None = None,
    ) -> bool:
        """Train to the last step.

        Args:
            until: stop early at this ``time.time()``, with a checkpoint.
            log: a text file that gets one line of figures every hundred steps.

        Returns:
            Whether the run is complete.
        """
        from tqdm import tqdm

        config = self.config
        rank, workers = worker()
        saved = started = time.time()
        first = self.step
        bar = tqdm(total=config.steps, initial=self.step, desc=label, unit="step", mininterval=5.0, disable=rank != 0)
        self.model.train()
        stop = until is not None and time.time() >= until
        while self.step < config.steps and not stop:
            for group in self.optimizer.param_groups:
                group["lr"] = config.lr_at(self.step)
            value, figures = loss(self.model, self.step, step_generator(config.seed, self.step, rank))
            self.optimizer.zero_grad(set_to_none=True)
            value.backward()
            stop = _average_gradients(self.model, until is not None and time.time() >= until)
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
            if torch.isfinite(norm):
                self.optimizer.step()
                self.ema.update(self.model, self.step)
            self.step += 1
            for name, figure in {"loss": float(value.detach()), "norm": float(norm), **figures}.items():
                self.figures[name] = 0.98 * self.figures.get(name, figure) + 0.02 * figure
            bar.update()
            bar.set_postfix({k: f"{v:.3g}" for k, v in self.figures.items()}, refresh=False)
            if log is not None and rank == 0 and self.step % 100 == 0:
                pace = (self.step - first) * config.batch * workers / (time.time() - started)
                line = " ".join(f"{k}={v:.5f}" for k, v in self.figures.items())
                with open(log, "a", encoding="utf-8") as file:
                    file.write(f"step={self.step} samples_per_s={pace:.2f} {line}\n")
            if time.time() - saved > 60 * config.save_minutes:
                self.save()
                saved = time.time()
        bar.close()
        self.save()
        return self.step >= config.steps
