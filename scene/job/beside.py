"""What a process does beside Blender, one at a time: how far it is, its cancel, and what is said at its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import bpy

from ...backend.client.command import CommandReport
from . import view as job_view


class Run(Protocol):
    """A process of ``backend.client`` that is followed without waiting."""

    def poll(self) -> CommandReport:
        """How far it is."""
        ...

    def cancel(self) -> None:
        """Ask it to stop."""
        ...

    def close(self) -> None:
        """End it, or follow it no longer."""
        ...


class Beside:
    """Follows one run after the other.

    Args:
        outcome: level and words of how the last one ended; empty words where nothing is to be told.
        pause: seconds between two looks while one runs.
        ended: called once at each end.

    Attributes:
        report: how far it is.
    """

    def __init__(
        self,
        outcome: Callable[[CommandReport], tuple[str, str]],
        pause: float,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self._outcome, self._pause, self._ended = outcome, pause, ended
        self._run: Run | None = None
        self.report = CommandReport("done")

    def busy(self) -> bool:
        """Whether one runs."""
        return self._run is not None

    def begin(self, run: Run, label: str = "") -> None:
        """Follow this one."""
        self._run, self.report = run, CommandReport("running", label=label)

    def poll(self) -> bool:
        """Take in how far it is; returns whether anything to be seen has changed."""
        if self._run is None:
            return False
        before, self.report = self.report, self._run.poll()
        if self.report.state != "running":
            self._ended()
            self._run = None
            level, words = self.outcome()
            if words and not bpy.app.background:
                job_view.tell(level, words)
        return self.report != before

    def tick(self) -> float:
        """``poll``, and draw the panels again; returns the seconds until it wants to be called again."""
        if self.poll():
            job_view.redraw()
        return self._pause if self.busy() else 1.0

    def outcome(self) -> tuple[str, str]:
        """Level and words of how the last one ended."""
        return self._outcome(self.report)

    def cancel(self) -> None:
        """Ask it to stop."""
        if self._run is not None:
            self._run.cancel()

    def close(self) -> None:
        """Blender or the add-on ends."""
        if self._run is not None:
            self._run.close()
        self._run, self.report = None, CommandReport("done")
