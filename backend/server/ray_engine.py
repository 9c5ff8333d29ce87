"""Engines as actors of a Ray cluster: one an engine or several that make each film together, made for a model and kept
for the next job of that.

Shots and results travel through Ray, so that the nodes need no folder in common.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..wire import Code, JobError
from .config import ServerConfig
from .engine_process import EngineMessage, Task
from .engines import Engines
from .members import ENDS, Members
from .ray_actor import EngineActor, Place, version

log = logging.getLogger("maquette.executor")

_PLACING_SECONDS = 900.0
"""So long a job waits for a node that can take it: an autoscaler may have to start one."""

_TELL_SECONDS = 5.0
"""After so long a job tells that it waits for a node that is not there."""

_IN_BUNDLES = {"num_gpus": "GPU", "num_cpus": "CPU"}
"""What a placement group calls the resources of an actor."""


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
            if not host or not port.isdecimal():
                raise ValueError("write HOST:PORT")
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
    return _places("GPU")


def room_for(members: int) -> int:
    """How many engines of so many members the cluster can hold just now, on a GPU each, or a core where it has none.

    Raises:
        ClusterError: none.
    """
    count, what = (gpus(), "GPUs") if gpus() else (_places("CPU"), "cores and no GPU")
    if members > 1 and count < members:
        raise ClusterError(
            f"--members {members}: the cluster has {count} {what}, and an engine takes {members} of them at once. "
            f"Start more nodes first ('ray start --address ...' on each), or say --members {max(count, 1)}."
        )
    return max(1, count // members)


def _places(kind: str) -> int:
    import ray

    return sum(int(node["Resources"].get(kind, 0)) for node in ray.nodes() if node["Alive"])


class RayEngine:
    """See ``local_engine.EngineLink``. With several members what the first says is the engine's word; when one is lost,
    all are ended, and the next job has new ones.

    Args:
        told: what the cluster has, in words.
    """

    def __init__(self, config: ServerConfig, source: Engines, told: str) -> None:
        self._config, self._source, self._told = config, source, told
        self._size = config.members
        self._inbox: deque[EngineMessage] = deque()
        self._actors: list[Any] = []
        self._together: Any = None
        self._awaited: dict[Any, int] = {}
        self._phase = ""
        self._places: dict[int, Place] = {}
        self._met = False
        self._heard = Members(self._size)
        self._model = self._job = ""
        self._task: Task | None = None
        self._wanted = False
        self._since, self._told_waiting = 0.0, False
        self._fresh = False
        self.alive = False

    def start(self) -> None:
        # Actors are made for the first job: only that says what they must have.
        self.alive = True
        self._inbox.append(EngineMessage("ready", self._told))

    def send(self, task: Task) -> None:
        if self._actors and self._model != task.model:
            self._let_go()
        self._task, self._job = task, task.job
        self._ask()

    def cancel(self, wanted: bool) -> None:
        self._wanted = wanted
        if wanted and self._job:
            for actor in self._actors:
                actor.cancel.remote(self._job)

    def receive(self, seconds: float) -> EngineMessage | None:
        import ray

        if self._inbox:
            return self._inbox.popleft()
        if not self._awaited:
            time.sleep(seconds)
            return None
        done: list[Any] = []
        try:
            done, _ = ray.wait(list(self._awaited), timeout=seconds)
            if not done:
                return self._not_yet()
            return self._take(done[0], self._awaited[done[0]])
        except (ray.exceptions.RayError, StopIteration) as error:
            return self._lost(error, self._awaited[done[0]] if done else 0)

    def end(self) -> None:
        self._let_go()
        self._inbox.clear()
        self.alive = False

    # -- the actors ----------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        """Have the actors say that they are there, new ones where there are none."""
        self._since, self._told_waiting = time.monotonic(), False
        self._fresh = not self._actors
        if self._fresh:
            self._make()
        self._phase = "placing"
        self._places.clear()
        self._awaited = {actor.ready.remote(): rank for rank, actor in enumerate(self._actors)}

    def _make(self) -> None:
        import ray
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        assert self._task is not None
        self._model, self._met = self._task.model, False
        needs = requirements(self._source, self._model, bool(gpus()))
        config = self._config
        where: list[dict[str, Any]] = [{}]
        if self._size > 1:
            # On one node where it has room for all, since they exchange much.
            bundle = {_IN_BUNDLES.get(name, name): count for name, count in needs.items()}
            self._together = placement_group([bundle] * self._size, strategy="PACK")
            where = [
                {"scheduling_strategy": PlacementGroupSchedulingStrategy(self._together, rank)}
                for rank in range(self._size)
            ]
        for each in where:
            # A call beside the job's is the cancel.
            make = ray.remote(EngineActor).options(max_concurrency=2, max_restarts=0, **needs, **each)
            self._actors.append(make.remote(config.engines, config.models, config.device))

    def _take(self, ref: Any, rank: int) -> EngineMessage | None:
        """Of what is awaited one is there."""
        import ray

        if self._phase == "running":
            return self._said(ref, rank)
        told: Any = ray.get(ref)
        del self._awaited[ref]
        if self._phase == "placing":
            if told.version != version():
                self._let_go()
                own = version()
                node = f"the node at {told.address.rpartition(':')[0]} runs Maquette {told.version}, this server {own}"
                return EngineMessage("broken", f"{node}; install the same version on both")
            self._places[rank] = told
        if self._awaited:
            return None
        if self._size > 1 and not self._met:
            if self._phase == "placing":
                self._phase = "meeting"
                address = self._places[0].address
                calls = [actor.join.remote(rank, self._size, address) for rank, actor in enumerate(self._actors)]
                self._awaited = {call: rank for rank, call in enumerate(calls)}
                return None
            self._met = True
        return self._begin()

    def _begin(self) -> EngineMessage:
        assert self._task is not None
        shot = (self._task.folder / "job.shot").read_bytes()
        self._phase = "running"
        self._heard.sent()
        calls = [
            actor.run.options(num_returns="streaming").remote(self._task.job, self._task.model, shot)
            for actor in self._actors
        ]
        self._awaited = {call: rank for rank, call in enumerate(calls)}
        if self._wanted:
            self.cancel(True)
        devices = " + ".join(self._places[rank].device for rank in sorted(self._places))
        return EngineMessage("ready", f"{devices} of {self._told}")

    def _said(self, stream: Any, rank: int) -> EngineMessage | None:
        import ray

        assert self._task is not None
        said, files = ray.get(next(stream))
        write_files(self._task.folder, files)
        if said.kind in ENDS:
            del self._awaited[stream]
        heard = self._heard.heard(rank, said)
        if heard is not None and heard.kind in ENDS:
            self._job, self._phase = "", ""
        return heard

    def _not_yet(self) -> EngineMessage | None:
        if self._phase == "running" and self._heard.late:
            log.warning("Actors %s stay behind the others; all are ended", [rank + 1 for rank in self._heard.behind])
            said = replace(self._heard.end(), model="")
            self._let_go()
            return said
        if self._phase != "placing":
            return None
        needs = requirements(self._source, self._model, bool(gpus()))
        if time.monotonic() - self._since > _PLACING_SECONDS:
            self._let_go()
            message = _no_node(self._model, self._size, needs, "free ")
            return EngineMessage("failed", error=JobError(Code.MODEL_UNAVAILABLE, message, "settings.model"))
        if not self._told_waiting and time.monotonic() - self._since > _TELL_SECONDS and not _can_ever_hold(needs):
            self._told_waiting = True
            text = _no_node(self._model, self._size, needs)
            return EngineMessage("waiting", f"{text} The job waits {_PLACING_SECONDS / 60:.0f} minutes for one.")
        return None

    def _lost(self, error: BaseException, rank: int) -> EngineMessage | None:
        phase, idle = self._phase, self._phase == "placing" and not self._fresh
        told = " ".join(str(error).split())
        self._let_go(keep_job=idle)
        if idle:
            # It died between two jobs, which is no fault of this one.
            log.warning("An idle actor is gone: %s", told[:200])
            self._ask()
            return None
        if "ModuleNotFoundError" in told or "No module named" in told:
            # Only the first words: what follows is a traceback.
            missing = re.split(r"[\s)]", told.partition("No module named ")[2], maxsplit=1)[0]
            where = re.search(r"\bip[=:] ?([\w.:]*\w)", told)
            node = f"the node at {where[1]}" if where else "a node"
            return EngineMessage("broken", f"{node} lacks {missing}; pip install 'maquette[backend,cluster]' there")
        log.warning("An actor is gone: %s", told)
        message = "The engine's node was lost in the cluster. Try again; the backend's log has more."
        if phase == "meeting":
            message = (
                "The engine's nodes did not find each other in the cluster: each must reach all ports of the others. "
                "The backend's log has more."
            )
        said = EngineMessage("died", told[:200], error=JobError(Code.ENGINE_CRASHED, message))
        return self._heard.heard(rank, said) if self._size > 1 else said

    def _let_go(self, keep_job: bool = False) -> None:
        import ray
        from ray.util.placement_group import remove_placement_group

        actors, self._actors, self._awaited, self._phase, self._met = self._actors, [], {}, "", False
        together, self._together = self._together, None
        if not keep_job:
            self._job = ""
        try:
            for actor in actors:
                ray.kill(actor)
            if together is not None:
                remove_placement_group(together)
        except Exception as error:
            log.warning("An actor is not ended: %s", error)


def requirements(source: Engines, model: str, has_gpus: bool) -> dict[str, float]:
    """What Ray is to keep free for an actor of a model: a GPU, and bytes of memory by the model's estimate."""
    from ..models.weights.sizes import model_entry

    found = next((status for status in source.models() if status.spec.id == model), None)
    memory = model_entry(found).memory if found is not None else {}
    if has_gpus:
        return {"num_gpus": 1, "num_cpus": 1, "memory": int(1e9 * memory.get("disk_gb", 0.0))}
    return {"num_cpus": 1, "memory": int(1e9 * memory.get("gpu_gb", 0.0))}


def _can_ever_hold(needs: dict[str, float]) -> bool:
    """Whether any node would have room for an actor if it did nothing else."""
    import ray

    there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = {_IN_BUNDLES.get(name, name): count for name, count in needs.items()}
    return any(all(node.get(name, 0) >= count for name, count in wanted.items()) for node in there)


def _no_node(model: str, size: int, needs: dict[str, float], free: str = "") -> str:
    """What is missing, and what would do."""
    names = {"num_gpus": "{:g} GPU", "num_cpus": "{:g} core", "memory": "{:.1f} GB of main memory"}
    words = [names[name].format(count / 1e9 if name == "memory" else count) for name, count in needs.items()]
    several = f"{size} times " if size > 1 else ""
    return (
        f"The cluster has no {free}node for {model}, which asks for {several}{', '.join(words)}. Add such a node, or "
        "choose a smaller model."
    )


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
