"""A shot's camera on the command line and in files; the formats' own rules are read in tests/scene/camera."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from maquette.backend.cli import main
from maquette.backend.shot import ShotError, save_shot
from maquette.backend.shot.camera_files import _quaternion, write_camera_json, write_colmap

from ..builders import make_shot


def test_the_command_line_writes_both(tmp_path, capsys):
    shot = make_shot()
    save_shot(shot, tmp_path / "a.shot")
    assert main(["cameras", str(tmp_path / "a.shot"), "-o", str(tmp_path / "a.json"), "--first-frame", "7"]) == 0
    assert main(["cameras", str(tmp_path / "a.shot"), "-o", str(tmp_path / "model")]) == 0
    assert f"{shot.clip.frames} cameras written" in capsys.readouterr().out
    rows = json.loads((tmp_path / "a.json").read_text("utf-8"))["frames"]
    assert [row["frame"] for row in rows] == list(range(7, 7 + shot.clip.frames))
    assert np.array_equal(np.array([row["K"] for row in rows], np.float32), shot.clip.Ks)
    assert np.array_equal(np.array([row["viewmat"] for row in rows], np.float32), shot.clip.viewmats)
    pictures = [line for line in (tmp_path / "model" / "images.txt").read_text("utf-8").splitlines() if ".png" in line]
    assert [line.split()[-1] for line in pictures] == [f"{k:04d}.png" for k in range(1, 1 + shot.clip.frames)]


def test_half_turns_have_quaternions():
    for axis in np.eye(3):
        turn = 2 * np.outer(axis, axis) - np.eye(3)
        assert np.allclose(np.abs(_quaternion(turn)), [0, *axis])


def test_labels_that_do_not_fit_are_refused(tmp_path):
    clip = replace(make_shot().clip, fps=12.0)
    with pytest.raises(ShotError, match="numbers"):
        write_camera_json(tmp_path / "a.json", clip, frames=[1])
    with pytest.raises(ShotError, match="spaces"):
        write_colmap(tmp_path / "model", clip, images=["a b.png"] * clip.frames)
    assert not list(tmp_path.iterdir())
