"""The jobs, in SQLite: every change of state is one statement, so that a server that dies loses none."""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from ..wire import CANCELLING, Code, JobError, JobView, Status, VideoPlan, read
from .errors import is_disk_full
from .estimate import Timing

RESTARTED = "The backend was restarted; the job began again."

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  client TEXT NOT NULL,
  status TEXT NOT NULL,
  name TEXT NOT NULL,
  model TEXT NOT NULL,
  created_at REAL NOT NULL,
  started_at REAL,
  finished_at REAL,
  stage TEXT,
  step INTEGER,
  stage_steps INTEGER,
  steps INTEGER NOT NULL,
  progress REAL NOT NULL DEFAULT 0,
  eta REAL,
  eta_at REAL,
  notes TEXT NOT NULL,
  plan TEXT NOT NULL,
  error TEXT,
  attempts INTEGER NOT NULL DEFAULT 0,
  cancel_requested INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status, seq);
CREATE INDEX IF NOT EXISTS jobs_by_client ON jobs (client, seq);
CREATE TABLE IF NOT EXISTS timings (model TEXT PRIMARY KEY, head REAL, step REAL, tail REAL);
"""


class StoreInUse(Exception):
    """Another server works on the same folder."""


class StoreBroken(Exception):
    """The store's file is damaged or of a later version."""


class QueueFull(Exception):
    """No more jobs are taken just now."""


