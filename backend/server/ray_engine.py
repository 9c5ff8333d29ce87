"""Engines as actors of a Ray cluster: one an engine, made for its model and kept for the next job of that.

Shots and results travel through Ray, so that the nodes need no folder in common.
"""

from __future__ import annotations

import logging
import os
import queue
import shutil
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from ..wire import Code, JobError
from .config import ServerConfig
from .engine_process import EngineHost, EngineMessage, Task
from .engines import Engines, make_engines

log = logging.getLogger("maquette.executor")

_PLACING_SECONDS = 900.0
"""So long a job waits for a node that can take it: an autoscaler may have to start one."""

_ENDS = ("completed", "cancelled", "failed")


class ClusterError(Exception):
    """The cluster cannot be used; says why, and what to do."""


def connect(address: str | None) -> str:
    """Join a cluster; one of this computer alone where there is no address. Returns what it has, in words.

    Raises:
        ClusterError: Ray is not installed, or there is no cluster, or one of another version.
    """
    try:
        import ray
    except ImportError:
        raise ClusterError("--executor ray needs Ray: pip install 'maquette[cluster]'") from None
    where = f"--ray-address {address}" if address else "--executor ray"
    try:
        if address:
            # Ray itself waits for minutes for who does not answer.
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=5.0).close()
        ray.init(address=address, log_to_driver=False, configure_logging=False, include_dashboard=False)
    except Exception as error:
        told = " ".join(str(error).split())
        if "ersion mismatch" in told:
            cure = "Install the cluster's versions of Ray and Python here"
        else:
            cure = "Start one with 'ray start --head' there, and give the address that it prints"
        raise ClusterError(f"{where}: no cluster can be joined ({told[:300]}). {cure}.") from error
    has = ray.cluster_resources()
    nodes = sum(bool(node["Alive"]) for node in ray.nodes())
    return f"Ray {ray.__version__}: {nodes} nodes, {has.get('GPU', 0):g} GPUs, {has.get('CPU', 0):g} CPUs"


def gpus() -> int:
    """Of the whole cluster, just now."""
    import ray

    return int(ray.cluster_resources().get("GPU", 0))


class RayEngine:
    """See ``local_engine.EngineLink``.

    Args:
        told: what the cluster has, in words.
    """

    def __init__(self, config: ServerConfig, source: Engines, told: str) -> None:
        self._config, self._source, self._told = config, source, told
        self._inbox: deque[EngineMessage] = deque()
        self._actor: Any = None
        self._model = self._job = ""
        self._task: Task | None = None
        self._wanted = False
        self._placed: Any = None
        self._stream: Any = None
        self._since = 0.0
        self._fresh = False
        self.alive = False

    def start(self) -> None:
        # An actor is made for the first job: only that says what it must have.
        self.alive = True
        self._inbox.append(EngineMessage("ready", self._told))

    def send(self, task: Task) -> None:
        if self._actor is not None and self._model != task.model:
            self._let_go()
        self._task, self._job = task, task.job
        self._ask()

    def cancel(self, wanted: bool) -> None:
        self._wanted = wanted
        if wanted and self._actor is not None and self._job:
            self._actor.cancel.remote(self._job)

    def receive(self, seconds: float) -> EngineMessage | None:
        import ray

        if self._inbox:
            return self._inbox.popleft()
        awaited = self._placed if self._stream is None else self._stream
        if awaited is None:
            time.sleep(seconds)
            return None
        try:
            done, _ = ray.wait([awaited], timeout=seconds)
            if not done:
                return self._not_yet()
            if self._stream is None:
                return self._begin(*ray.get(self._placed))
            said, files = ray.get(next(self._stream))
        except (ray.exceptions.RayError, StopIteration) as error:
            return self._lost(error)
        assert self._task is not None
        write_files(self._task.folder, files)
        if said.kind in _ENDS:
            self._stream, self._job = None, ""
        return said

    def end(self) -> None:
        self._let_go()
        self._inbox.clear()
        self.alive = False

    # -- the actor -----------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        """Have an actor say that it is there, a new one where there is none."""
        import ray

        assert self._task is not None
        self._since = time.monotonic()
        self._fresh = self._actor is None
        if self._fresh:
            self._model = self._task.model
            needs = requirements(self._source, self._model, bool(gpus()))
            config = self._config
            # A call beside the job's is the cancel.
            make = ray.remote(EngineActor).options(max_concurrency=2, max_restarts=0, **needs)
            self._actor = make.remote(config.engines, config.models, config.device)
        self._placed = self._actor.ready.remote()

    def _begin(self, device: str, version: str) -> EngineMessage | None:
        self._placed = None
        if version != _version():
            self._let_go()
            return EngineMessage("broken", f"a node runs Maquette {version}, this server {_version()}")
        assert self._task is not None
        shot = (self._task.folder / "job.shot").read_bytes()
        run = self._actor.run.options(num_returns="streaming")
        self._stream = run.remote(self._task.job, self._task.model, shot)
        if self._wanted:
            self._actor.cancel.remote(self._job)
        return EngineMessage("ready", f"{device} of {self._told}")

    def _not_yet(self) -> EngineMessage | None:
        if self._stream is not None or time.monotonic() - self._since < _PLACING_SECONDS:
            return None
        needs = requirements(self._source, self._model, bool(gpus()))
        words = ", ".join(f"{value:g} {name.removeprefix('num_')}" for name, value in needs.items())
        self._let_go()
        message = (
            f"The cluster has no free node for {self._model} (it asks for {words}). Add such a node, or choose a "
            "smaller model."
        )
        return EngineMessage("failed", error=JobError(Code.MODEL_UNAVAILABLE, message, "settings.model"))

    def _lost(self, error: BaseException) -> EngineMessage | None:
        idle = self._stream is None and not self._fresh
        told = " ".join(str(error).split())
        self._let_go(keep_job=idle)
        if idle:
            # It died between two jobs, which is no fault of this one.
            log.warning("An idle actor is gone: %s", told[:200])
            self._ask()
            return None
        if "ModuleNotFoundError" in told or "No module named" in told:
            missing = told.partition("No module named ")[2][:40]
            return EngineMessage("broken", f"a node lacks {missing}; pip install 'maquette[backend,cluster]' there")
        log.warning("An actor is gone: %s", told)
        message = "The engine's node was lost in the cluster. Try again; the backend's log has more."
        return EngineMessage("died", told[:200], error=JobError(Code.ENGINE_CRASHED, message))

    def _let_go(self, keep_job: bool = False) -> None:
        import ray

        actor, self._actor, self._placed, self._stream = self._actor, None, None, None
        if not keep_job:
            self._job = ""
        if actor is not None:
            try:
                ray.kill(actor)
            except Exception as error:
                log.warning("An actor is not ended: %s", error)


