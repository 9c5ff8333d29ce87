"""``maquette evaluate`` from the command line, and the demo's own use of the measures."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from maquette.backend.catalogue.models import model_spec
from maquette.backend.cli import main
from maquette.backend.evaluation import sets
from maquette.backend.evaluation.measures import MEASURES
from maquette.backend.models import engine as engine_module
from maquette.backend.models.family import Plan, Result
from maquette.backend.shot import Shot
from maquette.backend.worlds.sample import make_sample

from ..conftest import load_script
from .test_backbones import write_alexnet


class Double:
    """An engine that gives the background back, and counts."""

    device = "cpu"
    spec = SimpleNamespace(limits={})

    def plan(self, shot) -> Plan:
        return Plan(48, 48, shot.clip.frames, ((0, 3), (2, shot.clip.frames)), ())

    def __init__(self) -> None:
        self.made: list[tuple[int, float]] = []
        self.shots: list[Shot] = []

    def generate(self, shot, on_progress, cancelled) -> Result:
        from maquette.backend.media import background_frames

        self.made.append((shot.settings.steps, shot.settings.guidance))
        self.shots.append(shot)
        return Result(background_frames(shot, shot.clip.width, shot.clip.height), shot.clip.fps, ())

    def reconstruct(self, film):
        return film[:, ::-1].copy()


@pytest.fixture
def engine(monkeypatch):
    found = Double()
    monkeypatch.setattr(engine_module, "load_engine", lambda *arguments: found)
    # Small shots: what is tested here is the command.
    small = sets.held_out
    monkeypatch.setattr(sets, "held_out", lambda count, frames, size, points, **more: small(count, 5, 48, 32, **more))
    return found


def test_a_table_of_settings_that_goes_on(engine, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("MAQUETTE_BACKBONES", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    command = ["evaluate", "--shots", "2", "--table-shots", "1", "--steps", "4", "9", "--guidance", "1.5", "2"]
    command += ["--keep", str(tmp_path / "kept"), "-o", str(tmp_path / "report")]
    default = model_spec("isa-nano").defaults
    assert main(command) == 0
    data = json.loads((tmp_path / "report" / "report.json").read_text())
    others = {(4, 1.5), (4, 2.0), (9, 1.5), (9, 2.0)} - {(default.steps, default.guidance)}
    assert len(engine.made) == 2 + len(others)
    assert (data["runs"][0]["steps"], data["runs"][0]["shots"]) == (default.steps, 2)
    assert {(run["steps"], run["guidance"]) for run in data["runs"][1:]} == others
    assert all(run["shots"] == 1 for run in data["runs"][1:])
    printed = capsys.readouterr()
    assert "not measured: LPIPS" in printed.err and "Recommended:" in printed.out
    assert main(command) == 0 and len(engine.made) == 2 + len(others)
    again = json.loads((tmp_path / "report" / "report.json").read_text())
    assert again == data


def test_what_a_shot_comes_without_is_left_out_and_told(engine, tmp_path):
    command = ["evaluate", "--shots", "1", "--without", "light", "meshes", "--references", "2", "-o", str(tmp_path)]
    assert main(command) == 0
    shot = engine.shots[0]
    assert shot.clay is None and not shot.meshes and len(shot.characters[0].references) == 2
    # A model works at the size of its shots.
    assert (shot.settings.width, shot.settings.height) == (shot.clip.width, shot.clip.height) == (80, 48)
    data = json.loads((tmp_path / "report.json").read_text())
    assert data["without"] == ["light", "meshes"] and data["aims"] == []
    assert data["carried"]["measures"]["psnr"]["mean"] > data["runs"][0]["measures"]["psnr"]["mean"]
    assert "without light and meshes" in (tmp_path / "report.md").read_text()


def test_a_network_is_taken_from_its_folder(engine, tmp_path, capsys):
    write_alexnet(tmp_path)
    assert main(["evaluate", "--shots", "1", "--backbones", str(tmp_path), "-o", str(tmp_path / "report")]) == 0
    data = json.loads((tmp_path / "report" / "report.json").read_text())
    assert data["runs"][0]["measures"]["lpips"]["mean"] > 0
    assert len(data["absent"]) == 1 and data["absent"][0].startswith("FVD: it needs i3d_torchscript.pt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shots", "0"], "--shots 0: choose at least 1"),
        (["--shots", "4", "--table-shots", "5"], "--table-shots 5: choose 1 to 4"),
        (["--set", "real"], "needs --motions"),
        (["--size", "100"], "--size 100: choose a multiple of 16"),
        (["--references", "0"], "--references 0: choose 1 to 17"),
        (["--steps", "0"], "--steps 0"),
        (["--guidance", "0.5"], "--guidance 0.5"),
        (["--backbones", "/nowhere"], "/nowhere: there is no such folder"),
    ],
)
def test_bad_options_are_said(engine, tmp_path, capsys, options, message):
    assert main(["evaluate", *options, "-o", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    assert not engine.made


def test_the_demo_prints_every_measure_and_why_one_is_absent(tmp_path, monkeypatch):
    monkeypatch.delenv("MAQUETTE_BACKBONES", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    sample = make_sample(0, 5, 48, 64, 1, truth=True)
    found = load_script("demo/measure.py").measures(np.flip(sample.video, axis=1).copy(), sample)
    assert set(found) == {one.name for one in MEASURES}
    assert found["psnr"]["render"] == 99 and found["psnr"]["video"] < 40
    for name in ("swapped", "swapped_mean"):
        assert found[name]["about"] == "not measured: there is one character"
    assert "alexnet" in found["lpips"]["about"] and found["lpips"]["video"] is None
    lines = load_script("demo/demo.py").table({"measures": found, "frames": 5})
    assert len(lines) == 1 + len(MEASURES) + 2 and lines[-1] == "frames 5"
    assert all(sum(line.startswith(f"{one.name} ") for line in lines) == 1 for one in MEASURES)
