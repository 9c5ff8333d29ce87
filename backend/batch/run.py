"""Tasks carried out: by this process, or by a backend over HTTP."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from ..client import BackendClient, Follower, FollowSpec, Report
from ..media import open_video
from ..models.engine import Engine, shot_engine
from ..models.family import Cancelled, EngineError, Progress
from ..models.quality import is_draft
from ..models.registry import plan_shot
from ..models.render import write_result
from ..shot import Shot, ShotError, save_shot
from .fidelity import measure_fidelity
from .parts import check_parts, join_parts, make_part
from .tasks import BatchError, Record, Task, film_path

STAGES = ("loading", "encoding", "denoising", "decoding", "upscaling", "writing")
_LOOK_SECONDS = 0.2


class Stopped(Exception):
    """The batch is to end; what is done stays done."""


Tell = Callable[[Task, float, str], None]
"""Told how far a task is (0 to 1), and what is done with it."""


class Runner(Protocol):
    """Where tasks are carried out."""

    def run(self, tasks: Sequence[Task], stop: Callable[[], bool], tell: Tell) -> Iterator[Record]:
        """Carry tasks out; one that fails does not stop the others. Raises Stopped when ``stop`` says so."""
        ...


class Here:
    """In this process, one after the other; an engine stays loaded as long as its model is asked for.

    Args:
        folder: where films go.
        device: cpu, cuda, ...; a GPU by default where there is one.
        extra: folders of more models.
    """

    def __init__(self, folder: Path, device: str | None = None, extra: Sequence[str] = ()) -> None:
        self._folder, self._device, self._extra = folder, device, extra
        self._engine: Engine | None = None
        self._loaded: tuple[str, bool] | None = None

    def run(self, tasks: Sequence[Task], stop: Callable[[], bool], tell: Tell) -> Iterator[Record]:
        """See ``Runner.run``. Shots of one model follow each other."""
        # Looked at before and read again in their turn: all at once would not fit into memory.
        engines = {task: _engine_of(_loaded(task)[0]) for task in tasks}
        order = list(dict.fromkeys(engines.values()))
        for task in sorted(tasks, key=lambda one: order.index(engines[one])):
            tell(task, 0.0, "")
            shot, record = _loaded(task)
            yield record if shot is None else self._make(task, shot, record, stop, partial(tell, task))

    def _make(
        self, task: Task, shot: Shot, record: Record, stop: Callable[[], bool], tell: Callable[[float, str], None]
    ) -> Record:
        def drawn(frames: int, count: int) -> None:
            if stop():
                raise Cancelled
            tell(frames / count, "drawing")

        def progress(now: Progress) -> None:
            before, after = (0, 1) if now.stage == "drawing" else (STAGES.index(now.stage), len(STAGES))
            tell((before + now.step / max(now.steps, 1)) / after, now.stage)

        began = time.monotonic()
        try:
            plan = plan_shot(shot, self._extra)
            if task.part is not None or task.parts > 1:
                check_parts(task, shot)
                if task.part is not None:
                    made = make_part(task, shot, plan, self._folder, self._device, drawn)
                else:
                    # A draft is the carried film itself: there is nothing to compare it with.
                    notes = join_parts(task, shot, plan, self._folder, self._device, drawn)
                    made = replace(record, frames=plan.frames, width=plan.width, height=plan.height, notes=notes)
                return replace(made, quality=record.quality, seconds=round(time.monotonic() - began, 2))
            if self._engine is None or self._loaded != _engine_of(shot):
                if self._engine is not None:
                    self._engine.unload()
                self._engine, self._loaded = shot_engine(shot, self._device, self._extra), _engine_of(shot)
            result = self._engine.generate(shot, progress, stop)
            part = self._folder / f"{record.name}.part.mp4"
            write_result(shot, result, part, None, progress)
            os.replace(part, film_path(self._folder, record.name))
            return _made(record, shot, self._folder, time.monotonic() - began, result.notes)
        except Cancelled:
            raise Stopped from None
        except Exception as error:
            return _failed(record, error)


class There:
    """By a backend, a few shots at once so that it never waits for the next one.

    What was sent stays at the backend: a later run finds it there.

    Args:
        folder: where films go.
        at_once: shots that are sent before the first of them has ended; by default one more than it has engines, and
            four at least.
        scratch: where what is sent lies; ``.batch`` below the folder by default.
    """

    def __init__(
        self, folder: Path, address: str, token: str = "", at_once: int | None = None, scratch: Path | None = None
    ) -> None:
        # Whole paths: the processes that follow jobs start elsewhere.
        self._folder, self._scratch, self._at_once = folder, scratch or folder.resolve() / ".batch", at_once
        self._scratch.mkdir(exist_ok=True)
        self._client = BackendClient(address, token, _identity(self._scratch / "client"))

    def available(self) -> dict[str, str]:
        """The backend's models and why each cannot run; empty where it can. Raises BackendError."""
        engines = self._client.health().get("engines", 1)
        self._at_once = self._at_once or max(4, engines + 1)
        return {one["id"]: "" if one.get("available") else str(one.get("reason", "")) for one in self._client.models()}

    def run(self, tasks: Sequence[Task], stop: Callable[[], bool], tell: Tell) -> Iterator[Record]:
        """See ``Runner.run``."""
        waiting, under_way = list(tasks), dict[Task, tuple[Follower, Record, float]]()
        failed = False
        try:
            while waiting or under_way:
                if stop():
                    raise Stopped
                while waiting and len(under_way) < (self._at_once or 4):
                    task = waiting.pop(0)
                    shot, record = _loaded(task)
                    if shot is not None and task.part is not None:
                        whole = BatchError(f"{task.path}: a backend makes whole films: leave part= or --server out")
                        shot, record = None, _failed(record, whole)
                    if shot is None:
                        yield record
                    else:
                        under_way[task] = (self._send(shot, record), record, time.monotonic())
                time.sleep(_LOOK_SECONDS)
                for task, (follower, record, began) in list(under_way.items()):
                    report = follower.report()
                    if report.ended:
                        del under_way[task]
                        record = self._fetched(task, record, report, time.monotonic() - began)
                        failed = failed or bool(record.error)
                        yield record
                    else:
                        tell(task, 0.0 if report.view is None else report.view.progress / 100, report.state)
            if not failed:
                # Nothing is left to go on with.
                shutil.rmtree(self._scratch, ignore_errors=True)
        finally:
            for follower, *_ in under_way.values():
                follower.leave()

    def _send(self, shot: Shot, record: Record) -> Follower:
        # The same file as that of an earlier run is the same job at the backend.
        path = self._sent(record)
        if not path.is_file():
            part = path.with_suffix(".part")
            save_shot(shot, part)
            os.replace(part, path)
        spec = FollowSpec(
            self._client.address, self._client.token, self._client.client_id, str(self._scratch / "results"), str(path),
            name=record.name,
        )  # fmt: skip
        return Follower.start(spec, self._mailbox(record))

    def _sent(self, record: Record) -> Path:
        # By name too: two files may hold the same shot.
        return self._scratch / f"{record.name}-{record.key}.shot"

    def _mailbox(self, record: Record) -> Path:
        return self._scratch / f"{record.name}-{record.key}-{os.getpid()}"

    def _fetched(self, task: Task, record: Record, report: Report, seconds: float) -> Record:
        shutil.rmtree(self._mailbox(record), ignore_errors=True)
        if report.state == "completed" or not report.resumable:
            # Sent anew by the next run, lest it find the job that failed.
            self._sent(record).unlink(missing_ok=True)
        if report.state != "completed":
            return replace(record, error=report.error.message if report.error is not None else report.message)
        os.replace(report.result_path, film_path(self._folder, record.name))
        view = report.view
        if view is not None and view.started_at is not None and view.finished_at is not None:
            seconds = view.finished_at - view.started_at
        try:
            return _made(record, task.load(), self._folder, seconds, () if view is None else view.notes)
        except Exception as error:
            return _failed(record, error)


