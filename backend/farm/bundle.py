"""A bundle: the folder that a farm is given. All machines reach it by the same path, and the .blend file too."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from . import flamenco, openjd
from .job import FarmError, Job, told

FLAVOURS: dict[str, ModuleType] = {"openjd": openjd, "flamenco": flamenco}


def write_bundle(flavour: str, folder: Path, job: Job, shots: Mapping[str, Path] | None = None) -> str:
    """Write a farm's files, the lists of the films (``films.txt``, and one a task in ``tasks/``), and ``shots/``.

    Args:
        shots: files of shots that are captured already, by their names in the bundle; they are copied.

    Returns:
        How the films are shared out, and how the bundle is given to the farm, in lines for people.

    Raises:
        FarmError: nothing is to be made, or the folder holds something else.
        OSError: it cannot be written.
    """
    if not job.films:
        raise FarmError("There is no shot to make a film of: give .shot files, or scenes of a .blend file")
    folder = folder.resolve()
    made = FLAVOURS[flavour].files(job, folder)
    if folder.is_dir() and any(folder.iterdir()) and not all((folder / name).is_file() for name in made):
        raise FarmError(f"{folder} holds something else: choose a new folder, or one with an earlier bundle")
    (folder / "shots").mkdir(parents=True, exist_ok=True)
    for name, path in (shots or {}).items():
        target = folder / "shots" / f"{name}.shot"
        if path.resolve() != target:
            shutil.copyfile(path, target)
    shutil.rmtree(folder / "tasks", ignore_errors=True)
    (folder / "tasks").mkdir()
    for film in job.films:
        for name, line in film.tasks.items():
            (folder / "tasks" / f"{name}.txt").write_text(f"../{line}\n", "utf-8")
    (folder / "films.txt").write_text("".join(f"{film.whole}\n" for film in job.films), "utf-8")
    for name, content in made.items():
        text = content if isinstance(content, str) else json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        (folder / name).write_text(text, "utf-8")
    return f"{told(job)}\n{FLAVOURS[flavour].submit(job, folder)}"
