"""Films in parts, which several computers may share out: of a draft each frame follows from the shot alone.

A part lies beside the films without any loss; the film is encoded once, when all parts are there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..media import lossless_writer, mp4_writer, video_frames
from ..models.device import choose_device
from ..models.family import Plan
from ..models.quality import is_draft
from ..raster.carry import Carrier
from ..shot import Shot
from .tasks import BatchError, Record, Task, done, film_path, part_of

Tell = Callable[[int, int], Any]
"""Told the frames that are drawn and their number; may raise to stop."""


def frames_of(frames: int, part: int, parts: int) -> range:
    """Frames of one of so many parts, counted from 1; none where there are fewer frames."""
    return range((part - 1) * frames // parts, part * frames // parts)


def check_parts(task: Task, shot: Shot) -> None:
    """Raise BatchError where a film cannot be made in parts."""
    if not is_draft(shot):
        raise BatchError(
            f"{task.path}: only a draft can be made in parts: each frame of a film by {shot.settings.model} depends on "
            "the others. Leave part= and parts= out"
        )


def make_part(task: Task, shot: Shot, plan: Plan, folder: Path, device: str | None, tell: Tell) -> Record:
    """Make the part that a task asks for. Raises MediaError, OSError, and what ``tell`` raises."""
    assert task.part is not None
    record = Record(task.name, str(task.path), task.key(), shot.settings.model, shot.settings.seed)
    wanted = frames_of(plan.frames, *task.part)
    if not wanted:
        return record
    film = Carrier(shot, plan.width, plan.height, choose_device(device))
    with lossless_writer(film_path(folder, task.name), plan.width, plan.height, shot.clip.fps) as write:
        for frame in film.frames(tell, wanted):
            write(frame)
    return replace(record, frames=len(wanted), width=plan.width, height=plan.height, notes=film.notes)


def join_parts(task: Task, shot: Shot, plan: Plan, folder: Path, device: str | None, tell: Tell) -> tuple[str, ...]:
    """Make a film of its parts, and those that are not there yet; they go once it is there.

    Returns:
        Sentences for the animator.

    Raises:
        MediaError, OSError, and what ``tell`` raises.
    """
    parts = [part_of(task, place) for place in range(1, task.parts + 1) if frames_of(plan.frames, place, task.parts)]
    notes: dict[str, None] = {}
    for part in parts:
        record = done(folder, part)
        if record is None:
            record = make_part(part, shot, plan, folder, device, tell)
            record.write(folder)
        notes.update(dict.fromkeys(record.notes))
    about = {
        "generator": "Maquette", "title": shot.name, "prompt": shot.prompt, "model": shot.settings.model,
        "quality": shot.settings.quality, "width": plan.width, "height": plan.height, "parts": len(parts),
    }  # fmt: skip
    with mp4_writer(film_path(folder, task.name), plan.width, plan.height, shot.clip.fps, about) as write:
        for part in parts:
            for frame, _ in video_frames(film_path(folder, part.name), part.name):
                write(frame)
    for part in parts:
        film_path(folder, part.name).unlink(missing_ok=True)
        (folder / f"{part.name}.json").unlink(missing_ok=True)
    return tuple(notes)
