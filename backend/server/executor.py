"""Takes jobs from the queue and runs them, one after another, in the engine process."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any

from ..wire import Code, JobError
from .config import ServerConfig
from .engine_process import EngineMessage, Task, main
from .estimate import Clock, percent
from .files import JobFiles
from .job_row import JobRow
from .jobs import AGAIN, JobStore

log = logging.getLogger("maquette.executor")

_TICK = 0.25
_PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds between attempts while something is wrong with the server itself."""


class Executor:
    """A thread of the server, and the process it looks after.

    The process keeps the last model loaded between jobs and ends after ``idle_unload`` seconds without one, which
    gives all its memory back. When it dies, the job it ran goes back to its place, ``max_attempts`` times at most, and
    gets a new process.

    Attributes:
        device: of the engines, in words.
        problem: what keeps jobs from running just now, in one sentence; empty when nothing does.
    """

    def __init__(self, config: ServerConfig, store: JobStore, files: JobFiles) -> None:
        self._config = config
        self._store = store
        self._files = files
        self._context = multiprocessing.get_context("spawn")
        self._cancel: Any = self._context.RawValue("b", 0)
        self._process: Any = None
        self._connection: Connection | None = None
        self._current = ""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="executor", daemon=True)
        self._started = False
        self._idle_since = 0.0
        self.device = "starting"
        self.problem = ""

    @property
    def alive(self) -> bool:
        """Whether jobs are taken from the queue at all."""
        return self._thread.is_alive()

    @property
    def doing(self) -> str:
        """``working``, ``waiting`` (see ``problem``), ``starting`` or ``idle``."""
        if self._current:
            return "working"
        if self.problem:
            return "waiting"
        return "starting" if self.device == "starting" else "idle"

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """There is something in the queue."""
        self._wake.set()

    def cancel(self, job_id: str) -> None:
        """Stop the job if it is the one under way."""
        with self._lock:
            if self._current == job_id:
                self._cancel.value = 1

    def stop(self) -> None:
        """End the process; the job under way goes back into the queue."""
        self._stopping.set()
        self._wake.set()
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
        self._end_process()

    def _turn(self) -> None:
        """Run the next job, or wait a while for one."""
        if not self._files.there():
            raise _Waiting("The folder of the jobs is not there; they run when it is back.")
        # Of a turn that went wrong.
        for job in self._store.running():
            self._store.requeue(job.id, AGAIN)
        self._files.hold_ballast()
        if (self._process is None or not self._process.is_alive()) and (self._store.size or not self._started):
            # Also before the first job, so that health tells the device and the job waits less. Before the claim: what
            # hinders it is no fault of the job.
            self._ensure_process()
            self._started = True
        job = self._store.claim()
        if job is None:
            self._idle(self._idle_since)
            return
        self._run(job)
        self._idle_since = time.monotonic()

    def _idle(self, since: float) -> None:
        """Nothing to do: hear the process out, and end it when it has waited long enough."""
        connection, process = self._connection, self._process
        if connection is None:
            self._wake.wait(60.0)
            return
        left = self._config.idle_unload - (time.monotonic() - since)
        if left <= 0:
            log.info("Idle: the engine process ends and gives its memory back")
            self._end_process()
            return
        if wait([connection, process.sentinel], 0) and self._receive() is None:
            log.warning("The engine process ended while idle (%s)", _exit_words(process.exitcode))
            self._end_process()
            return
        self._wake.wait(min(left, 1.0 if self.device == "starting" else 10.0))

    def _run(self, job: JobRow) -> None:
        log.info("%s: begins (%s, %s)", job.id, job.model, job.name)
        clock = Clock(job.work, job.steps, self._store.timing(job.model))
        with self._lock:
            self._current = job.id
            # A cancel may have come between the claim and here.
            fresh = self._store.get(job.id)
            self._cancel.value = int(fresh is not None and fresh.cancel_requested)
        try:
            self._follow(job, clock)
        except BaseException:
            # Its process may still be at work on it.
            self._end_process()
            self._store.count_attempt(job.id)
            self._again_or_failed(job, _failed(Code.INTERNAL, "The backend failed while it ran this job."), clock)
            raise
        finally:
            with self._lock:
                self._current = ""

    def _follow(self, job: JobRow, clock: Clock) -> None:
        self._ensure_process()
        counted = False
        connection, process = self._connection, self._process
        assert connection is not None
        try:
            connection.send(Task(job.id, job.model, self._files.folder(job.id)))
        except OSError:
            # It has died since; what follows says so.
            pass
        cancelled_at: float | None = None
        while True:
            if self._stopping.is_set():
                self._end_process()
                self._keep(partial(self._store.requeue, job.id, forgive=counted))
                log.info("%s: goes back into the queue", job.id)
                return
            if self._cancel.value and cancelled_at is None:
                cancelled_at = time.monotonic()
            if cancelled_at is not None:
                patience = max(self._config.cancel_patience, 3 * (clock.step_seconds or 0.0))
                if time.monotonic() - cancelled_at > patience:
                    log.warning("%s: does not stop by itself; its process is ended", job.id)
                    self._end_process()
                    self._finish(job, EngineMessage("cancelled"), clock)
                    return
            if not wait([connection, process.sentinel], _TICK):
                continue
            said = self._receive()
            if said is None:
                process.join(5.0)
                said = self._death(process.exitcode, cancelled_at is not None)
                self._end_process()
                if said.kind != "cancelled":
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
            elif said.kind == "broken":
                self._end_process()
                message = f"The backend's engines cannot be started ({said.text}). The backend's log has more."
                self._finish(job, _failed(Code.ENGINE_BROKEN, message), clock)
                return
            elif said.kind == "failed" and not self._files.there():
                self._keep(partial(self._store.requeue, job.id, AGAIN, forgive=counted))
                return
            elif said.kind in ("completed", "cancelled", "failed"):
                self._finish(job, said, clock)
                return

    def _again_or_failed(self, job: JobRow, said: EngineMessage, clock: Clock) -> None:
        """A job whose run broke off: it goes back to its place, or fails when it was tried often enough."""
        now = self._store.get(job.id)
        if now is None or now.attempts >= self._config.max_attempts:
            self._finish(job, said, clock)
            return
        self._keep(lambda: self._store.requeue(job.id, AGAIN))
        log.warning("%s: goes back into the queue (%s)", job.id, said.error and said.error.message)

    def _receive(self) -> EngineMessage | None:
        """What the process says next; None when it is dead."""
        assert self._connection is not None
        try:
            if not self._connection.poll():
                return None
            said: EngineMessage = self._connection.recv()
        except (EOFError, OSError):
            return None
        except Exception:
            # A process killed while it wrote leaves half a message.
            log.exception("A message of the engine process cannot be read")
            return None
        if said.kind == "ready":
            self.device = said.text
        elif said.kind == "broken":
            self.device = f"unusable: {said.text}"
        return said

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

    def _death(self, exitcode: int | None, cancelling: bool) -> EngineMessage:
        if cancelling:
            return EngineMessage("cancelled")
        words = _exit_words(exitcode)
        if exitcode in (-signal.SIGTERM, -getattr(signal, "SIGKILL", 9)):
            message = (
                f"The engine's process was killed ({words}), most often because the backend's computer ran out of "
                "memory. Generate at a smaller size or with fewer frames, or close what else runs there."
            )
            return _failed(Code.ENGINE_KILLED, message)
        message = f"The engine's process crashed ({words}). Try again; the backend's log has more."
        return _failed(Code.ENGINE_CRASHED, message)

    # -- the process ---------------------------------------------------------------------------------------------

    def _ensure_process(self) -> None:
        if self._process is not None and self._process.is_alive():
            return
        self._end_process()
        ours, theirs = self._context.Pipe()
        config = self._config
        arguments = (theirs, self._cancel, config.engines, config.models, config.device)
        process = self._context.Process(target=main, args=arguments, name="maquette-engine", daemon=True)
        process.start()
        # Only the process holds its end now: when it dies the pipe says so.
        theirs.close()
        self._process, self._connection = process, ours

    def _end_process(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.terminate()
            self._process.join(5.0)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()
        self._process = self._connection = None


class _Waiting(Exception):
    """Why nothing can run just now, for people."""


def _words(error: Exception) -> str:
    if isinstance(error, _Waiting):
        return str(error)
    why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return f"The backend cannot run a job just now ({why}); it tries again. Its log has more."


def _failed(code: Code, message: str) -> EngineMessage:
    return EngineMessage("failed", error=JobError(code, message))


def _exit_words(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        try:
            return f"signal {-exitcode}, {signal.Signals(-exitcode).name}"
        except ValueError:
            return f"signal {-exitcode}"
    return f"exit {exitcode}"
