"""A peer that is no backend, or a bad one: what is read of it has an end in bytes and in time."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from maquette.backend import wire
from maquette.backend.client import BackendClient, BackendError

from .double import HEALTH, JOB, Double, job

resource = pytest.importorskip("resource")

MIB = 1 << 20
PACKED = gzip.compress(b" " * (32 * MIB), 1)


def head(handler: Any, **headers: str) -> None:
    handler.send_response(200)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()


def endless(handler: Any) -> None:
    head(handler, Transfer_Encoding="chunked")
    while True:
        handler.wfile.write(b"10000\r\n" + b"[" * 0x10000 + b"\r\n")


def events_without_end(handler: Any) -> None:
    head(handler, Transfer_Encoding="chunked", Content_Type="text/event-stream")
    while True:
        handler.wfile.write(b"10000\r\n" + b"data: " + b"x" * (0x10000 - 7) + b"\n\r\n")


def packed(handler: Any) -> None:
    head(handler, Content_Encoding="gzip", Content_Length=str(len(PACKED)))
    handler.wfile.write(PACKED)


def dripping(before: bytes) -> Callable[[Any], None]:
    def drip(handler: Any) -> None:
        handler.wfile.write(before)
        while not stopped.is_set():
            handler.wfile.write(b" ")
            handler.wfile.flush()
            stopped.wait(0.05)

    return drip


def plain(status: str, body: bytes, *headers: str) -> Callable[[Any], None]:
    lines = [f"HTTP/1.1 {status}", *headers, "Connection: close", "", ""]
    return lambda handler: handler.wfile.write("\r\n".join(lines).encode() + body)


stopped = threading.Event()
LENGTH = "Content-Length: "


@pytest.fixture
def c(double: Double):
    stopped.clear()
    with BackendClient(double.address, "t", timeout=20.0) as client:
        yield client
    stopped.set()


def fails(call: Callable[[], object]) -> str:
    with pytest.raises(BackendError) as caught:
        call()
    assert len(caught.value.message) < wire.MAX_MESSAGE + 100
    return caught.value.code


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (endless, "not_maquette"),
        (packed, "not_maquette"),
        (dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"), "timeout"),
        (dripping(b"HTTP/1.1 200 OK\r\nX-A: "), "timeout"),
        (plain("200 OK", b"[" * 200_000), "not_maquette"),
        (plain("200 OK", b'{"a":' + b"9" * 5000 + b"}"), "not_maquette"),
        (plain("200 OK", json.dumps({**HEALTH, "wire": True}).encode()), "not_maquette"),
        (plain("400 No", b"[" * 200_000), "not_maquette"),
        (plain("400 No", b'{"error":{"code":{"a":1},"message":[1]}}'), "not_maquette"),
        (plain("400 No", b'{"error":{"code":"odd","message":"' + b"m" * MIB + b'"}}'), "odd"),
        (plain("200 OK", b"", *(f"X-{i}: a" for i in range(300))), "interrupted"),
    ],
)
def test_answers(double: Double, c: BackendClient, answer: Any, code: str):
    double.answers["GET /v1/health"] = answer
    c.timeout = 0.3 if code == "timeout" else c.timeout
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert fails(c.health) == code
    assert time.monotonic() - began < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10
    # The client is of use yet.
    c.timeout = 20.0
    double.answer("GET /v1/health", HEALTH)
    assert c.health() == HEALTH


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (plain("200 OK", b"film"), "no_length"),
        (plain("200 OK", b"film", LENGTH + "-5"), "no_length"),
        (plain("206 Partial", b"film", LENGTH + "4"), "not_maquette"),
        (plain("200 OK", b"film", LENGTH + "400"), "interrupted"),
        (endless, "not_maquette"),
    ],
)
def test_downloads(
    double: Double, c: BackendClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Any, code: str
):
    monkeypatch.setattr(wire, "MAX_RESULT", MIB)
    double.answers[f"GET /v1/videos/{JOB}/content"] = answer
    assert fails(lambda: c.download(JOB, tmp_path / "a.mp4")) == code
    assert not (tmp_path / "a.mp4").exists()


def test_a_download_that_drips(double: Double, c: BackendClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(wire, "STALL_SECONDS", 0.5)
    double.answers[f"GET /v1/videos/{JOB}/content"] = dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    assert fails(lambda: c.download(JOB, tmp_path / "a.mp4")) == "timeout"


def test_events_and_previews(double: Double, c: BackendClient):
    double.answers[f"GET /v1/videos/{JOB}/events"] = events_without_end
    assert list(c.events(JOB)) == []
    double.answers[f"GET /v1/videos/{JOB}/preview"] = endless
    assert fails(lambda: c.preview(JOB)) == "not_maquette"


@pytest.mark.parametrize(
    "name", ["/../../a", "vid_x?variant=../..//b", "C:\\..\\c", "vid_\0\0\0\0\0\0\0\0", "vid_" + "é" * 8]
)
def test_ids_have_their_own_form(double: Double, c: BackendClient, name: str):
    double.answer(f"GET /v1/videos/{JOB}", job(id=name))
    assert fails(lambda: c.job(JOB)) == "not_maquette"


def test_an_older_backend_that_passes_the_key_over(double: Double, c: BackendClient):
    double.answer("GET /v1/videos", {"data": [job()]})
    assert c.find("12345678") is None
    double.answer("GET /v1/videos", {"data": [job()], "key": "12345678"})
    found = c.find("12345678")
    assert found is not None and found.id == JOB


def test_all_pages_are_read(double: Double, c: BackendClient):
    ids = [f"vid_{i:08d}" for i in range(5)]

    def page(handler: Any) -> None:
        after = handler.path.partition("after=")[2]
        first = ids.index(after) + 1 if after else 0
        body = {"data": [job(id=each) for each in ids[first : first + 2]], "has_more": first + 2 < len(ids)}
        plain("200 OK", json.dumps(body).encode())(handler)

    double.answers["GET /v1/videos"] = page
    assert [view.id for view in c.jobs()] == ids
