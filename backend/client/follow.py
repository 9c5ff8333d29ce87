"""Send a shot and follow its job from Blender without ever waiting: a small process does it and writes a file."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .process import kill_group, read_json, spawn, tail, write_json

ENDED = ("completed", "failed", "cancelled")
"""States after which nothing more happens."""


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
    timeout: float = 10.0
    patience: float = 300.0
    owed: str = ""


class Follower:
    """One job being followed. Every method returns at once.

    ``state()`` gives the worker's report:

    - ``state``: ``starting``, ``uploading``, ``queued``, ``running``, ``reconnecting``, ``downloading``, ``completed``,
      ``failed`` or ``cancelled``
    - ``message``: one line for the panel
    - ``job``: the id, empty before the upload has ended
    - ``queue_position`` (0 = next), ``stage``, ``step``, ``steps``, ``eta_seconds``: None where unknown
    - ``progress``: 0 to 100; of the upload or download while that runs
    - ``notes``: sentences of the backend for the animator
    - ``preview_path``, ``preview_revision``: newest preview and a number that changes with it
    - ``result_path``, ``frames_path``: empty until completed
    - ``error``: None or ``{code, message, field}``
    - ``resumable``: after ``failed``: the job still lives at the backend and can be followed again
    """

    def __init__(self, folder: Path, process: subprocess.Popen[Any] | None) -> None:
        self.folder = folder
        self._process = process

    @classmethod
    def start(cls, spec: FollowSpec, folder: str | os.PathLike[str], python: str | None = None) -> Follower:
        """Start the worker.

        Args:
            folder: scratch folder of this job alone; made if missing.
            python: interpreter with ``requests``; Blender's own by default.

        Raises:
            OSError: the folder cannot be written or the interpreter not started.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("cancel", "state.json", "worker.log"):
            (folder / name).unlink(missing_ok=True)
        spec_path = folder / "spec.json"
        write_json(spec_path, {**asdict(spec), "folder": str(folder), "parent_pid": os.getpid()}, private=True)
        # Isolated: neither the environment nor the worker's own folder may stand in for Blender's modules.
        command = [python or sys.executable, "-I", str(Path(__file__).with_name("worker.py")), str(spec_path)]
        try:
            process = spawn(command, log=folder / "worker.log", cwd=folder)
        except OSError:
            spec_path.unlink(missing_ok=True)
            raise
        return cls(folder, process)

    @property
    def running(self) -> bool:
        """Whether the worker is at work."""
        return self._process is not None and self._process.poll() is None

    def state(self) -> dict[str, Any]:
        """The newest report."""
        running = self.running
        report = read_json(self.folder / "state.json") or initial_state()
        if not running and report["state"] not in ENDED:
            report["state"] = "failed"
            report["error"] = {
                "code": "worker_died",
                "message": "The process that follows the job ended unexpectedly. "
                + (
                    "The job itself goes on at the backend: follow it again. "
                    if report["job"]
                    else "Send the shot again. "
                )
                + (tail(self.folder / "worker.log", 1) or "It left no message."),
                "field": None,
            }
            report["message"] = report["error"]["message"]
            report["resumable"] = bool(report["job"])
        return report

    def cancel(self) -> None:
        """Ask for the job to be cancelled; ``state()`` tells when it is."""
        (self.folder / "cancel").touch()

    def leave(self) -> None:
        """Stop following; the job goes on at the backend."""
        if self.running and self._process is not None:
            kill_group(self._process.pid)


def initial_state() -> dict[str, Any]:
    """A report before anything has happened."""
    return {
        "state": "starting",
        "message": "Starting",
        "job": "",
        "queue_position": None,
        "stage": None,
        "step": None,
        "steps": None,
        "progress": 0.0,
        "eta_seconds": None,
        "notes": [],
        "preview_path": "",
        "preview_revision": 0,
        "result_path": "",
        "frames_path": "",
        "error": None,
        "resumable": False,
    }
