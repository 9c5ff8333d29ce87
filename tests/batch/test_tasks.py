"""Shots, models and seeds become tasks; a task is done when its film is there, made of the same shot."""

from __future__ import annotations

from pathlib import Path

import pytest
from maquette.backend.batch.tasks import BatchError, Record, done, film_path, make_tasks, read_record
from maquette.backend.shot import save_shot

from ..builders import make_shot


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = tmp_path / "shots"
    for place in ("", "b"):
        (folder / place).mkdir()
        save_shot(make_shot(1), folder / place / "take 1.shot")
    save_shot(make_shot(1), folder / "take2.shot")
    return folder


def test_every_shot_with_every_model_and_seed(shots: Path) -> None:
    tasks = make_tasks([shots], ["isa-nano", "mimicmotion"], [1, 2])
    assert [task.name for task in tasks] == [
        f"{stem}-{model}-seed{seed}"
        for stem in ("take_1", "take2") for model in ("isa-nano", "mimicmotion") for seed in (1, 2)
    ]  # fmt: skip
    assert tasks[2].load().settings.model == "mimicmotion" and tasks[3].load().settings.seed == 2


def test_names_are_unique_and_the_same_next_time(shots: Path) -> None:
    alone = make_tasks([shots])
    assert [task.name for task in alone] == ["take_1", "take2"]
    assert [task.name for task in make_tasks([shots, shots / "take2.shot"])] == ["take_1", "take2"]
    both = [task.name for task in make_tasks([shots, shots / "b"])]
    assert both == ["shots-take_1", "take2", "b-take_1"]
    # A name says nothing of what is left to the shot.
    assert make_tasks([shots], seeds=[4])[1].name == "take2-seed4"


def test_a_list_says_what_is_its_own(shots: Path) -> None:
    path = shots / "tonight.txt"
    path.write_text("# ours\n'take 1.shot' seed=7 quality=draft\n\ntake2.shot model=mimicmotion  # late\n", "utf-8")
    first, second = make_tasks([path], ["isa-nano"], [3])
    assert (first.model, first.seed, first.quality) == ("isa-nano", 7, "draft")
    assert (second.model, second.seed, second.quality) == ("mimicmotion", 3, "")


@pytest.mark.parametrize(
    "line, said",
    [
        ("gone.shot", "line 2: .*gone.shot is no .shot file"),
        ("take2.shot seed=x", "line 2: seed=x: write model=ID"),
        ("take2.shot steps=3", "line 2: steps=3: write model=ID"),
        ("take2.shot quality=best", "line 2: quality=best: choose from draft"),
        ("take2.shot seed=4294967296", "seed 4294967296: choose 0 to 4294967295"),
        ("'take2.shot", "line 2: No closing quotation"),
        ("take2.shot part=3/2", "line 2: part=3/2: parts are counted from 1/2 to 2/2"),
        ("take2.shot parts=0", "line 2: parts=0: write model=ID"),
        ("", "lists no shot"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(shots: Path, line: str, said: str) -> None:
    path = shots / "tonight.txt"
    path.write_text(f"#\n{line}\n", "utf-8")
    with pytest.raises(BatchError, match=said):
        make_tasks([path])


def test_nothing_to_do_is_said(tmp_path: Path) -> None:
    with pytest.raises(BatchError, match="holds no .shot file"):
        make_tasks([tmp_path])
    with pytest.raises(BatchError, match="no such file or folder"):
        make_tasks([tmp_path / "gone"])
    (tmp_path / "a.mp4").touch()
    with pytest.raises(BatchError, match=r"a.mp4: give .shot files"):
        make_tasks([tmp_path / "a.mp4"])


def test_a_task_is_done_when_its_film_is_there_and_nothing_has_changed(shots: Path) -> None:
    task = make_tasks([shots / "take2.shot"])[0]
    record = Record(task.name, str(task.path), task.key(), notes=("a",))
    assert done(shots, task) is None
    record.write(shots)
    assert done(shots, task) is None
    film_path(shots, task.name).touch()
    assert done(shots, task) == record == read_record(shots, task.name)
    assert done(shots, make_tasks([task.path], seeds=[1])[0]) is None
    save_shot(make_shot(1, seed=5), task.path)
    assert done(shots, task) is None
    Record(task.name, str(task.path), task.key(), error="no").write(shots)
    assert done(shots, task) is None
    (shots / f"{task.name}.json").write_text("{", "utf-8")
    assert done(shots, task) is None
