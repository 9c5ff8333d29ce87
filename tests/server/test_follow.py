"""The worker that Blender starts, against a real server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import pytest
from maquette.backend.client import Follower, FollowSpec, Report
from maquette.backend.client.process import is_alive, read_json
from maquette.backend.media import decode_video
from maquette.backend.wire import JobError

from .harness import ALICE, Server, free_port, save_shot, until


def spec(server: Server, tmp_path: Path, shot: Path | str = "", **more: Any) -> FollowSpec:
    given = {"address": server.address, "token": server.token, "patience": 60.0, "timeout": 60.0, **more}
    return FollowSpec(client_id=ALICE, results=str(tmp_path / "results"), shot=str(shot), name="A walk", **given)


def ended(follower: Follower) -> Report:
    until(lambda: follower.report().state in ("completed", "failed", "cancelled"), what="the worker's end")
    until(lambda: not follower.running, what="the worker's exit")
    return follower.report()


def _step(follower: Follower) -> int | None:
    """How far the backend says that it is."""
    view = follower.report().view
    return view.step if view is not None else None


def test_from_shot_to_film(server: Server, tmp_path: Path):
    shot = save_shot(tmp_path / "s.shot", "wait=0.05", steps=6)
    follower = Follower.start(spec(server, tmp_path, shot, frames=True), tmp_path / "work")
    seen: list[str] = []

    def watch() -> bool:
        report = follower.report()
        if not seen or report.state != seen[-1]:
            seen.append(report.state)
        return report.state == "completed"

    until(watch, what="completed")
    report = ended(follower)
    order = ["starting", "uploading", "queued", "running", "downloading", "completed"]
    assert [order.index(state) for state in seen] == sorted(order.index(state) for state in seen)
    assert report.progress == 1 and report.error is None and "made of grey" in report.view.notes
    film = Path(report.result_path)
    assert film.parent == tmp_path / "results" and film.name == f"A_walk_{report.job[-8:]}.mp4"
    assert decode_video(film)[0].shape == (5, 32, 48, 3)
    with zipfile.ZipFile(report.frames_path) as archive:
        assert len(archive.namelist()) == 5
    assert Path(report.preview_path).read_bytes().startswith(b"\x89PNG") and report.preview_revision >= 1
    assert sorted(p.name for p in film.parent.iterdir()) == [film.name, film.stem + ".zip"]
    # The token is neither left in a file nor told by the process table.
    for path in (tmp_path / "work").iterdir():
        assert server.token.encode() not in path.read_bytes(), path
    assert not (tmp_path / "work" / "worker.spec.json").exists()


def test_the_token_is_not_on_the_command_line(server: Server, tmp_path: Path):
    shot = save_shot(tmp_path / "s.shot", "wait=0.1", steps=1000)
    follower = Follower.start(spec(server, tmp_path, shot), tmp_path / "work")
    pid = follower._process.pid
    line = Path(f"/proc/{pid}/cmdline")
    if line.exists():
        assert server.token.encode() not in line.read_bytes()
        assert server.token.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
    until(lambda: follower.report().state == "running", what="running")
    follower.cancel()
    assert ended(follower).state == "cancelled"


def test_cancel_reaches_the_engine(server: Server, tmp_path: Path):
    shot = save_shot(tmp_path / "s.shot", "wait=0.1", steps=1000, name="stopme")
    follower = Follower.start(spec(server, tmp_path, shot), tmp_path / "work")
    until(lambda: _step(follower), what="first step")
    follower.cancel()
    report = ended(follower)
    assert report.state == "cancelled" and not report.error
    assert any(line.startswith("stopped stopme") for line in server.noted())
    assert not (tmp_path / "results").exists()


def test_a_refused_shot_is_told_in_one_sentence(server: Server, tmp_path: Path):
    shot = save_shot(tmp_path / "s.shot", frames=41)
    report = ended(Follower.start(spec(server, tmp_path, shot), tmp_path / "work"))
    assert report.state == "failed" and not report.resumable
    assert report.error == JobError("invalid_shot", report.message, "clip")
    assert report.message == "clip: has 41 frames; this engine makes at most 40, shorten the clip."


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"token": ""}, "unauthorized", "wants a token. Enter it in the preferences"),
        ({"token": "wrong"}, "unauthorized", "refuses this token"),
        ({"address": f"127.0.0.1:{free_port()}"}, "unreachable", "No backend answers at"),
        ({"address": "a b"}, "bad_address", "names no computer"),
        ({"job": "vid_unknown"}, "not_found", "no such job of yours"),
    ],
)
def test_what_stops_it_before_it_begins(server: Server, tmp_path: Path, change: dict, code: str, words: str):
    shot = "" if "job" in change else save_shot(tmp_path / "s.shot")
    report = ended(Follower.start(spec(server, tmp_path, shot, **change), tmp_path / "work"))
    assert report.state == "failed" and report.error.code == code and words in report.message
    assert not report.resumable


def test_a_shot_that_is_not_there(server: Server, tmp_path: Path):
    report = ended(Follower.start(spec(server, tmp_path, tmp_path / "gone.shot"), tmp_path / "work"))
    assert report.state == "failed" and "gone.shot cannot be read" in report.message


def test_a_job_is_followed_again_and_sent_again_when_it_is_unknown(server: Server, tmp_path: Path):
    shot = save_shot(tmp_path / "s.shot")
    first = ended(Follower.start(spec(server, tmp_path, shot), tmp_path / "one"))
    again = ended(Follower.start(spec(server, tmp_path, job=first.job), tmp_path / "two"))
    assert again.state == "completed" and again.job == first.job
    with server.client() as client:
        client.delete(first.job)
    third = ended(Follower.start(spec(server, tmp_path, shot, job=first.job), tmp_path / "three"))
    assert third.state == "completed" and third.job != first.job


def test_results_that_cannot_be_written(server: Server, tmp_path: Path):
    (tmp_path / "results").write_text("a file where the folder should be")
    report = ended(Follower.start(spec(server, tmp_path, save_shot(tmp_path / "s.shot")), tmp_path / "work"))
    assert report.state == "failed" and report.error.code == "cannot_write" and report.resumable
    assert "the backend still has it" in report.message
    (tmp_path / "results").unlink()
    again = ended(Follower.start(spec(server, tmp_path, job=report.job), tmp_path / "again"))
    assert Path(again.result_path).exists()


def test_a_restarting_server_is_waited_for(own_server: Server, tmp_path: Path):
    server = own_server
    gate = tmp_path / "gate"
    gate.touch()
    shot = save_shot(tmp_path / "s.shot", f"hold={gate}")
    follower = Follower.start(spec(server, tmp_path, shot), tmp_path / "work")
    until(lambda: _step(follower), what="first step")
    server.stop(signal.SIGKILL)
    until(lambda: follower.report().state == "reconnecting", what="the loss is noticed and said")
    assert "stopped answering; trying for another" in follower.report().message
    gate.unlink()
    server.start()
    report = ended(follower)
    assert report.state == "completed"
    assert "The backend was restarted; the job began again." in report.view.notes


def test_a_server_that_stays_away(own_server: Server, tmp_path: Path):
    server = own_server
    shot = save_shot(tmp_path / "s.shot", "wait=0.1", steps=1000)
    follower = Follower.start(spec(server, tmp_path, shot, patience=1.0), tmp_path / "work")
    until(lambda: _step(follower), what="first step")
    server.stop(signal.SIGKILL)
    report = ended(follower)
    assert report.state == "failed" and report.resumable and report.job.startswith("vid_")
    assert "stopped answering during the job" in report.message and "follow the job again" in report.message


def test_the_worker_ends_with_its_parent(server: Server, tmp_path: Path):
    shot = save_shot(tmp_path / "s.shot", "wait=0.1", steps=1000)
    parent = tmp_path / "parent.py"
    parent.write_text(
        textwrap.dedent(
            f"""
            import time
            from maquette.backend.client import Follower, FollowSpec
            f = Follower.start(FollowSpec({server.address!r}, {server.token!r}, {ALICE!r}, "r", shot={str(shot)!r}),
                               {str(tmp_path / "work")!r})
            print(f._process.pid, flush=True)
            time.sleep(600)
            """
        )
    )
    process = subprocess.Popen([sys.executable, str(parent)], stdout=subprocess.PIPE, cwd=tmp_path)
    assert process.stdout is not None
    worker = int(process.stdout.readline())

    # Its own file: this process has not started it and cannot ask whether it runs.
    until(
        lambda: ((read_json(tmp_path / "work" / "worker.json") or {}).get("view") or {}).get("step"), what="first step"
    )
    process.kill()
    process.wait()
    process.stdout.close()
    until(lambda: not is_alive(worker), what="the worker ends")
    # The job lives on, and is found again by its id.
    left = Follower(tmp_path / "work", None).report()
    assert left.state == "failed" and left.resumable and left.error.code == "worker_died"
    with server.client() as client:
        assert client.job(left.job).status == "in_progress"
        client.cancel(left.job)
    server.wait_for(left.job, "cancelled")


def test_a_worker_that_is_killed_is_noticed(server: Server, tmp_path: Path):
    shot = save_shot(tmp_path / "s.shot", "wait=0.1", steps=1000)
    follower = Follower.start(spec(server, tmp_path, shot), tmp_path / "work")
    until(lambda: _step(follower), what="first step")
    os.kill(follower._process.pid, signal.SIGKILL)
    report = ended(follower)
    assert report.error.code == "worker_died" and "The job itself goes on" in report.message
    with server.client() as client:
        client.cancel(report.job)
    server.wait_for(report.job, "cancelled")
