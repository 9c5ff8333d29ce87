"""A backend over HTTP: one method per request of the wire (docs/wire.md)."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import requests
from requests.auth import AuthBase

from .. import wire
from ..wire import Code, DownloadView, JobView
from .address import AddressError, is_loopback, normalise_address
from .errors import BackendError, other_wire, refusal, request_failed, stranger, too_much, writing_failed
from .sse import read_events
from .upload import UploadBody
from .watch import WatchedAdapter

_DOWNLOAD_CHUNK = 16 * 1024
"""What urllib3 has of a piece when the connection breaks is lost: small pieces lose little."""
_MOST_JOBS = 10_000


class BackendClient:
    """One backend.

    Not for use by several threads at once: make one client for each.

    Args:
        address: as typed; see ``normalise_address``.
        token: empty when the backend wants none.
        client_id: a UUID; jobs belong to the client that made them. A new one is made when it is empty.
        timeout: seconds to wait for a connection, for each answer to begin, and a third of those until it is whole.

    Raises:
        BackendError: ``bad_address``.
    """

    def __init__(
        self, address: str, token: str = "", client_id: str = "", timeout: float = wire.ANSWER_SECONDS
    ) -> None:
        try:
            self.address = normalise_address(address)
        except AddressError as error:
            raise BackendError("bad_address", str(error)) from error
        self.token = token.strip()
        self.client_id = client_id or str(uuid.uuid4())
        self.timeout = timeout
        self._session = requests.Session()
        # A proxy from the environment must not be asked for this computer itself.
        if is_loopback(self.address):
            self._session.trust_env = False
            self._session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        self._session.auth = _Bearer(self.token)
        self._session.headers.update({wire.VERSION_HEADER: str(wire.VERSION), wire.CLIENT_HEADER: self.client_id})
        # Nothing that unpacks to more than was sent.
        self._session.headers["Accept-Encoding"] = "identity"
        self._watch = WatchedAdapter()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, self._watch)

    def __enter__(self) -> BackendClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def health(self) -> dict[str, Any]:
        """Who answers: ``name``, ``version``, ``wire``, ``device``, ``token_required``, ``queue``.

        Raises:
            BackendError: nobody answers, it is no Maquette backend, or it speaks another version of the wire.
        """
        data = self._json("GET", wire.HEALTH_PATH)
        if not isinstance(data, dict) or data.get("name") != wire.NAME or type(data.get("wire")) is not int:
            raise stranger(self.address)
        if data["wire"] != wire.VERSION:
            raise other_wire(self.address, data["wire"])
        return data

    def models(self) -> list[dict[str, Any]]:
        """The backend's models, available or not."""
        return self._items(self._json("GET", wire.MODELS_PATH))

    def offer(self, model: str) -> dict[str, Any]:
        """What fetching a model's weights would bring to the backend (``catalogue.weights_offer``)."""
        path, patience = wire.model_path(model, "offer"), (self.timeout, wire.OFFER_SECONDS)
        try:
            return dict(self._json("GET", path, timeout=patience))
        except BackendError as error:
            if error.code == Code.NOT_FOUND and path in error.message:
                # No such path: the request is of a later version than the backend.
                raise BackendError(
                    Code.NOT_ALLOWED,
                    "This backend cannot yet be asked to download models: update it, or run 'maquette models fetch "
                    f"{model}' there.",
                ) from error
            raise

    def begin_download(self, model: str, commits: Mapping[str, str]) -> DownloadView:
        """Have the backend fetch what was agreed to: the commit of each repository."""
        return self._download_view("POST", model, json={wire.COMMITS_FIELD: dict(commits)})

    def model_download(self, model: str) -> DownloadView:
        """How far the backend is with it, or how it has ended."""
        return self._download_view("GET", model)

    def cancel_download(self, model: str) -> DownloadView:
        """Have the backend stop fetching; what has come stays."""
        return self._download_view("DELETE", model)

    def _download_view(self, method: str, model: str, **options: Any) -> DownloadView:
        data = self._json(method, wire.model_path(model, "download"), **options)
        try:
            return wire.read(DownloadView, data, "download")
        except wire.WireError as error:
            raise self._unreadable("of a download", error) from error

    def submit(
        self,
        path: str | os.PathLike[str],
        on_bytes: Callable[[int, int], None] | None = None,
        key: str = "",
        urgency: int | None = None,
    ) -> JobView:
        """Upload a .shot file; returns the new job.

        Args:
            on_bytes: called with (bytes sent, bytes in all) from time to time; what it raises ends the upload.
            key: 8 to 64 letters and digits that name this upload: sent once more with the same key, it makes no second
                job. A new one when it is empty.
            urgency: among this client's jobs, 0 to 7, most urgent first; None leaves it to the backend.
        """

        def sent(done: int, total: int) -> None:
            self._watch.allow(wire.STALL_SECONDS)
            if on_bytes:
                on_bytes(done, total)

        try:
            with open(path, "rb") as stream:
                body = UploadBody(stream, Path(path).name, sent)
                priority = {} if urgency is None else {wire.PRIORITY_HEADER: f"u={urgency}"}
                return self._job(
                    "POST",
                    wire.VIDEOS_PATH,
                    data=body,
                    headers={
                        "Content-Type": body.content_type,
                        wire.UPLOAD_KEY_HEADER: key or uuid.uuid4().hex,
                        **priority,
                    },
                    # The shot is read and planned before it is answered.
                    timeout=(self.timeout, max(self.timeout, wire.STALL_SECONDS)),
                )
        except OSError as error:
            if isinstance(error, requests.RequestException):
                raise
            raise BackendError("no_shot", f"The shot {path} cannot be read ({error.strerror or error}).") from error

    def find(self, key: str) -> JobView | None:
        """The job that an upload of this key has made, whose answer was lost for instance; None when there is none."""
        answer = self._json("GET", wire.VIDEOS_PATH, params={"key": key})
        found = self._items(answer)
        # An older backend passes the key over and tells all jobs.
        return self._view(found[0]) if found and answer.get("key") == key else None

    def job(self, job_id: str) -> JobView:
        """One job as it is now."""
        return self._job("GET", wire.video_path(job_id))

    def jobs(self) -> list[JobView]:
        """This client's jobs, newest first."""
        views: list[JobView] = []
        while True:
            page = self._json("GET", wire.VIDEOS_PATH, params={"after": views[-1].id} if views else {})
            new = [self._view(data) for data in self._items(page)]
            views += new
            if not new or page.get("has_more") is not True or len(views) >= _MOST_JOBS:
                return views

    def cancel(self, job_id: str) -> JobView:
        """Cancel a job that waits or runs; one that has ended stays as it is."""
        return self._job("DELETE", wire.video_path(job_id), params={"keep": "true"})

    def delete(self, job_id: str) -> JobView:
        """Cancel a job that waits or runs; remove one that has ended, with its result."""
        return self._job("DELETE", wire.video_path(job_id))

    def preview(self, job_id: str) -> bytes | None:
        """The newest preview as a PNG file's bytes, or None when there is none yet."""
        with self._request("GET", wire.video_path(job_id, "preview")) as response:
            return None if response.status_code == 204 else self._body(response)

    def download(
        self,
        job_id: str,
        path: str | os.PathLike[str],
        variant: str = "video",
        on_bytes: Callable[[int, int], None] | None = None,
    ) -> Path:
        """Fetch a result to ``path``; the file appears only when it is complete.

        An interrupted download leaves ``path`` + ``.part`` and is taken up there by the next call.

        Args:
            variant: ``video`` (an mp4) or ``frames`` (a zip of PNGs).
            on_bytes: called with (bytes here, bytes in all); what it raises interrupts the download.
        """
        path = Path(path)
        try:
            return self._download(job_id, path, variant, on_bytes)
        except BackendError as error:
            if error.code != "range":
                raise
            # What is here does not fit what is there: begin again.
            path.with_name(path.name + ".part").unlink(missing_ok=True)
            return self._download(job_id, path, variant, on_bytes)

    def _download(self, job_id: str, path: Path, variant: str, on_bytes: Callable[[int, int], None] | None) -> Path:
        part, tag_file = path.with_name(path.name + ".part"), path.with_name(path.name + ".part.tag")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            have, tag = _partial(part, tag_file)
            headers = {"Range": f"bytes={have}-", "If-Range": tag} if have else {}
            patience = wire.FRAMES_SECONDS if variant == "frames" else self.timeout
            with self._request(
                "GET", wire.video_path(job_id, "content"), params={"variant": variant}, headers=headers, stream=True,
                timeout=(self.timeout, max(patience, self.timeout)),
            ) as response:  # fmt: skip
                resumed = response.status_code == 206
                if resumed and not have:
                    raise stranger(self.address)
                have = have if resumed else 0
                length = response.headers.get("Content-Length", "")
                total = have + int(length) if length[:18].isdigit() else None
                if total is None and not _is_chunked(response):
                    raise BackendError(
                        "no_length",
                        f"{self.address} does not say how long the result is, so that a broken download would look "
                        "whole. Something between here and the backend drops the length; reach the backend directly.",
                    )
                tag_file.write_text(response.headers.get("ETag", ""), "utf-8")
                with open(part, "ab" if resumed else "wb") as stream:
                    self._watch.allow(wire.STALL_SECONDS)
                    for chunk in self._chunks(response, _DOWNLOAD_CHUNK):
                        self._watch.allow(wire.STALL_SECONDS)
                        stream.write(chunk)
                        have += len(chunk)
                        if have > (wire.MAX_RESULT if total is None else min(total, wire.MAX_RESULT)):
                            raise too_much(self.address)
                        if on_bytes:
                            on_bytes(have, total or have)
                    stream.flush()
                    os.fsync(stream.fileno())
            if total is not None and have != total:
                raise BackendError(
                    "interrupted", f"The download from {self.address} stopped at {have} of {total} bytes; try again."
                )
            os.replace(part, path)
            tag_file.unlink(missing_ok=True)
        except OSError as error:
            raise writing_failed(error, path) from error
        return path

    def events(self, job_id: str) -> Iterator[JobView]:
        """The job each time that something about it changes, until it has ended.

        Raises:
            BackendError: also ``no_events`` when something between here and the backend does not pass a stream on.
        """
        with self._request(
            "GET",
            wire.video_path(job_id, "events"),
            headers={"Accept": "text/event-stream"},
            stream=True,
            timeout=(self.timeout, 3 * wire.HEARTBEAT_SECONDS),
        ) as response:
            if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
                raise BackendError("no_events", f"{self.address} sends no event stream.")
            # A job may wait for days. Whole chunks as they arrive; without chunks only single bytes are sure not to
            # wait for more.
            self._watch.allow(None)
            for name, data in read_events(self._chunks(response, None if _is_chunked(response) else 1)):
                if name == wire.JOB_EVENT:
                    yield self._view(data)

    # -- one request ---------------------------------------------------------------------------------------------

    def _request(self, method: str, path: str, **options: Any) -> requests.Response:
        options.setdefault("timeout", (self.timeout, self.timeout))
        # It is read here, as far as is sensible.
        options["stream"] = True
        try:
            response = self._send(method, path, options)
        except BackendError as error:
            if error.code != "interrupted":
                raise
            if method == "GET":
                # A connection kept from the last request may be closed at the very moment it is used again.
                response = self._send(method, path, options)
            elif method == "POST":
                # A backend that refuses an upload early may close the connection while bytes are still on their way.
                self.health()
                self.models()
                raise
            else:
                raise
        if response.headers.get("Content-Encoding", "identity") != "identity":
            response.close()
            raise stranger(self.address)
        if 200 <= response.status_code < 300:
            return response
        with self._told(), response:
            raise refusal(response.status_code, self._body(response), self.address, self.token)

    def _send(self, method: str, path: str, options: dict[str, Any]) -> requests.Response:
        with self._told():
            self._watch.allow(3 * max(options["timeout"]))
            return self._session.request(method, self.address + path, allow_redirects=False, **options)

    def _json(self, method: str, path: str, **options: Any) -> Any:
        with self._request(method, path, **options) as response:
            try:
                return json.loads(self._body(response))
            except (ValueError, RecursionError):
                raise stranger(self.address) from None

    def _body(self, response: requests.Response) -> bytes:
        """The whole of an answer, as far as one is ever long."""
        body = bytearray()
        with response:
            for chunk in self._chunks(response, 1 << 16):
                body += chunk
                if len(body) > wire.MAX_ANSWER:
                    raise too_much(self.address)
        return bytes(body)

    def _job(self, method: str, path: str, **options: Any) -> JobView:
        return self._view(self._json(method, path, **options))

    def _view(self, data: Any) -> JobView:
        try:
            return JobView.from_json(data)
        except wire.WireError as error:
            raise self._unreadable("of a job", error) from error

    def _unreadable(self, what: str, error: Exception) -> BackendError:
        return BackendError(
            "not_maquette",
            f"What the backend at {self.address} says {what} cannot be read ({error}). Check the address, and "
            "update the add-on or the backend.",
        )

    def _items(self, data: Any) -> list[dict[str, Any]]:
        items = data.get("data") if isinstance(data, dict) else None
        if not isinstance(items, list):
            raise stranger(self.address)
        return items

    def _chunks(self, response: requests.Response, size: int | None) -> Iterator[bytes]:
        with self._told():
            yield from response.iter_content(size)
            if self._watch.late:
                raise requests.exceptions.ReadTimeout

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what requests raises into a BackendError."""
        try:
            yield
        except requests.exceptions.RequestException as error:
            if self._watch.late:
                error = requests.exceptions.ReadTimeout(error)
            raise request_failed(error, self.address, self.timeout) from error


def _is_chunked(response: requests.Response) -> bool:
    return response.headers.get("Transfer-Encoding", "").lower() == "chunked"


def _partial(part: Path, tag_file: Path) -> tuple[int, str]:
    """Bytes and entity tag of a download that was interrupted."""
    try:
        have, tag = part.stat().st_size, tag_file.read_text("utf-8").strip()
    except OSError:
        return 0, ""
    return (have, tag) if tag else (0, "")


class _Bearer(AuthBase):
    """Sets the token itself, so that no entry of a .netrc replaces it."""

    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.token:
            # As bytes: whatever letters were typed, it is for the server to refuse them.
            r.headers["Authorization"] = f"Bearer {self.token}".encode()
        return r
