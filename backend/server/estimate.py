"""How far a job is, and how long it will take, from measured times."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

_SPANS = {
    "loading": (0.0, 4.0),
    "encoding": (4.0, 8.0),
    "denoising": (8.0, 90.0),
    "decoding": (90.0, 97.0),
    "upscaling": (90.0, 97.0),
    "writing": (97.0, 100.0),
    "drawing": (8.0, 100.0),
}
"""Percent of the whole at which each stage begins and ends."""

_BEFORE, _AFTER = ("loading", "encoding"), ("decoding", "writing")


def percent(stage: str, step: int, steps: int) -> float:
    """Progress of the whole job, 0 to 100."""
    low, high = _SPANS.get(stage, (0.0, 0.0))
    part = min(max(step / steps, 0.0), 1.0) if steps > 0 else 0.0
    return round(low + (high - low) * part, 1)


@dataclass(frozen=True)
class Timing:
    """Seconds measured on an earlier job of a model, per unit of work (frames x pixels, in millions).

    Attributes:
        head: encoding; loading is left out, since the model usually stays loaded.
        step: one denoising step.
        tail: decoding and writing.
    """

    head: float
    step: float
    tail: float

    def total(self, work: float, steps: int) -> float:
        """Seconds for a whole job."""
        return work * (self.head + self.step * steps + self.tail)


class Clock:
    """Watches one job.

    Args:
        work: frames x width x height / 1e6.
        planned: denoising steps.
        known: from an earlier job of the same model, if there was one.
    """

    def __init__(
        self, work: float, planned: int, known: Timing | None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._work = max(work, 1e-9)
        self._planned = planned
        self._known = known
        self._now = now
        self._stage = ""
        self._since = now()
        self._spent: dict[str, float] = {}
        # Time and number of the first finished step: what comes before it warms up.
        self._first: tuple[float, int] | None = None
        self._last: tuple[float, int] | None = None

    @property
    def step_seconds(self) -> float | None:
        """Mean of the measured steps; None before the second."""
        if self._first is None or self._last is None or self._last[1] <= self._first[1]:
            return None
        return (self._last[0] - self._first[0]) / (self._last[1] - self._first[1])

    def update(self, stage: str, step: int, steps: int) -> float | None:
        """Take a progress report; returns the seconds left, None where nothing is measured yet."""
        now = self._now()
        if stage != self._stage:
            self._spent[self._stage] = self._spent.get(self._stage, 0.0) + now - self._since
            self._stage, self._since = stage, now
        if stage == "denoising" and step > 0:
            if self._first is None:
                self._first = (now, step)
            self._last = (now, step)
        tail = self._known.tail * self._work if self._known else 0.0
        if stage == "denoising":
            per_step = self.step_seconds or (self._known.step * self._work if self._known else None)
            if per_step is None and self._last is not None:
                per_step = (now - self._since) / self._last[1]
            return None if per_step is None else round(per_step * max(steps - step, 0) + tail, 1)
        spent_here = now - self._since
        if stage in ("upscaling", "drawing"):
            return round(spent_here / step * max(steps - step, 0), 1) if step > 0 else None
        if self._known is None:
            return None
        if stage in _AFTER:
            before = self._spent.get("decoding", 0.0) if stage == "writing" else 0.0
            return round(max(tail - before - spent_here, 0.0), 1)
        head = max(self._known.head * self._work - (spent_here if stage == "encoding" else 0.0), 0.0)
        return round(head + self._known.step * self._work * self._planned + tail, 1)

    def finish(self) -> Timing | None:
        """The times of a job that has just ended well; None when it was too short to measure."""
        now = self._now()
        self._spent[self._stage] = self._spent.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = "", now
        step = self.step_seconds
        if step is None:
            return None
        tail = sum(self._spent.get(stage, 0.0) for stage in _AFTER)
        return Timing(self._spent.get("encoding", 0.0) / self._work, step / self._work, tail / self._work)
