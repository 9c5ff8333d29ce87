"""Send one shot, follow its job, fetch its result: ``python worker.py SPEC.json``.

Runs as a process of its own under Blender's Python, so that Blender waits for nothing. It is started by path; the
package it belongs to need not be importable. See ``follow.FollowSpec`` for what it is told and ``follow.Follower``
for what it reports. It ends when the process that started it does; the job then goes on at the backend.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from .api import BackendClient
    from .errors import BackendError
    from .follow import ENDED, initial_state
    from .owed import owe, settle, settled
    from .process import parent_is, replace, write_json
else:

    def _load_siblings() -> None:
        """The folder of this file as a package under a name of its own."""
        folder = Path(__file__).resolve().parent
        spec = importlib.util.spec_from_file_location(
            "maquette_client", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)

    _load_siblings()
    from maquette_client.api import BackendClient
    from maquette_client.errors import BackendError
    from maquette_client.follow import ENDED, initial_state
    from maquette_client.owed import owe, settle, settled
    from maquette_client.process import parent_is, replace, write_json

_PREVIEW_SECONDS = 0.7
_POLL_SECONDS = 1.0


class _Cancelled(Exception):
    """The animator pressed cancel."""


class Worker:
    """One run. ``spec`` holds FollowSpec's entries, ``folder`` and ``parent_pid``."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.folder = Path(spec["folder"])
        self.cancelled = threading.Event()
        self.report = initial_state()
        self.report["job"] = spec["job"]
        # A job sent by an earlier run lives on even when this one cannot reach the backend.
        self.resumable = bool(spec["job"])
        self._lock = threading.Lock()
        self._last_preview = 0.0
        self._last_step: object = None

    def run(self) -> None:
        """Everything, from the first request to the last report."""
        threading.Thread(target=self._watch, daemon=True).start()
        try:
            with self._client() as client:
                self._run(client)
        except _Cancelled:
            self._tell(state="cancelled", message="Cancelled", eta_seconds=None, queue_position=None)
        except BackendError as error:
            self._fail(error)
        except Exception as error:
            traceback.print_exc()
            self._fail(BackendError("internal", f"Following the job failed: {type(error).__name__}: {error}"))

    def _run(self, client: BackendClient) -> None:
        self._tell(message=f"Connecting to {client.address}")
        client.health()
        if self.spec["owed"]:
            settle(self.spec["owed"], client, but="" if self.cancelled.is_set() else self.report["job"])
        if self.report["job"] and self.spec["shot"]:
            try:
                client.job(self.report["job"])
            except BackendError as error:
                if error.code != "not_found":
                    raise
                self._tell(job="")
        if not self.report["job"]:
            self._upload(client)
        self.resumable = True
        job = self._follow(client, self.report["job"])
        if job["status"] == "cancelled":
            raise _Cancelled
        if job["status"] == "failed":
            self.resumable = False
            error = job.get("error") or {}
            raise BackendError(
                str(error.get("code", "failed")), str(error.get("message", "The job failed.")), error.get("field")
            )
        self._download(client, job)

    # -- the three parts -----------------------------------------------------------------------------------------

    def _upload(self, client: BackendClient) -> None:
        self._tell(state="uploading", message="Sending the shot")
        # A token or version that does not fit is better heard of before a long upload.
        client.models()

        def sent(done: int, total: int) -> None:
            self._check()
            self._tell(progress=round(100 * done / max(total, 1), 1))

        job = client.submit(self.spec["shot"], sent)
        self._tell(job=job["id"], state="queued", message="Waiting", progress=0.0)
        if self.cancelled.is_set():
            client.cancel(job["id"])

    def _follow(self, client: BackendClient, job_id: str) -> dict[str, Any]:
        """The job once it has ended: by events, by polling where events do not come through."""
        broken_streams = 0
        job: dict[str, Any] | None = None
        while True:
            try:
                if broken_streams < 2:
                    for job in client.events(job_id):
                        broken_streams = 0
                        self._show(client, job)
                        if job["status"] in ENDED:
                            return job
                    broken_streams += 1
                job = client.job(job_id)
                self._show(client, job)
                if job["status"] in ENDED:
                    return job
                if broken_streams >= 2:
                    self._pause(_POLL_SECONDS)
            except BackendError as error:
                if error.code == "no_events":
                    broken_streams = 2
                elif error.transient:
                    broken_streams += self._reconnect(client, job_id, error)
                else:
                    raise

    def _reconnect(self, client: BackendClient, job_id: str, error: BackendError) -> int:
        """Wait until the backend answers again.

        Returns:
            1 when it did so at once, so that only the stream was at fault; else 0.
        """
        began, wait = time.monotonic(), 0.25
        first = True
        while True:
            if self.cancelled.is_set():
                raise BackendError(
                    "unreachable",
                    f"Cancelled here, but the backend at {client.address} does not answer and could not be told: "
                    "it is told at the next contact, and may work on the job until then.",
                )
            try:
                client.job(job_id)
            except BackendError as again:
                if not again.transient:
                    raise
            else:
                return int(first)
            first = False
            left = self.spec["patience"] - (time.monotonic() - began)
            if left <= 0:
                raise BackendError(
                    error.code,
                    f"The backend at {client.address} stopped answering during the job. Jobs survive a restart: start "
                    "the backend again and follow the job again.",
                )
            self._tell(
                state="reconnecting",
                message=f"The backend stopped answering; trying for another {max(1, round(left))} s",
                eta_seconds=None,
            )
            self._pause(min(wait, left))
            wait = min(2 * wait, 5.0)

    def _download(self, client: BackendClient, job: dict[str, Any]) -> None:
        stem = re.sub(r"[^\w.-]+", "_", self.spec["name"]).strip("._")[:80] or "shot"
        base = Path(self.spec["results"]) / f"{stem}_{job['id'][-8:]}"

        # A video that was finished before the cancel arrived is fetched: it is small beside the work in it.
        late = self.cancelled.is_set()

        def received(done: int, total: int) -> None:
            if not late:
                self._check()
            self._tell(progress=round(100 * done / max(total, 1), 1))

        wanted = [
            ("video", ".mp4", "result_path"),
            *([("frames", ".zip", "frames_path")] if self.spec["frames"] else []),
        ]
        paths = {}
        for variant, ending, key in wanted:
            self._tell(state="downloading", message="Fetching the result", progress=0.0, eta_seconds=None)
            began = time.monotonic()
            while key not in paths:
                try:
                    paths[key] = str(client.download(job["id"], base.with_name(base.name + ending), variant, received))
                except BackendError as error:
                    if not error.transient or time.monotonic() - began > self.spec["patience"]:
                        raise
                    self._tell(message="The connection broke off; fetching the rest")
                    self._pause(1.0)
                    if not late:
                        self._check()
        self._tell(state="completed", message="Done", progress=100.0, **paths)

    # -- what the panel sees -------------------------------------------------------------------------------------

    def _show(self, client: BackendClient, job: dict[str, Any]) -> None:
        queued = job["status"] == "queued"
        position = job.get("queue_position")
        stage, step, steps = job.get("stage"), job.get("step"), job.get("steps")
        if queued:
            message = "Next in the queue" if not position else f"Waiting, {position} before this one"
        elif stage and steps:
            message = f"{stage.capitalize()}, step {step or 0} of {steps}"
        else:
            message = (stage or "Running").capitalize()
        if job["status"] == "in_progress" and (stage, step) != self._last_step:
            self._last_step = (stage, step)
            self._fetch_preview(client, job["id"])
        self._tell(
            state="queued" if queued else "running",
            message="Cancelling" if self.cancelled.is_set() else message,
            queue_position=position,
            stage=stage,
            step=step,
            steps=steps,
            progress=float(job.get("progress") or 0.0),
            eta_seconds=job.get("eta_seconds"),
            notes=list(job.get("notes") or []),
        )

    def _fetch_preview(self, client: BackendClient, job_id: str) -> None:
        if time.monotonic() - self._last_preview < _PREVIEW_SECONDS:
            return
        try:
            data = client.preview(job_id)
            if not data:
                return
            temporary, target = self.folder / ".preview.new", self.folder / "preview.png"
            temporary.write_bytes(data)
            replace(temporary, target)
        except (BackendError, OSError):
            # A picture on the way is not worth the job.
            return
        self._last_preview = time.monotonic()
        self._tell(preview_path=str(target), preview_revision=self.report["preview_revision"] + 1)

    def _fail(self, error: BackendError) -> None:
        self._tell(
            state="failed",
            message=error.message,
            error=error.as_dict(),
            eta_seconds=None,
            queue_position=None,
            resumable=bool(self.report["job"]) and self.resumable and error.code != "not_found",
        )

    def _tell(self, **changes: Any) -> None:
        with self._lock:
            changed = {key: value for key, value in changes.items() if self.report[key] != value}
            self.report.update(changed)
            if not changed:
                return
            ended = self.report["state"] in ENDED
            for _ in range(10 if ended else 1):
                try:
                    write_json(self.folder / "state.json", self.report)
                    return
                except OSError as error:
                    print(f"state.json: {error}", file=sys.stderr, flush=True)
                    if ended:
                        time.sleep(0.5)

    # -- cancel, and the death of the parent ---------------------------------------------------------------------

    def _check(self) -> None:
        if self.cancelled.is_set():
            raise _Cancelled

    def _pause(self, seconds: float) -> None:
        """Wait; shorter when cancelled, but never not at all."""
        if self.cancelled.wait(seconds):
            time.sleep(min(seconds, 0.25))

    def _client(self) -> BackendClient:
        s = self.spec
        return BackendClient(s["address"], s["token"], s["client_id"], s["timeout"])

    def _watch(self) -> None:
        """Beside the requests, which may wait for the network for long."""
        told = noted = False
        while True:
            if not parent_is(self.spec["parent_pid"]):
                os._exit(3)
            if not self.cancelled.is_set() and (self.folder / "cancel").exists():
                self.cancelled.set()
            if self.cancelled.is_set() and self.report["job"] and not told:
                if not noted:
                    # Before it is tried: this process may be ended while it waits for an answer.
                    self._note(owe)
                    noted = True
                try:
                    with self._client() as client:
                        client.cancel(self.report["job"])
                    told = True
                except BackendError as error:
                    told = not error.transient
                if told:
                    self._note(settled)
            time.sleep(0.2)

    def _note(self, how: Callable[[str, str], None]) -> None:
        """Write down whether the backend is owed this job's cancel."""
        try:
            if self.spec["owed"]:
                how(self.spec["owed"], self.report["job"])
        except OSError as error:
            print(f"{self.spec['owed']}: {error}", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """Run the spec named by the only argument; the file is removed once read, since it holds the token."""
    if len(arguments) != 1:
        print("usage: worker.py SPEC.json", file=sys.stderr)
        return 2
    path = Path(arguments[0])
    spec = json.loads(path.read_text("utf-8"))
    path.unlink()
    Worker(spec).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
