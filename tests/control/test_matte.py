"""A film with the outline of its characters as alpha."""

from __future__ import annotations

import av
import numpy as np
import pytest
from maquette.backend.cli import main
from maquette.backend.control.films import ControlFilms, ControlOptions
from maquette.backend.control.fitting import squeezed
from maquette.backend.media import decode_rgba, write_mp4
from maquette.backend.shot import load_shot

from .test_films import HERE

SHOT = HERE / "passes.shot"


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Of the shot, at another size."""
    path = tmp_path_factory.mktemp("film") / "made.mp4"
    colours = np.random.default_rng(0).integers(0, 256, (3, 6, 8, 3), np.uint8)
    write_mp4(path, colours.repeat(8, axis=1).repeat(8, axis=2), 24)
    return path


def matte(film, out, *words: str) -> int:
    return main(["matte", str(SHOT), str(film), "-o", str(out), "--quiet", "--device", "cpu", *words])


def outline(frame: int, *characters: str) -> np.ndarray:
    shot = squeezed(load_shot(SHOT), 64, 48)
    return ControlFilms(shot, ControlOptions(characters=characters)).picture("silhouettes", frame)[..., 0]


def test_pngs_are_exact(film, tmp_path, capsys):
    assert matte(film, tmp_path / "matte") == 0
    assert "3 frames of 64 x 48 with alpha" in capsys.readouterr().out
    with av.open(str(film)) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for t in range(3):
        rgba = decode_rgba(tmp_path / "matte" / f"0000{t + 1}.png")
        np.testing.assert_array_equal(rgba[..., 3], outline(t))
        assert np.abs(rgba[..., :3].astype(int) - shown[t]).mean() < 3
    alpha = outline(1)
    assert 0 < (alpha == 255).mean() < 1 and ((alpha > 0) & (alpha < 255)).any(), "edges are soft"


def test_prores_4444(film, tmp_path):
    name = load_shot(SHOT).characters[0].name
    assert matte(film, tmp_path / "a.mov", "--character", name) == 0
    with av.open(str(tmp_path / "a.mov")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("prores", 24) and "yuva444" in stream.pix_fmt
        frames = [frame.to_ndarray(format="rgba") for frame in container.decode(video=0)]
    assert len(frames) == 3
    for t in range(3):
        assert np.abs(frames[t][..., 3].astype(int) - outline(t, name)).max() <= 2
    assert [path.name for path in tmp_path.iterdir()] == ["a.mov"]


def test_what_is_refused(film, tmp_path, capsys):
    for out, said in ((tmp_path / "a.mp4", "give such a name"), (tmp_path / "no" / "a.mov", "make it first")):
        assert matte(film, out) == 2 and said in capsys.readouterr().err
    short, wide = tmp_path / "short.mp4", tmp_path / "wide.mp4"
    write_mp4(short, np.zeros((2, 48, 64, 3), np.uint8), 24)
    write_mp4(wide, np.zeros((3, 48, 128, 3), np.uint8), 24)
    for other, said in ((short, "the shot has 3 frames and the film 2"), (wide, "and the film 128 x 48")):
        assert matte(other, tmp_path / "a.mov") == 2 and said in capsys.readouterr().err
    assert not (tmp_path / "a.mov").exists()


def test_render_writes_one_beside_its_film(tmp_path):
    words = ["render", str(SHOT), "-o", str(tmp_path / "f.mp4"), "--matte", str(tmp_path / "f"), "--quality", "draft"]
    assert main([*words, "--quiet", "--device", "cpu"]) == 0
    assert len(list((tmp_path / "f").iterdir())) == 3
    assert main([*words[:-3], str(tmp_path / "f.mp4"), "--quiet", "--device", "cpu"]) == 2
