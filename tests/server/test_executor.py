"""Several engines that take from one queue."""

from __future__ import annotations

import argparse
import os
import signal
import sqlite3
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.server import executor as executor_module
from maquette.backend.server import gpus
from maquette.backend.server import runner as runner_module
from maquette.backend.server.config import ServerConfig
from maquette.backend.server.dispatch import Dispatch, Seat, choose
from maquette.backend.server.engine_process import EngineMessage, Task
from maquette.backend.server.executor import Executor
from maquette.backend.server.files import JobFiles
from maquette.backend.server.jobs import AGAIN, JobStore
from maquette.backend.wire import VideoPlan

from .harness import Server, save_shot, until
from .test_serve import maquette, refused

PLAN = VideoPlan(48, 32, 5, 24.0)

models = st.sampled_from("abc")


@pytest.mark.parametrize(
    ("queue", "loaded", "others", "place"),
    [
        ("ab", "b", [("a", False)], 1),
        ("ab", "b", [("c", False)], 0),
        ("aab", "", [("a", False)], 2),
        ("a", "b", [("a", False)], 0),
        ("a", "b", [("a", True)], None),
        ("ac", "b", [("a", True), ("c", False)], 1),
        ("ab", "b", [("a", True)], 1),
        ("a", "", [("", True)], 0),
    ],
)
def test_models_stay_where_they_are_loaded(queue: str, loaded: str, others: list[tuple[str, bool]], place: int | None):
    assert choose(queue, loaded, others) == place


@given(
    st.lists(models, min_size=1, max_size=8),
    st.sampled_from(["", *"abc"]),
    st.lists(st.tuples(st.sampled_from(["", *"abc"]), st.booleans()), max_size=4),
)
def test_no_engine_stands_idle_and_no_first_job_is_left_behind(
    queue: list[str], loaded: str, others: list[tuple[str, bool]]
):
    place = choose(queue, loaded, others)
    if place is None:
        # Each is left to an engine that is free and has its model.
        assert set(queue) <= {model for model, free in others if free}
    elif place:
        assert queue[0] in {model for model, _ in others}, "the first is passed over only for who has its model"
    if loaded == queue[0]:
        assert place == 0


def test_a_claim_is_told_to_the_others_and_what_nobody_runs_is_put_back(tmp_path: Path):
    store = JobStore(tmp_path / "jobs.sqlite")
    woken: list[int] = []
    seats = [Seat(model="a"), Seat(model="b")]
    dispatch = Dispatch(store, seats, lambda: woken.append(1))
    first, second = (store.create("x", "x", model, 4, PLAN, [], max_queue=9).id for model in "ab")
    assert dispatch.claim(seats[1]).id == second and woken  # type: ignore[union-attr]
    assert dispatch.claim(seats[0]).id == first and not dispatch.waiting()  # type: ignore[union-attr]
    seats[0].job = ""
    assert dispatch.waiting()
    dispatch.put_back()
    assert [store.get(job).status for job in (first, second)] == ["queued", "in_progress"]  # type: ignore[union-attr]
    assert dispatch.others(seats[0])
    seats[1].usable = False
    assert not dispatch.others(seats[0])
    store.close()


def test_two_engines_work_side_by_side(tmp_path: Path):
    """Jobs run at the same time; a cancel and a kill reach one of them alone, and a stop gives both back."""
    gates = [tmp_path / name for name in "abc"]
    for gate in gates:
        gate.touch()

    def send(client: Any, name: str, prompt: str = "") -> str:
        return client.submit(save_shot(tmp_path / f"{name}.shot", prompt, name=name)).id

    def engine(server: Server, name: str) -> int:
        return int([line for line in server.noted() if line.startswith(f"begin {name} ")][-1].split()[2])

    with Server(tmp_path, "--workers", "2") as server, server.client() as client:
        until(lambda: client.health()["device"] == "2 x fake", what="both have told")
        a, b = (send(client, name, f"hold={gate}") for name, gate in zip("ab", gates, strict=False))
        until(lambda: client.job(a).step and client.job(b).step, what="both at work")
        waits = send(client, "w")
        assert client.job(waits).queue_position == 0
        pids = engine(server, "a"), engine(server, "b")
        assert pids[0] != pids[1]
        os.kill(pids[0], signal.SIGKILL)
        until(lambda: AGAIN in client.job(a).notes, what="it is seen")
        assert client.job(b).status == "in_progress" and AGAIN not in client.job(b).notes
        until(lambda: client.job(a).step, what="it is at work again")
        told = requests.get(f"{server.address}/v1/status", headers=server.headers(), timeout=60).json()
        assert {(each["doing"], each["running"]["name"]) for each in told["engines"]} == {("working", n) for n in "ab"}
        client.cancel(b)
        gates[1].unlink()
        server.wait_for(b, "cancelled")
        server.wait_for(waits, "completed")
        assert engine(server, "w") == pids[1] and client.job(a).status == "in_progress"
        c = send(client, "c", f"hold={gates[2]}")
        until(lambda: client.job(c).step, what="both at work")
        assert server.stop() == 0
        with sqlite3.connect(server.data / "jobs.sqlite") as db:
            left = dict(db.execute("SELECT id, status FROM jobs WHERE status IN ('queued', 'in_progress')"))
        assert left == {a: "queued", c: "queued"}


