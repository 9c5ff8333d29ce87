"""Weights that a backend elsewhere fetches: what would come, and the fetch followed, by a process of its own."""

from __future__ import annotations

import os
import subprocess
import time
import traceback
from collections.abc import Mapping
from typing import Any

from ..wire import RECONNECT_SECONDS, DownloadView, Status
from .api import BackendClient
from .command import CommandReport
from .errors import BackendError
from .process import Mailbox, kill_group, parent_is, read_json, tail, write_json

_PAUSE = 0.5
"""Seconds between two questions."""
_LOOK = 0.1
_STATES = {Status.COMPLETED: "done", Status.FAILED: "failed", Status.CANCELLED: "cancelled"}


class RemoteFetch:
    """One question for a backend's offer, or one fetch followed; every method returns at once (as ``CommandRun``).

    Args:
        folder: scratch folder of this alone; made if missing.
        commits: that were agreed to; None asks for the offer.

    Raises:
        OSError: the folder cannot be written or the interpreter not started.
    """

    def __init__(
        self,
        address: str,
        token: str,
        client_id: str,
        folder: str | os.PathLike[str],
        model: str,
        commits: Mapping[str, str] | None = None,
    ) -> None:
        self._mailbox = Mailbox(folder, "download")
        spec = {"address": address, "token": token, "client_id": client_id, "model": model, "commits": commits}
        self._process: subprocess.Popen[Any] = self._mailbox.start("download", spec)

    def poll(self) -> CommandReport:
        """How far it is."""
        ended = self._process.poll() is not None
        told = read_json(self._mailbox.report) or {}
        if not ended:
            return CommandReport("running", told.get("share", 0.0), told.get("label", "Asking the Backend"))
        if told.get("state") not in _STATES.values():
            last = tail(self._mailbox.log, 1) or "it left no message"
            return CommandReport("failed", message=f"The process that asks the backend ended: {last}.")
        return CommandReport(told["state"], 1.0, message=told.get("message", ""))

    def printed(self) -> Any:
        """The offer, once there is one."""
        return (read_json(self._mailbox.report) or {}).get("offer")

    def cancel(self) -> None:
        """Have the backend stop; what has come stays there."""
        self._mailbox.cancel()

    def close(self) -> None:
        """Follow no longer; the backend goes on with what was agreed to."""
        if self._process.poll() is None:
            kill_group(self._process.pid)
            self._process.wait()
        self._mailbox.forget()


def main(spec: dict[str, Any]) -> None:
    """Ask, or begin and follow to the end, and report."""
    mailbox = Mailbox(spec["folder"], "download")
    try:
        with BackendClient(spec["address"], spec["token"], spec["client_id"]) as client:
            if spec["commits"] is None:
                said: dict[str, Any] = {"state": "done", "offer": client.offer(spec["model"])}
            else:
                said = _follow(client, spec, mailbox)
    except BackendError as error:
        said = {"state": "failed", "message": error.message}
    except Exception as error:
        traceback.print_exc()
        said = {"state": "failed", "message": f"Asking the backend failed: {type(error).__name__}: {error}"}
    write_json(mailbox.report, said)


def _follow(client: BackendClient, spec: dict[str, Any], mailbox: Mailbox) -> dict[str, Any]:
    model = spec["model"]
    view: DownloadView = client.begin_download(model, spec["commits"])
    heard, cancelled = time.monotonic(), False
    while not view.ended and parent_is(spec["parent_pid"]):
        write_json(mailbox.report, {"state": "running", "share": view.progress / 100, "label": view.label})
        until = time.monotonic() + _PAUSE
        while time.monotonic() < until and (cancelled or not mailbox.cancelled):
            time.sleep(_LOOK)
        try:
            if mailbox.cancelled and not cancelled:
                view, cancelled = client.cancel_download(model), True
            else:
                view = client.model_download(model)
            heard = time.monotonic()
        except BackendError as error:
            # The backend goes on whether it is heard or not.
            if not error.transient or time.monotonic() - heard > RECONNECT_SECONDS:
                raise
    return {"state": _STATES.get(view.status, "failed"), "message": view.message}
