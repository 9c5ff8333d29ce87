"""A network that is spread over processes trains as one that is whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from maquette.backend.training.checkpoint import load_averaged
from maquette.backend.training.errors import TrainingError
from maquette.backend.training.launch import run_processes
from maquette.backend.training.loop import Loop
from torch import Tensor, nn

from . import spread
from .toys import forking


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spread")
    with pytest.MonkeyPatch.context() as patch:
        forking(patch)
        assert run_processes(spread.work, folder, 2)
    return folder


def tensors(state: object, name: str = "") -> dict[str, Tensor]:
    """All tensors of a checkpoint by their path."""
    if isinstance(state, Tensor):
        return {name: state}
    parts = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list) else ()
    return {key: value for part, inner in parts for key, value in tensors(inner, f"{name}/{part}").items()}


def read(path: Path) -> dict[str, Tensor]:
    return tensors(torch.load(path, weights_only=True))


def test_two_halves_train_as_two_wholes(trained: Path) -> None:
    """Weights, moments and averages after three steps, with gradient checkpointing in the halves."""
    whole, halves = read(trained / "whole.ckpt"), read(trained / "spread.ckpt")
    assert whole.keys() == halves.keys() and sum("exp_avg" in name for name in whole) > 40
    assert max((halves[name] - value).abs().max().item() for name, value in whole.items()) < 1e-5
    begun = read(trained / "two.ckpt")
    assert max((begun[name] - value).abs().max().item() for name, value in whole.items()) > 1e-4


def test_a_process_holds_its_half(trained: Path) -> None:
    assert 0.4 < float((trained / "share").read_text()) < 0.6


def test_halves_go_on_from_their_checkpoint(trained: Path) -> None:
    """Exactly; and one process alone goes on from it as well."""
    pieces, at_once = read(trained / "pieces.ckpt"), read(trained / "spread.ckpt")
    assert all(torch.equal(value, at_once[name]) for name, value in pieces.items())
    model = spread.network()
    assert load_averaged(trained / "spread.ckpt", model) == 3
    alone = Loop(spread.network(), replace(spread.CONFIG, steps=4), trained / "spread.ckpt")
    assert alone.resume() and alone.step == 3 and alone.run(spread.loss)


def test_what_cannot_be_spread_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="needs whole matrices for muon"):
        replace(spread.SPREAD, optimizer="muon")
    with pytest.raises(TrainingError, match="companions or rivals cannot be spread"):
        Loop(spread.network(), spread.SPREAD, tmp_path / "x", companions={"other": nn.Linear(1, 1)})
    with pytest.raises(TrainingError, match="Linear knows no gradient checkpointing"):
        Loop(nn.Linear(1, 1), spread.SPREAD, tmp_path / "x")
