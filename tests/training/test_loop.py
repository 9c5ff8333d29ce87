"""A run that was stopped and resumed ends with the weights of one that was not."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest
import torch
from maquette.backend.training.loop import EMA, Loop, LoopConfig, step_generator
from torch import Tensor, nn

CONFIG = LoopConfig(steps=12, batch=4, lr=1e-2, warmup=3, decay=0.5, ema=0.9, seed=5)


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 1))


def loss(model: nn.Module, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
    x = torch.randn(4, 6, generator=generator)
    error = (model(x) - x.sum(dim=1, keepdim=True)).square().mean()
    return error, {"step": float(step)}


def test_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    whole = Loop(network(), CONFIG, tmp_path / "whole.ckpt")
    assert whole.run(loss)

    calls = 0

    def stopping(model: nn.Module, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return loss(model, step, generator)

    first = Loop(network(), CONFIG, tmp_path / "part.ckpt")
    with pytest.raises(KeyboardInterrupt):
        first.run(stopping)
    first.save()
    assert first.step == 5

    torch.manual_seed(99)
    second = Loop(network(), CONFIG, tmp_path / "part.ckpt")
    assert second.resume()
    assert second.step == 5
    assert second.run(loss)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name])
    for name, value in whole.ema.weights.items():
        assert torch.equal(value, second.ema.weights[name])
    assert whole.figures == second.figures


def test_nothing_to_resume(tmp_path: Path) -> None:
    assert not Loop(network(), CONFIG, tmp_path / "none.ckpt").resume()


def test_time_limit_stops_with_a_checkpoint(tmp_path: Path) -> None:
    loop = Loop(network(), CONFIG, tmp_path / "a.ckpt")
    assert not loop.run(loss, until=time.time() - 1)
    assert loop.step == 0
    assert (tmp_path / "a.ckpt").exists()


def test_learning_lowers_the_loss(tmp_path: Path) -> None:
    config = LoopConfig(steps=150, batch=4, lr=3e-2, warmup=5)
    loop = Loop(network(), config, tmp_path / "a.ckpt")
    before = float(loss(loop.model, 0, step_generator(7, 0))[0])
    loop.run(loss)
    assert float(loss(loop.model, 0, step_generator(7, 0))[0]) < before / 2


def test_schedule_warms_up_stays_and_falls() -> None:
    rates = [CONFIG.lr_at(step) for step in range(CONFIG.steps)]
    assert rates[0] == pytest.approx(CONFIG.lr / 3)
    assert rates[3] == rates[5] == CONFIG.lr
    assert 0 < rates[-1] < CONFIG.lr / 4
    assert all(a >= b for a, b in itertools.pairwise(rates[3:]))


def test_average_follows_the_weights() -> None:
    model = network()
    average = EMA(model, 0.9)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    for step in range(200):
        average.update(model, step)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(average.weights[name], parameter.detach(), atol=1e-4, rtol=0)


def test_steps_draw_different_numbers() -> None:
    def draw(seed: int, step: int, stream: int) -> Tensor:
        return torch.randn(3, generator=step_generator(seed, step, stream))

    assert torch.equal(draw(0, 1, 0), draw(0, 1, 0))
    assert not torch.equal(draw(0, 1, 0), draw(0, 2, 0))
    assert not torch.equal(draw(0, 1, 0), draw(0, 1, 1))
    assert not torch.equal(draw(0, 1, 0), draw(1, 1, 0))
