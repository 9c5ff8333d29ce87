"""Files read beside Blender's own thread, so that a long import shows its progress and can be cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class _Stopped(Exception):
    """The animator cancelled."""


class Reading:
    """A function at work in a thread. It must not touch Blender.

    Attributes:
        part: how much is done, 0 to 1.
    """

    def __init__(self, work: Callable[[Callable[[float], None]], Any]) -> None:
        """Start ``work(watch)``, which tells ``watch`` the part done and lets through what that raises."""
        self.part = 0.0
        self._stop = threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[Callable[[float], None]], Any]) -> None:
        try:
            self._result = work(self._watch)
        except _Stopped:
            pass
        except BaseException as error:  # raised again by ``result``, in Blender's thread
            self._error = error

    def _watch(self, part: float) -> None:
        self.part = part
        if self._stop.is_set():
            raise _Stopped

    def wait(self, seconds: float | None) -> None:
        """Wait until it is done, at most so long; None waits to the end."""
        self._thread.join(seconds)

    @property
    def done(self) -> bool:
        """Whether it has ended, however."""
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Let it end at the next part."""
        self._stop.set()

    def result(self) -> Any:
        """What the function returned; None where it was stopped. Raises what it raised."""
        self.wait(None)
        if self._error is not None:
            raise self._error
        return None if self._stop.is_set() else self._result
