"""Several engine processes of this computer that make each film together, as one engine."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path

from .config import ServerConfig
from .engine_process import EngineMessage, Member, Task
from .local_engine import LocalEngine
from .members import Members

log = logging.getLogger("maquette.executor")


class GroupEngine:
    """See ``local_engine.EngineLink``. What the first process says of a job is the engine's word; when one dies or
    stays behind, all are ended, and the next job has new ones.

    Args:
        gpus: of each process, see ``LocalEngine``.
    """

    def __init__(self, config: ServerConfig, gpus: Sequence[int | None], parts: int) -> None:
        self._members = [LocalEngine(config, gpu, parts) for gpu in gpus]
        self._heard = Members(len(gpus))
        self._folder = ""

    @property
    def alive(self) -> bool:
        return all(member.alive for member in self._members)

    def start(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="maquette-group-")
        store = Path(self._folder, "store").as_uri()
        self._heard.started()
        for rank, member in enumerate(self._members):
            member.member = Member(rank, len(self._members), store)
            member.start()

    def send(self, task: Task) -> None:
        self._heard.sent()
        for member in self._members:
            member.send(task)

    def cancel(self, wanted: bool) -> None:
        for member in self._members:
            member.cancel(wanted)

    def receive(self, seconds: float) -> EngineMessage | None:
        until = time.monotonic() + seconds
        while True:
            sources = {id(source): rank for rank, member in enumerate(self._members) for source in member.sources}
            every = [source for member in self._members for source in member.sources]
            there = wait(every, max(0.0, until - time.monotonic()))
            for rank in sorted({sources[id(source)] for source in there}):
                said = self._members[rank].receive(0)
                heard = None if said is None else self._heard.heard(rank, said)
                if heard is not None:
                    return heard
            if self._heard.late:
                return self._leave_behind()
            if time.monotonic() >= until:
                return None

    def end(self) -> None:
        for member in self._members:
            member.end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _leave_behind(self) -> EngineMessage:
        """The end of the job, of which some have not heard: they wait for who has left."""
        for rank in self._heard.behind:
            log.warning("Process %d of %d stays behind the others; it is ended", rank + 1, len(self._members))
            self._members[rank].kill()
        return replace(self._heard.end(), model="")
