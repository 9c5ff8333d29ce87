"""A batch here and at a real server: what fails stops nothing, and the same command goes on."""

from __future__ import annotations

import csv
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from maquette.backend.batch import cli, parts, run
from maquette.backend.batch.fidelity import measure_fidelity
from maquette.backend.batch.tasks import read_record
from maquette.backend.cli import main
from maquette.backend.media import decode_video
from maquette.backend.raster.carry import carry_shot
from maquette.backend.shot import Shot, save_shot
from maquette.backend.worlds.sample import make_sample, to_shot

from ..builders import make_shot
from ..server.harness import HERE, Server


def shot(seed: int = 0) -> Shot:
    made = make_shot(3, width=64, height=64, full=True, seed=seed)
    return replace(made, settings=replace(made.settings, width=64, height=64))


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = tmp_path / "shots"
    folder.mkdir()
    for name in ("a", "b"):
        save_shot(shot(), folder / f"{name}.shot")
    return folder


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with open(folder / "batch.csv", encoding="utf-8", newline="") as stream:
        return {row["name"]: row for row in csv.DictReader(stream)}


def test_all_are_made_and_what_fails_is_tried_again(shots: Path, tmp_path: Path, capsys) -> None:
    (shots / "c.shot").write_bytes(b"no shot")
    command = ["batch", str(shots), "-o", str(tmp_path / "films"), "--quality", "draft", "--device", "cpu", "--quiet"]
    assert main(command) == 1
    found = rows(tmp_path / "films")
    assert "not a .shot file" in found["c-draft"]["error"] and "2 of 3 films" in capsys.readouterr().out
    assert (tmp_path / "films" / "batch.png").is_file()
    for name in ("a-draft", "b-draft"):
        film, _ = decode_video(tmp_path / "films" / f"{name}.mp4")
        assert len(film) == 3 and not found[name]["error"] and float(found[name]["kept_db"]) > 30
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "films").glob("*.mp4")}
    save_shot(shot(), shots / "c.shot")
    save_shot(shot(seed=4), shots / "b.shot")
    assert main(command) == 0
    after = {path.name: path.stat().st_mtime_ns != before.get(path) for path in (tmp_path / "films").glob("*.mp4")}
    assert after == {"a-draft.mp4": False, "b-draft.mp4": True, "c-draft.mp4": True}


