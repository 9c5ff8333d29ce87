"""Takes jobs from the queue and runs them, one after another, in one engine."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from functools import partial

from ..wire import Code, JobError
from .config import ServerConfig
from .dispatch import Dispatch, Seat
from .engine_process import EngineMessage, Task
from .estimate import Clock, percent
from .files import JobFiles
from .job_row import JobRow
from .jobs import AGAIN, JobStore
from .local_engine import EngineLink

log = logging.getLogger("maquette.executor")

_TICK = 0.25
_PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds between attempts while something is wrong with the server itself."""


class Runner:
    """A thread of the server, and the engine it looks after.

    The engine keeps the last model loaded between jobs and ends after ``idle_unload`` seconds without one, which
    gives all its memory back. When it dies, the job it ran goes back to its place, ``max_attempts`` times at most, and
    a new engine is started.

    Attributes:
        device: of the engine, in words.
        problem: what keeps it from running jobs just now, in one sentence; empty when nothing does.
    """

    def __init__(
        self, config: ServerConfig, store: JobStore, files: JobFiles, dispatch: Dispatch, seat: Seat, engine: EngineLink
    ) -> None:
        self._config = config
        self._store = store
        self._files = files
        self._dispatch = dispatch
        self._seat = seat
        self._engine = engine
        self._cancelled = False
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="runner", daemon=True)
        self._started = self._up = False
        self._idle_since = 0.0
        self.device = "starting"
        self.problem = ""

    @property
    def alive(self) -> bool:
        """Whether it takes jobs from the queue at all."""
        return self._thread.is_alive()

    @property
    def doing(self) -> str:
        """``working``, ``waiting`` (see ``problem``), ``starting`` or ``idle``."""
        if self._seat.job:
            return "working"
        if self.problem:
            return "waiting"
        return "starting" if self.device == "starting" else "idle"

    @property
    def seat(self) -> Seat:
        """What others know of it."""
        return self._seat

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """There is something in the queue."""
        self._wake.set()

    def cancel(self, job_id: str) -> None:
        """Stop the job if it is the one under way."""
        with self._lock:
            if self._seat.job == job_id:
                self._cancel(True)

    def leave(self) -> None:
        """Begin nothing more, and give the job under way back to the queue."""
        self._stopping.set()
        self._wake.set()

    def join(self) -> None:
        """Wait until it has ended, and its engine with it."""
        self._thread.join()

    # -- the thread ----------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        failures = 0
        self._idle_since = time.monotonic()
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                self._turn()
                failures, self.problem = 0, ""
            except Exception as error:
                # Whatever it is, the next jobs are to run: nobody else looks after them.
                pause = _PAUSES[min(failures, len(_PAUSES) - 1)]
                failures += 1
                self.problem = _words(error)
                if failures in (1, 10) or failures % 1000 == 0:
                    log.error("No job can be run (tried %d times): %s", failures, self.problem, exc_info=error)
                self._stopping.wait(pause)
        self._end_engine()

    def _turn(self) -> None:
        """Run the next job, or wait a while for one."""
        if not self._files.there():
            raise _Waiting("The folder of the jobs is not there; they run when it is back.")
        self._dispatch.put_back()
        self._files.hold_ballast()
        if not self._engine.alive and (self._dispatch.waiting() or not self._started):
            # Also before the first job, so that health tells the device and the job waits less. Before the claim: what
            # hinders it is no fault of the job.
            self._ensure_engine()
            self._started = True
        job = self._dispatch.claim(self._seat)
        if job is None:
            self._idle(self._idle_since)
            return
        self._run(job)
        self._idle_since = time.monotonic()

    def _idle(self, since: float) -> None:
        """Nothing to do: hear the engine out, and end it when it has waited long enough."""
        if not self._up:
            self._wake.wait(60.0)
            return
        left = self._config.idle_unload - (time.monotonic() - since)
        if left <= 0:
            log.info("Idle: the engine ends and gives its memory back")
            self._end_engine()
            return
        said = self._receive(0)
        if said is not None and said.kind in ("died", "broken"):
            log.warning("The engine ended while idle (%s)", said.text)
            self._end_engine()
            return
        self._wake.wait(min(left, 1.0 if self.device == "starting" else 10.0))

    def _run(self, job: JobRow) -> None:
        log.info("%s: begins (%s, %s)", job.id, job.model, job.name)
        clock = Clock(job.work, job.steps, self._store.timing(job.model))
        with self._lock:
            # A cancel may have come between the claim and here.
            fresh = self._store.get(job.id)
            self._cancel(fresh is not None and fresh.cancel_requested)
        try:
            self._follow(job, clock)
        except _Waiting:
            raise
        except BaseException:
            # Its engine may still be at work on it.
            self._end_engine()
            self._store.count_attempt(job.id)
            self._again_or_failed(job, _failed(Code.INTERNAL, "The backend failed while it ran this job."), clock)
            raise
        finally:
            with self._lock:
                self._seat.job = ""

    def _follow(self, job: JobRow, clock: Clock) -> None:
        self._ensure_engine()
        counted = False
        self._engine.send(Task(job.id, job.model, self._files.folder(job.id)))
        cancelled_at: float | None = None
        while True:
            if self._stopping.is_set():
                self._end_engine()
                self._keep(partial(self._store.requeue, job.id, forgive=counted))
                log.info("%s: goes back into the queue", job.id)
                return
            if self._cancelled and cancelled_at is None:
                cancelled_at = time.monotonic()
            if cancelled_at is not None:
                patience = max(self._config.cancel_patience, 3 * (clock.step_seconds or 0.0))
                if time.monotonic() - cancelled_at > patience:
                    log.warning("%s: does not stop by itself; its engine is ended", job.id)
                    self._end_engine()
                    self._finish(job, EngineMessage("cancelled"), clock)
                    return
            said = self._receive(_TICK)
            if said is None:
                continue
            if said.kind == "died":
                self._end_engine()
                if cancelled_at is not None:
                    self._finish(job, EngineMessage("cancelled"), clock)
                    return
                if not counted:
                    self._keep(lambda: self._store.count_attempt(job.id))
                self._again_or_failed(job, said, clock)
                return
            if said.kind == "progress":
                if said.stage == "denoising" and not counted:
                    counted = True
                    self._keep(lambda: self._store.count_attempt(job.id))
                eta = clock.update(said.stage, said.step, said.steps)
                done = percent(said.stage, said.step, said.steps)
                try:
                    self._store.progress(job.id, said.stage, said.step, said.steps, done, eta)
                except sqlite3.Error as error:
                    log.warning("%s: progress not noted: %s", job.id, error)
            elif said.kind == "waiting":
                log.warning("%s: waits: %s", job.id, said.text)
                self._keep(partial(self._store.note, job.id, said.text))
            elif said.kind == "broken":
                self._end_engine()
                message = f"The backend's engines cannot be started ({said.text}). The backend's log has more."
                if self._dispatch.others(self._seat):
                    self._keep(partial(self._store.requeue, job.id, AGAIN, forgive=counted))
                    raise _Waiting(message)
                self._finish(job, _failed(Code.ENGINE_BROKEN, message), clock)
                return
            elif said.kind == "failed" and not self._files.there():
                self._keep(partial(self._store.requeue, job.id, AGAIN, forgive=counted))
                return
            elif said.kind in ("completed", "cancelled", "failed"):
                self._seat.model = said.model
                self._finish(job, said, clock)
                return

    def _again_or_failed(self, job: JobRow, said: EngineMessage, clock: Clock) -> None:
        """A job whose run broke off: it goes back to its place, or fails when it was tried often enough."""
        now = self._store.get(job.id)
        if now is None or now.attempts >= self._config.max_attempts:
            self._finish(job, EngineMessage("failed", error=said.error), clock)
            return
        self._keep(lambda: self._store.requeue(job.id, AGAIN))
        log.warning("%s: goes back into the queue (%s)", job.id, said.error and said.error.message)

    def _finish(self, job: JobRow, said: EngineMessage, clock: Clock) -> None:
        timing = clock.finish() if said.kind == "completed" else None
        self._keep(lambda: self._store.finish(job.id, said.kind, error=said.error, notes=said.notes))
        if timing is not None:
            self._keep(lambda: self._store.save_timing(job.model, timing))
        log.info("%s: %s%s", job.id, said.kind, f": {said.error.message}" if said.error else "")

    def _keep(self, write: Callable[[], object]) -> None:
        """An end of a job that the store must know: tried until the disk takes it or the server stops."""
        for attempt in range(1_000_000):
            try:
                write()
                return
            except sqlite3.Error as error:
                if attempt % 30 == 0:
                    log.error("The store does not take a change: %s", error)
                if self._stopping.wait(1.0):
                    return

    # -- the engine ----------------------------------------------------------------------------------------------

    def _ensure_engine(self) -> None:
        if not self._engine.alive:
            self._end_engine()
            self._engine.start()
            self._up = True

    def _cancel(self, wanted: bool) -> None:
        self._cancelled = wanted
        self._engine.cancel(wanted)

    def _receive(self, seconds: float) -> EngineMessage | None:
        said = self._engine.receive(seconds)
        if said is not None and said.kind in ("ready", "broken"):
            self._seat.usable = said.kind == "ready"
            self.device = said.text if self._seat.usable else f"unusable: {said.text}"
        return said

    def _end_engine(self) -> None:
        self._engine.end()
        self._up, self._seat.model = False, ""


class _Waiting(Exception):
    """Why nothing can run just now, for people."""


def _words(error: Exception) -> str:
    if isinstance(error, _Waiting):
        return str(error)
    why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return f"The backend cannot run a job just now ({why}); it tries again. Its log has more."


def _failed(code: Code, message: str) -> EngineMessage:
    return EngineMessage("failed", error=JobError(code, message))
