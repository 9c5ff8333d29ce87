"""Several processes as one engine: when it is ready, how a job ends, and what a death or a straggler does."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
from maquette.backend.server import group_engine, members
from maquette.backend.server.config import ServerConfig
from maquette.backend.server.engine_process import EngineMessage, Member, Task
from maquette.backend.server.group_engine import GroupEngine
from maquette.backend.wire import Code, JobError


class Process:
    """A member that says what the test has it say."""

    made: list[Process] = []

    def __init__(self, config: Any, gpu: int | None, parts: int) -> None:
        self.gpu, self.parts, self.alive = gpu, parts, False
        self.member: Member | None = None
        self.heard: list[Any] = []
        self._ours, self._theirs = Pipe()
        self.made.append(self)

    @property
    def sources(self) -> list[Any]:
        return [self._ours]

    def say(self, kind: str, text: str = "", **more: Any) -> None:
        self._theirs.send(EngineMessage(kind, text, **more))

    def receive(self, seconds: float) -> EngineMessage | None:
        return self._ours.recv() if self._ours.poll(seconds) else None

    def start(self) -> None:
        self.alive = True

    def send(self, task: Task) -> None:
        self.heard.append(task)

    def cancel(self, wanted: bool) -> None:
        self.heard.append(wanted)

    def kill(self) -> None:
        self.alive = False

    end = kill


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[GroupEngine]:
    monkeypatch.setattr(group_engine, "LocalEngine", Process)
    Process.made = []
    engine = GroupEngine(ServerConfig(tmp_path), (0, 1), 4)
    engine.start()
    yield engine
    engine.end()
    assert not engine.alive


def test_it_is_ready_when_all_are(engine: GroupEngine):
    first, second = Process.made
    assert [(each.gpu, each.parts) for each in Process.made] == [(0, 4), (1, 4)] and engine.alive
    members = [each.member for each in Process.made]
    assert [(m.rank, m.size) for m in members if m] == [(0, 2), (1, 2)] and members[0].store == members[1].store  # type: ignore[union-attr]
    second.say("ready", "cuda:1 (B)")
    assert engine.receive(0) is None
    first.say("ready", "cuda:0 (A)")
    said = engine.receive(1)
    assert said is not None and (said.kind, said.text) == ("ready", "cuda:0 (A) + cuda:1 (B)")
    second.say("broken", "no driver")
    said = engine.receive(1)
    assert said is not None and (said.kind, said.text) == ("broken", "process 2 of 2: no driver")


def ended(engine: GroupEngine) -> EngineMessage:
    said = engine.receive(1)
    assert said is not None
    return said


def test_a_job_ends_when_all_have_and_the_worst_counts(engine: GroupEngine, tmp_path: Path):
    first, second = Process.made
    task = Task("a", "m", tmp_path)
    for kinds, counts in (
        (("completed", "completed"), "completed"),
        (("cancelled", "cancelled"), "cancelled"),
        (("cancelled", "failed"), "failed"),
    ):
        engine.send(task)
        engine.cancel(True)
        assert first.heard[-2:] == second.heard[-2:] == [task, True]
        second.say("progress", stage="denoising")
        second.say(kinds[1], notes=("second",), model="m")
        first.say("progress", stage="decoding")
        said = ended(engine)
        assert (said.kind, said.stage) == ("progress", "decoding"), "only the first reports"
        first.say(kinds[0], notes=("first",), model="m")
        said = ended(engine)
        assert (said.kind, said.model) == (counts, "m") and said.notes == (
            ("second",) if counts == "failed" else ("first",)
        )
        assert engine.alive


@pytest.mark.parametrize("who", [0, 1])
def test_who_stays_behind_is_ended(engine: GroupEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, who: int):
    monkeypatch.setattr(members, "PATIENCE", 0.0)
    engine.send(Task("a", "m", tmp_path))
    if who == 0:
        Process.made[1].say("completed")
        assert engine.receive(0.1) is None, "the first still decodes and writes"
    Process.made[who].say("failed", error=JobError(Code.OUT_OF_MEMORY, "no room"), model="m")
    if who == 1:
        said = ended(engine)
        assert said.kind == "failed" and said.error is not None and said.error.message == "no room"
        assert not said.model and not engine.alive and Process.made[1].alive
    else:
        assert ended(engine).kind == "failed" and engine.alive


def test_a_death_is_told_with_what_it_means(engine: GroupEngine, tmp_path: Path):
    engine.send(Task("a", "m", tmp_path))
    Process.made[1].say("died", "signal 9", error=JobError(Code.ENGINE_KILLED, "It was killed."))
    said = ended(engine)
    assert said.kind == "died" and said.error is not None and said.error.code == Code.ENGINE_KILLED
    assert said.error.message == "It was killed. It was one of 2 that make each film together; all of them start anew."
