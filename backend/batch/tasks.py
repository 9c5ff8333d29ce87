"""What a batch makes: a film a task, and the record beside it by which the next run knows that it is done."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..catalogue.loras import OPTION as LORAS
from ..catalogue.quality import list_quality
from ..client.process import read_json, write_json
from ..shot import Shot, load_shot

_SEEDS = 2**32

_WORDS = {
    "model": ".+", "seed": "[0-9]+", "quality": ".+", "parts": "[1-9][0-9]{,3}", "part": "[0-9]{1,4}/[1-9][0-9]{,3}",
}  # fmt: skip
"""What a list's line may say of a shot, and how it is written."""


class BatchError(ValueError):
    """What was asked for cannot be made; the message names it and the cure."""


@dataclass(frozen=True)
class Task:
    """One film.

    Attributes:
        path: the .shot file.
        model, quality: empty: as the shot says.
        seed: None: the shot's.
        loras: see ``lora_choice``; empty: the shot's.
        upscale: None: the shot's.
        name: of its files, without an ending; unique in a batch.
        parts: in how many parts its film may be made (see ``parts``).
        part: which of how many alone is to be made, counted from 1; None: the film.
    """

    path: Path
    model: str = ""
    seed: int | None = None
    quality: str = ""
    loras: str = ""
    upscale: int | None = None
    name: str = ""
    parts: int = 1
    part: tuple[int, int] | None = None

    def load(self) -> Shot:
        """The shot with the task's settings. Raises ShotError."""
        shot = load_shot(self.path)
        settings = shot.settings
        if self.model and self.model != settings.model:
            # Another model's options would mean nothing to this one.
            settings = replace(settings, model=self.model, options={})
        if self.seed is not None:
            settings = replace(settings, seed=self.seed)
        if self.quality:
            settings = replace(settings, quality=self.quality)
        if self.upscale is not None:
            settings = replace(settings, upscale=self.upscale)
        if self.loras:
            settings = replace(settings, options={**settings.options, LORAS: self.loras})
        return replace(shot, settings=settings)

    def key(self) -> str:
        """A digest of what is asked for: another one as soon as the shot or a setting changes. Raises OSError."""
        what = hashlib.sha256(self.path.read_bytes())
        further = {name: value for name in ("loras", "upscale", "part") if (value := getattr(self, name))}
        what.update(json.dumps([self.model, self.seed, self.quality, *([further] if further else [])]).encode())
        return what.hexdigest()[:32]


@dataclass(frozen=True)
class Record:
    """What came of a task, kept as ``NAME.json`` beside its film.

    Attributes:
        key: of the task.
        error: empty when the film is there.
        seconds: from its start to its film.
        figure_iou, kept_db: see ``fidelity.Fidelity``; None where they cannot be measured.
    """

    name: str
    shot: str
    key: str = ""
    model: str = ""
    seed: int = 0
    quality: str = ""
    seconds: float = 0.0
    frames: int = 0
    width: int = 0
    height: int = 0
    figure_iou: float | None = None
    kept_db: float | None = None
    notes: tuple[str, ...] = field(default=())
    error: str = ""

    def write(self, folder: Path) -> None:
        """Keep it; a stop in the middle leaves the old one."""
        write_json(folder / f"{self.name}.json", asdict(self))


def part_of(task: Task, place: int) -> Task:
    """A part of a task's film, counted from 1, under a name of its own."""
    return replace(task, parts=1, part=(place, task.parts), name=task.name + _suffix(place, task.parts))


def _suffix(place: int, parts: int) -> str:
    return f"-part{place}of{parts}"


def film_path(folder: Path, name: str) -> Path:
    """Where a task's film lies."""
    return folder / f"{name}.mp4"


def read_record(folder: Path, name: str) -> Record | None:
    """The record of a task, or None where there is none that can be read."""
    data = read_json(folder / f"{name}.json")
    try:
        return None if data is None else Record(**{**data, "notes": tuple(data["notes"])})
    except (TypeError, KeyError):
        return None


def done(folder: Path, task: Task) -> Record | None:
    """The record of a task whose film is there, made of the same shot with the same settings; None otherwise."""
    record = read_record(folder, task.name)
    try:
        same = record is not None and not record.error and record.key == task.key()
    except OSError:
        return None
    return record if same and film_path(folder, task.name).is_file() else None


