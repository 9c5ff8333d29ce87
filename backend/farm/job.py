"""What a farm is to do: shots to capture, and films to make of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path


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
class Film:
    """One film, and one task.

    Attributes:
        name: of the task, no two alike.
        shot: that it is made of.
        line: as ``maquette batch`` reads it in a list: a shot and its settings.
    """

    name: str
    shot: str
    line: str


@dataclass(frozen=True)
class Job:
    """All of it.

    Attributes:
        name: for the farm's list.
        captures: none where all shots are captured already.
        blend: the .blend file of the captures, a whole path.
        gpu_gb: GPU memory that a film needs; 0 where the processor does.
        blender, maquette: the programs on the farm's machines.
    """

    name: str
    captures: tuple[Capture, ...]
    films: tuple[Film, ...]
    blend: Path | None = None
    gpu_gb: float = 0.0
    blender: str = "blender"
    maquette: str = "maquette"


CAPTURE = "import sys, bpy; bpy.ops.maquette.export_shot(filepath=sys.argv[-1])"
"""What Blender runs once the scene and its frames are chosen by its own options; the file's path comes last."""


def make_films(
    shots: Iterable[str], models: Sequence[str] = (), seeds: Sequence[int] = (), quality: str = ""
) -> tuple[Film, ...]:
    """A film of every shot with every model and seed; where none is given, with the shot's own."""
    films = []
    for shot, model, seed in product(shots, models or ("",), seeds or (None,)):
        chosen = {"model": model, "seed": "" if seed is None else str(seed), "quality": quality}
        words = [f"{name}={value}" for name, value in chosen.items() if value]
        name = "-".join([shot, *(value for value in (model, "" if seed is None else f"seed{seed}") if value)])
        films.append(Film(name, shot, " ".join([f"shots/{shot}.shot", *words])))
    return tuple(films)


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
