"""A backend of the standard library alone, for tests inside Blender: the test says what becomes of each job."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import socket
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# 16 x 16 pixels, 5 frames of H.264 at 24 fps.
_FILM = (
    b"c-oCsJ%}Vl6t3AHy<1e)<AN1dDDf17o7wK3xnUh_a9NI<K*7WlL~N?7s;8Uj>Z+-#nVq?47Y!~kP~ifDRSX2d-~!<y(ZIm;G7n4y(KYcxFK`"
    b")O^~|`v>z!D1SH0iw)%)oggb+^bL}f+_gqDyy;SI=$`a-pQgwVM}a}K&c1tS*D&mUWzP7i;&`ujJ(-s|4Eb@@kp@A*IOkArp#*D;lvW50a`$"
    b"Zi8fTd%)y^;*4!cdqY(j&TZ#U8yEHPb>~RuUQYgz*(o(s?OHd-ringlrb)IQZ%IQZ8_XVYDEq<QrS!vrh_So2@QR$c@p|<%y^tj+7JDX*YPk"
    b"ZNIo$<^v2DOH};!NEO<B+DK^6xDBr`%Ou!lTNVCvyc;E#a7TK7ysKf-9NRy(+!=Qy}s-+;2^Tk&4JkLxR;O+4?qZUMTAVLrBK-djgfP;V8_i"
    b";jujg;wU%2~_+1}c(CVz>?K0k)|I4+Gj<%05YfiB4oD&nQ0;c(~AI44MgI-956xa-9<}0(qPdHJL<I3PmjN6pCau$qIk~Lrt7bqKV)p+{SUF"
    b"CO~Hll87V1h_WRWXT(KfndXpJ6Yue?m)aPDNyUq(ClzRCLIn<eJ^}17xZ=&pNMwa8m!Z7ibZEnths)@$q?(%)+%=8<NjGdeKBPLqB8IxUw15"
    b"G(hKC0(nb2#1%|JQe@+9N1{W1{7auv34rl3hM63|14MFubcuA68druIpG^8l?*k2mfweXO1V!Bab*ocrMBThn9n>A^35d2X<G4%e@(fBV}3("
    b"C2H18!v+PXn)R#E-;{3?g=SJAk4)mW$4seK7#Eosv-BBtlDX-v;3>*Ki3jGA41joK)+-AWz6M=pxynK=l_YjK7SFq#F;g4Zt~pNiU;7X%zc;"
    b"63ziWeuwZ9%cLiKSZ+>4g^_1m$p>dyY)$+RgoV%o8Id?X-uc4g@5En<H1g&245}WBZ8O%)OQcnzZj%Reu8XM<8-!|5;ip^*4H|r6la7nMDE}"
    b"Y#*TAW=Q(<$t2K;5k|v^M=2ZS>&$O0T^8zH7;f+rE3Hd+X`_8hSiE+I{b%A8sE%c;I|5!a&c9s=ip@8Cw>75q-7nHP}KPRk?e&>51*?Otv!D"
    b"uc6cY!mq^I1T1<6YwnL;0^N;DelGqUI4`*Rx-Vw_!hNW$V7N}lLuTC|ye)Wny7gSO=`bjoD3w<WSkGpY^}?4{I>2Y)|AQ<p{Tdl1?V#bq;{|"
    b"^Mz*ue)"
)
FILM = zlib.decompress(base64.b85decode(_FILM))
# 1 x 1 pixel.
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5ErkJggg=="
)

ENDED = ("completed", "failed", "cancelled")


class FakeBackend:
    """Wire version 1 on a free port of this computer.

    Attributes:
        address: to type into the preferences.
        script: states that every new job goes through at once, each a dict of changes to the job; the test drives the
            job on from there with ``change``.
        token: when not empty, every request but health must bring it.
        wire: the version it claims to speak.
        refuse: (status, code, message) and perhaps the field at fault, for uploads that are to be refused.
        deaf: whether cancels are not heard, as by a backend that is down.
        obeys: whether a cancel is obeyed at once.
        jobs, shots: what has been sent, by job id.
        cancels: ids of the jobs that were to be cancelled.
        priority: of the latest upload, as its header says it.
        models: what it says of its models; health: what else of itself.
        film: the video of every job; films: those of jobs for certain models.
        scripts: like ``script``, by the model that the shot asks for; those of other models go through ``script``.
    """

    def __init__(self) -> None:
        self.script: list[dict[str, Any]] = [{"status": "completed", "progress": 100}]
        self.token = ""
        self.wire = 1
        self.refuse: tuple[int, str, str] | tuple[int, str, str, str] | None = None
        self.deaf = False
        self.obeys = True
        self.jobs: dict[str, dict[str, Any]] = {}
        self.shots: dict[str, bytes] = {}
        self.clients: set[str] = set()
        self.cancels: list[str] = []
        self.priority = ""
        self.models: list[dict[str, Any]] = MODELS
        self.health: dict[str, Any] = {}
        self.film = FILM
        self.films: dict[str, bytes] = {}
        self.scripts: dict[str, list[dict[str, Any]]] = {}
        self.changed = threading.Condition()
        self.closed = False
        backend = self

        class Handler(_Handler):
            fake = backend

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        # It sleeps until somebody asks: a thread that wakes while Blender renders may crash it, see ``scene.aside``.
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def change(self, job: str = "", **values: Any) -> None:
        """Change a job, the newest one when none is named, and tell whoever listens."""
        with self.changed:
            self.jobs[job or list(self.jobs)[-1]].update(values)
            self.changed.notify_all()

    def close(self) -> None:
        """Stop answering, in the middle of whatever goes on."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        with contextlib.suppress(OSError):
            self._server.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.server_close()

    def _serve(self) -> None:
        while not self.closed:
            self._server.handle_request()


