"""Send one shot, follow its job, fetch its result.

Runs as a process of its own under Blender's Python, so that Blender waits for nothing. See ``follow.FollowSpec`` for
what it is told and ``follow.Report`` for what it says. It ends when the process that started it does; the job then
goes on at the backend.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from ..wire import VARIANTS, JobError, JobView, Status
from .api import BackendClient
from .errors import BackendError
from .follow import FollowSpec, Report
from .owed import owe, settle, settled
from .process import Mailbox, parent_is, replace_file, watching, write_json

_PREVIEW_SECONDS = 0.7
_POLL_SECONDS = 1.0


class _Cancelled(Exception):
    """The animator pressed cancel."""


class Worker:
    """One run.

    Args:
        parent: number of the process with which this one ends.
    """

    def __init__(self, spec: FollowSpec, folder: str, parent: int) -> None:
        self.spec = spec
        self.mailbox = Mailbox(folder, "worker")
        self.parent = parent
        self.cancelled = threading.Event()
        self.report = Report(job=spec.job)
        # A job sent by an earlier run lives on even when this one cannot reach the backend.
        self.resumable = bool(spec.job)
        self._lock = threading.Lock()
        self._last_preview = 0.0
        self._last_step: object = None
        # Of the cancel: whether it is written down that the backend is owed it, and whether it has heard it.
        self._noted = self._heard = False

    def run(self) -> None:
        """Everything, from the first request to the last report."""
        with watching(self._look):
            try:
                with self._client() as client:
                    self._run(client)
            except _Cancelled:
                self._tell(state="cancelled", message="Cancelled")
            except BackendError as error:
                self._fail(error)
            except Exception as error:
                traceback.print_exc()
                self._fail(BackendError("internal", f"Following the job failed: {type(error).__name__}: {error}"))

    def _run(self, client: BackendClient) -> None:
        self._tell(message=f"Connecting to {client.address}")
        client.health()
        if self.spec.owed:
            settle(self.spec.owed, client, but="" if self.cancelled.is_set() else self.report.job)
        if self.report.job and self.spec.shot:
            try:
                client.job(self.report.job)
            except BackendError as error:
                if error.code != "not_found":
                    raise
                self._tell(job="")
        if not self.report.job:
            self._upload(client)
        self.resumable = True
        view = self._follow(client, self.report.job)
        self._tell(view=view)
        if view.status is Status.CANCELLED:
            raise _Cancelled
        if view.status is Status.FAILED:
            self.resumable = False
            error = view.error or JobError("failed", "The job failed.")
            raise BackendError(error.code, error.message, error.field)
        self._download(client, view)

    # -- the three parts -----------------------------------------------------------------------------------------

    def _upload(self, client: BackendClient) -> None:
        self._tell(state="uploading", message="Sending the shot")
        # A token or version that does not fit is better heard of before a long upload.
        client.models()

        def sent(done: int, total: int) -> None:
            self._check()
            self._tell(progress=_share(done, total))

        view = self._submitted(client, sent)
        self._tell(state="queued", message="", job=view.id, view=view, progress=0.0)
        if self.cancelled.is_set():
            client.cancel(view.id)

    def _submitted(self, client: BackendClient, sent: Callable[[int, int], None]) -> JobView:
        """The new job; a broken upload begins again by itself, and one whose answer was lost is found again."""
        key = _upload_key(self.spec.shot)
        began = time.monotonic()
        lost = False
        while True:
            try:
                if lost and (known := client.find(key)):
                    return known
                self._check()
                return client.submit(self.spec.shot, sent, key, self.spec.urgency)
            except BackendError as error:
                if not error.transient or time.monotonic() - began > self.spec.patience:
                    raise
                lost = True
            self._tell(message="The connection broke off; sending the shot again", progress=0.0)
            self._pause(_POLL_SECONDS)

    def _follow(self, client: BackendClient, job_id: str) -> JobView:
        """The job once it has ended: by events, by polling where events do not come through."""
        broken_streams = 0
        while True:
            try:
                if broken_streams < 2:
                    for view in client.events(job_id):
                        broken_streams = 0
                        if view.ended:
                            return view
                        self._show(client, view)
                    broken_streams += 1
                view = client.job(job_id)
                if view.ended:
                    return view
                self._show(client, view)
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
            left = self.spec.patience - (time.monotonic() - began)
            if left <= 0:
                raise BackendError(
                    error.code,
                    f"The backend at {client.address} stopped answering during the job. Jobs survive a restart: start "
                    "the backend again and follow the job again.",
                )
            self._tell(
                state="reconnecting",
                message=f"The backend stopped answering; trying for another {max(1, round(left))} s",
            )
            self._pause(min(wait, left))
            wait = min(2 * wait, 5.0)

    def _download(self, client: BackendClient, view: JobView) -> None:
        stem = re.sub(r"[^\w.-]+", "_", self.spec.name).strip("._")[:80] or "shot"
        base = Path(self.spec.results) / f"{stem}_{view.id[-8:]}"

        # A video that was finished before the cancel arrived is fetched: it is small beside the work in it.
        late = self.cancelled.is_set()

        def received(done: int, total: int) -> None:
            if not late:
                self._check()
            self._tell(progress=_share(done, total))

        paths: dict[str, str] = {}
        for variant in ("video", "frames") if self.spec.frames else ("video",):
            self._tell(state="downloading", message="Fetching the result", progress=0.0)
            target = base.with_name(base.name + VARIANTS[variant][0])
            began = time.monotonic()
            while variant not in paths:
                try:
                    paths[variant] = str(client.download(view.id, target, variant, received))
                except BackendError as error:
                    if not error.transient or time.monotonic() - began > self.spec.patience:
                        raise
                    self._tell(message="The connection broke off; fetching the rest")
                    self._pause(1.0)
                    if not late:
                        self._check()
        self._tell(state="completed", message="Done", result_path=paths["video"], frames_path=paths.get("frames", ""))
        if self.spec.forget:
            with suppress(BackendError):  # It goes with the others that are too old.
                client.delete(view.id)

    # -- what the panel sees -------------------------------------------------------------------------------------

    def _show(self, client: BackendClient, view: JobView) -> None:
        if view.status is Status.IN_PROGRESS and (view.stage, view.step) != self._last_step:
            self._last_step = (view.stage, view.step)
            self._fetch_preview(client, view.id)
        self._tell(state="queued" if view.status is Status.QUEUED else "running", message="", view=view)

    def _fetch_preview(self, client: BackendClient, job_id: str) -> None:
        if time.monotonic() - self._last_preview < _PREVIEW_SECONDS:
            return
        try:
            data = client.preview(job_id)
            if not data:
                return
            temporary, target = self.mailbox.folder / ".preview.new", self.mailbox.folder / "preview.png"
            temporary.write_bytes(data)
            replace_file(temporary, target)
        except (BackendError, OSError):
            # A picture on the way is not worth the job.
            return
        self._last_preview = time.monotonic()
        self._tell(preview_path=str(target), preview_revision=self.report.preview_revision + 1)

    def _fail(self, error: BackendError) -> None:
        resumable = bool(self.report.job) and self.resumable and error.code != "not_found"
        self._tell(state="failed", message=error.message, error=error.told, resumable=resumable)

    def _tell(self, **changes: Any) -> None:
        with self._lock:
            before, self.report = self.report, replace(self.report, **changes)
            if self.report == before:
                return
            for _ in range(10 if self.report.ended else 1):
                try:
                    write_json(self.mailbox.report, asdict(self.report))
                    return
                except OSError as error:
                    print(f"{self.mailbox.report.name}: {error}", file=sys.stderr, flush=True)
                    if self.report.ended:
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
        return BackendClient(s.address, s.token, s.client_id, s.timeout)

    def _look(self) -> None:
        """Beside the requests, which may wait for the network for long."""
        if not parent_is(self.parent):
            os._exit(3)
        if self.mailbox.cancelled:
            self.cancelled.set()
        if not self.cancelled.is_set() or not self.report.job or self._heard:
            return
        if not self._noted:
            # Before it is tried: this process may be ended while it waits for an answer.
            self._note(owe)
            self._noted = True
        try:
            with self._client() as client:
                client.cancel(self.report.job)
            self._heard = True
        except BackendError as error:
            self._heard = not error.transient
        if self._heard:
            self._note(settled)

    def _note(self, how: Callable[[str, str], None]) -> None:
        """Write down whether the backend is owed this job's cancel."""
        try:
            if self.spec.owed:
                how(self.spec.owed, self.report.job)
        except OSError as error:
            print(f"{self.spec.owed}: {error}", file=sys.stderr, flush=True)


def _upload_key(shot: str) -> str:
    """The same for the same file, so that a later run finds the job of an earlier one."""
    path = Path(shot).resolve()
    try:
        what = path.stat()
    except OSError:
        return uuid.uuid4().hex
    return uuid.uuid5(uuid.NAMESPACE_URL, f"{path.as_uri()}?{what.st_mtime_ns}&{what.st_size}").hex


def _share(done: int, total: int) -> float:
    return round(done / max(total, 1), 3)


def main(spec: dict[str, Any]) -> None:
    """Run what ``Follower`` has written."""
    known = {f.name: spec[f.name] for f in fields(FollowSpec)}
    Worker(FollowSpec(**known), spec["folder"], spec["parent_pid"]).run()
