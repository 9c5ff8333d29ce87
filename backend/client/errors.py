"""What can go wrong between Blender and a backend, in words that an animator can act on."""

from __future__ import annotations

import errno
import json

import requests

from ..wire import MAX_MESSAGE, VERSION, Code, JobError
from .address import split_host

_START = "Start it (in the preferences, or with 'maquette serve')"


class BackendError(Exception):
    """A request that failed.

    Attributes:
        code: short and stable, for programs: a ``wire.Code``, or from this side ``bad_address``, ``unreachable``,
            ``timeout``, ``tls``, ``not_maquette``, ``interrupted``, ``disk_full``, ``cannot_write``...
        message: one or two sentences that say what is wrong and what to do.
        field: the part of the shot at fault, when the backend named one.
    """

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field

    @property
    def transient(self) -> bool:
        """Whether the same request may work a little later, a restarting server for instance."""
        return self.code in ("unreachable", "timeout", "interrupted", "stopping")

    @property
    def told(self) -> JobError:
        """As in a job's ``error``."""
        return JobError(str(self.code), self.message, self.field)


def writing_failed(error: OSError, path: object) -> BackendError:
    """A file of this computer that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BackendError(
            "disk_full",
            f"The disk is full, so {path} could not be written. Free some space and fetch the result again; "
            "the backend still has it.",
        )
    return BackendError(
        "cannot_write",
        f"{path} could not be written ({error.strerror or error}). Choose another folder in the preferences and fetch "
        "the result again; the backend still has it.",
    )


def request_failed(error: Exception, at: str, timeout: float) -> BackendError:
    """What ``requests`` raised of the backend at the address ``at``."""
    if isinstance(error, requests.exceptions.SSLError):
        return _tls(error, at)
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return BackendError(
            "timeout",
            f"No answer from {at} within {timeout:g} s. Check the address, that the computer is on, and that "
            "no firewall stands between.",
        )
    if isinstance(error, requests.exceptions.ProxyError):
        return BackendError(
            "unreachable", f"The proxy of this network does not let requests through to {at} ({_cause(error)})."
        )
    if isinstance(error, requests.exceptions.Timeout):
        return BackendError(
            "timeout", f"The backend at {at} took the connection but did not answer in time. It may be overloaded."
        )
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return BackendError("interrupted", f"The connection to the backend at {at} broke off.")
    if isinstance(error, requests.exceptions.ConnectionError):
        return _unreachable(error, at)
    return BackendError("unreachable", f"The request to {at} failed: {_cause(error)}.")


def _unreachable(error: Exception, at: str) -> BackendError:
    cause = _cause(error)
    if any(word in cause for word in ("NameResolution", "getaddrinfo", "Name or service", "nodename nor servname")):
        return BackendError(
            "unreachable", f"No computer called '{split_host(at)}' is known here. Check the backend's address."
        )
    if "timed out" in cause.lower():
        return BackendError("timeout", f"The backend at {at} took the connection but did not answer in time.")
    if any(
        word in cause for word in ("Connection aborted", "reset", "RemoteDisconnected", "Broken pipe", "BadStatusLine")
    ):
        return BackendError("interrupted", f"The connection to the backend at {at} broke off.")
    return BackendError(
        "unreachable",
        f"No backend answers at {at}. {_START}, or check the address and the port in the preferences.",
    )


def _tls(error: Exception, at: str) -> BackendError:
    cause = _cause(error)
    if any(word in cause for word in ("WRONG_VERSION_NUMBER", "wrong version number", "HTTP_REQUEST", "record layer")):
        message = f"{at} does not speak TLS: type the address with http:// instead of https://."
    elif "CERTIFICATE_VERIFY_FAILED" in cause:
        message = (
            f"The certificate of {at} is not trusted by this computer. Install the certificate of the "
            "authority that signed it, or name its file in the environment variable REQUESTS_CA_BUNDLE."
        )
    else:
        message = f"No secure connection to {at} ({cause})."
    return BackendError("tls", message)


def stranger(at: str) -> BackendError:
    """Somebody else answers there."""
    return BackendError(
        "not_maquette",
        f"Something answers at {at}, but it is no Maquette backend. Check the address and the port.",
    )


def too_much(at: str) -> BackendError:
    """An answer beyond what is read."""
    return BackendError(
        "not_maquette", f"{at} sends more than a Maquette backend does. Check the address and the port."
    )


def refusal(status: int, body: bytes, at: str, token: str) -> BackendError:
    """The error that an answer of 300 and above stands for."""
    if status == 416:
        return BackendError("range", "The result has another size than before; fetch it again.")
    try:
        detail = json.loads(body)["error"]
        code, message, field = detail["code"], detail["message"][:MAX_MESSAGE], detail.get("field")
        if not isinstance(code, str) or len(code) > 64 or not isinstance(message, str):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        if status in (502, 503, 504):
            return BackendError(
                "unreachable",
                f"{at} passes requests on, but no backend answers behind it (HTTP {status}).",
            )
        return stranger(at)
    if code == Code.UNAUTHORIZED:
        message = (
            f"The backend at {at} refuses this token. Correct it in the preferences."
            if token
            else f"The backend at {at} wants a token. Enter it in the preferences."
        )
    elif code == Code.WIRE_MISMATCH:
        return other_wire(at, detail.get("wire"))
    return BackendError(code, message, field[:200] if isinstance(field, str) else None)


def other_wire(address: str, theirs: object) -> BackendError:
    """A backend that speaks another version of the wire."""
    if isinstance(theirs, int) and theirs > VERSION:
        cure = "update the add-on"
    elif isinstance(theirs, int):
        cure = "update the backend"
    else:
        cure, theirs = "update the older of the two", "another"
    return BackendError(
        Code.WIRE_MISMATCH,
        f"The backend at {address} speaks version {theirs} of the wire and this add-on version {VERSION}: {cure}.",
    )


def _cause(error: BaseException) -> str:
    """The innermost reason in one line."""
    text = str(error) or type(error).__name__
    return " ".join(text.split())[:300]
