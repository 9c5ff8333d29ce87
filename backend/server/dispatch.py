"""Which engine takes which job."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .job_row import JobRow
from .jobs import AGAIN, JobStore


@dataclass
class Seat:
    """What is known of one engine.

    Attributes:
        job: id of the one under way, or empty.
        model: that it has loaded, or is loading for its job; empty for none.
        usable: whether it could be started when that was last tried.
    """

    job: str = ""
    model: str = ""
    usable: bool = True


class Dispatch:
    """The queue as several engines take from it.

    Args:
        seats: one an engine.
        wake: has all engines look into the queue again.
    """

    def __init__(self, store: JobStore, seats: Sequence[Seat], wake: Callable[[], None]) -> None:
        self._store, self._seats, self._wake = store, seats, wake
        self._lock = threading.Lock()

    def waiting(self) -> bool:
        """Whether any job waits, or lies about after a turn that went wrong."""
        return self._store.size > sum(bool(seat.job) for seat in self._seats)

    def others(self, seat: Seat) -> bool:
        """Whether another engine can run the jobs."""
        return any(other.usable for other in self._seats if other is not seat)

    def put_back(self) -> None:
        """Back into the queue with jobs that nobody runs: of a turn that went wrong."""
        with self._lock:
            held = {seat.job for seat in self._seats}
            for job in self._store.running():
                if job.id not in held:
                    self._store.requeue(job.id, AGAIN)

    def claim(self, seat: Seat) -> JobRow | None:
        """The job that a free engine is to run now, if there is one."""
        with self._lock:
            others = [(other.model, not other.job) for other in self._seats if other is not seat]
            job = self._store.claim(lambda models: choose(models, seat.model, others))
            if job is None:
                return None
            seat.job, seat.model = job.id, job.model
        if len(self._seats) > 1:
            # What was left to this engine may be for another one now.
            self._wake()
        return job


def choose(queue: Sequence[str], loaded: str, others: Sequence[tuple[str, bool]]) -> int | None:
    """Which waiting job a free engine takes: the first whose model is not loaded elsewhere only, so that models stay
    where they are; where there is none, the first that no free engine has loaded, so that none stands idle.

    No job waits for ever: the engine that has the first job's model takes that one next.

    Args:
        queue: model of each waiting job, next first.
        loaded: the free engine's model.
        others: of each other engine the model, and whether it is free.

    Returns:
        A place in ``queue``; None to leave all to the other engines.
    """
    elsewhere = {model for model, _ in others}
    free = {model for model, is_free in others if is_free}
    for place, model in enumerate(queue):
        if model == loaded or model not in elsewhere:
            return place
    return next((place for place, model in enumerate(queue) if model not in free), None)
