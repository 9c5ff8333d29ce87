"""The jobs, in SQLite: every change of state is one statement, so that a server that dies loses none."""

from __future__ import annotations

import contextlib
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from ..wire import CANCELLING, URGENCY, Code, JobError, JobView, Status, VideoPlan
from .database import open_database
from .errors import is_disk_full
from .estimate import Timing
from .job_row import JobRow, make_row, readable, seconds_left

RESTARTED = "The backend was restarted; the job began again."
AGAIN = "The engine ended before the job was done; the job began again."

_MOST_FULL = 4
"""So many times ``max_queue`` jobs wait at most, whoever sent them."""

_QUEUE = (
    "FROM jobs LEFT JOIN turns USING (client) WHERE status = 'queued' "
    "ORDER BY again DESC, row_number() OVER (PARTITION BY client ORDER BY urgency, seq), "
    "coalesce(turn, 0), seq"
)
"""Next first: what was interrupted, then each client's most urgent job, whose turn is longest past, then the second
ones. Nobody's urgency comes before another client's turn."""

_WORK = "1e-6 * " + " * ".join(f"json_extract(plan, '$.{side}')" for side in ("width", "height", "frames"))
"""``JobRow.work``."""


class QueueFull(Exception):
    """No more jobs of this client, or of anybody, are taken just now."""


