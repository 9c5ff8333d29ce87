"""Old results, long logs, and a server that nobody wants any more."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from maquette.backend.server import upkeep as upkeep_module
from maquette.backend.server.config import ServerConfig
from maquette.backend.server.files import JobFiles
from maquette.backend.server.jobs import JobStore
from maquette.backend.server.upkeep import Upkeep, alive_users, prune
from maquette.backend.wire import VideoPlan

from .harness import Server, save_shot, until

DAY = 86400.0


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A store with jobs that ended 9, 5 and 1 days ago, of a megabyte each, one that runs and one that waits."""
    store, files = JobStore(tmp_path / "jobs.sqlite"), JobFiles(tmp_path)
    now = time.time()
    for name, days in (("old", 9), ("middle", 5), ("new", 1), ("running", 20), ("waiting", 20)):
        monkeypatch.setattr(time, "time", lambda days=days: now - days * DAY)
        job = store.create("a", name, "m", 4, VideoPlan(8, 8, 1, 24.0), [], max_queue=99)
        files.folder(job.id).mkdir()
        files.shot(job.id).write_bytes(bytes(1_000_000))
        if name != "waiting":
            store.claim()
        if name not in ("running", "waiting"):
            store.finish(job.id, "completed" if name != "middle" else "failed")
    monkeypatch.undo()
    yield store, files
    store.close()


def names(store: JobStore, files: JobFiles) -> list[str]:
    assert {job.id for job in store.all_jobs()} == {path.name for path in files.jobs.iterdir()}
    return [job.name for job in store.all_jobs()]


@pytest.mark.parametrize(
    ("days", "gigabytes", "left"),
    [
        (None, None, ["old", "middle", "new"]), (7.0, None, ["middle", "new"]), (0.5, None, []),
        (None, 0.0021, ["middle", "new"]), (None, 0.0005, []), (7.0, 0.0011, ["new"]),
    ],
)  # fmt: skip
def test_old_results_go_and_nothing_else(kept: Any, days: float | None, gigabytes: float | None, left: list[str]):
    store, files = kept
    would = prune(store, files, days, gigabytes, really=False)
    assert len(names(store, files)) == 5
    assert prune(store, files, days, gigabytes) == would and len(would) == 3 - len(left)
    assert names(store, files) == [*left, "running", "waiting"]


def test_a_clock_that_is_set_deletes_nothing(kept: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store, files = kept
    upkeep = Upkeep(ServerConfig(tmp_path, keep_days=30.0), store, files, lambda: None)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3650 * DAY)
    upkeep._prune()
    assert len(names(store, files)) == 5
    later = Upkeep(ServerConfig(tmp_path, keep_days=30.0), store, files, lambda: None)
    later._prune()
    assert len(names(store, files)) == 2, "a server that starts with that clock believes it"


def test_a_log_stays_short(kept: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(upkeep_module, "LOG_BYTES", 1000)
    path = tmp_path / "a.log"
    code = f"import sys; from maquette.backend.server.upkeep import log_to; from pathlib import Path\n\
log_to(Path({str(path)!r})); print('x' * 600); sys.stdout.flush(); input(); print('y' * 500, file=sys.stderr)"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    until(lambda: path.exists() and path.stat().st_size > 600, what="it writes")
    upkeep = Upkeep(ServerConfig(tmp_path, log_file=path), *kept, lambda: None)
    with open(path, "ab", buffering=0) as other:
        other.write(b"z" * 500)
        upkeep._shorten_log()
        child.communicate(b"\n")
        other.write(b"end")
    assert path.read_bytes() == b"y" * 500 + b"\nend"
    assert (tmp_path / "a.log.1").read_bytes() == b"x" * 600 + b"\n" + b"z" * 500


def test_users_that_live(tmp_path: Path):
    assert alive_users(tmp_path / "nowhere") == []
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for name in (str(os.getpid()), str(gone.pid), "notes.txt", "9" * 30):
        (tmp_path / name).touch()
    assert alive_users(tmp_path) == [os.getpid()]
    # A number that is used again.
    os.utime(tmp_path / str(os.getpid()), (1.0, 1.0))
    assert alive_users(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_what_fails_is_tried_again(kept: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ended: list[int] = []
    store, files = kept
    upkeep = Upkeep(ServerConfig(tmp_path, users=tmp_path / "u", idle_end=0.1), store, files, lambda: ended.append(1))
    monkeypatch.setattr(upkeep, "_shorten_log", lambda: 1 / 0)
    upkeep.start()
    time.sleep(0.5)
    assert not ended, "a job waits"
    for job in store.all_jobs():
        store.request_cancel(job.id)
        store.finish(job.id, "cancelled")
    until(lambda: ended, what="it ends")
    upkeep.stop()


def test_a_server_whose_blender_died_finishes_its_job_and_ends(tmp_path: Path):
    users, gate = tmp_path / "users", tmp_path / "gate"
    users.mkdir()
    gate.touch()
    blender = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (users / str(blender.pid)).touch()
    with Server(tmp_path, "--users", str(users), "--idle-end", "0.3") as server:
        with server.client() as client:
            job = client.submit(save_shot(tmp_path / "s.shot", f"hold={gate}")).id
            until(lambda: client.job(job).step, what="first step")
            blender.kill()
            blender.wait()
            time.sleep(1.0)
            assert client.job(job).status == "in_progress"
        gate.unlink()
        assert server.process is not None and server.process.wait(60) == 0
        assert (server.data / "jobs" / job / "result" / "video.mp4").exists()
