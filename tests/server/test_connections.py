"""Connections that never finish what they begin."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from maquette.backend.server import connections
from maquette.backend.server.connections import PatientProtocol

from .harness import until

asked: list[str] = []
WHOLE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Of a server that answers everything, at /slow in its own time and at /large at length."""
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.4)
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 0.4)
    monkeypatch.setattr(connections, "MOST", 6)
    gate = threading.Event()
    asked.clear()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])
        if scope["path"] == "/slow":
            while not gate.is_set():
                await asyncio.sleep(0.02)
        body = b"x" * (64 << 20 if scope["path"] == "/large" else 2)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        for at in range(0, len(body), 1 << 16):
            await send({"type": "http.response.body", "body": body[at : at + (1 << 16)], "more_body": True})
        await send({"type": "http.response.body"})

    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, http=PatientProtocol, log_config=None, lifespan="off", timeout_graceful_shutdown=1, timeout_keep_alive=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    until(lambda: server.started, what="up")
    yield listener.getsockname()[1]
    gate.set()
    server.should_exit = True
    thread.join()


def connect(port: int, data: bytes) -> socket.socket:
    link = socket.create_connection(("127.0.0.1", port), 20)
    link.sendall(data)
    return link


def answered(link: socket.socket) -> bool:
    """Whether an answer comes."""
    data = b""
    while not data.endswith(b"\r\n\r\nxx"):
        if not (more := link.recv(1000)):
            return False
        data += more
    return True


def is_closed(link: socket.socket) -> bool:
    """Whether the server has closed it; what came before is read over."""
    try:
        while data := link.recv(1 << 16):
            del data
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nX-A: ", WHOLE + WHOLE[:9]])
def test_a_head_that_does_not_come_whole(port: int, begun: bytes):
    links = [connect(port, begun) for _ in range(3)]
    dripping = connect(port, WHOLE[:9])
    began = time.monotonic()
    with contextlib.suppress(OSError):
        while time.monotonic() - began < 20:
            dripping.sendall(b"a")
            time.sleep(0.05)
    assert time.monotonic() - began < 19, "a byte now and then does not help"
    assert all(is_closed(link) for link in links)


def test_the_next_request_has_its_own_time(port: int):
    link = connect(port, WHOLE)
    for _ in range(3):
        time.sleep(0.2)
        assert answered(link)
        link.sendall(WHOLE)
    link.close()


def test_an_answer_that_takes_long_is_waited_for(port: int):
    link = connect(port, WHOLE.replace(b"/ ", b"/slow "))
    link.settimeout(1.0)
    with pytest.raises(TimeoutError):
        link.recv(1)
    link.close()


def test_those_that_wait_longest_make_room(port: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 60.0)
    working = connect(port, WHOLE.replace(b"/ ", b"/slow "))
    until(lambda: asked, what="it is being answered")
    idle = [connect(port, b"GET") for _ in range(20)]
    last = connect(port, WHOLE)
    assert answered(last)
    assert is_closed(idle[0]) and is_closed(idle[9])
    working.settimeout(0.1)
    assert not is_closed(working)
    for link in (*idle, last, working):
        link.close()


def test_who_reads_nothing_is_let_go(port: int):
    link = connect(port, WHOLE.replace(b"/ ", b"/large "))
    time.sleep(1.5)
    total = 0
    with contextlib.suppress(ConnectionError):
        while data := link.recv(1 << 20):
            total += len(data)
    assert total < 64 << 20