class JobStore:
    """All jobs of one server. Safe to use from several threads.

    Args:
        path: the database; made if missing.
        make_room: called when the disk is full; returns whether it freed anything, so that a second try is worth it.

    Raises:
        StoreInUse, StoreBroken, sqlite3.Error, OSError: see ``open_database``.

    Attributes:
        size: jobs that wait or run; may be read without waiting for a write to end.
        engines: that take jobs from the queue.
    """

    def __init__(self, path: Path, make_room: Callable[[], bool] = lambda: False) -> None:
        self._path = path
        self._make_room = make_room
        self._lock = threading.RLock()
        self._listeners: list[tuple[str | None, Callable[[], None]]] = []
        # Of each waiting job: the jobs before it, and the seconds of those, shared among the engines, and its own.
        # None: to be counted anew.
        self._line: dict[str, tuple[int, float | None]] | None = None
        self._busy: list[JobRow] | None = None
        self._db = open_database(path, readable)
        self.size = self._count()
        self.engines = 1

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    def subscribe(self, listener: Callable[[], None], job_id: str | None = None) -> Callable[[], None]:
        """Call ``listener`` after every change, from whatever thread made it; returns what ends that.

        Args:
            job_id: only after changes of this job or of the queue.
        """
        entry = (job_id, listener)
        with self._lock:
            self._listeners.append(entry)

        def unsubscribe() -> None:
            with self._lock, contextlib.suppress(ValueError):
                self._listeners.remove(entry)

        return unsubscribe

    # -- reading -------------------------------------------------------------------------------------------------

    def get(self, job_id: str, client: str | None = None) -> JobRow | None:
        """A job; None when it does not exist or belongs to another client."""
        rows = self._read("SELECT * FROM jobs WHERE id = ?", job_id)
        if not rows or (client is not None and rows[0].client != client):
            return None
        return rows[0]

    def of_client(self, client: str, most: int = -1, after: int | None = None) -> list[JobRow]:
        """A client's jobs, newest first.

        Args:
            most: so many; all when negative.
            after: ``seq`` of the job behind which to begin.
        """
        return self._read(
            "SELECT * FROM jobs WHERE client = ? AND seq < ? ORDER BY seq DESC LIMIT ?",
            *(client, after or 1 << 62, most),
        )

    def all_jobs(self) -> list[JobRow]:
        """Everybody's jobs, oldest first."""
        return self._read("SELECT * FROM jobs ORDER BY seq")

    def failed_since(self, moment: float, most: int) -> list[JobRow]:
        """Everybody's jobs that have failed since then, in seconds since 1970, newest first."""
        return self._read(
            "SELECT * FROM jobs WHERE status = 'failed' AND finished_at > ? ORDER BY seq DESC LIMIT ?",
            *(moment, most),
        )

    def ids(self) -> set[str]:
        """All ids."""
        with self._lock:
            return {row[0] for row in self._db.execute("SELECT id FROM jobs")}

    def waiting(self) -> list[JobRow]:
        """The queue, next first."""
        return self._read("SELECT jobs.* " + _QUEUE)

    def running(self) -> list[JobRow]:
        """Jobs under way."""
        with self._lock:
            if self._busy is None:
                self._busy = self._read("SELECT * FROM jobs WHERE status = 'in_progress' ORDER BY seq")
            return self._busy

    def by_key(self, client: str, upload_key: str) -> JobRow | None:
        """The job that a client has made by the upload of this key, unless it has failed or was cancelled."""
        rows = self._read("SELECT * FROM jobs WHERE client = ? AND upload_key = ?", client, upload_key)
        return rows[0] if rows and rows[0].status not in (Status.FAILED, Status.CANCELLED) else None

    def timing(self, model: str) -> Timing | None:
        """What was measured on the model's last job."""
        with self._lock:
            row = self._db.execute("SELECT head, step, tail FROM timings WHERE model = ?", (model,)).fetchone()
        return Timing(*row) if row else None

    def view(self, job: JobRow) -> JobView:
        """The job as the wire has it."""
        position = eta = None
        if job.status is Status.QUEUED:
            position, eta = self._place(job.id)
        elif job.status is Status.IN_PROGRESS:
            eta = seconds_left(job)
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

    def _place(self, job_id: str) -> tuple[int | None, float | None]:
        """Jobs before a waiting one, and seconds until it is done; None where any of it is unknown."""
        with self._lock:
            if self._line is None:
                self._line = {}
                total: float | None = 0.0
                timings: dict[str, Timing | None] = {}
                # Whole rows of a long queue would keep this lock for much of a tenth of a second after every change.
                queue = self._db.execute(f"SELECT jobs.id, model, steps, {_WORK} {_QUEUE}")
                for place, (waiting, model, steps, work) in enumerate(queue):
                    if model not in timings:
                        timings[model] = self.timing(model)
                    timing = timings[model]
                    own = None if timing is None else timing.total(work, steps)
                    if own is None or total is None:
                        self._line[waiting], total = (place, None), None
                        continue
                    self._line[waiting] = (place, total / self.engines + own)
                    total += own
            place, seconds = self._line.get(job_id, (None, None))
            for job in self.running():
                left = seconds_left(job)
                seconds = None if seconds is None or left is None else seconds + left / self.engines
        return place, seconds

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
        upload_key: str | None = None,
        urgency: int = URGENCY,
    ) -> JobRow:
        """Append a job to the queue.

        Args:
            urgency: among its client's jobs, 0 to 7, most urgent first.

        Returns:
            The new job, or the one that an earlier upload of the same key has made.

        Raises:
            QueueFull: see ``check_room``.
        """
        job_id = job_id or new_id()
        with self._lock:
            # The lock makes the look and the insertion one step: nobody else writes to this file.
            if upload_key and (known := self.by_key(client, upload_key)):
                return known
            self.check_room(client, max_queue)
            if upload_key:
                self._write("UPDATE jobs SET upload_key = NULL WHERE client = ? AND upload_key = ?", client, upload_key)
            self._write(
                "INSERT INTO jobs (id, client, status, name, model, created_at, steps, notes, plan, upload_key, "
                "urgency) VALUES (?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?)",
                *(job_id, client, name, model, time.time(), steps, json.dumps(notes), json.dumps(asdict(plan))),
                *(upload_key, urgency),
            )
            job = self.get(job_id)
        assert job is not None
        return job

    def check_room(self, client: str, max_queue: int) -> None:
        """Whether a client may add a job: everybody whose jobs wait has the same share of the queue.

        Raises:
            QueueFull: ``max_queue``, divided among the clients with waiting jobs, wait for this one.
        """
        sql = "SELECT client, count(*) FROM jobs WHERE status = 'queued' GROUP BY client"
        with self._lock:
            counts = dict(self._db.execute(sql).fetchall())
        share = max(max_queue // len({*counts, client}), 1)
        if counts.get(client, 0) >= share or sum(counts.values()) >= _MOST_FULL * max_queue:
            raise QueueFull

    def claim(self, choose: Callable[[list[str]], int | None] = lambda _: 0) -> JobRow | None:
        """Make a waiting job a running one.

        Args:
            choose: of the models of all waiting jobs, next first, says which job; None for none of them.
        """
        with self._lock:
            waiting = self._db.execute(f"SELECT jobs.id, client, model {_QUEUE}").fetchall()
            place = choose([row["model"] for row in waiting]) if waiting else None
            if place is None:
                return None
            job_id, client, _ = waiting[place]
            self._write(
                "UPDATE jobs SET status = 'in_progress', started_at = MAX(?, created_at) "
                "WHERE id = ? AND status = 'queued'",
                *(time.time(), job_id),
            )
            self._write(
                "INSERT OR REPLACE INTO turns SELECT ?, 1 + coalesce(MAX(turn), 0) FROM turns", client, moves=False
            )
            return self.get(job_id)

    def count_attempt(self, job_id: str) -> None:
        """A running job has come to its first denoising step, or felled the engine's process before."""
        self._write("UPDATE jobs SET attempts = attempts + 1 WHERE id = ?", job_id, moves=False)

    def progress(self, job_id: str, stage: str, step: int, steps: int, progress: float, eta: float | None) -> None:
        """Note how far a running job is."""
        self._write(
            "UPDATE jobs SET stage = ?, step = ?, stage_steps = ?, progress = MAX(progress, ?), eta = ?, eta_at = ? "
            "WHERE id = ? AND status = 'in_progress'",
            *(stage, step, steps or None, progress, eta, time.monotonic(), job_id),
            worth_room=False,
            moves=False,
            job_id=job_id,
        )

    def note(self, job_id: str, text: str) -> None:
        """Tell the animator something of a running job."""
        with self._lock:
            job = self.get(job_id)
            if job is not None:
                notes = json.dumps(list(dict.fromkeys((*job.notes, text))))
                self._write("UPDATE jobs SET notes = ? WHERE id = ? AND status = 'in_progress'", notes, job_id)

    def finish(self, job_id: str, status: str, *, error: JobError | None = None, notes: tuple[str, ...] = ()) -> bool:
        """End a running job; returns False when it was not running."""
        with self._lock:
            job = self.get(job_id)
            if job is None:
                return False
            merged = json.dumps(list(dict.fromkeys((*job.notes, *notes))))
            why = json.dumps(asdict(error)) if error else None
            return self._write(
                "UPDATE jobs SET status = ?, finished_at = MAX(?, started_at), stage = NULL, step = NULL, "
                "stage_steps = NULL, eta = NULL, progress = CASE WHEN ? = 'completed' THEN 100 ELSE progress END, "
                "error = ?, notes = ? "
                "WHERE id = ? AND status = 'in_progress'",
                *(status, time.time(), status, why, merged, job_id),
            )

    def requeue(self, job_id: str, note: str = RESTARTED, *, forgive: bool = False) -> None:
        """Put a running job back to its place, before all others; one that is to be cancelled is cancelled.

        Args:
            note: why, for the animator.
            forgive: do not count this attempt, which ended by no fault of the job.
        """
        with self._lock:
            job = self.get(job_id)
            if job is None or job.status is not Status.IN_PROGRESS:
                return
            if job.cancel_requested:
                self.finish(job_id, Status.CANCELLED)
                return
            self._write(
                "UPDATE jobs SET status = 'queued', started_at = NULL, stage = NULL, step = NULL, stage_steps = NULL, "
                "progress = 0, eta = NULL, again = 1, attempts = ?, notes = ? WHERE id = ? AND status = 'in_progress'",
                *(max(job.attempts - forgive, 0), json.dumps(list(dict.fromkeys((*job.notes, note)))), job.id),
            )

    def request_cancel(self, job_id: str) -> JobRow | None:
        """Cancel a waiting job, mark a running one; one that has ended stays as it is."""
        with self._lock:
            self._write(
                "UPDATE jobs SET status = 'cancelled', finished_at = MAX(?, created_at) "
                "WHERE id = ? AND status = 'queued'",
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
                if job.attempts < max_attempts or job.cancel_requested:
                    self.requeue(job.id)
                    continue
                message = (
                    f"The backend ended {job.attempts} times while it ran this job, so it is not tried again. "
                    "The backend's log may say why; a smaller size or fewer frames need less memory."
                )
                self.finish(job.id, Status.FAILED, error=JobError(Code.INTERRUPTED, message))

    # -- SQL -----------------------------------------------------------------------------------------------------

    def _read(self, sql: str, *values: object) -> list[JobRow]:
        with self._lock:
            rows = self._db.execute(sql, values).fetchall()
        return [make_row(row) for row in rows]

    def _count(self) -> int:
        sql = "SELECT count(*) FROM jobs WHERE status IN ('queued', 'in_progress')"
        return int(self._db.execute(sql).fetchone()[0])

    def _write(
        self, sql: str, *values: object, worth_room: bool = True, moves: bool = True, job_id: str | None = None
    ) -> bool:
        """One change.

        Args:
            moves: whether it changes what waits or runs.
            job_id: of a change that only those who follow this job care for.
        """
        with self._lock:
            try:
                changed = self._db.execute(sql, values).rowcount > 0
            except sqlite3.Error as error:
                if not (worth_room and is_disk_full(error) and self._make_room()):
                    raise
                changed = self._db.execute(sql, values).rowcount > 0
            if not changed:
                return False
            self._busy = None
            if moves:
                self._line, self.size = None, self._count()
            listeners = [call for wanted, call in self._listeners if None in (wanted, job_id) or wanted == job_id]
        for call in listeners:
            call()
        return True


def new_id() -> str:
    """An id that cannot be guessed."""
    return f"vid_{secrets.token_hex(12)}"
