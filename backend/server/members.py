"""Several processes that make each film together, heard as one engine."""

from __future__ import annotations

import time
from dataclasses import replace

from .engine_process import EngineMessage

PATIENCE = 15.0
"""Seconds that the others have to end their part of a job when one has failed, or the first has ended."""

ENDS = ("completed", "cancelled", "failed")
"""How a job ends; the last of those that the members say counts."""


class Members:
    """What the first says of a job is the engine's word; its end is the worst of all ends.

    Args:
        size: how many they are.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._ready: dict[int, str] = {}
        self._ends: dict[int, EngineMessage] = {}
        self._late_since: float | None = None

    @property
    def late(self) -> bool:
        """Whether some have had their time to end the job (see ``behind``)."""
        return self._late_since is not None and time.monotonic() - self._late_since > PATIENCE

    @property
    def behind(self) -> list[int]:
        """Who has not ended the job."""
        return [rank for rank in range(self._size) if rank not in self._ends]

    def started(self) -> None:
        """All are new."""
        self._ready.clear()
        self.sent()

    def sent(self) -> None:
        """All have been given a job."""
        self._ends.clear()
        self._late_since = None

    def heard(self, rank: int, said: EngineMessage) -> EngineMessage | None:
        """What it means for the whole engine; None for nothing yet."""
        if said.kind == "died":
            assert said.error is not None
            message = (
                f"{said.error.message} It was one of {self._size} that make each film together; all of them start anew."
            )
            return replace(said, error=replace(said.error, message=message))
        if said.kind == "broken":
            return replace(said, text=f"process {rank + 1} of {self._size}: {said.text}")
        if said.kind == "ready":
            self._ready[rank] = said.text
            names = [self._ready[rank] for rank in sorted(self._ready)]
            return EngineMessage("ready", " + ".join(names)) if len(names) == self._size else None
        if said.kind in ENDS:
            self._ends[rank] = said
            if not self.behind:
                return self.end()
            if self._late_since is None and (rank == 0 or said.kind != "completed"):
                self._late_since = time.monotonic()
            return None
        return said if rank == 0 else None

    def end(self) -> EngineMessage:
        """How the job has ended, as far as they have said."""
        self._late_since = None
        worst = max(self._ends.values(), key=lambda said: ENDS.index(said.kind))
        return self._ends.get(0, worst) if worst.kind == "completed" else worst
