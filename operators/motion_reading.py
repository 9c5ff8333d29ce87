"""Files read beside Blender's own thread, so that a long import shows its progress and can be cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import wait
from typing import Any

from ..scene import aside


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
        self._future = aside.run(work, self._watch)

    def _watch(self, part: float) -> None:
        self.part = part
        if self._stop.is_set():
            raise _Stopped

    def wait(self, seconds: float | None) -> None:
        """Wait until it is done, at most so long; None waits to the end."""
        wait([self._future], seconds)

    @property
    def done(self) -> bool:
        """Whether it has ended, however."""
        return self._future.done()

    def stop(self) -> None:
        """Let it end at the next part."""
        self._stop.set()

    def result(self) -> Any:
        """What the function returned; None where it was stopped. Raises what it raised."""
        try:
            result = self._future.result()
        except _Stopped:
            return None
        return None if self._stop.is_set() else result
