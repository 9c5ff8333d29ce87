"""Deaths and restarts: no job is lost, and nothing half-written is taken for a result."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from maquette.backend.client import BackendError
from maquette.backend.client.process import is_alive
from maquette.backend.server.config import ServerConfig
from maquette.backend.server.jobs import AGAIN, RESTARTED
from maquette.backend.server.serve import ServeError, serve

from .harness import Server, save_shot, until


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_restart_loses_no_job(own_server: Server, tmp_path: Path, how: int):
    server = own_server
    gate = tmp_path / "gate"
    gate.touch()
    slow = save_shot(tmp_path / "slow.shot", f"hold={gate}", name="slow")
    quick = save_shot(tmp_path / "quick.shot", name="quick")
    with server.client() as client:
        running = client.submit(slow).id
        waiting = [client.submit(quick).id for _ in range(2)]
        cancelled = client.submit(quick).id
        client.cancel(cancelled)
        until(lambda: client.job(running).step, what="first step")
    engine = server.engine_pid()
    assert server.stop(how) == (0 if how == signal.SIGTERM else -how)
    until(lambda: not is_alive(engine), what="the engine process ends with its server")
    # What a server that dies in the middle of its work may leave.
    (server.data / "incoming" / "half").write_bytes(b"x")
    (server.data / "jobs" / running / "result.part").mkdir()
    (server.data / "jobs" / "vid_unknown").mkdir()
    (server.data / "jobs" / "vid_unknown" / "film.mp4").write_bytes(b"film")
    gate.unlink()
    server.start()
    assert sorted(p.name for p in (server.data / "jobs").iterdir()) == sorted([running, *waiting, cancelled])
    assert (server.data / "set-aside" / "vid_unknown" / "film.mp4").read_bytes() == b"film"
    assert "vid_unknown" in server.log.read_text()
    assert not list((server.data / "incoming").iterdir())
    jobs = [server.wait_for(job, "completed", "failed") for job in (running, *waiting)]
    assert [job.status for job in jobs] == ["completed"] * 3
    assert RESTARTED in jobs[0].notes and RESTARTED not in jobs[1].notes
    assert server.wait_for(cancelled, "cancelled")
    # The interrupted one kept its place: it ran first again.
    begun = [line.split()[1] for line in server.noted() if line.startswith("begin")]
    assert begun == ["slow", "slow", "quick", "quick"]
    for job in (running, *waiting):
        assert not (server.data / "jobs" / job / "result.part").exists()


def test_a_killed_engine_goes_on_with_its_job_and_gives_it_up_in_the_end(own_server: Server, tmp_path: Path):
    server = own_server
    with server.client() as client:
        victim = client.submit(save_shot(tmp_path / "v.shot", "wait=0.1", steps=1000, name="v")).id
        after = client.submit(save_shot(tmp_path / "a.shot")).id
        for round_ in range(1, 4):
            until(lambda n=round_: server.noted().count("step v 1") == n, what="first step")
            pid = server.engine_pid()
            os.kill(pid, signal.SIGKILL)
            if round_ < 3:
                until(lambda: AGAIN in client.job(victim).notes, what="back in the queue")
        error = server.wait_for(victim, "failed").error
        assert error.code == "engine_killed"
        assert "SIGKILL" in error.message and "ran out of memory" in error.message
        assert server.wait_for(after, "completed")
        assert server.engine_pid() != pid
        # Killed while idle, it is replaced for the next job.
        os.kill(server.engine_pid(), signal.SIGKILL)
        again = client.submit(save_shot(tmp_path / "b.shot")).id
        assert server.wait_for(again, "completed")


def test_an_engine_that_ignores_the_cancel_is_ended(tmp_path: Path):
    script = tmp_path / "impatient.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom maquette.backend.server.config import ServerConfig\n"
        "from maquette.backend.server.serve import serve\n"
        "if __name__ == '__main__':\n"
        "    config = ServerConfig(Path(sys.argv[1]), engines='fake_engines:FakeEngines', cancel_patience=0.3)\n"
        "    serve(config, port=int(sys.argv[2]))\n"
    )
    server = Server(tmp_path, token="")
    process = subprocess.Popen(
        [sys.executable, str(script), str(server.data), str(server.port)], env=server._environment
    )
    try:
        with server.client() as client:

            def up() -> bool:
                try:
                    return bool(client.health())
                except BackendError:
                    return False

            until(up, what="server up")
            job = client.submit(save_shot(tmp_path / "s.shot", "wait=0.1 stubborn=1", steps=1000)).id
            until(lambda: client.job(job).step, what="first step")
            client.cancel(job)
            server.wait_for(job, "cancelled")
            pid = server.engine_pid()
            until(lambda: not is_alive(pid), what="its process is gone")
            assert server.wait_for(client.submit(save_shot(tmp_path / "n.shot")).id, "completed")
    finally:
        process.kill()
        process.wait()


def test_a_job_that_always_fells_the_server_is_given_up(own_server: Server, tmp_path: Path):
    server = own_server
    with server.client() as client:
        job = client.submit(save_shot(tmp_path / "s.shot", "wait=0.1", steps=1000)).id
        for _ in range(3):
            server.wait_for(job, "in_progress")
            until(lambda: client.job(job).step, what="first step")
            server.stop(signal.SIGKILL)
            server.start()
        error = client.job(job).error
    assert error.code == "interrupted" and "ended 3 times" in error.message


def test_an_idle_engine_gives_its_memory_back(tmp_path: Path):
    with Server(tmp_path, "--idle-unload", "0.5") as server, server.client() as client:
        first = client.submit(save_shot(tmp_path / "s.shot")).id
        server.wait_for(first, "completed")
        pid = server.engine_pid()
        until(lambda: not is_alive(pid), what="the idle process ends")
        server.wait_for(client.submit(save_shot(tmp_path / "t.shot")).id, "completed")
        assert server.engine_pid() != pid


def test_two_servers_do_not_share_a_folder(own_server: Server):
    command = [sys.executable, "-m", "maquette.backend.cli", "serve", "--port", "0", "--data", str(own_server.data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "Another server works on" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_damaged_store_costs_no_film(own_server: Server, tmp_path: Path):
    server = own_server
    with server.client() as client:
        job = client.submit(save_shot(tmp_path / "s.shot")).id
        server.wait_for(job, "completed")
        server.stop()
        path = server.data / "jobs.sqlite"
        path.write_bytes(b"x" * 16 + path.read_bytes()[16:])
        server.start()
        assert client.health()["runner"] == {"alive": True, "doing": "starting", "problem": ""} and client.jobs() == []
        assert {p.parts[-3] for p in (server.data / "set-aside").glob("*/result/video.mp4")} == {job}
        assert len(list(server.data.glob("jobs.damaged-*.sqlite"))) == 1 and "is damaged" in server.log.read_text()


def test_a_store_of_a_later_version_is_named(tmp_path: Path):
    with sqlite3.connect(tmp_path / "jobs.sqlite") as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(ServeError, match="later Maquette"):
        serve(ServerConfig(tmp_path), port=0)


def test_a_data_folder_that_comes_back(own_server: Server, tmp_path: Path):
    server = own_server
    gate = tmp_path / "gate"
    gate.touch()
    away = server.data.with_name("away")
    with server.client() as client:
        first = client.submit(save_shot(tmp_path / "h.shot", f"hold={gate}", name="h")).id
        second = client.submit(save_shot(tmp_path / "s.shot")).id
        until(lambda: client.job(first).step, what="first step")
        server.data.rename(away)
        gate.unlink()
        until(lambda: client.health()["runner"]["doing"] == "waiting", what="it has seen that")
        assert "folder of the jobs" in client.health()["runner"]["problem"]
        with pytest.raises(BackendError) as caught:
            client.submit(tmp_path / "s.shot")
        assert "not there just now" in caught.value.message
        away.rename(server.data)
        assert [server.wait_for(job, "completed", "failed").status for job in (first, second)] == ["completed"] * 2
        assert client.health()["runner"] == {"alive": True, "doing": "idle", "problem": ""}


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 80 MiB: little more than what the server keeps free."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can be mounted only by root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk(small_disk: Path, tmp_path: Path):
    shot = save_shot(tmp_path / "s.shot")
    gate = tmp_path / "gate"
    slow = save_shot(tmp_path / "slow.shot", f"hold={gate}")
    filler = small_disk / "filler"
    with Server(tmp_path) as server:
        server.stop()
        server.data = small_disk / "data"
        server.start()
        with server.client() as client:
            first = client.submit(shot).id
            server.wait_for(first, "completed")
            # Full before the upload: refused, nothing left.
            filler.write_bytes(b"\0" * (14 << 20))
            with pytest.raises(BackendError) as caught:
                client.submit(shot)
            assert caught.value.code == "no_space" and "disk is full" in caught.value.message
            assert list((server.data / "incoming").iterdir()) == []
            filler.unlink()
            # Full while the job runs: it fails, its result does not exist, what was there before does.
            gate.touch()
            second = client.submit(slow).id
            until(lambda: client.job(second).step, what="first step")
            _fill(filler)
            gate.unlink()
            job = server.wait_for(second, "failed")
            assert job.error.code == "no_space" and "Delete old results" in job.error.message
            folder = server.data / "jobs" / second
            assert not (folder / "result").exists() and not (folder / "result.part").exists()
            assert len(client.download(first, tmp_path / "first.mp4").read_bytes()) > 500
            # Now really full: even the ballast, with whose help the failure was written down, is gone.
            more = small_disk / "more"
            _fill(more)
            with pytest.raises(BackendError) as caught:
                client.download(first, tmp_path / "first.zip", "frames")
            assert caught.value.code == "no_space"
            # Old results can be deleted although the disk is full.
            client.delete(first)
            assert not (server.data / "jobs" / first).exists()
            filler.unlink()
            more.unlink()
            third = client.submit(shot).id
            server.wait_for(third, "completed")


def _fill(path: Path) -> None:
    with open(path, "wb", buffering=0) as stream:
        for block in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    stream.write(b"\0" * block)
            except OSError:
                continue


def test_the_store_is_plain_sqlite(own_server: Server, tmp_path: Path):
    server = own_server
    with server.client() as client:
        job = client.submit(save_shot(tmp_path / "s.shot")).id
        server.wait_for(job, "completed")
    server.stop()
    with sqlite3.connect(server.data / "jobs.sqlite") as db:
        assert db.execute("SELECT id, status FROM jobs").fetchall() == [(job, "completed")]
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
