"""Ask a backend who it is and what it has, without waiting for it: like the worker, by a process of its own."""

from __future__ import annotations

import os
import subprocess
import traceback
from typing import Any

from ..wire import ANSWER_SECONDS
from .api import BackendClient
from .errors import BackendError
from .owed import settle
from .process import Mailbox, kill_group, read_json, tail, write_json


class Probe:
    """One question to a backend. Every method returns at once.

    Args:
        folder: scratch folder of this probe alone; made if missing.
        timeout: seconds to wait for each answer.
        owed: file of cancels that this backend has not heard of; they are said when it answers.

    Raises:
        OSError: the folder cannot be written or the interpreter not started.
    """

    def __init__(
        self,
        address: str,
        token: str,
        client_id: str,
        folder: str | os.PathLike[str],
        timeout: float = ANSWER_SECONDS,
        owed: str = "",
    ) -> None:
        self.address = address
        self._mailbox = Mailbox(folder, "probe")
        spec = {"address": address, "token": token, "client_id": client_id, "timeout": timeout, "owed": owed}
        self._process: subprocess.Popen[Any] = self._mailbox.start("probe", spec)

    def answer(self) -> dict[str, Any] | None:
        """None while the backend has not answered; then ``health``, ``models`` and ``error`` (None or a message)."""
        if self._process.poll() is None:
            return None
        last = tail(self._mailbox.log, 1) or "it left no message"
        died = {"health": None, "models": [], "error": f"The process that asks the backend ended: {last}."}
        return read_json(self._mailbox.report) or died

    def stop(self) -> None:
        """Ask no longer."""
        if self._process.poll() is None:
            kill_group(self._process.pid)
            self._process.wait()
        self._mailbox.forget()


def ask(spec: dict[str, Any]) -> dict[str, Any]:
    """What the backend answers; never raises."""
    answer: dict[str, Any] = {"health": None, "models": [], "error": None}
    try:
        with BackendClient(spec["address"], spec["token"], spec["client_id"], spec["timeout"]) as client:
            answer["health"] = client.health()
            answer["models"] = client.models()
            if spec["owed"]:
                settle(spec["owed"], client)
    except BackendError as error:
        answer["error"] = error.message
    except Exception as error:
        traceback.print_exc()
        answer["error"] = f"Asking the backend failed: {type(error).__name__}: {error}"
    return answer


def main(spec: dict[str, Any]) -> None:
    """Ask, and report the answer."""
    write_json(Mailbox(spec["folder"], "probe").report, ask(spec))