class EngineActor:
    """Runs in the cluster."""

    def __init__(self, engines: str, models: tuple[Path, ...], device: str | None) -> None:
        self._source = make_engines(engines, models)
        self._device = device
        self._cancelled: set[str] = set()
        self._job = ""
        self._said: queue.SimpleQueue[EngineMessage] = queue.SimpleQueue()
        self._host = EngineHost(self, self, self._source, device)

    def ready(self) -> tuple[str, str]:
        """Its device in words, and its Maquette's version."""
        return self._source.device(self._device), _version()

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
                if said.kind == "completed":
                    files |= {f"result/{path.name}": path.read_bytes() for path in (folder / "result").iterdir()}
                yield said, files
                if said.kind in _ENDS:
                    return
        finally:
            self._cancelled.discard(job)
            shutil.rmtree(folder, ignore_errors=True)

    # What the host of an engine process is given: the end of a pipe, and a byte that says to stop.

    def send(self, said: EngineMessage) -> None:
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


def requirements(source: Engines, model: str, has_gpus: bool) -> dict[str, float]:
    """What Ray is to keep free for an actor of a model: a GPU, and bytes of memory by the model's estimate."""
    from ..models.weights.sizes import model_entry

    found = next((status for status in source.models() if status.spec.id == model), None)
    memory = model_entry(found).memory if found is not None else {}
    if has_gpus:
        return {"num_gpus": 1, "num_cpus": 1, "memory": int(1e9 * memory.get("disk_gb", 0.0))}
    return {"num_cpus": 1, "memory": int(1e9 * memory.get("gpu_gb", 0.0))}


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """The files of a job, a result complete or not at all."""
    part = folder / "result.part"
    for name, data in files.items():
        path = folder / name
        if path.parent == folder:
            new = path.with_suffix(".new")
            new.write_bytes(data)
            os.replace(new, path)
        else:
            part.mkdir(exist_ok=True)
            (part / path.name).write_bytes(data)
    if part.exists():
        shutil.rmtree(folder / "result", ignore_errors=True)
        os.replace(part, folder / "result")


def _version() -> str:
    try:
        return metadata.version("maquette")
    except metadata.PackageNotFoundError:
        return "unknown"
