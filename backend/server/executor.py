"""Takes jobs from the queue and runs them, one after another, in the engine process."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

from ..wire import Code, JobError
from .config import ServerConfig
from .engine_process import EngineMessage, Task, main
from .estimate import Clock, percent
from .files import JobFiles
from .jobs import JobRow, JobStore

log = logging.getLogger("maquette.executor")

_TICK = 0.25


class Executor:
    """A thread of the server, and the process it looks after.

    The process keeps the last model loaded between jobs and ends after ``idle_unload`` seconds without one, which
    gives all its memory back. When it dies, the job it ran fails with a message and the next gets a new process.
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
        self.device = "starting"

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
        # The process is started before the first job, so that health tells the device and the job waits less.
        self._ensure_process()
        idle_since = time.monotonic()
        while not self._stopping.is_set():
            self._wake.clear()
            self._files.hold_ballast()
            try:
                job = self._store.claim()
            except sqlite3.Error as error:
                log.error("The queue cannot be read: %s", error)
                self._wake.wait(2.0)
                continue
            if job is None:
                self._idle(idle_since)
                continue
            self._run(job)
            idle_since = time.monotonic()
        self._end_process()

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
        finally:
            with self._lock:
                self._current = ""

    def _follow(self, job: JobRow, clock: Clock) -> None:
        self._ensure_process()
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
                self._keep(lambda: self._store.requeue(job.id))
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
            if said.kind == "progress":
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
            elif said.kind in ("completed", "cancelled", "failed"):
                self._finish(job, said, clock)
                return

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


def _failed(code: Code, message: str) -> EngineMessage:
    return EngineMessage("failed", error=JobError(code, message))


def _exit_words(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        try:
            return f"signal {-exitcode}, {signal.Signals(-exitcode).name}"
        except ValueError:
            return f"signal {-exitcode}"
    return f"exit {exitcode}"
