"""The process that runs the engines: it may crash or run out of memory without taking the server along."""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import shutil
import signal
import sys
import threading
import time
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import psutil

from ..models.threads import share_cores
from ..wire import Code, JobError
from .engines import Engines, make_engines
from .errors import is_disk_full
from .gpus import see_only

log = logging.getLogger("maquette.engine")

_PREVIEW_SECONDS = 0.4
_PREVIEW_SIDE = 384
_WRITING_SECONDS = 0.25
"""Frames are written faster than anybody wants to hear of."""

_OUT_OF_MEMORY = ("CUDA out of memory", "can't allocate memory", "not enough memory")
"""How torch says it, on a GPU and on a CPU."""


@dataclass(frozen=True)
class Task:
    """One job: its id, model and folder."""

    job: str
    model: str
    folder: Path


@dataclass(frozen=True)
class EngineMessage:
    """What the process says.

    Attributes:
        kind: ``ready`` (text: the device), ``broken`` (text), ``progress``, ``completed``, ``cancelled``, ``failed``;
            ``died`` (text: how) and ``waiting`` (text: for what), which the server's end says for it.
        error: of ``failed`` and ``died``.
        model: that stays loaded when a task has ended; empty for none.
    """

    kind: str
    text: str = ""
    stage: str = ""
    step: int = 0
    steps: int = 0
    notes: tuple[str, ...] = ()
    error: JobError | None = None
    model: str = ""


@dataclass(frozen=True)
class Member:
    """One of the processes that make each film together, see ``models.group.join``."""

    rank: int
    size: int
    store: str


def main(
    connection: Connection,
    cancel: Any,
    engines: str,
    models: tuple[Path, ...],
    device: str | None,
    gpu: int | None = None,
    parts: int = 1,
    member: Member | None = None,
) -> None:
    """Serve tasks until the pipe closes.

    Args:
        cancel: shared byte, non-zero when the task under way is to stop. A byte rather than an Event: a process
            that is killed while it holds an Event's lock would block the server for ever.
        gpu, parts, member: see ``LocalEngine``.
    """
    # Ctrl-C in a terminal reaches the whole group; the server decides what happens to this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    if sys.stderr is not None:
        # Of a crash the log tells where it was.
        faulthandler.enable()
    share_cores(parts=parts)
    if gpu is not None:
        see_only(gpu)
    _prefer_to_be_killed()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    split = Split("Python", time.monotonic() - (time.time() - psutil.Process().create_time()))
    split.to("torch")
    try:
        source = make_engines(engines, models)
        where = source.device(device)
        if gpu is not None:
            # To the process its only GPU is the first.
            where = f"cuda:{gpu}{where.removeprefix('cuda')}"
        if member is not None:
            _join(member)
        log.info("Ready on %s: %s", where, split)
        connection.send(EngineMessage("ready", where))
    except Exception as error:
        log.exception("The engines cannot be loaded")
        connection.send(EngineMessage("broken", f"{type(error).__name__}: {error}"))
        return
    host = EngineHost(connection, cancel, source, device, leads=member is None or member.rank == 0)
    host.warm_up()
    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):
            return
        host.run(task)


class Split:
    """Where the seconds of a piece of work go, by stage, in order of appearance.

    Args:
        stage: the first.
        since: when it began, as ``time.monotonic`` tells; None for now.
    """

    def __init__(self, stage: str, since: float | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._stage = stage
        self._since = time.monotonic() if since is None else since

    def to(self, stage: str) -> None:
        """End the stage under way and begin, or go on with, another."""
        now = time.monotonic()
        self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = stage, now

    def __str__(self) -> str:
        self.to(self._stage)
        parts = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in self.seconds.items())
        return f"{sum(self.seconds.values()):.2f} s ({parts})"


