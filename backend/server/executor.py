"""Where jobs run: in engines of this computer, of one GPU or several each or as many as are wanted, or in a cluster."""

from __future__ import annotations

from collections import Counter

from .config import ServerConfig
from .dispatch import Dispatch, Seat
from .engines import make_engines
from .files import JobFiles
from .group_engine import GroupEngine
from .jobs import JobStore
from .local_engine import EngineLink, LocalEngine
from .runner import Runner


class Executor:
    """Runners that take from one queue, as the rest of the server sees them.

    Attributes:
        runners: one an engine.
    """

    def __init__(self, config: ServerConfig, store: JobStore, files: JobFiles) -> None:
        engines = _engines(config)
        store.engines = len(engines)
        seats = [Seat() for _ in engines]
        dispatch = Dispatch(store, seats, self.wake)
        self.runners = [Runner(config, store, files, dispatch, *each) for each in zip(seats, engines, strict=True)]

    @property
    def alive(self) -> bool:
        """Whether jobs are taken from the queue at all."""
        return any(runner.alive for runner in self.runners)

    @property
    def doing(self) -> str:
        """``working``, ``idle``, ``starting`` or ``waiting`` (see ``problem``): the first that is true of a runner."""
        doing = {runner.doing for runner in self.runners}
        return next(each for each in ("working", "idle", "starting", "waiting") if each in doing)

    @property
    def problem(self) -> str:
        """What keeps jobs from running just now, in one sentence; empty when any can run."""
        return self.runners[0].problem if all(runner.problem for runner in self.runners) else ""

    @property
    def device(self) -> str:
        """Of the engines, in words; ``starting`` until the first of them has told its own."""
        known = Counter(runner.device for runner in self.runners if runner.device != "starting")
        return ", ".join(f"{count} x {name}" if count > 1 else name for name, count in known.items()) or "starting"

    def start(self) -> None:
        """Begin."""
        for runner in self.runners:
            runner.start()

    def wake(self) -> None:
        """There is something in the queue."""
        for runner in self.runners:
            runner.wake()

    def cancel(self, job_id: str) -> None:
        """Stop the job if it is under way."""
        for runner in self.runners:
            runner.cancel(job_id)

    def stop(self) -> None:
        """End the engines; the jobs under way go back into the queue."""
        for runner in self.runners:
            runner.leave()
        for runner in self.runners:
            runner.join()


def _engines(config: ServerConfig) -> list[EngineLink]:
    if config.cluster:
        from .ray_engine import RayEngine

        source = make_engines(config.engines, config.models)
        return [RayEngine(config, source, config.cluster) for _ in range(config.workers)]
    engines: tuple[tuple[int | None, ...], ...] = config.gpus or ((None,) * config.members,) * config.workers
    parts = sum(len(gpus) for gpus in engines)
    return [
        LocalEngine(config, gpus[0], parts) if len(gpus) == 1 else GroupEngine(config, gpus, parts) for gpus in engines
    ]
