from __future__ import annotations

import json
from argparse import ArgumentParser

import numpy as np
import pytest
from maquette.backend.inspect import add_arguments, draw_points, summarize
from maquette.backend.media import decode_image, decode_video
from maquette.backend.raster.carry import carry_shot
from maquette.backend.shot import ShotError, save_shot
from maquette.backend.shot.cameras import project

from .builders import make_shot


def run(*argv: str) -> int:
    parser = ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args(argv)
    return args.run(args)


def test_summary_is_json_and_tells_the_facts(tmp_path, capsys):
    save_shot(make_shot(5, 12, 2), tmp_path / "a.shot")
    assert run(str(tmp_path / "a.shot"), "--sheet", str(tmp_path / "a.png")) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["frames"] == 5 and facts["camera"]["moves"] and not facts["camera"]["zooms"]
    assert [c["points"] for c in facts["characters"]] == [12, 12]
    assert facts["characters"][0]["reference"]["mime"] == "image/png"
    assert decode_image(tmp_path / "a.png").shape[1] > 5 * 200


def test_points_are_drawn_where_they_project():
    shot = make_shot(3, 1)
    drawn = draw_points(np.zeros((3, 256, 256, 3), np.uint8), shot)
    uv, _ = project(shot.characters[0].points, shot.clip.viewmats, shot.clip.Ks)
    for t in range(3):
        y, x = np.argwhere(drawn[t].any(-1)).mean(0)
        assert (x + 0.5, y + 0.5) == pytest.approx(uv[t, 0] * 2, abs=1.0)


def test_points_out_of_frame_are_counted():
    shot = make_shot(2, 4)
    shot.characters[0].points[...] += 100
    assert summarize(shot)["characters"][0]["in_frame"] == 0


def test_a_bad_file_raises_the_shots_own_error(tmp_path):
    (tmp_path / "a.shot").write_bytes(b"no")
    with pytest.raises(ShotError, match="not a .shot file"):
        run(str(tmp_path / "a.shot"))


def test_keypoints_meshes_and_tracks_are_told_and_drawn(tmp_path):
    shot = make_shot(4, 40, full=True)
    facts = summarize(shot)
    assert [mesh["name"] for mesh in facts["meshes"]] == ["Body 1", "Floor"]
    assert facts["meshes"][0]["moves"] and facts["meshes"][1]["character"] is None
    assert facts["tracks"] == [{"name": "Empty", "visible": 1.0}]
    told = facts["characters"][0]["keypoints"]
    assert told["body"] == 18 and told["face"] == 68
    assert told["hidden"] + told["self_occluded"] + told["visible"] <= 1.0001
    assert summarize(make_shot())["characters"][0]["keypoints"] is None
    drawn = draw_points(np.zeros((4, 256, 256, 3), np.uint8), shot, what="keypoints")
    uv, _ = project(shot.tracks[0].points[:, None], shot.clip.viewmats, shot.clip.Ks)
    for t in range(4):
        x, y = np.floor(uv[t, 0] * 2).astype(int)
        assert tuple(drawn[t, y, x]) == (255, 60, 60)
    save_shot(shot, tmp_path / "a.shot")
    plain = tmp_path / "plain.shot"
    save_shot(make_shot(4, 40), plain)
    assert run(str(tmp_path / "a.shot"), "--sheet", str(tmp_path / "a.png")) == 0
    assert run(str(plain), "--sheet", str(tmp_path / "b.png")) == 0
    assert decode_image(tmp_path / "a.png").shape[0] > decode_image(tmp_path / "b.png").shape[0] + 200


def test_the_carried_film_is_written(tmp_path, capsys):
    shot = make_shot(3, width=96, height=64)
    save_shot(shot, tmp_path / "a.shot")
    assert run(str(tmp_path / "a.shot"), "--carry", str(tmp_path / "a.mp4")) == 0
    frames, rate = decode_video(tmp_path / "a.mp4")
    assert frames.shape == (3, 64, 96, 3) and rate == 24
    expected = carry_shot(shot, 96, 64)
    assert np.abs(frames.astype(int) - expected.frames).mean() < 4
    assert [f"Note: {note}" for note in expected.notes] == capsys.readouterr().err.splitlines()