def test_an_interrupted_batch_keeps_what_is_done(shots: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    command = ["batch", str(shots), "-o", str(tmp_path), "--quality", "draft", "--device", "cpu", "--quiet"]
    write = run.write_result

    def interrupted(*arguments: object) -> None:
        write(*arguments)  # type: ignore[arg-type]
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(run, "write_result", interrupted)
    assert main(command) == 130
    assert [path.name for path in tmp_path.glob("*.mp4")] == ["a-draft.mp4"] and list(rows(tmp_path)) == ["a-draft"]
    monkeypatch.setattr(run, "write_result", write)
    assert main(command) == 0 and list(rows(tmp_path)) == ["a-draft", "b-draft"]


def test_a_model_that_cannot_run_is_told_before_anything_is_made(shots: Path, tmp_path: Path, capsys) -> None:
    for model, said in (
        ("nobody", "no such model; choose from isa"),
        ("mimicmotion", "maquette models add mimicmotion"),
    ):
        assert main(["batch", str(shots), "-o", str(tmp_path / "films"), "--model", model]) == 2
        assert said in capsys.readouterr().err
    assert not list((tmp_path / "films").iterdir())


def test_the_carried_film_is_faithful_and_noise_is_not() -> None:
    one = to_shot(make_sample(3, frames=3, size=64, characters=1))
    carried = carry_shot(one, 64, 64).frames
    best = measure_fidelity(one, carried)
    assert best.figure_iou == 1 and best.kept_db == 99
    noise = np.random.default_rng(0).integers(0, 255, carried.shape, np.uint8)
    worst = measure_fidelity(one, noise)
    assert worst.figure_iou is not None and worst.kept_db is not None
    assert worst.figure_iou < 0.8 and worst.kept_db < 12
    assert measure_fidelity(one, carried[:2]).kept_db is None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server


def test_a_backend_makes_them_once_each(server: Server, shots: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("MAQUETTE_TOKEN", server.token)
    save_shot(replace(shot(), prompt="fail=engine"), shots / "b.shot")
    command = ["batch", str(shots), "-o", str(tmp_path / "films"), "--server", server.address, "--quiet"]
    # What a batch that was killed has sent already.
    (tmp_path / "films").mkdir()
    there = run.There(tmp_path / "films", server.address, server.token)
    task = run.Task(shots / "a.shot", name="a")
    there._send(*run._loaded(task)).leave()  # type: ignore[arg-type]
    assert main(command) == 1, capsys.readouterr()
    found = rows(tmp_path / "films")
    assert not found["a"]["error"] and found["b"]["error"]
    assert json.loads((tmp_path / "films" / "a.json").read_text())["width"] == 48
    save_shot(shot(), shots / "b.shot")
    assert main(command) == 0
    assert not (tmp_path / "films" / ".batch").exists()


def test_a_backend_that_is_not_there_is_told(shots: Path, tmp_path: Path, capsys) -> None:
    assert main(["batch", str(shots), "-o", str(tmp_path), "--server", "localhost:9"]) == 2
    assert "localhost:9" in capsys.readouterr().err


def test_a_backend_of_its_own_makes_several_at_a_time_and_goes_with_the_batch(
    shots: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    folder = tmp_path / "films"
    noted = tmp_path / "noted"
    monkeypatch.setenv("MAQUETTE_ENGINES", "fake_engines:FakeEngines")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH")))))
    monkeypatch.setenv("FAKE_LOG", str(noted))
    for name in ("a", "b"):
        save_shot(replace(shot(), prompt="wait=0.3"), shots / f"{name}.shot")
    command = ["batch", str(shots), "-o", str(folder), "--workers", "2", "--quiet"]
    assert main(command) == 0, capsys.readouterr()
    assert {name: row["width"] for name, row in rows(folder).items()} == {"a": "48", "b": "48"}
    engines = {line.split()[2] for line in noted.read_text().splitlines() if line.startswith("begin")}
    assert len(engines) == 2 and not any(psutil.pid_exists(int(engine)) for engine in engines)
    assert sorted(path.name for path in folder.iterdir()) == [
        "a.json",
        "a.mp4",
        "b.json",
        "b.mp4",
        "batch.csv",
        "batch.png",
    ]
    # All is done: nothing is started for it.
    monkeypatch.setattr(cli, "own_backend", None)
    assert main(command) == 0


@pytest.mark.parametrize(
    ("more", "world", "said"),
    [
        (["--gpus", "0+x"], "1", "'0+x' is no list of GPUs' numbers"),
        (["--gpus", "0", "--server", "a:1"], "1", "--gpus=0 is of this computer"),
        ([], "2", "leave torchrun out, and say --gpus 0+1"),
    ],
)
def test_engines_that_there_cannot_be(shots: Path, tmp_path: Path, monkeypatch, capsys, more, world, said) -> None:
    monkeypatch.setenv("WORLD_SIZE", world)
    assert main(["batch", str(shots), "-o", str(tmp_path / "films"), *more]) == 2
    assert said in capsys.readouterr().err


def test_a_draft_in_parts_is_the_draft_in_one(tmp_path: Path, monkeypatch, capsys) -> None:
    """To the bit, whoever makes the parts; those that are missing are made when the film is."""
    made = make_shot(11, width=32, height=32, full=True)
    save_shot(replace(made, settings=replace(made.settings, width=32, height=32)), tmp_path / "long.shot")
    folder = tmp_path / "films"

    def batch(line: str, *more: str) -> int:
        (tmp_path / "list.txt").write_text(f"long.shot quality=draft {line}\n", "utf-8")
        return main(["batch", str(tmp_path / "list.txt"), "-o", str(folder), "--device", "cpu", "--quiet", *more])

    assert batch("", "--no-report") == 0
    (whole, _), alone = decode_video(folder / "long-draft.mp4"), read_record(folder, "long-draft")
    (folder / "long-draft.json").unlink()
    drawn = []
    frames = parts.Carrier.frames

    def draw(carrier, tell=None, only=None):
        drawn.append(only)
        return frames(carrier, tell, only)

    monkeypatch.setattr(parts.Carrier, "frames", draw)
    assert batch("part=2/3", "--no-report") == 0 and batch("part=2/3", "--no-report") == 0
    assert sorted(path.name for path in folder.glob("*part*")) == [f"long-draft-part2of3.{e}" for e in ("json", "mp4")]
    assert batch("parts=3") == 0
    assert drawn == [range(3, 7), range(0, 3), range(7, 11)] and not list(folder.glob("*part*"))
    assert np.array_equal(decode_video(folder / "long-draft.mp4")[0], whole)
    joined = read_record(folder, "long-draft")
    assert (
        joined and alone and (joined.frames, joined.width, joined.height) == (alone.frames, alone.width, alone.height)
    )
    assert (folder / "batch.png").is_file()
    assert batch("parts=3", "--no-report") == 0 and len(drawn) == 3
    assert batch("part=12/20", "--no-report") == 0 and len(drawn) == 3, "a part without a frame is done"


def test_what_is_made_in_one_piece_only(shots: Path, tmp_path: Path, capsys) -> None:
    (shots / "list.txt").write_text("a.shot part=1/2\n", "utf-8")
    assert main(["batch", str(shots / "list.txt"), "-o", str(tmp_path), "--quiet"]) == 1
    assert "only a draft can be made in parts" in rows(tmp_path)["a-part1of2"]["error"]
