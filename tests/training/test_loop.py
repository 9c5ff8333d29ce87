"""A run that was stopped and resumed ends with the weights of one that was not; rivals take turns; stops are clean."""

from __future__ import annotations

import itertools
import os
import signal
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.backend.training.errors import TrainingError
from maquette.backend.training.launch import new_accelerator
from maquette.backend.training.loop import Loop
from maquette.backend.training.players import EMA
from maquette.backend.training.schedule import LoopConfig, step_generator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from .toys import CONFIG, Duel, everything, loss, network


def plain(config: LoopConfig, checkpoint: Path) -> tuple[Loop, object]:
    return Loop(network(), config, checkpoint), loss


def dueling(config: LoopConfig, checkpoint: Path) -> tuple[Loop, object]:
    duel = Duel()
    return duel.loop(checkpoint, config), duel


KINDS = {
    "adamw": (plain, CONFIG),
    "muon": (plain, replace(CONFIG, optimizer="muon")),
    "rivals": (dueling, CONFIG),
    "rivals and muon": (dueling, replace(CONFIG, optimizer="muon")),
    "bfloat16": (plain, replace(CONFIG, precision="bf16")),
}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6, deadline=None)
@given(stop=st.integers(0, CONFIG.steps - 1))
def test_resumed_equals_uninterrupted(kind: str, stop: int) -> None:
    make, config = KINDS[kind]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole, whole_loss = make(config, folder / "whole.ckpt")
        assert whole.run(whole_loss)
        first, first_loss = make(config, folder / "part.ckpt")

        def stopping(model: nn.Module, step: int, generator: torch.Generator):
            first._stop = step == stop
            return first_loss(model, step, generator)

        assert not first.run(stopping)
        assert first.step == stop + 1
        torch.manual_seed(99)
        second, second_loss = make(config, folder / "part.ckpt")
        assert second.resume()
        assert second.run(second_loss)
    wanted, found = everything(whole), everything(second)
    assert wanted.keys() == found.keys()
    for key, value in wanted.items():
        assert torch.equal(value, found[key]), key
    assert whole.figures == second.figures


