"""``maquette render`` and the quality levels."""

from __future__ import annotations

import argparse
import signal
from dataclasses import replace

import numpy as np
import pytest
from maquette.backend.catalogue import models as catalogue
from maquette.backend.catalogue.models import ModelDefaults, ModelError
from maquette.backend.catalogue.quality import list_quality
from maquette.backend.media import decode_video, read_mp4_metadata
from maquette.backend.models import engine
from maquette.backend.models import render as render_module
from maquette.backend.models.family import EngineError
from maquette.backend.models.quality import apply
from maquette.backend.models.registry import plan_shot
from maquette.backend.models.render import add_arguments
from maquette.backend.raster.carry import carry_shot
from maquette.backend.shot import Settings, save_shot
from PIL import Image

from .conftest import make_shot


@pytest.fixture
def render(monkeypatch, model_dir):
    monkeypatch.setattr(catalogue, "PRESETS", model_dir)
    parser = argparse.ArgumentParser()
    add_arguments(parser)

    def run(*arguments: object) -> int:
        args = parser.parse_args([*map(str, arguments)])
        return args.run(args)

    return run


def test_writes_the_video_the_frames_and_their_settings(render, tmp_path, capsys):
    shot, out, frames = tmp_path / "a.shot", tmp_path / "a.mp4", tmp_path / "frames"
    save_shot(make_shot(frames=6), shot)
    assert render(shot, "-o", out, "--seed", 7, "--quality", "fine", "--frames-dir", frames, "--device", "cpu") == 0
    video, fps = decode_video(out)
    assert video.shape == (6, 32, 32, 3) and fps == 12
    assert len(list(frames.glob("*.png"))) == 6
    metadata = read_mp4_metadata(out)
    assert metadata["seed"] == 7 and metadata["steps"] == 4 and metadata["guidance"] == 2.0
    printed = capsys.readouterr()
    assert "6 frames of 32 x 32" in printed.out
    assert "Denoising" in printed.err and "Note: 6 frames were generated as 9" in printed.err


def test_a_draft_is_the_carried_film_and_needs_no_weights(render, tmp_path, monkeypatch, capsys):
    def load(*_: object) -> None:
        raise AssertionError("a network was asked for")

    monkeypatch.setattr(engine, "load_engine", load)
    shot, out, frames = tmp_path / "a.shot", tmp_path / "a.mp4", tmp_path / "frames"
    made = make_shot(frames=6)
    save_shot(made, shot)
    assert render(shot, "-o", out, "--quality", "draft", "--frames-dir", frames, "--device", "cpu") == 0
    written = np.stack([np.asarray(Image.open(path)) for path in sorted(frames.glob("*.png"))])
    assert np.array_equal(written, carry_shot(made, 32, 32).frames)
    metadata = read_mp4_metadata(out)
    assert metadata["quality"] == "draft" and "steps" not in metadata
    assert "Denoising" not in capsys.readouterr().err


def test_an_unknown_quality_is_named(render, tmp_path):
    shot = tmp_path / "a.shot"
    made = make_shot()
    save_shot(replace(made, settings=replace(made.settings, quality="superb")), shot)
    with pytest.raises(EngineError, match=r"settings\.quality: no level 'superb'; choose one of draft"):
        render(shot, "-o", tmp_path / "a.mp4")


def test_options_reach_the_engine_and_do_not_outlive_their_model(render, tmp_path, model_dir, monkeypatch, capsys):
    shot, out = tmp_path / "a.shot", tmp_path / "a.mp4"
    seen = []

    def plan(shot, folders):
        seen.append(dict(shot.settings.options))
        return plan_shot(shot, folders)

    monkeypatch.setattr(render_module, "plan_shot", plan)
    made = make_shot(frames=2)
    save_shot(replace(made, settings=replace(made.settings, options={"look": "warm"})), shot)
    assert render(shot, "-o", out, "--steps", 1, "--device", "cpu", "--quiet", "--option", "grain=0.5") == 0
    save_shot(replace(made, settings=Settings(model="isa-nano", options={"blur": 1})), shot)
    assert render(shot, "-o", out, "--steps", 1, "--device", "cpu", "--quiet", "--model", "tiny") == 0
    assert seen == [{"look": "warm", "grain": 0.5}, {}]


def test_interrupting_writes_nothing_and_gives_the_handler_back(render, tmp_path, monkeypatch):
    from maquette.backend.models.render import ProgressBar

    shot, out = tmp_path / "a.shot", tmp_path / "a.mp4"
    save_shot(make_shot(steps=50), shot)
    before = signal.getsignal(signal.SIGINT)
    update = ProgressBar.update

    def press_control_c(self, progress):
        update(self, progress)
        if progress.stage == "denoising" and progress.step == 1:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ProgressBar, "update", press_control_c)
    assert render(shot, "-o", out, "--quiet") == 130
    assert not out.exists()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-o", "a.mov"], "ends in .mp4"),
        (["-o", "nowhere/a.mp4"], "no such folder"),
        (["-o", "a.mp4", "--seed", -1], "choose 0 to"),
        (["-o", "a.mp4", "--model", "other"], "no model 'other'"),
        (["-o", "a.mp4", "--option", "look"], "write NAME=VALUE"),
        (["-o", "a.mp4", "--option", "blur=1"], "options of Tiny are: look, grain"),
        (["-o", "a.mp4", "--option", "look=cold"], "choose one of plain, warm"),
        (["-o", "a.mp4", "--option", "grain=much"], "of the kind float"),
        (["-o", "a.mp4", "--option", "grain=2"], "Grain is 2"),
    ],
)
def test_wrong_arguments_fail_before_the_work(render, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    save_shot(make_shot(), "a.shot")
    with pytest.raises((ValueError, OSError, ModelError), match=says):
        render("a.shot", *arguments)


def test_quality_levels_fill_in_only_what_is_open():
    levels = list_quality()
    assert list(levels) == ["draft", "standard", "fine"]
    defaults = ModelDefaults(steps=20, guidance=2.0, width=64, height=64, frames=9)
    assert [name for name, level in levels.items() if level.carried] == ["draft"]
    assert apply(levels["standard"], Settings(), defaults).guidance is None
    assert apply(levels["fine"], Settings(), defaults).steps == 40
    assert apply(levels["fine"], Settings(steps=3), defaults).steps == 3
