"""``maquette control`` as people type it."""

from __future__ import annotations

import numpy as np
import pytest
from maquette.backend.cli import main
from maquette.backend.media import decode_image, decode_video, read_mp4_metadata

from .test_films import HERE, films

SHOT = str(HERE / "passes.shot")


def control(*arguments: object) -> int:
    return main(["control", SHOT, *map(str, arguments), "--quiet", "--device", "cpu"])


def test_one_film(tmp_path, capsys):
    assert control("--kind", "depth", "-o", tmp_path / "d.mp4") == 0
    film, rate = decode_video(tmp_path / "d.mp4")
    assert film.shape == (3, 96, 128, 3) and rate == 24 and read_mp4_metadata(tmp_path / "d.mp4")["control"] == "depth"
    for t in range(3):
        assert np.abs(film[t].astype(int) - films().picture("depth", t)).mean() < 1.2
    said = capsys.readouterr()
    assert "3 frames of 128 x 96 at 24" in said.out and "Note: Depth: white is" in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["d.mp4"]


def test_a_sequence_is_exact_and_replaces_a_longer_one(tmp_path):
    target = tmp_path / "masks"
    target.mkdir()
    for name in ("00009.png", "mine.png"):
        (target / name).write_bytes(b"old")
    assert control("--kind", "masks", "--format", "png", "-o", target) == 0
    assert sorted(path.name for path in target.iterdir()) == ["00001.png", "00002.png", "00003.png", "mine.png"]
    np.testing.assert_array_equal(decode_image(target / "00002.png"), films().picture("masks", 1))


def test_exr_holds_the_quantities(tmp_path):
    import av

    assert control("--kind", "depth", "--kind", "flow", "--format", "exr", "-o", tmp_path) == 0
    for kind in ("depth", "flow"):
        with av.open(str(tmp_path / kind / "00002.exr")) as file:
            frame = next(file.decode(video=0))
        assert frame.format.name == "gbrpf32le"
        np.testing.assert_array_equal(frame.to_ndarray(), films().data(kind, 1))


def test_all_leaves_out_what_the_shot_lacks_and_says_so(tmp_path, capsys):
    arguments = ["--size", "66x50", "--fps", "16", "--character", "Left", "--pose", "body"]
    assert control("--kind", "all", "-o", tmp_path / "all", *arguments) == 0
    made = sorted(path.name for path in (tmp_path / "all").iterdir())
    assert made == ["carried.mp4", "depth.mp4", "edges.mp4", "flow.mp4", "masks.mp4", "normals.mp4", "silhouettes.mp4"]
    said = capsys.readouterr().err
    assert "Note: No clay: clay: the shot was captured without it" in said and "No pose" in said
    assert "became 2 at 16" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--kind", "clay", "-o", "x.mp4"], "clay: the shot was captured without it"),
        (["--kind", "depth", "--kind", "flow", "-o", "x.mp4"], "2 kinds need a folder"),
        (["--kind", "masks", "--format", "exr", "-o", "x"], "masks is a picture, not a quantity"),
        (["--kind", "depth", "-o", "no/x.mp4"], "no such folder"),
        (["--kind", "depth", "-o", "x.mp4", "--size", "big"], "write WIDTHxHEIGHT"),
        (["--kind", "depth", "-o", "x.mp4", "--fps", "0.5"], "choose 1 to 240"),
        (["--kind", "pose", "-o", "x.mp4", "--pose", "feet"], "choose from body, hands, face"),
    ],
)
def test_says_what_is_wrong_and_writes_nothing(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert control(*arguments) == 2
    assert words in capsys.readouterr().err and not list(tmp_path.iterdir())
