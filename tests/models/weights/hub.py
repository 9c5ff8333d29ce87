"""A model hub on this computer: what its protocol says of repositories, and their files."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Repositories and how they are served.

    Attributes:
        repositories: name -> path -> bytes.
        gated: names of those that want a token.
        cut: after so many bytes the connection of a file ends, every time; None never.
        cuts: how often at most.
        stall: after so many bytes each file waits for ``go``; None never.
        claims: bytes of paths, where the hub says other than it has.
        wrong: paths whose bytes are not what they should be.
        infos: revision of each repository that was asked about; empty for the newest.
        asked: (path, first byte) of each file that was asked for.
    """

    repositories: Mapping[str, Mapping[str, bytes]]
    gated: set[str] = field(default_factory=set)
    cut: int | None = None
    cuts: int = 1
    stall: int | None = None
    go: threading.Event = field(default_factory=threading.Event)
    claims: dict[str, int] = field(default_factory=dict)
    wrong: set[str] = field(default_factory=set)
    infos: list[str] = field(default_factory=list)
    asked: list[tuple[str, int]] = field(default_factory=list)

    def __enter__(self) -> Hub:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def info(self, name: str) -> dict[str, Any]:
        """What the hub says of a repository."""
        siblings = []
        for path, data in self.repositories[name].items():
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            one: dict[str, Any] = {"rfilename": path, "size": self.claims.get(path, len(data)), "blobId": blob}
            if path.endswith((".safetensors", ".pth")):
                one["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 100}
            siblings.append(one)
        gated = "auto" if name in self.gated else False
        return {"id": name, "modelId": name, "sha": COMMIT, "gated": gated, "private": False, "siblings": siblings}


def repository(folder: Path, *names: str) -> dict[str, bytes]:
    """The files of some of a folder's folders, by path, with a licence and something that nobody needs."""
    files = {str(path.relative_to(folder)): path.read_bytes() for name in names for path in (folder / name).rglob("*")}
    return {**files, "LICENSE.txt": b"Do good.", "samples/film.mp4": b"x" * 1000}


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def answer(self, code: int, data: bytes, **headers: str) -> None:
            self.send_response(code)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            parts = unquote(urlsplit(self.path).path).strip("/").split("/")
            name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
            if name not in hub.repositories:
                return self.answer(404, b"{}", X_Error_Code="RepoNotFound")
            if parts[0] == "api":
                hub.infos.append("/".join(parts[5:]))
                return self.answer(200, json.dumps(hub.info(name)).encode(), Content_Type="application/json")
            if name in hub.gated and self.headers.get("Authorization") != "Bearer hf_good":
                return self.answer(403, b"", X_Error_Code="GatedRepo")
            path = "/".join(parts[4:])
            data = hub.repositories[name][path]
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
            hub.asked.append((path, start))
            body = data[start:]
            if path in hub.wrong:
                body = body[:-1] + bytes([body[-1] ^ 1])
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            if hub.cut is not None and hub.cuts > 0 and len(body) > hub.cut:
                hub.cuts -= 1
                self.wfile.write(body[: hub.cut])
                self.close_connection = True
                return None
            if hub.stall is not None and len(body) > hub.stall:
                self.wfile.write(body[: hub.stall])
                hub.go.wait(60)
                body = body[hub.stall :]
            with suppress(ConnectionError):
                self.wfile.write(body)
            return None

    return Handler