@contextmanager
def fake_backend() -> Iterator[FakeBackend]:
    """A backend for the length of a test."""
    backend = FakeBackend()
    try:
        yield backend
    finally:
        if not backend.closed:
            backend.close()


class _Handler(BaseHTTPRequestHandler):
    fake: FakeBackend
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/v1/health":
            health = {"name": "maquette", "version": "0.1.0", "wire": self.fake.wire, "device": "fake", "queue": 0}
            return self._json(200, {**health, "token_required": bool(self.fake.token), **self.fake.health})
        if not self._allowed():
            return None
        if path == "/v1/models":
            return self._json(200, {"data": self.fake.models})
        parts = path.strip("/").split("/")
        job = self.fake.jobs.get(parts[2]) if len(parts) > 2 else None
        if job is None:
            return self._error(404, "not_found", f"There is no {path}.")
        if len(parts) == 3:
            return self._json(200, job)
        if parts[3] == "preview":
            return self._bytes(200, PICTURE, "image/png")
        if parts[3] == "content":
            return self._bytes(200, self.fake.films.get(job["model"], self.fake.film), "video/mp4")
        return self._events(job)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._allowed():
            return None
        if self.fake.refuse:
            return self._error(*self.fake.refuse)
        shot = body.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--", 1)[0]
        model = _model_of(shot)
        with self.fake.changed:
            self.fake.priority = self.headers.get("Priority", "")
            name = f"vid_{len(self.fake.jobs):08d}"
            # What is not said, the client takes for unknown.
            job: dict[str, Any] = {"id": name, "status": "queued", "model": model, "queue_position": 0}
            for values in self.fake.scripts.get(model, self.fake.script):
                job.update(values)
            self.fake.jobs[name] = job
            self.fake.shots[name] = shot
        return self._json(201, job)

    def do_DELETE(self) -> None:
        if self.fake.deaf:
            self.close_connection = True
            return None
        if not self._allowed():
            return None
        job = self.fake.jobs.get(self.path.partition("?")[0].rsplit("/", 1)[-1])
        if job is None:
            return self._error(404, "not_found", "There is no such job.")
        self.fake.cancels.append(job["id"])
        if self.fake.obeys and job["status"] not in ENDED:
            self.fake.change(job["id"], status="cancelled")
        return self._json(200, job)

    def _events(self, job: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        shown = ""
        while not self.fake.closed:
            with self.fake.changed:
                text = json.dumps(job)
                if text == shown:
                    self.fake.changed.wait(0.5)
                    continue
            shown = text
            try:
                self.wfile.write(f"event: job\ndata: {text}\n\n".encode())
                self.wfile.flush()
            except OSError:
                return
            if json.loads(text)["status"] in ENDED:
                return

    def _allowed(self) -> bool:
        self.fake.clients.add(self.headers.get("X-Maquette-Client", ""))
        if self.fake.token and self.headers.get("Authorization") != f"Bearer {self.fake.token}":
            self._error(401, "unauthorized", "A token is wanted.")
            return False
        return True

    def _error(self, status: int, code: str, message: str, field: str | None = None) -> None:
        self._json(status, {"error": {"code": code, "message": message, "field": field}})

    def _json(self, status: int, data: Any) -> None:
        self._bytes(status, json.dumps(data).encode(), "application/json")

    def _bytes(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _model_of(shot: bytes) -> str:
    """The model that a .shot file asks for."""
    try:
        with zipfile.ZipFile(io.BytesIO(shot)) as archive:
            return str(json.loads(archive.read("shot.json"))["settings"]["model"])
    except (zipfile.BadZipFile, KeyError, ValueError):
        return "isa-nano"


MODELS = [
    {"id": "isa-nano", "label": "ISA Nano", "description": "Small", "available": True, "missing": []},
    {"id": "isa-4b", "label": "ISA 4B", "description": "Large", "available": False, "missing": ["dit.safetensors"]},
]
