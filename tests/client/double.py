"""A backend of the standard library alone, for the client's tests in Blender's interpreter."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from maquette.backend.wire import JobView, Status

TOKEN = "double-token"
JOB = "vid_0123456789abcdef"


def job(status: str = "completed", **more: Any) -> dict[str, Any]:
    """A job as the wire has it."""
    return {**JobView(JOB, Status(status), "x", "isa-nano", 1.0).to_json(), "notes": [], **more}


HEALTH = {"name": "maquette", "version": "0.1.0", "wire": 1, "device": "cpu", "token_required": True, "queue": 0}


class Double:
    """What is asked of it is kept in ``requests``; ``answers`` maps "METHOD /path" to what it does."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: dict[str, Callable[[Any], None]] = {}
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                # Closed after each answer: the double need not keep count of what it has read.
                self.close_connection = True
                body = b""
                length = self.headers.get("Content-Length")
                if length:
                    body = self.rfile.read(int(length))
                path = self.path.split("?")[0]
                double.requests.append((f"{self.command} {self.path}", dict(self.headers), body))
                action = double.answers.get(f"{self.command} {path}")
                action = action or (lambda h: say(h, 404, {"error": {"code": "not_found", "message": "No such job."}}))
                # A client may leave before it has heard everything.
                with suppress(ConnectionError):
                    action(self)

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.answer("GET /v1/health", HEALTH)
        self.answer("GET /v1/models", {"data": [{"id": "isa-nano"}]})

    def answer(self, request: str, data: Any, status: int = 200, **headers: str) -> None:
        """Always answer so."""
        self.answers[request] = lambda handler: say(handler, status, data, **headers)

    def refuse(self, request: str, status: int, code: str, message: str = "No.", **more: Any) -> None:
        """Always refuse so."""
        self.answer(request, {"error": {"code": code, "message": message, **more}}, status)

    def asked(self, request: str) -> int:
        """How often."""
        return sum(line.split("?")[0] == request for line, _, _ in self.requests)


def say(handler: Any, status: int, data: Any, **headers: str) -> None:
    """Send JSON, or bytes as they are."""
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.send_header("Connection", "close")
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def stream(handler: Any, jobs: list[dict[str, Any]]) -> None:
    """Send events in chunks, split in awkward places."""
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream; charset=utf-8")
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    text = ": ping\r\n\r\n" + "".join(f"event: job\r\ndata: {json.dumps(item)}\r\n\r\n" for item in jobs)
    data = text.encode()
    for i in range(0, len(data), 37):
        piece = data[i : i + 37]
        handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        handler.wfile.flush()
    handler.wfile.write(b"0\r\n\r\n")


@contextmanager
def running(double: Double) -> Iterator[Double]:
    """Serve in a thread."""
    thread = threading.Thread(target=double._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield double
    finally:
        double._server.shutdown()
        double._server.server_close()
