"""A runner's thread: whatever goes wrong in it, the next jobs run."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from maquette.backend.server import runner as runner_module
from maquette.backend.server.config import ServerConfig
from maquette.backend.server.engine_process import EngineMessage
from maquette.backend.server.executor import Executor
from maquette.backend.server.files import JobFiles
from maquette.backend.server.jobs import JobStore
from maquette.backend.wire import VideoPlan

from .harness import until

PLAN = VideoPlan(48, 32, 5, 24.0)


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A runner whose jobs are done at once, without a process, as far as the test lets them."""
    monkeypatch.setattr(runner_module, "_PAUSES", (0.01,))
    files = JobFiles(tmp_path)
    store = JobStore(tmp_path / "jobs.sqlite")
    executor = Executor(ServerConfig(tmp_path), store, files)
    (runner,) = executor.runners
    monkeypatch.setattr(runner, "_ensure_engine", lambda: None)
    monkeypatch.setattr(runner, "_idle", lambda _: runner._wake.wait(0.05))
    monkeypatch.setattr(runner, "_follow", lambda job, _: store.finish(job.id, "completed"))
    yield runner
    executor.stop()
    store.close()


def add(runner: Any) -> str:
    return runner._store.create("a", "x", "m", 4, PLAN, [], max_queue=99).id


def failing(times: int, error: BaseException, then: Any) -> Any:
    """A function that raises so often."""
    left = [times]

    def call(*arguments: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise error
        return then(*arguments)

    return call


@pytest.mark.parametrize("what", ["_ensure_engine", "_follow", "_idle"])
@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), MemoryError(), sqlite3.OperationalError("odd")])
def test_the_queue_runs_on(runner: Any, monkeypatch: pytest.MonkeyPatch, what: str, error: Exception):
    monkeypatch.setattr(runner, what, failing(2, error, getattr(runner, what)))
    runner.start()
    job = add(runner)
    until(lambda: runner._store.get(job).status == "completed", what="done")
    assert runner.alive
    if what == "_ensure_engine":
        assert runner._store.get(job).attempts == 0, "it is no fault of the job"
    until(lambda: not runner.problem, what="nothing is wrong any more")
    until(lambda: runner.doing in ("starting", "idle"), what="it waits for the next one")


def test_a_job_that_always_fells_the_runner_is_given_up(runner: Any, monkeypatch: pytest.MonkeyPatch):
    bad = add(runner)
    good = add(runner)
    follow = runner._follow

    def fells(job: Any, clock: Any) -> None:
        if job.id == bad:
            raise RuntimeError("odd")
        follow(job, clock)

    monkeypatch.setattr(runner, "_follow", fells)
    runner.start()
    until(lambda: runner._store.get(good).status == "completed", what="done")
    job = runner._store.get(bad)
    assert job.status == "failed" and job.attempts == 3 and job.error.code == "internal"


def test_it_says_what_is_wrong(runner: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runner, "_ensure_engine", failing(10**6, OSError(24, "Too many open files"), None))
    assert not runner.alive
    add(runner)
    runner.start()
    until(lambda: runner.problem, what="it says so")
    assert "Too many open files" in runner.problem and runner.doing == "waiting"


def test_what_a_job_waits_for_is_told(runner: Any, monkeypatch: pytest.MonkeyPatch):
    said = [EngineMessage("waiting", "No node is large enough."), EngineMessage("completed")]
    monkeypatch.setattr(runner._engine, "send", lambda _: None)
    monkeypatch.setattr(runner, "_receive", lambda _: said.pop(0))
    monkeypatch.setattr(runner, "_follow", partial(type(runner)._follow, runner))
    runner.start()
    job = add(runner)
    until(lambda: runner._store.get(job).status == "completed", what="done")
    assert runner._store.get(job).notes == ("No node is large enough.",)
