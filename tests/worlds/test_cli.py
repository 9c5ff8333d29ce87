"""``maquette synth`` writes shots that everything else reads."""

from __future__ import annotations

import re

import numpy as np
import pytest
from maquette.backend.cli import main
from maquette.backend.media import decode_video
from maquette.backend.shot import load_shot


def test_every_sample_is_a_shot_with_its_film_and_truth(tmp_path, capsys):
    out = tmp_path / "set"
    words = [
        "synth",
        "--seed",
        "5",
        "--count",
        "2",
        "--frames",
        "5",
        "--size",
        "64",
        "48",
        "--points",
        "32",
        "-o",
        str(out),
    ]
    assert main(words) == 0
    assert re.search(r"2 shots; made [\d.]+ frames a second on \w+, written [\d.]+\n", capsys.readouterr().out)
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f"{seed:010d}.{ending}" for seed in (5, 6) for ending in ("shot", "mp4", "npz")
    )
    shot = load_shot(out / "0000000005.shot")
    film, _ = decode_video(out / "0000000005.mp4")
    with np.load(out / "0000000005.npz") as truth:
        assert film.shape == (*truth["mask"].shape, 3) == (5, 48, 64, 3)
        assert truth["flow"].shape == (4, 48, 64, 2) and truth["depth"].shape == (5, 48, 64)
        assert ((truth["character"] >= 0) == truth["mask"]).mean() > 0.97
    assert shot.clip.frames == 5 and shot.characters[0].points.shape[1] == 32
    sheet = tmp_path / "sheet.png"
    assert main(["inspect", str(out / "0000000005.shot"), "--sheet", str(sheet)]) == 0 and sheet.stat().st_size > 1000


@pytest.mark.parametrize(("option", "value"), [("--count", "0"), ("--frames", "0"), ("--size", "8"), ("--seed", "-1")])
def test_a_number_that_makes_no_sense_is_named(tmp_path, capsys, option, value):
    assert main(["synth", option, value, "-o", str(tmp_path / "x")]) == 2
    assert f"{option} {value}: choose at least" in capsys.readouterr().err


def test_dressed_shots_are_made_on_demand(tmp_path):
    words = ["synth", "--frames", "2", "--size", "32", "--points", "16", "--characters", "1", "-o", str(tmp_path)]
    shown = []
    for more in ([], ["--dressed"]):
        assert main([*words, *more]) == 0
        shot = load_shot(tmp_path / "0000000000.shot")
        shown.append((shot, np.load(tmp_path / "0000000000.npz")["mask"]))
    (bare, body), (dressed, clothed) = shown
    np.testing.assert_array_equal(dressed.characters[0].points, bare.characters[0].points)
    assert (body != clothed).any()
