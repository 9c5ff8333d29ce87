"""A small transformer that two processes train, each with all of it and each with half."""

from __future__ import annotations

import shutil
from dataclasses import fields, replace
from pathlib import Path

import torch
from maquette.backend.models.isa.inputs import ISAInputs
from maquette.backend.models.isa.transformer import ISATransformer3DModel
from maquette.backend.training.estimate import blank_inputs
from maquette.backend.training.launch import new_accelerator
from maquette.backend.training.loop import Loop
from maquette.backend.training.schedule import LoopConfig
from torch import Tensor, nn

CONFIG = LoopConfig(steps=3, batch=2, lr=1e-3, warmup=1, decay=0.0, ema=0.5, precision="no")
SPREAD = replace(CONFIG, sharded=True, checkpointing=True)


def network() -> ISATransformer3DModel:
    torch.manual_seed(3)
    return ISATransformer3DModel(num_layers=2, num_attention_heads=2, attention_head_dim=12, points_per_character=8)


def inputs(generator: torch.Generator) -> ISAInputs:
    """Two characters in clips of 5 frames; every number random."""
    blank = blank_inputs(2, 2, 5, 8, 4, 4)

    def drawn(value: Tensor | None) -> Tensor | None:
        random = value is not None and value.is_floating_point()
        return torch.rand(value.shape, generator=generator) - 0.5 if random else value

    return replace(blank, **{field.name: drawn(getattr(blank, field.name)) for field in fields(blank)})


def loss(model: nn.Module, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    noisy = torch.randn(2, 16, 2, 4, 4, generator=generator)
    flow = model(noisy, torch.tensor([300.0, 900.0]), inputs(generator), return_dict=False)[0]
    return (flow - noisy).square().mean(), {}


def train(checkpoint: Path, config: LoopConfig) -> Loop:
    loop = Loop(network(), config, checkpoint, new_accelerator("cpu", "no"))
    loop.resume()
    assert loop.run(loss)
    return loop


def work(folder: Path) -> bool:
    """The same three steps whole, spread, and spread in two pieces."""
    train(folder / "whole.ckpt", CONFIG)
    spread = train(folder / "spread.ckpt", SPREAD)
    train(folder / "pieces.ckpt", replace(SPREAD, steps=2))
    if spread.accelerator.is_main_process:
        shutil.copy(folder / "pieces.ckpt", folder / "two.ckpt")
        mine = sum(p.to_local().numel() for p in spread.model.parameters())  # type: ignore[operator]
        (folder / "share").write_text(str(mine / sum(p.numel() for p in spread.model.parameters())))
    train(folder / "pieces.ckpt", SPREAD)
    return True
