"""Send a shot and follow its job from Blender without ever waiting: a small process does it and writes a file."""

from __future__ import annotations

import os
import subprocess
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..wire import ANSWER_SECONDS, RECONNECT_SECONDS, JobError, JobView, WireError, read
from .process import Mailbox, kill_group, read_json, tail


@dataclass(frozen=True)
class FollowSpec:
    """What to do.

    Attributes:
        address, token, client_id: the backend, and who this is to it.
        results: folder that receives the video.
        shot: .shot file to send.
        job: id of a job sent before, by a Blender that has closed since for instance; it is followed instead, and
            the shot, if there is one, is sent only when the backend does not know the job.
        name: stem of the result's file name; the end of the job's id is added to it.
        frames: also fetch the zip of PNGs.
        timeout: seconds for each answer.
        patience: seconds to keep trying while the backend does not answer.
        forget: delete the job at the backend when its video is here.
        urgency: of the job, see ``BackendClient.submit``.
        owed: file in which cancels are kept that this backend has not heard of; empty to keep none.
    """

    address: str
    token: str
    client_id: str
    results: str
    shot: str = ""
    job: str = ""
    name: str = "shot"
    frames: bool = False
    timeout: float = ANSWER_SECONDS
    patience: float = RECONNECT_SECONDS
    owed: str = ""
    forget: bool = False
    urgency: int | None = None


@dataclass(frozen=True)
class Report:
    """What the worker has to say.

    Attributes:
        state: ``starting``, ``uploading``, ``queued``, ``running``, ``reconnecting``, ``downloading``, ``completed``,
            ``failed`` or ``cancelled``.
        message: one line for the panel; empty where ``view`` says it all.
        job: the id, empty before the upload has ended.
        view: what the backend last said of the job.
        progress: 0 to 1 of the upload or download while that runs.
        preview_path, preview_revision: newest preview and a number that changes with it.
        result_path, frames_path: empty until completed.
        resumable: after ``failed``: the job still lives at the backend and can be followed again.
    """

    state: str = "starting"
    message: str = "Starting"
    job: str = ""
    view: JobView | None = None
    progress: float = 0.0
    preview_path: str = ""
    preview_revision: int = 0
    result_path: str = ""
    frames_path: str = ""
    error: JobError | None = None
    resumable: bool = False

    @property
    def ended(self) -> bool:
        """Whether nothing more will be said."""
        return self.state in ("completed", "failed", "cancelled")


class Follower:
    """One job being followed. Every method returns at once."""

    def __init__(self, folder: Path, process: subprocess.Popen[Any] | None) -> None:
        self._mailbox = Mailbox(folder, "worker")
        self._process = process

    @classmethod
    def start(cls, spec: FollowSpec, folder: str | os.PathLike[str], python: str = "") -> Follower:
        """Start the worker.

        Args:
            folder: scratch folder of this job alone; made if missing.
            python: interpreter with ``requests``; Blender's own by default.

        Raises:
            OSError: the folder cannot be written or the interpreter not started.
        """
        return cls(Path(folder), Mailbox(folder, "worker").start("worker", asdict(spec), python))

    @property
    def running(self) -> bool:
        """Whether the worker is at work."""
        return self._process is not None and self._process.poll() is None

    def report(self) -> Report:
        """The newest report."""
        running = self.running
        try:
            report = read(Report, read_json(self._mailbox.report) or {}, "report")
        except WireError:
            report = Report()
        if running or report.ended:
            return report
        cure = "The job itself goes on at the backend: follow it again." if report.job else "Send the shot again."
        last = tail(self._mailbox.log, 1) or "It left no message."
        message = f"The process that follows the job ended unexpectedly. {cure} {last}"
        error = JobError("worker_died", message)
        return replace(report, state="failed", message=message, error=error, resumable=bool(report.job))

    def cancel(self) -> None:
        """Ask for the job to be cancelled; ``report()`` tells when it is."""
        self._mailbox.cancel()

    def leave(self) -> None:
        """Stop following; the job goes on at the backend."""
        if self.running and self._process is not None:
            kill_group(self._process.pid)
