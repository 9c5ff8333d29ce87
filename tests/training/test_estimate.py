"""What training is said to take in memory, against networks that are really there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from maquette.backend.models.isa.build import new_transformer
from maquette.backend.training import estimate as estimating
from maquette.backend.training.config import PRESETS, RunConfig, read_config
from maquette.backend.training.data import DataConfig
from maquette.backend.training.estimate import blank_inputs, estimate
from maquette.backend.training.loop import Loop

CONFIG = read_config(PRESETS / "nano.toml")
TOY = replace(
    CONFIG,
    data=DataConfig(frames=9, size=64, points=64, shards=1, pair_shards=1),
    overrides={"transformer": {"num_layers": 4, "num_attention_heads": 2, "attention_head_dim": 32}},
)


def changed(**entries: object) -> RunConfig:
    return replace(TOY, dit=replace(TOY.dit, **entries))


def test_what_is_kept_is_what_a_loop_holds(tmp_path) -> None:
    model = new_transformer(TOY.spec)
    loop = Loop(model, replace(TOY.dit, steps=1, precision="no"), tmp_path / "x.ckpt")
    loop.run(lambda model, *_: (sum(p.square().sum() for p in model.parameters()), {}))
    moments = loop.players["model"].optimizers["adamw"].state.values()
    held = sum(
        p.nbytes * 2 + average.nbytes for p, average in zip(model.parameters(), loop.ema.weights.values(), strict=True)
    )
    held += sum(state[name].nbytes for state in moments for name in ("exp_avg", "exp_avg_sq"))
    found = estimate(TOY, 1, bf16=False)
    assert found.kept == held and found.gathered == 0
    assert abs((tmp_path / "x.ckpt").stat().st_size / found.checkpoint - 1) < 0.05


@pytest.mark.parametrize("bf16", [False, True])
def test_activations_are_those_of_a_real_pass(bf16: bool) -> None:
    model = new_transformer(TOY.spec)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    arguments = (torch.randn(2, 16, 3, 8, 8), torch.full((2,), 500.0), blank_inputs(2, 2, 9, 64, 8, 8))
    real = estimating._saved_by_block(model, arguments, bf16)
    whole = estimate(TOY, 1, bf16).activations
    assert 0.9 < whole / sum(real.saved.values()) < 1.1
    less = estimate(changed(checkpointing=True), 1, bf16).activations
    one = max(real.saved[block] for block in range(4))
    assert one < less < whole and whole - less < 3 * one


def test_sharing_and_precision_count() -> None:
    alone, eight = estimate(changed(sharded=True), 1, bf16=True), estimate(changed(sharded=True), 8, bf16=True)
    assert eight.kept == alone.kept // 8 and eight.activations == alone.activations
    assert eight.checkpoint == alone.checkpoint == 16 * alone.parameters
    assert estimate(TOY, 8, bf16=True).kept == alone.kept
    assert 0.4 < alone.activations / estimate(TOY, 1, bf16=False).activations < 0.8


@pytest.mark.parametrize(("name", "processes"), [("base", 8), ("4b", 32)])
def test_the_large_runs_fit_the_servers_that_their_files_name(name: str, processes: int) -> None:
    """GPUs of 80 GB. Each block takes as much as another: two depths tell all."""
    config = read_config(PRESETS / f"{name}.toml")
    assert config.dit.sharded and config.dit.checkpointing
    depth = config.spec.components["transformer"]["num_layers"]
    one, two = (
        estimate(replace(config, overrides={"transformer": {"num_layers": layers}}), processes, bf16=True).total
        for layers in (1, 2)
    )
    assert 10e9 < one + (depth - 1) * (two - one) < 72e9
