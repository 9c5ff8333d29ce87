"""A backend over HTTP: one method per request of the wire (docs/wire.md)."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests
from requests.auth import AuthBase

from .. import wire
from ..wire import Code, JobView
from .address import AddressError, is_loopback, normalise_address, split_host
from .errors import BackendError, writing_failed
from .sse import read_events
from .upload import UploadBody

_DOWNLOAD_CHUNK = 16 * 1024
"""What urllib3 has of a piece when the connection breaks is lost: small pieces lose little."""
_START = "Start it (in the preferences, or with 'maquette serve')"


class BackendClient:
    """One backend.

    Not for use by several threads at once: make one client for each.

    Args:
        address: as typed; see ``normalise_address``.
        token: empty when the backend wants none.
        client_id: a UUID; jobs belong to the client that made them. A new one is made when it is empty.
        timeout: seconds to wait for a connection and for each answer.

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
        if not isinstance(data, dict) or data.get("name") != wire.NAME or not isinstance(data.get("wire"), int):
            raise self._stranger()
        if data["wire"] != wire.VERSION:
            raise _other_wire(self.address, data["wire"])
        return data

    def models(self) -> list[dict[str, Any]]:
        """The backend's models, available or not."""
        return self._list(wire.MODELS_PATH)

    def submit(self, path: str | os.PathLike[str], on_bytes: Callable[[int, int], None] | None = None) -> JobView:
        """Upload a .shot file; returns the new job.

        Args:
            on_bytes: called with (bytes sent, bytes in all) from time to time; what it raises ends the upload.
        """
        try:
            with open(path, "rb") as stream:
                body = UploadBody(stream, Path(path).name, on_bytes)
                return self._job("POST", wire.VIDEOS_PATH, data=body, headers={"Content-Type": body.content_type})
        except OSError as error:
            if isinstance(error, requests.RequestException):
                raise
            raise BackendError("no_shot", f"The shot {path} cannot be read ({error.strerror or error}).") from error

    def job(self, job_id: str) -> JobView:
        """One job as it is now."""
        return self._job("GET", wire.video_path(job_id))

    def jobs(self) -> list[JobView]:
        """This client's jobs, newest first."""
        return [self._view(data) for data in self._list(wire.VIDEOS_PATH)]

    def cancel(self, job_id: str) -> JobView:
        """Cancel a job that waits or runs; one that has ended stays as it is."""
        return self._job("DELETE", wire.video_path(job_id), params={"keep": "true"})

    def delete(self, job_id: str) -> JobView:
        """Cancel a job that waits or runs; remove one that has ended, with its result."""
        return self._job("DELETE", wire.video_path(job_id))

    def preview(self, job_id: str) -> bytes | None:
        """The newest preview as a PNG file's bytes, or None when there is none yet."""
        with self._request("GET", wire.video_path(job_id, "preview")) as response:
            return None if response.status_code == 204 else response.content

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
                have = have if resumed else 0
                length = response.headers.get("Content-Length")
                total = have + int(length) if length and length.isdigit() else None
                tag_file.write_text(response.headers.get("ETag", ""), "utf-8")
                with open(part, "ab" if resumed else "wb") as stream:
                    for chunk in self._chunks(response, _DOWNLOAD_CHUNK):
                        stream.write(chunk)
                        have += len(chunk)
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
            # Whole chunks as they arrive; without chunks only single bytes are sure not to wait for more.
            chunked = response.headers.get("Transfer-Encoding", "").lower() == "chunked"
            for name, data in read_events(self._chunks(response, None if chunked else 1)):
                if name == wire.JOB_EVENT:
                    yield self._view(data)

    # -- one request ---------------------------------------------------------------------------------------------

    def _request(self, method: str, path: str, **options: Any) -> requests.Response:
        options.setdefault("timeout", (self.timeout, self.timeout))
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
        if 200 <= response.status_code < 300:
            return response
        with self._told(), response:
            raise self._refusal(response)

    def _send(self, method: str, path: str, options: dict[str, Any]) -> requests.Response:
        with self._told():
            return self._session.request(method, self.address + path, allow_redirects=False, **options)

    def _json(self, method: str, path: str, **options: Any) -> Any:
        with self._request(method, path, **options) as response, self._told():
            try:
                return response.json()
            except requests.exceptions.JSONDecodeError:
                raise self._stranger() from None

    def _job(self, method: str, path: str, **options: Any) -> JobView:
        return self._view(self._json(method, path, **options))

    def _view(self, data: Any) -> JobView:
        try:
            return JobView.from_json(data)
        except wire.WireError as error:
            raise BackendError(
                "not_maquette",
                f"What the backend at {self.address} says of a job cannot be read ({error}). Check the address, and "
                "update the add-on or the backend.",
            ) from error

    def _list(self, path: str) -> list[dict[str, Any]]:
        data = self._json("GET", path)
        items = data.get("data") if isinstance(data, dict) else None
        if not isinstance(items, list):
            raise self._stranger()
        return items

    def _chunks(self, response: requests.Response, size: int | None) -> Iterator[bytes]:
        with self._told():
            yield from response.iter_content(size)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what requests raises into a BackendError."""
        at = self.address
        try:
            yield
        except requests.exceptions.SSLError as error:
            raise self._tls(error) from error
        except requests.exceptions.ConnectTimeout as error:
            raise BackendError(
                "timeout",
                f"No answer from {at} within {self.timeout:g} s. Check the address, that the computer is on, and that "
                "no firewall stands between.",
            ) from error
        except requests.exceptions.ProxyError as error:
            raise BackendError(
                "unreachable", f"The proxy of this network does not let requests through to {at} ({_cause(error)})."
            ) from error
        except requests.exceptions.Timeout as error:
            raise BackendError(
                "timeout", f"The backend at {at} took the connection but did not answer in time. It may be overloaded."
            ) from error
        except requests.exceptions.ChunkedEncodingError as error:
            raise BackendError("interrupted", f"The connection to the backend at {at} broke off.") from error
        except requests.exceptions.ConnectionError as error:
            raise self._unreachable(error) from error
        except requests.exceptions.RequestException as error:
            raise BackendError("unreachable", f"The request to {at} failed: {_cause(error)}.") from error

    def _unreachable(self, error: Exception) -> BackendError:
        cause = _cause(error)
        at = self.address
        if any(word in cause for word in ("NameResolution", "getaddrinfo", "Name or service", "nodename nor servname")):
            return BackendError(
                "unreachable", f"No computer called '{split_host(at)}' is known here. Check the backend's address."
            )
        if "timed out" in cause.lower():
            return BackendError("timeout", f"The backend at {at} took the connection but did not answer in time.")
        if any(
            word in cause
            for word in ("Connection aborted", "reset", "RemoteDisconnected", "Broken pipe", "BadStatusLine")
        ):
            return BackendError("interrupted", f"The connection to the backend at {at} broke off.")
        return BackendError(
            "unreachable",
            f"No backend answers at {at}. {_START}, or check the address and the port in the preferences.",
        )

    def _tls(self, error: Exception) -> BackendError:
        cause = _cause(error)
        if any(
            word in cause for word in ("WRONG_VERSION_NUMBER", "wrong version number", "HTTP_REQUEST", "record layer")
        ):
            message = f"{self.address} does not speak TLS: type the address with http:// instead of https://."
        elif "CERTIFICATE_VERIFY_FAILED" in cause:
            message = (
                f"The certificate of {self.address} is not trusted by this computer. Install the certificate of the "
                "authority that signed it, or name its file in the environment variable REQUESTS_CA_BUNDLE."
            )
        else:
            message = f"No secure connection to {self.address} ({cause})."
        return BackendError("tls", message)

    def _stranger(self) -> BackendError:
        return BackendError(
            "not_maquette",
            f"Something answers at {self.address}, but it is no Maquette backend. Check the address and the port.",
        )

    def _refusal(self, response: requests.Response) -> BackendError:
        """The error that an answer of 300 and above stands for."""
        if response.status_code == 416:
            return BackendError("range", "The result has another size than before; fetch it again.")
        try:
            detail = response.json()["error"]
            code, message, field = str(detail["code"]), str(detail["message"]), detail.get("field")
        except (ValueError, KeyError, TypeError, AttributeError):
            if response.status_code in (502, 503, 504):
                return BackendError(
                    "unreachable",
                    f"{self.address} passes requests on, but no backend answers behind it "
                    f"(HTTP {response.status_code}).",
                )
            return self._stranger()
        if code == Code.UNAUTHORIZED:
            message = (
                f"The backend at {self.address} refuses this token. Correct it in the preferences."
                if self.token
                else f"The backend at {self.address} wants a token. Enter it in the preferences."
            )
        elif code == Code.WIRE_MISMATCH:
            return _other_wire(self.address, detail.get("wire"))
        return BackendError(code, message, field if isinstance(field, str) else None)


def _other_wire(address: str, theirs: object) -> BackendError:
    if isinstance(theirs, int) and theirs > wire.VERSION:
        cure = "update the add-on"
    elif isinstance(theirs, int):
        cure = "update the backend"
    else:
        cure, theirs = "update the older of the two", "another"
    return BackendError(
        Code.WIRE_MISMATCH,
        f"The backend at {address} speaks version {theirs} of the wire and this add-on version {wire.VERSION}: {cure}.",
    )


def _cause(error: BaseException) -> str:
    """The innermost reason in one line."""
    text = str(error) or type(error).__name__
    return " ".join(text.split())[:300]


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
