"""What runs in a Ray cluster: the engine of a job, or one member of those that make it together."""

from __future__ import annotations

import os
import queue
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import psutil

from ..wire import Code, JobError
from .engine_process import EngineHost, EngineMessage, Task
from .engines import make_engines
from .members import ENDS


@dataclass(frozen=True)
class Place:
    """Where an actor is.

    Attributes:
        device: in words.
        version: of its Maquette.
        address: host and a free port there, at which the members of a group may meet.
    """

    device: str
    version: str
    address: str


class EngineActor:
    """Runs in the cluster."""

    def __init__(self, engines: str, models: tuple[Path, ...], device: str | None) -> None:
        self._source = make_engines(engines, models)
        self._device = device
        self._cancelled: set[str] = set()
        self._job = ""
        self._said: queue.SimpleQueue[EngineMessage] = queue.SimpleQueue()
        self._leads = True
        self._host = EngineHost(self, self, self._source, device)

    def ready(self) -> Place:
        """Where it is."""
        own = _own_address()
        with socket.socket() as probe:
            probe.bind((own, 0))
            port = probe.getsockname()[1]
        return Place(self._source.device(self._device), version(), f"{own}:{port}")

    def join(self, rank: int, size: int, address: str) -> None:
        """Become one of those that make each film together; ends when all have come. Raises RuntimeError."""
        from ..models.group import join

        # A computer has addresses at which the others do not reach it; they meet at those by which Ray knows them.
        if network := _interface(_own_address()):
            for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
                os.environ.setdefault(name, network)
        join(rank, size, f"tcp://{address}")
        self._leads = rank == 0
        self._host = EngineHost(self, self, self._source, self._device, leads=self._leads)

    def cancel(self, job: str) -> None:
        """Stop a job."""
        self._cancelled.add(job)

    def run(self, job: str, model: str, shot: bytes) -> Iterator[tuple[EngineMessage, dict[str, bytes]]]:
        """Carry a job out; yields what is said, with the files that belong to it."""
        folder = Path(tempfile.mkdtemp(prefix="maquette-job-"))
        self._job = job
        try:
            (folder / "job.shot").write_bytes(shot)
            threading.Thread(target=self._run, args=(Task(job, model, folder),), daemon=True).start()
            shown = 0
            while True:
                said = self._said.get()
                files = {}
                picture = folder / "preview.png"
                if picture.exists() and picture.stat().st_mtime_ns != shown:
                    shown = picture.stat().st_mtime_ns
                    files["preview.png"] = picture.read_bytes()
                if said.kind == "completed" and self._leads:
                    files |= {f"result/{path.name}": path.read_bytes() for path in (folder / "result").iterdir()}
                yield said, files
                if said.kind in ENDS:
                    return
        finally:
            self._cancelled.discard(job)
            shutil.rmtree(folder, ignore_errors=True)

    # What the host of an engine process is given: the end of a pipe, and a byte that says to stop.

    def send(self, said: EngineMessage) -> None:
        if said.error is not None and said.error.code == Code.MODEL_UNAVAILABLE:
            # The server may have what the node lacks.
            where = f"On the cluster's node at {_own_address()}: {said.error.message}"
            said = replace(said, error=replace(said.error, message=where))
        # Of the others the server only asks how they ended.
        if self._leads or said.kind in ENDS:
            self._said.put(said)

    @property
    def value(self) -> bool:
        return self._job in self._cancelled

    def _run(self, task: Task) -> None:
        try:
            self._host.run(task)
        except BaseException as error:
            message = f"The engine failed with {type(error).__name__}: {error}."
            self.send(EngineMessage("failed", error=JobError(Code.INTERNAL, message)))


def _own_address() -> str:
    import ray

    return ray.util.get_node_ip_address()


def _interface(address: str) -> str:
    """Of the network in which this computer has an address."""
    found = psutil.net_if_addrs().items()
    return next((name for name, known in found if any(one.address == address for one in known)), "")


def version() -> str:
    """Of Maquette here."""
    try:
        return metadata.version("maquette")
    except metadata.PackageNotFoundError:
        return "unknown"
