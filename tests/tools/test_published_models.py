"""The trial of published weights, rehearsed with toy weights in the published layout."""

from __future__ import annotations

import json
from types import ModuleType

import pytest
from maquette.backend.media import decode_video
from maquette.backend.shot import save_shot

from ..conftest import load_script
from ..models.control.builders import led_shot, tiny_spec, write_weights


@pytest.fixture(scope="module")
def trial() -> ModuleType:
    return load_script("bench/published_models.py")


def test_a_model_is_tried_once_and_reported(trial, tmp_path, monkeypatch, capsys):
    write_weights(tiny_spec(tmp_path / "models"))
    save_shot(led_shot(4), tmp_path / "one.shot")
    given = ["-o", str(tmp_path / "out"), "--models", str(tmp_path / "models"), "--model", "vace-1.3b", "vace-14b"]
    given += ["--shot", str(tmp_path / "one.shot"), "--device", "cpu"]
    calls: list[list[str]] = []

    def call(command: list[str]) -> int:
        calls.append(command)
        return trial.main(command[2:])

    monkeypatch.setattr(trial.subprocess, "call", call)
    assert trial.main(given) == 0 and len(calls) == 1
    record = json.loads((tmp_path / "out" / "vace-1.3b.json").read_text())
    assert record["seconds"] > 0 and record["ram"] > 0 and record["ram_expected"] > 0 and record["frames"] == 4
    assert record["metadata"]["windows"] == 1 and {"figure_iou", "kept_db", "arrangement"} <= set(record)
    frames, _ = decode_video(tmp_path / "out" / "vace-1.3b.mp4", "film")
    assert frames.shape == (4, 32, 32, 3)
    report = (tmp_path / "out" / "report.md").read_text()
    assert report in capsys.readouterr().out and "| vace-1.3b |" in report
    assert "Not tried, as their weights are not here: vace-14b." in report
    assert trial.main(given) == 0 and len(calls) == 1, "what is done stays done"
    # Another shot is another trial, and one that cannot be made is told.
    save_shot(led_shot(3), tmp_path / "one.shot")
    monkeypatch.setattr(trial.subprocess, "call", lambda command: -9)
    assert trial.main(given) == 1
    assert "its process ended with status -9" in (tmp_path / "out" / "report.md").read_text()
