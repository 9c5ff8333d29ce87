from __future__ import annotations

import errno
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from maquette.backend.client import BackendClient, BackendError
from maquette.backend.client import api as api_module
from maquette.backend.wire import JobView

from .double import HEALTH, JOB, TOKEN, Double, job, say, stream


def client(double: Double, token: str = TOKEN, **more: Any) -> BackendClient:
    return BackendClient(double.address, token, **{"timeout": 20.0, **more})


def view(*args: Any, **more: Any) -> JobView:
    return JobView.from_json(job(*args, **more))


def fails(call: Any, code: str, *words: str) -> BackendError:
    with pytest.raises(BackendError) as caught:
        call()
    error = caught.value
    assert error.code == code, (error.code, error.message)
    for word in words:
        assert word in error.message, error.message
    assert error.message.endswith((".", ")", ":"))
    return error


def test_every_request_says_who_and_which_version(double: Double):
    double.answer("GET /v1/videos", {"data": [job()]})
    with client(double, client_id="11111111-1111-4111-8111-111111111111") as c:
        assert c.health() == HEALTH and c.models() == [{"id": "isa-nano"}] and c.jobs() == [view()]
    for _, headers, _ in double.requests:
        assert headers["Authorization"] == f"Bearer {TOKEN}" and headers["X-Maquette-Wire"] == "1"
        assert headers["X-Maquette-Client"] == "11111111-1111-4111-8111-111111111111"


