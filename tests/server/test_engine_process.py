"""What the engine process does before its first job, and what its log tells of each."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from maquette.backend.server.engine_process import EngineHost, Split

from .harness import Server, save_shot, until


def test_the_log_tells_where_the_seconds_of_a_job_went(tmp_path: Path):
    with Server(tmp_path) as server:
        until(lambda: "warm 2" in server.noted(), what="warmed up before any job")
        with server.client() as client:
            job = client.submit(save_shot(tmp_path / "s.shot", "wait=0.1", steps=3)).id
        server.wait_for(job, "completed")
        log = server.log.read_text()
        assert re.search(r"Ready on fake: \d+\.\d\d s \(Python \d+\.\d\d, torch \d+\.\d\d\)", log)
        found = re.search(rf"Job {job}, isa-nano, completed: (\S+) s \((.*)\)", log)
        assert found is not None, log
        parts = {name: float(seconds) for name, seconds in (part.split() for part in found[2].split(", "))}
        assert list(parts) == ["imports", "shot", "checks", "encoding", "denoising", "decoding", "writing"]
        # The time before a report is that of the stage before it: two of the three waits.
        assert parts["denoising"] >= 0.2 and sum(parts.values()) == pytest.approx(float(found[1]), abs=0.05)
        if sys.platform == "linux":
            environment = Path(f"/proc/{server.engine_pid()}/environ").read_bytes().split(b"\0")
            assert b"OMP_WAIT_POLICY=PASSIVE" in environment


def test_split_adds_up_what_is_entered_again(monkeypatch: pytest.MonkeyPatch):
    now = iter((10.0, 11.0, 13.0, 16.0, 20.0))
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    split = Split("a")
    split.to("b")
    split.to("a")
    split.to("c")
    assert str(split) == "10.00 s (a 4.00, b 2.00, c 4.00)"


class Pipe:
    """A connection on which a task comes after some looks."""

    def __init__(self, free: int) -> None:
        self.free = free

    def poll(self) -> bool:
        self.free -= 1
        return self.free < 0


class Pieces:
    def __init__(self, fails: bool = False) -> None:
        self.done = 0
        self.fails = fails

    def warm_up(self, device: str | None) -> Iterator[None]:
        for _ in range(3):
            if self.fails:
                raise ImportError("no such module")
            self.done += 1
            yield


def warm(free: int, source: Any) -> Any:
    connection: Any = Pipe(free)
    EngineHost(connection, None, source, None).warm_up()
    return source


def test_a_task_that_comes_ends_the_warming_up():
    assert warm(2, Pieces()).done == 2
    assert warm(9, Pieces()).done == 3
    # One that has come already waits for nothing.
    assert warm(0, Pieces()).done == 0


def test_a_failed_warming_up_is_left_to_the_job_to_tell(caplog: pytest.LogCaptureFixture):
    warm(9, Pieces(fails=True))
    assert "ImportError: no such module" in caplog.text


def test_after_the_warming_up_the_first_job_imports_nothing():
    """Pieces in the order in which they are useful: a draft must not wait for what the networks need."""
    code = """
import sys
from maquette.backend.catalogue.models import DEFAULT_MODEL, model_spec
from maquette.backend.models.engine import load_engine
from maquette.backend.models.registry import status
from maquette.backend.server.engines import RegistryEngines
if not status(model_spec(DEFAULT_MODEL)).available:
    sys.exit(77)
pieces = RegistryEngines().warm_up("cpu")
while "maquette.backend.models.engine" not in sys.modules:
    next(pieces)
assert "diffusers" not in sys.modules
for _ in pieces:
    pass
before = set(sys.modules)
load_engine(DEFAULT_MODEL, "cpu")
assert set(sys.modules) == before
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    if done.returncode == 77:
        pytest.skip("the default model's weights are not here")
    assert done.returncode == 0, done.stderr[-2000:]