class EngineHost:
    """Runs tasks one after the other, and keeps the last model loaded.

    Args:
        connection: gets what is to be said.
        cancel: its ``value`` is non-zero when the task under way is to stop.
        leads: whether it writes what is made; of several processes that make it together one does.
    """

    def __init__(self, connection: Any, cancel: Any, source: Engines, device: str | None, leads: bool = True) -> None:
        self._connection = connection
        self._cancel = cancel
        self._source = source
        self._device = device
        self._leads = leads
        self._model = ""
        self._engine: Any = None
        self._previewed = 0.0
        self._wrote = 0.0
        self._split = Split("imports")

    def warm_up(self) -> None:
        """Import what the first job needs as long as none has come: most of its seconds go there."""
        split, pieces = Split("imports"), self._source.warm_up(self._device)
        try:
            while not self._connection.poll() and next(pieces, self) is not self:
                pass
        except Exception as error:
            # The job that needs it tells it in its own words.
            log.warning("Not warmed up: %s: %s", type(error).__name__, error)
        log.info("Warmed up: %s", split)

    def run(self, task: Task) -> None:
        """Carry a task out, and say how it ended."""
        self._split = Split("imports")
        from ..catalogue.models import ModelError
        from ..media import MediaError
        from ..models.family import Cancelled, EngineError, NotFinite
        from ..shot import ShotError, load_shot

        part = task.folder / "result.part"
        self._previewed = 0.0
        try:
            self._clear(part)
            self._split.to("shot")
            shot = load_shot(task.folder / "job.shot")
            self._split.to("imports")
            engine = self._engine_for(task.model, shot)
            self._split.to("checks")
            result = engine.generate(shot, lambda progress: self._progress(task, progress), self._cancelled)
            if self._leads:
                self._write(task, part, shot, result)
            said = EngineMessage("completed", notes=tuple(result.notes))
        except Cancelled:
            said = EngineMessage("cancelled")
        except NotFinite as error:
            said = _failed(Code.NOT_FINITE, f"{error}.")
        except (EngineError, ShotError) as error:
            message = getattr(error, "message", None) or str(error)
            said = _failed(Code.INVALID_SHOT, message, error.field)
        except MediaError as error:
            said = _failed(Code.INVALID_SHOT, str(error))
        except ModelError as error:
            said = _failed(Code.MODEL_UNAVAILABLE, str(error), "settings.model")
        except Exception as error:
            log.exception("Job %s failed", task.job)
            said = self._explain(error)
        except BaseException:
            self._unload()
            raise
        finally:
            self._clear(part)
        log.info("Job %s, %s, %s: %s", task.job, task.model, said.kind, self._split)
        self._connection.send(replace(said, model=self._model))

    def _clear(self, part: Path) -> None:
        if self._leads:
            shutil.rmtree(part, ignore_errors=True)

    def _engine_for(self, model: str, shot: Any) -> Any:
        """What makes the shot. For a draft the model that is loaded stays: it needs none of its memory."""
        from ..models.quality import is_draft

        return self._source.draft(model, self._device) if is_draft(shot) else self._load(model)

    def _load(self, model: str) -> Any:
        if self._engine is None or self._model != model:
            self._send_progress("loading", 0, 0)
            if self._engine is not None:
                self._unload()
            self._engine = self._source.load(model, self._device)
            self._model = model
        return self._engine

    def _unload(self) -> None:
        self._engine, self._model = None, ""
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _write(self, task: Task, part: Path, shot: Any, result: Any) -> None:
        from ..media import mp4_writer, raw_writer
        from ..models.family import Cancelled

        (total, height, width), stage = result.frames.shape[:3], result.stage

        def wrote(i: int, frame: Any) -> None:
            if self._cancelled():
                raise Cancelled
            if i + 1 == total or time.monotonic() - self._wrote >= _WRITING_SECONDS:
                self._wrote = time.monotonic()
                self._send_progress(stage, i + 1, total)
                if stage == "drawing":
                    step = -(-max(height, width) // _PREVIEW_SIDE)
                    self._preview(task, frame[::step, ::step])

        self._split.to(stage)
        metadata = {**describe(shot), **result.metadata, "job": task.job}
        self._send_progress(stage, 0, total)
        part.mkdir()
        # As they are, which takes a moment: PNGs are made of them when somebody asks.
        with (
            raw_writer(part / "frames.npy", result.frames.shape) as keep,
            mp4_writer(part / "video.mp4", width, height, result.fps, metadata) as write,
        ):
            for i, frame in enumerate(result.frames):
                keep(frame)
                write(frame)
                wrote(i, frame)
        final = task.folder / "result"
        shutil.rmtree(final, ignore_errors=True)
        os.replace(part, final)

    def _cancelled(self) -> bool:
        return bool(self._cancel.value)

    def _progress(self, task: Task, progress: Any) -> None:
        self._split.to("weights" if progress.stage == "loading" else progress.stage)
        if progress.preview is not None and time.monotonic() - self._previewed >= _PREVIEW_SECONDS:
            self._previewed = time.monotonic()
            self._preview(task, progress.preview)
        self._send_progress(progress.stage, progress.step, progress.steps)

    def _send_progress(self, stage: str, step: int, steps: int) -> None:
        self._connection.send(EngineMessage("progress", stage=stage, step=int(step or 0), steps=int(steps or 0)))

    def _preview(self, task: Task, image: Any) -> None:
        from ..media import encode_png

        new = task.folder / "preview.new"
        try:
            new.write_bytes(encode_png(image).data)
            os.replace(new, task.folder / "preview.png")
        except OSError as error:
            # A picture on the way is not worth the job; a full disk shows when the result is written.
            new.unlink(missing_ok=True)
            log.warning("No preview of %s: %s", task.job, error)

    def _explain(self, error: Exception) -> EngineMessage:
        if is_disk_full(error):
            return _failed(
                Code.NO_SPACE,
                "The backend's disk is full, so the video could not be written. Delete old results there and generate "
                "again; nothing half-written was left.",
            )
        if isinstance(error, MemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY):
            # What was loaded goes too, so that the next job finds the memory free.
            self._unload()
            return _failed(
                Code.OUT_OF_MEMORY,
                "The backend ran out of memory. Generate at a smaller size or with fewer frames, or close what else "
                "uses the memory there (a render in Blender, for instance).",
            )
        return _failed(
            Code.INTERNAL, f"The engine failed with {type(error).__name__}: {error}. The backend's log has more."
        )


def describe(shot: Any) -> dict[str, Any]:
    """The settings of a shot, for the metadata of what is made from it."""
    s = shot.settings
    return {
        "generator": "Maquette",
        "title": shot.name,
        "model": s.model,
        "seed": int(s.seed),
        "steps": s.steps,
        "guidance": s.guidance,
        "width": s.width,
        "height": s.height,
        "prompt": shot.prompt,
        "clip": {
            "frames": shot.clip.frames,
            "fps": float(shot.clip.fps),
            "width": int(shot.clip.width),
            "height": int(shot.clip.height),
        },
        "characters": [character.name for character in shot.characters],
        "background": shot.background.kind,
    }


def _failed(code: Code, message: str, field: str | None = None) -> EngineMessage:
    return EngineMessage("failed", error=JobError(code, message, field))


def _join(member: Member) -> None:
    from ..models.group import join

    if sys.platform == "linux":
        # All are on this computer, whose name may lead nowhere.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    join(member.rank, member.size, member.store)


def _prefer_to_be_killed() -> None:
    """Linux: when memory runs out, this process goes rather than the server."""
    try:
        Path("/proc/self/oom_score_adj").write_text("800")
    except OSError:
        pass


def _end_with_parent() -> None:
    """A server that is killed cannot stop this process; nothing may keep the memory."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
