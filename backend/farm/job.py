"""What a farm is to do: shots to capture, and films to make of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from ..catalogue.quality import list_quality


class FarmError(ValueError):
    """A bundle cannot be written as asked; says what to change."""


@dataclass(frozen=True)
class Capture:
    """A shot that Blender is to capture on the farm.

    Attributes:
        shot: name of its file in ``shots/``, without ending.
        scene: of the .blend file.
        start, end: first and last frame.
    """

    shot: str
    scene: str
    start: int
    end: int


@dataclass(frozen=True)
class Source:
    """A shot, as far as it is known before the farm has it.

    Attributes:
        name: of its file in ``shots/``, without ending.
        frames: 0 where only its capture will tell.
        quality: the level that it asks for, empty for its model's own; None where only its capture will tell.
    """

    name: str
    frames: int = 0
    quality: str | None = None


@dataclass(frozen=True)
class Film:
    """One film: one task, or a draft in several.

    Attributes:
        name: no two alike.
        shot: that it is made of.
        line: as ``maquette batch`` reads it in a list: a shot and its settings.
        draft: whether the carried film is asked for, which takes no GPU.
        parts: tasks that make it.
        why: why they are so many, in words.
    """

    name: str
    shot: str
    line: str
    draft: bool = False
    parts: int = 1
    why: str = ""

    @property
    def tasks(self) -> dict[str, str]:
        """The list's line of each task, by its name."""
        if self.parts == 1:
            return {self.name: self.line}
        places = range(1, self.parts + 1)
        return {f"{self.name}-part{place}of{self.parts}": f"{self.line} part={place}/{self.parts}" for place in places}

    @property
    def whole(self) -> str:
        """The list's line of the film."""
        return self.line if self.parts == 1 else f"{self.line} parts={self.parts}"


@dataclass(frozen=True)
class Job:
    """All of it.

    Attributes:
        name: for the farm's list.
        captures: none where all shots are captured already.
        blend: the .blend file of the captures, a whole path.
        gpu_gb: memory of each GPU that a film needs; 0 where the processor does.
        gpus: of one machine, which make each film together.
        blender, maquette: the programs on the farm's machines.
    """

    name: str
    captures: tuple[Capture, ...]
    films: tuple[Film, ...]
    blend: Path | None = None
    gpu_gb: float = 0.0
    gpus: int = 1
    blender: str = "blender"
    maquette: str = "maquette"


CAPTURE = "import sys, bpy; bpy.ops.maquette.export_shot(filepath=sys.argv[-1])"
"""What Blender runs once the scene and its frames are chosen by its own options; the file's path comes last."""


CHUNK = 120
"""Frames of a draft that one task makes, by default; each task first reads the whole shot and its looks."""

_LEAST = 8
"""So many frames are drawn together."""


def make_films(
    shots: Iterable[Source],
    models: Sequence[str] = (),
    seeds: Sequence[int] = (),
    quality: str = "",
    chunk: int = CHUNK,
) -> tuple[Film, ...]:
    """A film of every shot with every model and seed; where none is given, with the shot's own.

    Args:
        chunk: frames of a draft that one task makes at most; 0 for all.

    Raises:
        FarmError: a chunk of too few frames.
    """
    if chunk and chunk < _LEAST:
        raise FarmError(f"{chunk} frames a draft's task: choose {_LEAST} or more, or 0 for all")
    films = []
    for shot, model, seed in product(shots, models or ("",), seeds or (None,)):
        chosen = {"model": model, "seed": "" if seed is None else str(seed), "quality": quality}
        words = [f"{name}={value}" for name, value in chosen.items() if value]
        name = "-".join([shot.name, *(value for value in (model, "" if seed is None else f"seed{seed}") if value)])
        draft, parts, why = _shared_out(shot, quality, chunk)
        films.append(Film(name, shot.name, " ".join([f"shots/{shot.name}.shot", *words]), draft, parts, why))
    return tuple(films)


def _shared_out(shot: Source, quality: str, chunk: int) -> tuple[bool, int, str]:
    """Whether its film is a draft, how many tasks make it, and why."""
    level = quality or shot.quality
    if level is None:
        return False, 1, "only the capture will tell whether it is a draft, which can be shared out (--quality draft)"
    known = list_quality().get(level)
    if known is None or not known.carried:
        return False, 1, "each frame of a model's film depends on the whole shot"
    if not chunk:
        return True, 1, "drafts are not to be shared out"
    if not shot.frames:
        return True, 1, "only the capture will tell how long it is"
    parts = -(-shot.frames // chunk)
    return True, parts, f"a draft of {shot.frames} frames, {chunk} a task at most"


def told(job: Job) -> str:
    """How many tasks make each film, and why, in lines for people."""
    found: dict[tuple[int, bool, str], list[str]] = {}
    for film in job.films:
        found.setdefault((film.parts, film.draft, film.why), []).append(film.name)
    lines = []
    for (parts, draft, why), names in found.items():
        tasks = f"{parts} tasks" if parts > 1 else "1 task"
        where = f" on {job.gpus} GPUs" if job.gpus > 1 and not draft else ""
        lines.append(f"{', '.join(names)}: {tasks}{where} a film ({why})")
    return "\n".join(lines)


def distinct(names: Iterable[str]) -> list[str]:
    """The names as files can bear them, no two alike."""
    taken: list[str] = []
    for name in names:
        stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("._-") or "shot"
        number = 1
        while (known := stem if number == 1 else f"{stem}-{number}").lower() in (one.lower() for one in taken):
            number += 1
        taken.append(known)
    return taken