def test_an_error_in_a_step_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    loop = Loop(network(), CONFIG, tmp_path / "a.ckpt")
    loop.save()

    def failing(model: nn.Module, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        loop.run(failing)
    again = Loop(network(), CONFIG, tmp_path / "a.ckpt")
    assert again.resume() and again.step == 0


def test_nothing_to_resume(tmp_path: Path) -> None:
    assert not Loop(network(), CONFIG, tmp_path / "none.ckpt").resume()


def test_time_limit_stops_with_a_checkpoint(tmp_path: Path) -> None:
    loop = Loop(network(), CONFIG, tmp_path / "a.ckpt")
    assert not loop.run(loss, until=time.time() - 1)
    assert loop.step == 0
    assert (tmp_path / "a.ckpt").exists()


def test_learning_lowers_the_loss(tmp_path: Path) -> None:
    for optimizer in ("adamw", "muon"):
        config = LoopConfig(steps=150, batch=4, lr=3e-2, warmup=5, optimizer=optimizer)
        loop = Loop(network(), config, tmp_path / f"{optimizer}.ckpt")
        assert ("muon" in loop.players["model"].optimizers) == (optimizer == "muon")
        before = loss(loop.model, 0, step_generator(7, 0))[0].item()
        loop.run(loss)
        assert loss(loop.model, 0, step_generator(7, 0))[0].item() < before / 2


def test_muon_moves_the_matrices_in_blocks_and_nothing_else(tmp_path: Path) -> None:
    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.proj_in = nn.Linear(4, 4)
            self.blocks = nn.ModuleList(
                nn.ModuleDict({"mlp": nn.Linear(4, 4), "mix": nn.Conv1d(4, 4, 3)}) for _ in "ab"
            )
            self.frozen = nn.ParameterList([nn.Parameter(torch.ones(2, 2), requires_grad=False)])

    model = Blocks()
    loop = Loop(model, replace(CONFIG, optimizer="muon"), tmp_path / "a.ckpt", rivals={"one": Blocks()})
    moved = loop.players["model"].optimizers["muon"].param_groups[0]["params"]
    assert [id(p) for p in moved] == [id(block["mlp"].weight) for block in model.blocks]
    assert list(loop.players["one"].optimizers) == ["adamw"]
    assert len(loop.players["model"].parameters) == 10


def test_each_player_is_moved_by_its_own_loss_alone(tmp_path: Path) -> None:
    model, rival, companion = (nn.Linear(1, 1, bias=False) for _ in range(3))
    config = replace(CONFIG, weight_decay=0.0, steps=1, warmup=1, decay=0.0, lr=0.1, rival_lr=0.5)
    loop = Loop(model, config, tmp_path / "a.ckpt", companions={"c": companion}, rivals={"r": rival})
    before = [module.weight.item() for module in (model, companion, rival)]
    seen = []

    def turns(model: nn.Module, step: int, generator: torch.Generator):
        one = torch.ones(1, 1)
        yield "model", (model(one) + companion(one) - 100 * rival(one)).sum(), {}
        seen.append([module.weight.item() for module in (model, companion, rival)])
        # The graph leads into the model as well, which must not move again.
        yield "r", (rival(model(one)) / model(one).detach() - rival(one) + rival(one)).sum(), {}

    loop.run(turns)
    after = [module.weight.item() for module in (model, companion, rival)]
    # AdamW's first step is the learning rate against the gradient's sign.
    assert seen[0] == pytest.approx([before[0] - 0.1, before[1] - 0.1, before[2]], abs=1e-5)
    assert after == pytest.approx([before[0] - 0.1, before[1] - 0.1, before[2] - 0.05], abs=1e-5)
    assert model.weight.grad is None and rival.weight.grad is None
    assert set(loop.ema.weights) == {"weight"}


@pytest.mark.parametrize("order", [["r", "model"], ["model", "nobody"], ["model", "model"], []])
def test_turns_out_of_order_are_refused(tmp_path: Path, order: list[str]) -> None:
    loop = Loop(nn.Linear(1, 1), CONFIG, tmp_path / "a.ckpt", rivals={"r": nn.Linear(1, 1)})

    def turns(model: nn.Module, step: int, generator: torch.Generator):
        for name in order:
            yield name, sum(m(torch.ones(1, 1)).sum() for m in (loop.model, loop.players["r"].modules["r"])), {}

    with pytest.raises(TrainingError, match="'model' comes first"):
        loop.run(turns)


def test_a_gradient_that_is_not_finite_is_skipped_and_counted(tmp_path: Path) -> None:
    def blowing_up(model: nn.Module, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        value, figures = loss(model, step, generator)
        return (value * torch.inf if step in (2, 5) else value), {**figures, "odd": torch.nan if step == 3 else 1.0}

    def sitting_out(model: nn.Module, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        states.append([p.detach().clone() for p in model.parameters()])
        return blowing_up(model, step, generator)

    states: list[list[Tensor]] = []
    loop = Loop(network(), CONFIG, tmp_path / "a.ckpt")
    assert loop.run(sitting_out)
    assert loop.skipped == 2
    for step in range(CONFIG.steps - 1):
        same = all(torch.equal(a, b) for a, b in zip(states[step], states[step + 1], strict=True))
        assert same == (step in (2, 5))
    assert all(torch.isfinite(v).all() for v in (*loop.model.state_dict().values(), *loop.ema.weights.values()))
    assert loop.figures["odd"] == 1.0 and all(abs(v) < 1e9 for v in loop.figures.values())
    again = Loop(network(), CONFIG, tmp_path / "a.ckpt")
    assert again.resume() and again.skipped == 2


def larger(config: LoopConfig, path: Path) -> Loop:
    return Loop(nn.Sequential(*network()[:-1], nn.Linear(8, 2)), config, path)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (larger, r"another network: model: 4.weight is \(1, 8\) where this run's is \(2, 8\), and 1 more"),
        (lambda c, p: Loop(network()[:-1], c, p), r"4.weight is \(1, 8\) where this run's is none"),
        (lambda c, p: dueling(c, p)[0], "holds the players model, but this run has film, model, picture"),
        (lambda c, p: Loop(network(), c, p, companions={"x": nn.Linear(1, 1)}), "holds the networks model, but"),
        (
            lambda c, p: Loop(network(), replace(c, optimizer="muon"), p),
            "model adamw, but .* adamw, muon",
        ),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_whole(tmp_path: Path, other, named: str) -> None:
    path = tmp_path / "a.ckpt"
    first, first_loss = plain(CONFIG, path)
    first.run(first_loss)
    loop = other(CONFIG, path)
    before = everything(loop)
    with pytest.raises(TrainingError, match=f"a.ckpt: .*{named}"):
        loop.resume()
    assert loop.step == 0
    assert all(torch.equal(before[key], value) for key, value in everything(loop).items())


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_a_checkpoint_cut_short_is_refused(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "a.ckpt"
    Loop(network(), CONFIG, path).save()
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(TrainingError, match="a.ckpt: cut short or no checkpoint .*; delete it"):
        Loop(network(), CONFIG, path).resume()


def test_a_file_of_something_else_is_no_checkpoint(tmp_path: Path) -> None:
    torch.save({"model": 1}, tmp_path / "a.ckpt")
    with pytest.raises(TrainingError, match="another version .modules, players"):
        Loop(network(), CONFIG, tmp_path / "a.ckpt").resume()


def test_a_save_that_fails_keeps_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop(network(), CONFIG, tmp_path / "a.ckpt")
    loop.save()

    def full(state: object, file) -> None:
        file.write(b"half")
        raise OSError("no space left on device")

    loop.step = 3
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space"):
        loop.save()
    again = Loop(network(), CONFIG, tmp_path / "a.ckpt")
    assert again.resume() and again.step == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_and_saves(tmp_path: Path, number: signal.Signals) -> None:
    loop = Loop(network(), CONFIG, tmp_path / "a.ckpt")
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]

    def asking(model: nn.Module, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        if step == 3:
            os.kill(os.getpid(), number)
        return loss(model, step, generator)

    assert not loop.run(asking)
    assert loop.step == 4
    again = Loop(network(), CONFIG, tmp_path / "a.ckpt")
    assert again.resume() and again.step == 4
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_ctrl_c_leaves_at_once(tmp_path: Path) -> None:
    def asking(model: nn.Module, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        return loss(model, step, generator)

    with pytest.raises(KeyboardInterrupt):
        Loop(network(), CONFIG, tmp_path / "a.ckpt").run(asking)
    assert not (tmp_path / "a.ckpt").exists()


def test_the_logs_hold_the_curves(tmp_path: Path) -> None:
    config = replace(CONFIG, steps=110, decay=0.0)

    def show(loop: Loop) -> None:
        loop.show("noise", [torch.zeros(4, 6, 3, dtype=torch.uint8).numpy()] * 2)
        loop.model.eval()

    def half(model: nn.Module, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        assert model.training
        return loss(model, step, generator)

    for steps in (70, 110):
        accelerator = new_accelerator("cpu", "no", tmp_path / "logs")
        loop = Loop(network(), replace(config, steps=steps), tmp_path / "toy.ckpt", accelerator)
        loop.resume()
        assert loop.run(half, log=tmp_path / "toy.log", on_save=show)
    assert (tmp_path / "toy.log").read_text().startswith("step=100 samples_per_s=")
    events = EventAccumulator(str(tmp_path / "logs" / "toy"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "norm", "step", "lr", "skipped", "samples_per_s"}
    points = events.Scalars("lr")
    assert [point.step for point in points] == [*range(10, 111, 10)]
    assert points[-1].value == pytest.approx(config.lr)
    assert [image.step for image in events.Images("noise")] == [70, 110]


@pytest.mark.parametrize("entry", [{"optimizer": "sgd"}, {"precision": "fp8"}, {"steps": 0}, {"lr": -1.0}])
def test_settings_that_make_no_sense_are_named(entry: dict) -> None:
    with pytest.raises(TrainingError, match=next(iter(entry))):
        replace(CONFIG, **entry)


def test_an_accelerator_of_another_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="precision = 'bf16'"):
        Loop(network(), replace(CONFIG, precision="bf16"), tmp_path / "a.ckpt", new_accelerator("cpu", "no"))


def test_schedule_warms_up_stays_and_falls() -> None:
    config = replace(CONFIG, steps=12)
    rates = [config.lr_at(step) for step in range(config.steps)]
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


@pytest.mark.parametrize(
    ("entry", "value", "wanted"),
    [
        ("ema", 1.0, "at least 0 and below 1"),
        ("ema", -0.1, "at least 0 and below 1"),
        ("decay", 1.1, "0 to 1"),
        ("decay", float("nan"), "0 to 1"),
        ("clip", 0.0, "above 0"),
        ("clip", float("nan"), "above 0"),
        ("warmup", -1, "at least 0"),
        ("weight_decay", -0.01, "at least 0"),
    ],
)
def test_values_that_cannot_train_are_named(entry: str, value: float, wanted: str) -> None:
    with pytest.raises(TrainingError, match=f"{entry} = {value} must be {wanted}"):
        replace(CONFIG, **{entry: value})


def test_the_ends_of_the_ranges_train() -> None:
    for decay in (0.0, 1.0):
        config = replace(CONFIG, ema=0.0, decay=decay, clip=float("inf"), warmup=0, weight_decay=0.0)
        assert all(0 < config.lr_at(step) <= config.lr for step in range(config.steps))