@dataclass(frozen=True)
class JobRow:
    """One row. Times are seconds since 1970.

    ``step`` of ``stage_steps`` is how far the stage is; ``steps`` is the number of denoising steps planned.
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

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status.ended

    @property
    def work(self) -> float:
        """Frames x pixels in millions."""
        return self.plan.width * self.plan.height * self.plan.frames / 1e6


class JobStore:
    """All jobs of one server. Safe to use from several threads.

    Args:
        path: the database; made if missing.
        make_room: called when the disk is full; returns whether it freed anything, so that a second try is worth it.

    Raises:
        StoreInUse: another process holds it.
        StoreBroken: it cannot be read as a store.
    """

    def __init__(self, path: Path, make_room: Callable[[], bool] = lambda: False) -> None:
        self._make_room = make_room
        self._lock = threading.RLock()
        self._listeners: list[Callable[[], None]] = []
        self._db = sqlite3.connect(path, timeout=3.0, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        try:
            # Held until the process ends, however it ends: a second server on the same folder is refused.
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("BEGIN EXCLUSIVE")
            self._db.execute("COMMIT")
            self._db.executescript(_SCHEMA)
        except sqlite3.OperationalError as error:
            self._db.close()
            if "locked" in str(error):
                raise StoreInUse(str(path)) from error
            raise
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise StoreBroken(
                f"{path} is damaged ({error}); move it away to begin with an empty list of jobs"
            ) from error

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` after every change, from whatever thread made it; returns what ends that."""
        with self._lock:
            self._listeners.append(listener)

        def unsubscribe() -> None:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return unsubscribe

    # -- reading -------------------------------------------------------------------------------------------------

    def get(self, job_id: str, client: str | None = None) -> JobRow | None:
        """A job; None when it does not exist or belongs to another client."""
        rows = self._read("SELECT * FROM jobs WHERE id = ?", job_id)
        if not rows or (client is not None and rows[0].client != client):
            return None
        return rows[0]

    def of_client(self, client: str) -> list[JobRow]:
        """A client's jobs, newest first."""
        return self._read("SELECT * FROM jobs WHERE client = ? ORDER BY seq DESC", client)

    def ids(self) -> set[str]:
        """All ids."""
        with self._lock:
            return {row[0] for row in self._db.execute("SELECT id FROM jobs")}

    def waiting(self) -> list[JobRow]:
        """The queue, next first."""
        return self._read("SELECT * FROM jobs WHERE status = 'queued' ORDER BY seq")

    def running(self) -> list[JobRow]:
        """Jobs under way (at most one)."""
        return self._read("SELECT * FROM jobs WHERE status = 'in_progress' ORDER BY seq")

    def timing(self, model: str) -> Timing | None:
        """What was measured on the model's last job."""
        with self._lock:
            row = self._db.execute("SELECT head, step, tail FROM timings WHERE model = ?", (model,)).fetchone()
        return Timing(*row) if row else None

    def view(self, job: JobRow) -> JobView:
        """The job as the wire has it."""
        position = eta = None
        now = time.time()
        if job.status is Status.QUEUED:
            ahead = [other for other in self.waiting() if other.seq < job.seq]
            position = len(ahead)
            eta = self._queue_eta(job, ahead, now)
        elif job.status is Status.IN_PROGRESS and job.eta is not None:
            eta = max(0.0, job.eta - (now - (job.eta_at or now)))
        return JobView(
            id=job.id,
            status=job.status,
            name=job.name,
            model=job.model,
            created_at=round(job.created_at, 3),
            started_at=job.started_at and round(job.started_at, 3),
            finished_at=job.finished_at and round(job.finished_at, 3),
            queue_position=position,
            stage=CANCELLING if job.cancel_requested and not job.ended else job.stage,
            step=job.step,
            steps=job.stage_steps,
            progress=job.progress,
            eta_seconds=None if eta is None else round(eta, 1),
            notes=job.notes,
            plan=job.plan,
            error=job.error,
        )

    def _queue_eta(self, job: JobRow, ahead: list[JobRow], now: float) -> float | None:
        """Until the job is done: what runs, what waits before it, and itself; None when any of it is unknown."""
        total = 0.0
        for other in self.running():
            if other.eta is None:
                return None
            total += max(0.0, other.eta - (now - (other.eta_at or now)))
        for other in (*ahead, job):
            timing = self.timing(other.model)
            if timing is None:
                return None
            total += timing.total(other.work, other.steps)
        return total

    # -- changing ------------------------------------------------------------------------------------------------

    def create(
        self,
        client: str,
        name: str,
        model: str,
        steps: int,
        plan: VideoPlan,
        notes: list[str],
        *,
        max_queue: int,
        job_id: str | None = None,
    ) -> JobRow:
        """Append a job to the queue.

        Raises:
            QueueFull: ``max_queue`` jobs wait already.
        """
        job_id = job_id or new_id()
        with self._lock:
            # The lock makes the count and the insertion one step: nobody else writes to this file.
            if len(self.waiting()) >= max_queue:
                raise QueueFull
            self._write(
                "INSERT INTO jobs (id, client, status, name, model, created_at, steps, notes, plan) "
                "VALUES (?, ?, 'queued', ?, ?, ?, ?, ?, ?)",
                *(job_id, client, name, model, time.time(), steps, json.dumps(notes), json.dumps(asdict(plan))),
            )
            job = self.get(job_id)
        assert job is not None
        return job

    def claim(self) -> JobRow | None:
        """Make the first of the queue the running one."""
        with self._lock:
            waiting = self.waiting()
            if not waiting:
                return None
            self._write(
                "UPDATE jobs SET status = 'in_progress', started_at = ?, attempts = attempts + 1 "
                "WHERE id = ? AND status = 'queued'",
                *(time.time(), waiting[0].id),
            )
            return self.get(waiting[0].id)

    def progress(self, job_id: str, stage: str, step: int, steps: int, progress: float, eta: float | None) -> None:
        """Note how far a running job is."""
        self._write(
            "UPDATE jobs SET stage = ?, step = ?, stage_steps = ?, progress = MAX(progress, ?), eta = ?, eta_at = ? "
            "WHERE id = ? AND status = 'in_progress'",
            *(stage, step, steps or None, progress, eta, time.time(), job_id),
            worth_room=False,
        )

    def finish(self, job_id: str, status: str, *, error: JobError | None = None, notes: tuple[str, ...] = ()) -> bool:
        """End a running job; returns False when it was not running."""
        with self._lock:
            job = self.get(job_id)
            if job is None:
                return False
            merged = json.dumps(list(dict.fromkeys((*job.notes, *notes))))
            why = json.dumps(asdict(error)) if error else None
            return self._write(
                "UPDATE jobs SET status = ?, finished_at = ?, stage = NULL, step = NULL, stage_steps = NULL, "
                "eta = NULL, progress = CASE WHEN ? = 'completed' THEN 100 ELSE progress END, error = ?, notes = ? "
                "WHERE id = ? AND status = 'in_progress'",
                *(status, time.time(), status, why, merged, job_id),
            )

    def requeue(self, job_id: str) -> None:
        """Put a running job back to its place in the queue, because the server stops."""
        with self._lock:
            job = self.get(job_id)
            if job is None or job.status is not Status.IN_PROGRESS:
                return
            if job.cancel_requested:
                self.finish(job_id, Status.CANCELLED)
                return
            self._back_to_queue(job, job.attempts - 1)

    def request_cancel(self, job_id: str) -> JobRow | None:
        """Cancel a waiting job, mark a running one; one that has ended stays as it is."""
        with self._lock:
            self._write(
                "UPDATE jobs SET status = 'cancelled', finished_at = ? WHERE id = ? AND status = 'queued'",
                *(time.time(), job_id),
            )
            self._write("UPDATE jobs SET cancel_requested = 1 WHERE id = ? AND status = 'in_progress'", job_id)
            return self.get(job_id)

    def delete(self, job_id: str) -> bool:
        """Forget a job that has ended."""
        return self._write("DELETE FROM jobs WHERE id = ? AND status IN ('completed', 'failed', 'cancelled')", job_id)

    def save_timing(self, model: str, timing: Timing) -> None:
        """Keep what was measured for the next estimate."""
        self._write(
            "INSERT OR REPLACE INTO timings (model, head, step, tail) VALUES (?, ?, ?, ?)",
            *(model, timing.head, timing.step, timing.tail),
        )

    def recover(self, max_attempts: int) -> None:
        """At start: jobs that were running when the server died go back to their place in the queue.

        One that the server did not survive ``max_attempts`` times fails, so that it cannot bring it down for ever.
        """
        with self._lock:
            for job in self.running():
                if job.cancel_requested:
                    self.finish(job.id, Status.CANCELLED)
                elif job.attempts >= max_attempts:
                    message = (
                        f"The backend ended {job.attempts} times while it ran this job, so it is not tried again. "
                        "The backend's log may say why; a smaller size or fewer frames need less memory."
                    )
                    self.finish(job.id, Status.FAILED, error=JobError(Code.INTERRUPTED, message))
                else:
                    self._back_to_queue(job, job.attempts)

    def _back_to_queue(self, job: JobRow, attempts: int) -> None:
        self._write(
            "UPDATE jobs SET status = 'queued', started_at = NULL, stage = NULL, step = NULL, stage_steps = NULL, "
            "progress = 0, eta = NULL, attempts = ?, notes = ? WHERE id = ? AND status = 'in_progress'",
            *(attempts, json.dumps(list(dict.fromkeys((*job.notes, RESTARTED)))), job.id),
        )

    # -- SQL -----------------------------------------------------------------------------------------------------

    def _read(self, sql: str, *values: object) -> list[JobRow]:
        with self._lock:
            rows = self._db.execute(sql, values).fetchall()
        return [_row(row) for row in rows]

    def _write(self, sql: str, *values: object, worth_room: bool = True) -> bool:
        with self._lock:
            try:
                changed = self._db.execute(sql, values).rowcount > 0
            except sqlite3.Error as error:
                if not (worth_room and is_disk_full(error) and self._make_room()):
                    raise
                changed = self._db.execute(sql, values).rowcount > 0
            listeners = tuple(self._listeners)
        if changed:
            for listener in listeners:
                listener()
        return changed


def new_id() -> str:
    """An id that cannot be guessed."""
    return f"vid_{secrets.token_hex(12)}"


def _row(row: sqlite3.Row) -> JobRow:
    data = dict(row)
    data["status"] = Status(data["status"])
    data["notes"] = tuple(json.loads(data["notes"]))
    data["plan"] = read(VideoPlan, json.loads(data["plan"]), "plan")
    data["error"] = read(JobError, json.loads(data["error"]), "error") if data["error"] else None
    data["cancel_requested"] = bool(data["cancel_requested"])
    return JobRow(**data)