class Link:
    """An engine that answers at once, or can never be started."""

    def __init__(self, usable: bool) -> None:
        self._usable, self._says, self.alive = usable, Queue(), False
        self.tasks = 0

    def start(self) -> None:
        self.alive = True
        self._says.put(EngineMessage("ready", "fine") if self._usable else EngineMessage("broken", "no such device"))

    def send(self, task: Task) -> None:
        self.tasks += 1
        if self._usable:
            self._says.put(EngineMessage("completed", model=task.model))

    def cancel(self, wanted: bool) -> None:
        pass

    def receive(self, seconds: float) -> EngineMessage | None:
        try:
            return self._says.get(timeout=seconds or 0.001)
        except Empty:
            return None

    def end(self) -> None:
        self.alive = False


def test_an_engine_that_cannot_start_leaves_its_jobs_to_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    links = [Link(False), Link(True)]
    monkeypatch.setattr(runner_module, "_PAUSES", (0.01,))
    monkeypatch.setattr(executor_module, "LocalEngine", lambda *_: links.pop(0))
    bad, good = links
    store = JobStore(tmp_path / "jobs.sqlite")
    executor = Executor(ServerConfig(tmp_path, workers=2), store, JobFiles(tmp_path))
    jobs = [store.create("x", "x", "m", 4, PLAN, [], max_queue=99).id for _ in range(20)]
    executor.runners[0].start()
    until(lambda: executor.runners[0].problem, what="it has tried")
    assert store.get(jobs[0]).attempts == 0 and store.size == 20  # type: ignore[union-attr]
    executor.runners[1].start()
    until(lambda: not store.size, what="all are done")
    executor.stop()
    assert {store.get(job).status for job in jobs} == {"completed"} and bad.tasks and good.tasks  # type: ignore[union-attr]
    assert executor.problem == "" and "unusable: no such device" in executor.device
    store.close()


@pytest.mark.parametrize(
    ("text", "words"),
    [("0,x", "no list"), ("", "no list"), ("0+1,1", "twice"), ("-1", "counted from 0"), ("0+", "no list")],
)
def test_no_list_of_gpus(text: str, words: str):
    with pytest.raises(argparse.ArgumentTypeError, match=words):
        gpus.gpu_numbers(text)


def test_gpus_that_are_not_here():
    assert gpus.missing_gpus(gpus.gpu_numbers("1,0"), ["A", "B"]) == ""
    assert gpus.missing_gpus(((1,), (7,)), ["A", "B"]) == "--gpus 7: there is no such GPU. Here are 0 (A), 1 (B)."
    assert "torch reaches no GPU here" in gpus.missing_gpus(((0,),), [])
    assert gpus.gpu_numbers("0+1,3") == ((0, 1), (3,))
    refused(maquette("serve", "--gpus", "0", "--workers", "2"), "leave --workers out")


@pytest.mark.parametrize(("seen", "gpu", "only"), [(None, 3, "3"), ("", 1, "1"), ("4,GPU-7", 1, "GPU-7")])
def test_an_engine_sees_its_gpu_alone(monkeypatch: pytest.MonkeyPatch, seen: str | None, gpu: int, only: str):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if seen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "x")
    gpus.see_only(gpu)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == only