def test_a_netrc_does_not_replace_the_token(double: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with client(double) as c:
        c._session.trust_env = True
        c.models()
    assert double.requests[-1][1]["Authorization"] == f"Bearer {TOKEN}"


def test_a_proxy_is_not_asked_for_this_computer(double: Double, monkeypatch: pytest.MonkeyPatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with client(double) as c:
        assert c.health() == HEALTH


def test_the_upload_is_one_file_as_it_is(double: Double, tmp_path: Path):
    double.answer("POST /v1/videos", job("queued"), 201)
    shot = tmp_path / 'a "b".shot'
    shot.write_bytes(bytes(range(256)) * 4000)
    seen: list[tuple[int, int]] = []
    with client(double) as c:
        assert c.submit(shot, lambda *pair: seen.append(pair)) == view("queued")
    _, headers, body = double.requests[-1]
    boundary = headers["Content-Type"].split("boundary=")[1].encode()
    head, _, rest = body.partition(b"\r\n\r\n")
    assert head.startswith(b"--" + boundary) and b'name="shot"; filename="a _b_.shot"' in head
    assert rest == shot.read_bytes() + b"\r\n--" + boundary + b"--\r\n"
    assert int(headers["Content-Length"]) == len(body)
    assert seen[-1] == (1_024_000, 1_024_000) and len(seen) > 2


def test_an_upload_can_be_ended(double: Double, tmp_path: Path):
    class Stop(Exception):
        pass

    def stop(*_: int) -> None:
        raise Stop

    shot = tmp_path / "a.shot"
    shot.write_bytes(b"x" * 1_000_000)
    with client(double) as c, pytest.raises(Stop):
        c.submit(shot, stop)


def test_nobody_there():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    c = BackendClient(f"127.0.0.1:{port}")
    error = fails(c.health, "unreachable", f"No backend answers at http://127.0.0.1:{port}.", "maquette serve")
    assert error.transient


def test_a_name_that_nobody_knows():
    fails(BackendClient("no-such-computer.invalid").health, "unreachable", "'no-such-computer.invalid'")


def test_an_address_that_is_none():
    fails(lambda: BackendClient("box:port"), "bad_address", "a port is a number")


@pytest.mark.parametrize(
    "data", [b"<html>Welcome to nginx</html>", b"[]", b'{"name": "comfy", "wire": 1}', b'{"name": "maquette"}']
)
def test_somebody_else_answers(double: Double, data: bytes):
    double.answer("GET /v1/health", data)
    fails(client(double).health, "not_maquette", "no Maquette backend", double.address)


def test_a_connection_that_was_closed_meanwhile_is_opened_again(double: Double):
    broken = iter([True, False])
    double.answers["GET /v1/models"] = lambda h: None if next(broken) else say(h, 200, {"data": []})
    assert client(double).models() == []
    double.answers["GET /v1/models"] = lambda h: None
    fails(client(double).models, "interrupted", "broke off")


def test_redirects_are_not_followed(double: Double):
    double.answer("GET /v1/models", b"", 302, Location="http://127.0.0.1:1/")
    fails(client(double).models, "not_maquette")


def test_what_speaks_no_http():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for _ in range(2):
                link, _ = listener.accept()
                link.recv(1000)
                link.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")
                link.close()

        threading.Thread(target=answer, daemon=True).start()
        fails(BackendClient(f"127.0.0.1:{listener.getsockname()[1]}").health, "interrupted", "broke off")


@pytest.mark.parametrize(("theirs", "words"), [(2, "update the add-on"), (0, "update the backend")])
def test_another_version_of_the_wire(double: Double, theirs: int, words: str):
    double.answer("GET /v1/health", {**HEALTH, "wire": theirs})
    fails(client(double).health, "wire_mismatch", f"version {theirs}", words)
    double.refuse("GET /v1/models", 426, "wire_mismatch", wire=theirs)
    fails(client(double).models, "wire_mismatch", f"version {theirs}", words)


def test_tokens(double: Double):
    double.refuse("GET /v1/models", 401, "unauthorized")
    fails(client(double, "").models, "unauthorized", "wants a token. Enter it in the preferences")
    fails(client(double, "wrong").models, "unauthorized", "refuses this token. Correct it")
    fails(client(double, "wröng→").models, "unauthorized", "refuses this token. Correct it")


def test_refusals_keep_code_message_and_field(double: Double, tmp_path: Path):
    double.refuse("POST /v1/videos", 422, "invalid_shot", "clip: is too long.", field="clip")
    shot = tmp_path / "a.shot"
    shot.write_bytes(b"x")
    error = fails(lambda: client(double).submit(shot), "invalid_shot", "clip: is too long.")
    assert error.field == "clip" and error.told.field == "clip" and not error.transient


def test_a_gateway_without_a_backend(double: Double):
    double.answer("GET /v1/models", b"<html>Bad Gateway</html>", 502)
    assert fails(client(double).models, "unreachable", "no backend answers behind it").transient


def test_silence_is_a_timeout(double: Double):
    hold = threading.Event()
    double.answers["GET /v1/models"] = lambda _: hold.wait(20)
    try:
        assert fails(client(double, timeout=0.3).models, "timeout", "did not answer in time").transient
    finally:
        hold.set()


def test_a_backend_that_dies_in_the_middle(double: Double, tmp_path: Path):
    def half(handler: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.send_header("ETag", '"a"')
        handler.end_headers()
        handler.wfile.write(b"x" * 33_000)

    double.answers[f"GET /v1/videos/{JOB}/content"] = half
    target = tmp_path / "film.mp4"
    have = 2 * 16 * 1024
    fails(lambda: client(double).download(JOB, target), "interrupted")
    assert not target.exists() and (tmp_path / "film.mp4.part").stat().st_size == have
    # The next attempt asks for the rest alone.
    double.answers[f"GET /v1/videos/{JOB}/content"] = lambda h: say(h, 206, b"y" * (100_000 - have), ETag='"a"')
    client(double).download(JOB, target)
    assert target.read_bytes() == b"x" * have + b"y" * (100_000 - have)
    _, headers, _ = double.requests[-1]
    assert headers["Range"] == f"bytes={have}-" and headers["If-Range"] == '"a"'


def test_tls_where_there_is_none(double: Double):
    c = BackendClient(f"https://127.0.0.1:{double.port}")
    fails(c.health, "tls", "does not speak TLS", "http:// instead of https://")


def test_events(double: Double):
    jobs = [job("queued", queue_position=0), job("in_progress", step=1), job("completed", name="ü" * 40)]
    double.answers[f"GET /v1/videos/{JOB}/events"] = lambda h: stream(h, jobs)
    assert list(client(double).events(JOB)) == [JobView.from_json(each) for each in jobs]
    double.answer(f"GET /v1/videos/{JOB}/events", job())
    fails(lambda: list(client(double).events(JOB)), "no_events")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"status": "resting"}, "job.status: must be one of queued, in_progress,"),
        ({"notes": "one"}, "job.notes: must be a list, not 'one'"),
        ({"plan": {"width": 16}}, "job.plan.height: is missing"),
        ({"progress": None}, "job.progress: must be a number, not None"),
    ],
)
def test_a_job_that_cannot_be_read(double: Double, wrong: dict[str, Any], words: str):
    double.answer(f"GET /v1/videos/{JOB}", {**job(), **wrong})
    fails(lambda: client(double).job(JOB), "not_maquette", words)


def test_previews(double: Double):
    double.answer(f"GET /v1/videos/{JOB}/preview", b"", 204)
    assert client(double).preview(JOB) is None
    double.answer(f"GET /v1/videos/{JOB}/preview", b"\x89PNG")
    assert client(double).preview(JOB) == b"\x89PNG"


def test_cancel_keeps_and_delete_removes(double: Double):
    double.answer(f"DELETE /v1/videos/{JOB}", job())
    client(double).cancel(JOB)
    client(double).delete(JOB)
    assert [line for line, _, _ in double.requests] == [
        f"DELETE /v1/videos/{JOB}?keep=true", f"DELETE /v1/videos/{JOB}",
    ]  # fmt: skip


def test_a_full_disk_here(double: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    double.answer(f"GET /v1/videos/{JOB}/content", b"x" * 1000, ETag='"a"')

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(api_module.os, "fsync", full)
    target = tmp_path / "film.mp4"
    fails(lambda: client(double).download(JOB, target), "disk_full", "Free some space", "still has it")
    assert not target.exists()
    monkeypatch.undo()
    client(double).download(JOB, target)
    assert target.read_bytes() == b"x" * 1000
