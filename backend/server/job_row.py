"""One job as the store keeps it."""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import dataclass, fields

from ..wire import URGENCY, JobError, Status, VideoPlan, read


@dataclass(frozen=True)
class JobRow:
    """One row. Times are seconds since 1970.

    ``step`` of ``stage_steps`` is how far the stage is; ``steps`` is the number of denoising steps planned.
    ``eta_at`` is of this server's ``time.monotonic``, which no change of the clock moves. ``attempts`` counts the runs
    that came to the first denoising step, or felled the engine's process before.
    """

    seq: int
    id: str
    client: str
    status: Status
    name: str
    model: str
    created_at: float
    started_at: float | None
    finished_at: float | None
    stage: str | None
    step: int | None
    stage_steps: int | None
    steps: int
    progress: float
    eta: float | None
    eta_at: float | None
    notes: tuple[str, ...]
    plan: VideoPlan
    error: JobError | None = None
    attempts: int = 0
    cancel_requested: bool = False
    upload_key: str | None = None
    again: bool = False
    urgency: int = URGENCY

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status.ended

    @property
    def work(self) -> float:
        """Frames x pixels in millions."""
        return self.plan.width * self.plan.height * self.plan.frames / 1e6


_FIELDS = frozenset(f.name for f in fields(JobRow))


def make_row(row: sqlite3.Row) -> JobRow:
    """A job of its row. Raises ValueError, TypeError, KeyError and their like where it makes none."""
    # A later layout may have more columns.
    data = {name: row[name] for name in row.keys() if name in _FIELDS}  # noqa: SIM118
    data["status"] = Status(data["status"])
    data["notes"] = tuple(json.loads(data["notes"]))
    data["plan"] = read(VideoPlan, json.loads(data["plan"]), "plan")
    data["error"] = read(JobError, json.loads(data["error"]), "error") if data["error"] else None
    data["cancel_requested"] = bool(data["cancel_requested"])
    return JobRow(**data)


def readable(row: sqlite3.Row) -> bool:
    """Whether a row of the store makes a job."""
    try:
        job = make_row(row)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False
    return all(isinstance(text, str) for text in (job.id, job.client, job.name, job.model)) and job.seq > 0


def seconds_left(job: JobRow) -> float | None:
    """Seconds until a running job is done."""
    if job.eta is None or job.eta_at is None:
        return None
    return max(0.0, job.eta - (time.monotonic() - job.eta_at))
