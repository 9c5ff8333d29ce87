"""The worker against a double: what a real server cannot be made to do."""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from maquette.backend.client import BackendClient, Follower, FollowSpec, Report
from maquette.backend.client.owed import owe, owed, settle
from maquette.backend.client.process import read_json, write_json
from maquette.backend.wire import JobError

from .double import JOB, TOKEN, Double, job, say, stream

PNG = b"\x89PNG\r\n\x1a\n"


def until(condition: Any, seconds: float = 90.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("did not happen")


def ended(follower: Follower) -> Report:
    until(lambda: not follower.running)
    return follower.report()


def follow(double: Double, tmp_path: Path, **more: Any) -> Follower:
    shot = tmp_path / "a.shot"
    if not shot.exists():
        shot.write_bytes(b"shot")
    given = {"shot": str(shot), "timeout": 20.0, "patience": 20.0, **more}
    spec = FollowSpec(double.address, TOKEN, "11111111-1111-4111-8111-111111111111", str(tmp_path / "out"), **given)
    return Follower.start(spec, tmp_path / "work")


@pytest.fixture
def ready(double: Double) -> Double:
    """A double whose job is done at once."""
    double.answer("POST /v1/videos", job("queued"), 201)
    double.answer(f"GET /v1/videos/{JOB}", job())
    double.answer(f"GET /v1/videos/{JOB}/preview", PNG)
    double.answer(f"GET /v1/videos/{JOB}/content", b"film", ETag='"a"')
    running = job("in_progress", stage="denoising", step=3, steps=9, eta_seconds=4.5, progress=30.0, notes=["fitted"])
    jobs = [job("queued", queue_position=2), running, job(progress=100.0, notes=["fitted"])]
    double.answers[f"GET /v1/videos/{JOB}/events"] = lambda h: stream(h, jobs)
    return double


def test_the_whole_way(ready: Double, tmp_path: Path):
    report = ended(follow(ready, tmp_path))
    assert report.state == "completed" and report.view.notes == ("fitted",)
    assert Path(report.result_path).read_bytes() == b"film"
    assert Path(report.preview_path).read_bytes() == PNG
    assert ready.asked("POST /v1/videos") == 1


def test_without_events_it_polls(ready: Double, tmp_path: Path):
    ready.answer(f"GET /v1/videos/{JOB}/events", b"<html>", Content_Type="text/html")
    left = iter([job("in_progress"), job("in_progress", stage="denoising", step=1, steps=2)])
    ready.answers[f"GET /v1/videos/{JOB}"] = lambda h: say(h, 200, next(left, job()))
    report = ended(follow(ready, tmp_path))
    assert report.state == "completed" and ready.asked(f"GET /v1/videos/{JOB}") == 3


def test_a_stream_that_breaks_off_again_and_again(ready: Double, tmp_path: Path):
    ready.answers[f"GET /v1/videos/{JOB}/events"] = lambda h: stream(h, [job("in_progress")])
    count = iter(range(100))
    ready.answers[f"GET /v1/videos/{JOB}"] = lambda h: say(h, 200, job("in_progress") if next(count) < 3 else job())
    assert ended(follow(ready, tmp_path)).state == "completed"


@pytest.mark.parametrize("code", ["out_of_memory", "of_a_later_version"])
def test_a_job_that_failed_there(ready: Double, tmp_path: Path, code: str):
    error = {"code": code, "message": "The backend ran out of memory.", "field": None}
    ready.answers[f"GET /v1/videos/{JOB}/events"] = lambda h: stream(h, [job("failed", error=error)])
    report = ended(follow(ready, tmp_path))
    assert report.state == "failed" and report.error == JobError(**error) and not report.resumable


def test_a_broken_download_is_finished(ready: Double, tmp_path: Path):
    whole = bytes(range(250)) * 200

    def content(handler: Any) -> None:
        start = handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-")
        rest = whole[int(start) :]
        handler.send_response(206 if "Range" in handler.headers else 200)
        handler.send_header("Content-Length", str(len(rest)))
        handler.send_header("ETag", '"a"')
        handler.end_headers()
        handler.wfile.write(rest[:40_000])

    ready.answers[f"GET /v1/videos/{JOB}/content"] = content
    report = ended(follow(ready, tmp_path))
    assert Path(report.result_path).read_bytes() == whole
    assert ready.asked(f"GET /v1/videos/{JOB}/content") == 2


def find(made: dict[str, int]) -> Any:
    """What ``GET /v1/videos?key=KEY`` gets."""

    def answer(handler: Any) -> None:
        key = handler.path.partition("key=")[2]
        say(handler, 200, {"data": [job("queued")] if key in made else [], "key": key})

    return answer


def test_a_lost_answer_to_the_upload_is_found_again(ready: Double, tmp_path: Path):
    made: dict[str, int] = {}

    def post(handler: Any) -> None:
        key = handler.headers["Idempotency-Key"]
        if made.get(key):
            say(handler, 201, job("queued"))
        made[key] = made.get(key, 0) + 1

    ready.answers["POST /v1/videos"] = post
    ready.answers["GET /v1/videos"] = find(made)
    assert ended(follow(ready, tmp_path)).state == "completed"
    assert ready.asked("POST /v1/videos") == 1, "it is asked for, not sent again"
    # A later run with the same file, which the animator has asked for again, names it the same.
    assert ended(follow(ready, tmp_path)).state == "completed" and list(made.values()) == [2]


def test_an_upload_that_breaks_off_begins_again(ready: Double, tmp_path: Path):
    left = iter([1, 2])
    ready.answers["POST /v1/videos"] = lambda h: None if next(left, 0) else say(h, 201, job("queued"))
    ready.answers["GET /v1/videos"] = find({})
    assert ended(follow(ready, tmp_path)).state == "completed"
    assert [body.count(b"shot") > 1 for line, _, body in ready.requests if line.startswith("POST")] == [True] * 3


def test_an_id_that_is_a_path_is_refused(ready: Double, tmp_path: Path):
    (tmp_path / "out").mkdir()
    ready.answer("POST /v1/videos", job("queued", id="/../../../outside"), 201)
    report = ended(follow(ready, tmp_path))
    assert report.state == "failed" and report.error.code == "not_maquette" and "job.id" in report.message
    assert list((tmp_path / "out").iterdir()) == [] and not list(tmp_path.parent.glob("*outside*"))


def test_cancel_during_the_upload(ready: Double, tmp_path: Path):
    hold = threading.Event()
    ready.answers["GET /v1/models"] = lambda h: (hold.wait(60), say(h, 200, {"data": []}))
    follower = follow(ready, tmp_path)
    until(lambda: ready.asked("GET /v1/models"))
    follower.cancel()
    time.sleep(0.6)
    hold.set()
    assert ended(follower).state == "cancelled"
    assert ready.asked("POST /v1/videos") <= 1
    assert not (tmp_path / "out").exists()


def test_cancel_when_nobody_answers_any_more(ready: Double, tmp_path: Path):
    for rest in ("", "/events"):
        ready.answers[f"GET /v1/videos/{JOB}{rest}"] = lambda h: None
    ready.answers[f"DELETE /v1/videos/{JOB}"] = lambda h: None
    follower = follow(ready, tmp_path)
    until(lambda: follower.report().state == "reconnecting")
    follower.cancel()
    report = ended(follower)
    assert report.state == "failed" and "could not be told" in report.message


def test_a_cancel_that_was_not_heard_is_said_at_the_next_contact(ready: Double, tmp_path: Path):
    """Before another job is sent, and so before a restarted backend takes the old one up for long."""
    path = str(tmp_path / "owed.json")
    healthy = dict(ready.answers)
    for rest in ("", "/events"):
        ready.answers[f"GET /v1/videos/{JOB}{rest}"] = lambda h: None
    ready.answers[f"DELETE /v1/videos/{JOB}"] = lambda h: None
    follower = follow(ready, tmp_path, owed=path)
    until(lambda: follower.report().state == "reconnecting")
    follower.cancel()
    ended(follower)
    assert owed(path) == [JOB]
    ready.answers = healthy
    ready.answer(f"DELETE /v1/videos/{JOB}", job("cancelled"))
    before = len(ready.requests)
    assert ended(follow(ready, tmp_path, owed=path)).state == "completed"
    asked = [line.split("?")[0] for line, _, _ in ready.requests[before:]]
    assert asked.index(f"DELETE /v1/videos/{JOB}") < asked.index("POST /v1/videos")
    assert owed(path) == [] and not Path(path).exists()


def test_a_cancel_that_is_heard_is_not_owed(ready: Double, tmp_path: Path):
    path = str(tmp_path / "owed.json")
    release = threading.Event()
    ready.answers[f"GET /v1/videos/{JOB}/events"] = lambda h: (release.wait(60), stream(h, [job("cancelled")]))
    ready.answers[f"DELETE /v1/videos/{JOB}"] = lambda h: (say(h, 200, job("cancelled")), release.set())
    follower = follow(ready, tmp_path, owed=path)
    until(lambda: follower.report().job)
    follower.cancel()
    assert ended(follower).state == "cancelled" and owed(path) == []


@pytest.mark.parametrize(
    ("answer", "left"),
    [((200, "cancelled"), []), ((404, "not_found"), []), ((503, "stopping"), [JOB])],
    ids=["heard", "unknown there", "not ready yet"],
)
def test_what_is_owed_is_settled(double: Double, tmp_path: Path, answer: tuple[int, str], left: list[str]):
    status, code = answer
    if status == 200:
        double.answer(f"DELETE /v1/videos/{JOB}", job(code))
    else:
        double.refuse(f"DELETE /v1/videos/{JOB}", status, code)
    path = tmp_path / "owed.json"
    for _ in range(2):
        owe(path, JOB)
    assert owed(path) == [JOB]
    with BackendClient(double.address, TOKEN) as client:
        settle(path, client)
    assert owed(path) == left


def test_a_job_that_is_wanted_again_is_not_cancelled(double: Double, tmp_path: Path):
    path = tmp_path / "owed.json"
    owe(path, JOB)
    with BackendClient(double.address, TOKEN) as client:
        assert settle(path, client, but=JOB) == 0
    assert owed(path) == [] and not double.asked(f"DELETE /v1/videos/{JOB}")
    path.write_text('{"jobs": "nonsense"}')
    assert owed(path) == []


def test_a_film_that_is_done_before_the_cancel_is_fetched(ready: Double, tmp_path: Path):
    release = threading.Event()
    ready.answers[f"GET /v1/videos/{JOB}/events"] = lambda h: (release.wait(60), stream(h, [job()]))
    ready.answers[f"DELETE /v1/videos/{JOB}"] = lambda h: (say(h, 200, job()), release.set())
    follower = follow(ready, tmp_path)
    until(lambda: follower.report().job)
    follower.cancel()
    report = ended(follower)
    assert report.state == "completed" and Path(report.result_path).exists()
    assert any(line.endswith("?keep=true") for line, _, _ in ready.requests), "never deleted by a late cancel"


def test_names_of_results_are_tame(ready: Double, tmp_path: Path):
    report = ended(follow(ready, tmp_path, name="../../etc/pässe: 1"))
    path = Path(report.result_path)
    assert path.parent == tmp_path / "out" and path.name == f"etc_pässe_1_{JOB[-8:]}.mp4"


def test_the_spec_is_private(double: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # An interpreter that does nothing leaves the file as it was written.
    sleeper = tmp_path / "nothing"
    sleeper.write_text("#!/bin/sh\n")
    sleeper.chmod(0o755)
    spec = FollowSpec(double.address, TOKEN, "x", "out")
    if sys.platform == "win32":
        pytest.skip("no file modes here")
    follower = Follower.start(spec, tmp_path / "work", python=str(sleeper))
    path = tmp_path / "work" / "worker.spec.json"
    assert path.stat().st_mode & 0o777 == 0o600 and json.loads(path.read_text())["token"] == TOKEN
    assert ended(follower).error.code == "worker_died"


def test_an_interpreter_that_is_not_there(double: Double, tmp_path: Path):
    with pytest.raises(OSError):
        Follower.start(FollowSpec(double.address, TOKEN, "x", "out"), tmp_path / "work", python="/nowhere/python")
    assert not (tmp_path / "work" / "worker.spec.json").exists()


def test_json_files_are_replaced_whole(tmp_path: Path):
    path = tmp_path / "state.json"
    stop = threading.Event()
    bad: list[str] = []

    def read() -> None:
        while not stop.is_set():
            data = read_json(path)
            if data is not None and len(set(data["x"])) > 1:
                bad.append(str(data))

    write_json(path, {"x": [0] * 5000})
    reader = threading.Thread(target=read)
    reader.start()
    for i in range(100):
        write_json(path, {"x": [i] * 5000})
    stop.set()
    reader.join()
    assert not bad and [p.name for p in tmp_path.iterdir()] == ["state.json"]
    path.write_text("[]")
    assert read_json(path) is None
