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

log = logging.getLogger("maquette.executor")

_PATIENCE = 15.0
"""Seconds that the others have to end their part of a job when one has failed, or the first has ended."""

_ENDS = ("completed", "cancelled", "failed")
"""The last of those that the members say counts."""


class GroupEngine:
    """See ``local_engine.EngineLink``. What the first process says of a job is the engine's word; when one dies or
    stays behind, all are ended, and the next job has new ones.

    Args:
        gpus: of each process, see ``LocalEngine``.
    """

    def __init__(self, config: ServerConfig, gpus: Sequence[int | None], parts: int) -> None:
        self._members = [LocalEngine(config, gpu, parts) for gpu in gpus]
        self._ready: dict[int, str] = {}
        self._ends: dict[int, EngineMessage] = {}
        self._late_since: float | None = None
        self._folder = ""

    @property
    def alive(self) -> bool:
        return all(member.alive for member in self._members)

    def start(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="maquette-group-")
        store = Path(self._folder, "store").as_uri()
        self._ready.clear()
        self._ends.clear()
        for rank, member in enumerate(self._members):
            member.member = Member(rank, len(self._members), store)
            member.start()

    def send(self, task: Task) -> None:
        self._ends.clear()
        self._late_since = None
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
                heard = None if said is None else self._heard(rank, said)
                if heard is not None:
                    return heard
            if self._late_since is not None and time.monotonic() - self._late_since > _PATIENCE:
                return self._leave_behind()
            if time.monotonic() >= until:
                return None

    def end(self) -> None:
        for member in self._members:
            member.end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _heard(self, rank: int, said: EngineMessage) -> EngineMessage | None:
        """What it means for the whole engine; None for nothing yet."""
        size = len(self._members)
        if said.kind == "died":
            assert said.error is not None
            message = f"{said.error.message} It was one of {size} that make each film together; all of them start anew."
            return replace(said, error=replace(said.error, message=message))
        if said.kind == "broken":
            return replace(said, text=f"process {rank + 1} of {size}: {said.text}")
        if said.kind == "ready":
            self._ready[rank] = said.text
            names = [self._ready[rank] for rank in sorted(self._ready)]
            return EngineMessage("ready", " + ".join(names)) if len(names) == size else None
        if said.kind in _ENDS:
            self._ends[rank] = said
            if len(self._ends) == size:
                return self._end()
            if self._late_since is None and (rank == 0 or said.kind != "completed"):
                self._late_since = time.monotonic()
            return None
        return said if rank == 0 else None

    def _end(self) -> EngineMessage:
        self._late_since = None
        worst = max(self._ends.values(), key=lambda said: _ENDS.index(said.kind))
        return self._ends.get(0, worst) if worst.kind == "completed" else worst

    def _leave_behind(self) -> EngineMessage:
        """The end of the job, of which some have not heard: they wait for who has left."""
        for rank, member in enumerate(self._members):
            if rank not in self._ends:
                log.warning("Process %d of %d stays behind the others; it is ended", rank + 1, len(self._members))
                member.kill()
        return replace(self._end(), model="")