def make_tasks(
    given: Sequence[Path],
    models: Sequence[str] = (),
    seeds: Sequence[int] = (),
    quality: str = "",
    loras: str = "",
    upscale: int | None = None,
) -> list[Task]:
    """Every shot with every model and seed.

    Args:
        given: .shot files, folders of them, and lists (.txt) with a line a shot: a path from the list's folder, then
            ``model=ID``, ``seed=N`` and ``quality=LEVEL`` where they differ from the rest; ``parts=N``: its film may be
            made in so many, and ``part=I/N``: only that one is wanted; # begins a comment.

    Raises:
        BatchError: nothing is there, or a line cannot be read.
    """
    found = [one for path in given for one in _shots(path)]
    tasks = [
        replace(
            task,
            model=task.model or model,
            seed=seed if task.seed is None else task.seed,
            quality=task.quality or quality,
            loras=loras,
            upscale=upscale,
        )
        for task, model, seed in itertools.product(found, models or [""], seeds or [None])
    ]
    for task in tasks:
        if task.seed is not None and not 0 <= task.seed < _SEEDS:
            raise BatchError(f"{task.path}: seed {task.seed}: choose 0 to {_SEEDS - 1}")
    return list(_named(dict.fromkeys(tasks)))


def _shots(path: Path) -> list[Task]:
    if path.is_dir():
        if found := sorted(path.glob("*.shot")):
            return [Task(one) for one in found]
        raise BatchError(f"{path}: holds no .shot file; export shots from Blender into it")
    if not path.is_file():
        raise BatchError(f"{path}: no such file or folder")
    if path.suffix == ".txt":
        lines = enumerate(path.read_text("utf-8").splitlines(), 1)
        found = [task for number, line in lines for task in _line(path, number, line)]
        if not found:
            raise BatchError(f"{path}: lists no shot; write a line a shot")
        return found
    if path.suffix == ".shot":
        return [Task(path)]
    raise BatchError(f"{path}: give .shot files, folders of them, or a list that ends in .txt")


def _line(path: Path, number: int, line: str) -> list[Task]:
    where = f"{path}, line {number}"
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise BatchError(f"{where}: {error}") from error
    if not words:
        return []
    shot = path.parent / words[0]
    if shot.suffix != ".shot" or not shot.is_file():
        raise BatchError(f"{where}: {shot} is no .shot file")
    values: dict[str, Any] = {}
    for word in words[1:]:
        name, equals, value = word.partition("=")
        if not equals or name not in _WORDS or not re.fullmatch(_WORDS[name], value):
            raise BatchError(
                f"{where}: {word}: write model=ID, seed=N or quality=LEVEL, or for a draft parts=N, part=I/N"
            )
        if name == "quality" and value not in list_quality():
            raise BatchError(f"{where}: {word}: choose from {', '.join(list_quality())}")
        values[name] = int(value) if name in ("seed", "parts") else value
    if part := values.get("part"):
        place, count = map(int, part.split("/"))
        if not 1 <= place <= count:
            raise BatchError(f"{where}: part={part}: parts are counted from 1/{count} to {count}/{count}")
        values["part"] = (place, count)
    return [Task(shot, **values)]


def _named(tasks: Iterable[Task]) -> Iterator[Task]:
    """Tasks named by the shot's file, its folder where files of one name meet, and what was asked for."""
    tasks = list(tasks)
    stems = Counter(path.stem for path in {task.path.resolve() for task in tasks})
    taken: set[str] = set()
    for task in tasks:
        path = task.path.resolve()
        words = [path.parent.name if stems[path.stem] > 1 else "", path.stem, task.model, task.quality]
        words.append("" if task.seed is None else f"seed{task.seed}")
        name = re.sub(r"[^\w.-]+", "_", "-".join(word for word in words if word)).strip("._") or "shot"
        name += "" if task.part is None else _suffix(*task.part)
        # Folders of one name above files of one name.
        name = next(one for one in (name, *(f"{name}-{i}" for i in range(2, len(tasks) + 2))) if one not in taken)
        taken.add(name)
        yield replace(task, name=name)