def _loaded(task: Task) -> tuple[Shot | None, Record]:
    """A task's shot and the record that it begins with; of one that cannot be read, the record that says so."""
    record = Record(task.name, str(task.path), model=task.model, seed=task.seed or 0, quality=task.quality)
    try:
        shot = task.load()
        settings = shot.settings
        return shot, replace(
            record, key=task.key(), model=settings.model, seed=settings.seed, quality=settings.quality or ""
        )
    except (ShotError, OSError) as error:
        return None, _failed(record, error)


def _failed(record: Record, error: Exception) -> Record:
    return replace(record, error=" ".join(str(error).split()) or type(error).__name__)


def _made(record: Record, shot: Shot, folder: Path, seconds: float, notes: Sequence[str]) -> Record:
    film, _ = open_video(film_path(folder, record.name))
    found = measure_fidelity(shot, film)
    frames, height, width = film.shape[:3]
    return replace(
        record,
        seconds=round(seconds, 2),
        frames=frames,
        width=width,
        height=height,
        notes=tuple(notes),
        figure_iou=found.figure_iou,
        kept_db=found.kept_db,
    )


def _engine_of(shot: Shot | None) -> tuple[str, bool] | None:
    """Which engine a shot needs: its model, or none of its networks for a draft."""
    try:
        return None if shot is None else (shot.settings.model, is_draft(shot))
    except EngineError:
        # Told when the shot is planned.
        return None


def _identity(path: Path) -> str:
    """Who this batch is to the backend, the same at every run."""
    if not path.is_file():
        path.write_text(str(uuid.uuid4()), "utf-8")
    return path.read_text("utf-8").strip()
