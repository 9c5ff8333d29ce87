"""The server's end of an engine process on this computer."""

from __future__ import annotations

import logging
import multiprocessing
import signal
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from ..wire import Code, JobError
from .config import ServerConfig
from .engine_process import EngineMessage, Member, Task, main

log = logging.getLogger("maquette.executor")


class EngineLink(Protocol):
    """An engine somewhere else, as its runner sees it; only ``cancel`` is called by other threads than the runner's."""

    @property
    def alive(self) -> bool:
        """Whether it has been started and lives."""
        ...

    def start(self) -> None:
        """Begin; ``ready`` or ``broken`` is heard later."""
        ...

    def send(self, task: Task) -> None:
        """Give it a task; of one that has died ``receive`` tells."""
        ...

    def cancel(self, wanted: bool) -> None:
        """Whether the task under way, or the next one, is to stop."""
        ...

    def receive(self, seconds: float) -> EngineMessage | None:
        """What it says next; None when it says nothing for so long, ``died`` with the reason when it is dead."""
        ...

    def end(self) -> None:
        """End it, whatever it does."""
        ...


class LocalEngine:
    """See EngineLink.

    Args:
        gpu: the only one that the process sees, by its number among those that this process sees; None for all.
        parts: processes that share the processor's cores.
    """

    member: Member | None = None
    """Of which group the process is to be when it is started."""

    def __init__(self, config: ServerConfig, gpu: int | None = None, parts: int = 1) -> None:
        self._config, self._gpu, self._parts = config, gpu, parts
        self._context = multiprocessing.get_context("spawn")
        self._cancel: Any = self._context.RawValue("b", 0)
        self._process: Any = None
        self._connection: Connection | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.is_alive()

    def start(self) -> None:
        ours, theirs = self._context.Pipe()
        config = self._config
        arguments = (
            *(theirs, self._cancel, config.engines, config.models, config.device),
            *(self._gpu, self._parts, self.member),
        )
        process = self._context.Process(target=main, args=arguments, name="maquette-engine", daemon=True)
        process.start()
        # Only the process holds its end now: when it dies the pipe says so.
        theirs.close()
        self._process, self._connection = process, ours

    @property
    def sources(self) -> list[Any]:
        """What ``multiprocessing.connection.wait`` tells when there is something to be heard."""
        return [self._connection, self._process.sentinel]

    def send(self, task: Task) -> None:
        assert self._connection is not None
        try:
            self._connection.send(task)
        except OSError:
            pass

    def cancel(self, wanted: bool) -> None:
        self._cancel.value = int(wanted)

    def receive(self, seconds: float) -> EngineMessage | None:
        assert self._connection is not None
        if not wait(self.sources, seconds):
            return None
        try:
            if self._connection.poll():
                return self._connection.recv()
        except (EOFError, OSError):
            pass
        except Exception:
            # A process killed while it wrote leaves half a message.
            log.exception("A message of the engine process cannot be read")
        self._process.join(5.0)
        return _death(self._process.exitcode)

    def kill(self) -> None:
        """End the process at once; ``receive`` tells of it."""
        self._process.kill()

    def end(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.terminate()
            self._process.join(5.0)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()
        self._process = self._connection = None


def _death(exitcode: int | None) -> EngineMessage:
    words = f"exit {exitcode}"
    if exitcode is not None and exitcode < 0:
        try:
            words = f"signal {-exitcode}, {signal.Signals(-exitcode).name}"
        except ValueError:
            words = f"signal {-exitcode}"
    if exitcode in (-signal.SIGTERM, -getattr(signal, "SIGKILL", 9)):
        message = (
            f"The engine's process was killed ({words}), most often because the backend's computer ran out of "
            "memory. Generate at a smaller size or with fewer frames, or close what else runs there."
        )
        return EngineMessage("died", words, error=JobError(Code.ENGINE_KILLED, message))
    message = f"The engine's process crashed ({words}). Try again; the backend's log has more."
    return EngineMessage("died", words, error=JobError(Code.ENGINE_CRASHED, message))
