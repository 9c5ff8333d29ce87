"""A small adversarial training with everything that a loop can have, and what two processes do with it.

``python toys.py FOLDER`` averages gradients, and leaves what every process found in FOLDER.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from multiprocessing import parent_process
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.multiprocessing
from maquette.backend.training.launch import new_accelerator, run_processes
from maquette.backend.training.loop import Loop, Turn
from maquette.backend.training.players import average_gradients
from maquette.backend.training.schedule import LoopConfig
from torch import Tensor, nn

if TYPE_CHECKING:
    import pytest

CONFIG = LoopConfig(steps=8, batch=4, lr=1e-2, warmup=3, decay=0.5, ema=0.9, seed=5, rival_lr=0.5, precision="no")


def forking(patch: pytest.MonkeyPatch) -> None:
    """Have ``run_processes`` fork this process rather than start new ones, which would import everything again."""
    patch.setattr(torch.multiprocessing, "spawn", partial(torch.multiprocessing.start_processes, start_method="fork"))


def network() -> nn.Module:
    """Two blocks in a row, with dropout and running statistics."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.GELU(), nn.Linear(8, 1))


def loss(model: nn.Module, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
    """The model learns the sum of its six inputs."""
    x = torch.randn(4, 6, generator=generator)
    error = (model(x) - x.sum(dim=1, keepdim=True)).square().mean()
    return error, {"step": float(step)}


class Duel:
    """The model also deceives two rivals, and has a companion that reads its answer back."""

    def __init__(self) -> None:
        torch.manual_seed(2)
        self.companions = {"reader": nn.Linear(1, 6)}
        self.rivals = {
            "picture": nn.Sequential(nn.Linear(7, 4), nn.GELU(), nn.Linear(4, 1)),
            "film": nn.utils.parametrizations.spectral_norm(nn.Linear(7, 1)),
        }

    def loop(self, checkpoint: Path, config: LoopConfig = CONFIG, accelerator=None) -> Loop:
        return Loop(network(), config, checkpoint, accelerator, self.companions, self.rivals)

    def __call__(self, model: nn.Module, step: int, generator: torch.Generator) -> Iterator[Turn]:
        x = torch.randn(4, 6, generator=generator)
        true = x.sum(dim=1, keepdim=True)
        made = model(x)
        error = (made - true).square().mean() + (self.companions["reader"](made) - x).square().mean()
        judged = sum(rival(torch.cat([x, made], dim=1)).mean() for rival in self.rivals.values())
        yield "model", error - 0.1 * judged, {"error": error.detach()}
        for name, rival in self.rivals.items():
            gap = rival(torch.cat([x, made.detach()], dim=1)).mean() - rival(torch.cat([x, true], dim=1)).mean()
            yield name, gap + rival(torch.cat([x, true], dim=1)).square().mean(), {f"{name}_gap": gap}


def everything(loop: Loop) -> dict[str, Tensor]:
    """All weights and statistics that a loop trains, and the averages."""
    found = {f"ema.{name}": value for name, value in loop.ema.weights.items()}
    for player, one in loop.players.items():
        for network_name, module in one.modules.items():
            for name, value in module.state_dict().items():
                found[f"{player}.{network_name}.{name}"] = value.detach().clone()
    return found


def train(folder: Path, name: str, until: int) -> bool:
    """Train, or go on training, as one of the processes; the second asks to stop when ``until`` steps are done."""
    duel = Duel()
    loop = duel.loop(folder / f"{name}.ckpt", accelerator=new_accelerator("cpu", "no"))
    loop.resume()
    rank = loop.accelerator.process_index
    if rank:  # the first process' weights are to win
        with torch.no_grad():
            for parameter in loop.model.parameters():
                parameter.add_(1.0)

    def stopping(model: nn.Module, step: int, generator: torch.Generator) -> Iterator[Turn]:
        loop._stop = rank == 1 and step == until - 1 < CONFIG.steps - 1
        return duel(model, step, generator)

    done = loop.run(stopping)
    assert loop.step == until
    torch.save(everything(loop), folder / f"{name}_rank{rank}.pt")
    return done


def in_turn(folder: Path) -> bool:
    """Gradients; a whole run; one that is stopped and resumed; and one that is to be ended from outside."""
    whole = gradients(folder) and train(folder, "whole", CONFIG.steps)
    resumed = whole and not train(folder, "part", 3) and train(folder, "part", CONFIG.steps)
    assert resumed
    return slow(folder)


def gradients(folder: Path) -> bool:
    """Average gradients of which one process lacks the second and both the third."""
    accelerator = new_accelerator("cpu", "no")
    rank = accelerator.process_index
    parameters = [nn.Parameter(torch.full((2, 3), 2.0)), nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(1))]
    x = torch.randn(3, generator=torch.Generator().manual_seed(rank))
    value = (parameters[0] @ x).square().sum()
    if rank == 1:
        value = value + (parameters[1] * x).sum()
    value.backward()
    own = [None if p.grad is None else p.grad.clone() for p in parameters]
    average_gradients(list(parameters), accelerator)
    found = {"own": own, "mean": [p.grad for p in parameters], "spawned": parent_process() is not None}
    torch.save(found, folder / f"gradients_rank{rank}.pt")
    return True


def fail(folder: Path) -> bool:
    """Raise in one of the processes while the other waits for it."""
    accelerator = new_accelerator("cpu", "no")
    if accelerator.process_index == 1:
        raise ValueError("the second process lacks its shots")
    accelerator.reduce(torch.ones(1))
    return True


def slow(folder: Path) -> bool:
    """Train for a long time; a file tells when the third step begins."""
    config = replace(CONFIG, steps=CONFIG.steps * 200)
    loop = Loop(network(), config, folder / "slow.ckpt", new_accelerator("cpu", "no"))

    def marking(model: nn.Module, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        if step == 2:
            (folder / "begun").touch()
        time.sleep(0.02)
        return loss(model, step, generator)

    return loop.run(marking)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("done" if run_processes(gradients, Path(sys.argv[1]), 2) else "stopped", flush=True)
