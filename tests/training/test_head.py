"""Training of the head: clips, loss, going on, export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from maquette.backend.cli import main
from maquette.backend.models.isa.head import CHANNELS, CarriedHead
from maquette.backend.training.errors import TrainingError
from maquette.backend.training.head import Clips, HeadLoss, HeadLossConfig, HeadRun, make_clip, read_head_config
from maquette.backend.training.run import PRESETS
from maquette.backend.training.schedule import step_generator

TEXT = """model = "isa-nano"
[head_data]
clips = 2
size = 48
frames = 3
[loop]
steps = 2
batch = 2
lr = 1e-3
precision = "no"
[head_loss]
cut = 32
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two steps."""
    folder = tmp_path_factory.mktemp("head")
    (folder / "tiny.toml").write_text(TEXT)
    assert main(command(folder)) == 0
    return folder


def command(folder: Path, *more: str) -> list[str]:
    given = ["--config", str(folder / "tiny.toml"), "--folder", str(folder / "run"), "--export-to", str(folder / "out")]
    return ["train", "nano-head", *given, "--device", "cpu", *more]


def test_a_run_trains_goes_on_and_exports(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = CarriedHead.from_pretrained(folder / "out" / "head", local_files_only=True)
    assert isinstance(head, CarriedHead) and all(torch.isfinite(p).all() for p in head.parameters())
    clips = sorted((folder / "run" / "clips").glob("*.npz"))
    assert len(clips) == 2
    made = [path.stat().st_mtime_ns for path in clips]
    assert main(command(folder)) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(command(folder, "--resume", "--steps", "3")) == 0
    assert made == [path.stat().st_mtime_ns for path in clips]
    further = CarriedHead.from_pretrained(folder / "out" / "head", local_files_only=True)
    assert any((a != b).any() for a, b in zip(head.parameters(), further.parameters(), strict=True))  # type: ignore[union-attr]


def test_a_run_that_was_begun_otherwise_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = (folder / "tiny.toml").read_text()
    (folder / "tiny.toml").write_text(kept.replace("cut = 32", "cut = 16"))
    try:
        assert main(command(folder, "--resume")) == 2
        assert "loss.cut (32 there, 16 here)" in capsys.readouterr().err
    finally:
        (folder / "tiny.toml").write_text(kept)


def test_the_loss_is_a_share_of_what_the_carried_film_is_off_by(folder: Path) -> None:
    clips = Clips(sorted((folder / "run" / "clips").glob("*.npz")))
    x, gate, target, beyond, mask = clips.batch(3, 32, 2, step_generator(0, 0))
    assert x.shape == (3, 2, CHANNELS, 32, 32) and target.shape == beyond.shape == (3, 2, 3, 32, 32)
    assert gate.shape == mask.shape == (3, 2, 1, 32, 32) and gate.amax(dim=(1, 2, 3, 4)).min() > 0.5
    loss = HeadLoss(clips, HeadLossConfig(cut=32, floor=0.0), 2, torch.device("cpu"))
    head = CarriedHead(8)
    value, _ = loss(head, 0, step_generator(0, 1))
    assert float(value.detach()) == pytest.approx(1 + loss.config.perceptual, abs=1e-4), "a new head changes nothing"
    value.backward()
    assert head.to_gain.weight.grad.abs().sum() > 0 and head.to_change.weight.grad.abs().sum() > 0  # type: ignore[union-attr]


def test_nobody_dressed_teaches_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from maquette.backend.training import head as module

    monkeypatch.setattr(module, "make_sample", lambda *a, **k: _sample(*a, **{**k, "dressed": False}))
    clip = make_clip(3, replace(read_head_config(PRESETS / "nano-head.toml").data, size=32, frames=1))
    assert clip["inputs"].shape == (0, CHANNELS, 32, 32)
    np.savez(tmp_path / "0.npz", **clip)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="give \\[head_data\\] more clips"):
        Clips([tmp_path / "0.npz"])


def _sample(*arguments, **named):
    from maquette.backend.worlds.sample import make_sample

    return make_sample(*arguments, **named)


def test_time_that_is_up_begins_no_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.toml").write_text(TEXT)
    assert main(command(tmp_path, "--minutes", "0")) == 0
    assert not list((tmp_path / "run" / "clips").glob("*.npz"))
    assert "--resume" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("cut = 32", "cut = 12", r"\[head_loss\] cut = 12"),
        ("cut = 32", "cuts = 32", r"\[head_loss\] has no cuts"),
        ("[head_data]", "[data]", r"no section \[data\] is known"),
        ("isa-nano", "isa-small", "isa-small has no head"),
    ],
)
def test_a_wrong_file_names_the_entry(tmp_path: Path, old: str, new: str, named: str) -> None:
    (tmp_path / "tiny.toml").write_text(TEXT.replace(old, new))
    with pytest.raises(TrainingError, match=named):
        read_head_config(tmp_path / "tiny.toml")


def test_the_shipped_file_reads() -> None:
    run = HeadRun(read_head_config(PRESETS / "nano-head.toml"), Path("nowhere"))
    assert run.spec.id == "isa-nano"
