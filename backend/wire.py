"""What client and server both say (docs/wire.md): the job view, versions, paths, headers, codes and patience.

A new field of the job view is one line in ``JobView``; the server's ``JobStore.view`` fills it, and a panel shows it.
"""

from __future__ import annotations

import math
import re
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

VERSION = 1
NAME = "maquette"
"""How a backend calls itself in ``GET /v1/health``."""

DEFAULT_PORT = 8188

HEALTH_PATH = "/v1/health"
MODELS_PATH = "/v1/models"
VIDEOS_PATH = "/v1/videos"

STATUS_PATH = "/v1/status"

COMMITS_FIELD = "commits"
"""Of what begins a download: the commit of each repository, as the offer that was agreed to names it."""

VERSION_HEADER = "X-Maquette-Wire"
CLIENT_HEADER = "X-Maquette-Client"
UPLOAD_KEY_HEADER = "Idempotency-Key"
"""Names an upload: sent again with the same key, after its answer was lost for instance, it makes no second job."""

PRIORITY_HEADER = "Priority"
"""Of an upload: ``u=0`` to ``u=7``, most urgent first (RFC 9218)."""

URGENCY = 3
"""Of a shot that says none; a draft's is ``DRAFT_URGENCY``."""

DRAFT_URGENCY = 2

PRIORITIES = {"high": 1, "normal": None, "low": 5}
"""Urgency by the names that people choose from; None leaves it to the backend."""

SHOT_FIELD = "shot"
"""The file field of an upload."""

VARIANTS = {"video": (".mp4", "video/mp4"), "frames": (".zip", "application/zip")}
"""What ``content`` gives: the ending of its file, and its type."""

JOB_EVENT = "job"
"""The name of every event on a job's stream."""

MAX_UPLOAD = 2 << 30
"""Bytes of a shot that a server takes when it is not told otherwise."""

MAX_QUEUE = 100
"""Jobs that may wait when the server is not told otherwise."""

PAGE = 100
"""Jobs of one answer to ``GET /v1/videos``."""

# Patience, in seconds.

ANSWER_SECONDS = 10.0
"""A client waits so long for a connection, and for each answer."""

OFFER_SECONDS = 90.0
"""A client waits so long for an offer of weights, for which a backend asks their publishers."""

FRAMES_SECONDS = 300.0
"""A client waits so long for the answer to ``variant=frames``, which is made when it is first asked for."""

HEARTBEAT_SECONDS = 15
"""A server sends something on an event stream at least this often."""

CANCEL_SECONDS = 30.0
"""A cancelled job stops within so long, or its process is ended."""

GIVE_UP_CANCEL_SECONDS = CANCEL_SECONDS + ANSWER_SECONDS
"""After so long without a word a client takes the job that it has cancelled for cancelled."""

STALL_SECONDS = 60.0
"""An upload may stand still for so long."""

RECONNECT_SECONDS = 300.0
"""A client tries so long to reach a backend that has stopped answering during a job."""


# What is read of a peer, in bytes.

MAX_ANSWER = 16 << 20
"""Of an answer in JSON, and of a preview."""

MAX_RESULT = 64 << 30
"""Of a film, or of its frames."""

MAX_MESSAGE = 2000
"""Characters of an error's message."""

_JOB_ID = re.compile(r"vid_[0-9a-z]{8,64}", re.ASCII)


class Status(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to the job."""
        return self in (Status.COMPLETED, Status.FAILED, Status.CANCELLED)


CANCELLING = "cancelling"
"""The stage of a job that was cancelled and has not stopped yet; the others are the engine's."""


class Code(StrEnum):
    """Why a request was refused (the first part), or a job failed."""

    BAD_REQUEST = "bad_request"
    UNAUTHORIZED = "unauthorized"
    NOT_FOUND = "not_found"
    NOT_READY = "not_ready"
    TOO_LARGE = "too_large"
    INVALID_SHOT = "invalid_shot"
    WIRE_MISMATCH = "wire_mismatch"
    NOT_ALLOWED = "not_allowed"
    FETCH_FAILED = "fetch_failed"
    QUEUE_FULL = "queue_full"
    SERVER_ERROR = "server_error"
    NO_SPACE = "no_space"

    MODEL_UNAVAILABLE = "model_unavailable"
    OUT_OF_MEMORY = "out_of_memory"
    NOT_FINITE = "not_finite"
    ENGINE_KILLED = "engine_killed"
    ENGINE_CRASHED = "engine_crashed"
    ENGINE_BROKEN = "engine_broken"
    INTERRUPTED = "interrupted"
    INTERNAL = "internal"


HTTP_STATUS = {
    Code.BAD_REQUEST: 400, Code.UNAUTHORIZED: 401, Code.NOT_ALLOWED: 403, Code.NOT_FOUND: 404, Code.NOT_READY: 409,
    Code.TOO_LARGE: 413, Code.INVALID_SHOT: 422, Code.WIRE_MISMATCH: 426, Code.QUEUE_FULL: 429,
    Code.SERVER_ERROR: 500, Code.FETCH_FAILED: 502, Code.NO_SPACE: 507,
}  # fmt: skip
"""The usual HTTP status of a refusal."""


class WireError(ValueError):
    """What came is not what the wire says; the message names the field."""


@dataclass(frozen=True)
class VideoPlan:
    """Size in pixels, number of frames and frames a second of a result."""

    width: int
    height: int
    frames: int
    fps: float


@dataclass(frozen=True)
class JobError:
    """Why a job failed.

    Attributes:
        code: a ``Code``, or what a later version knows.
        message: for the animator.
        field: dotted path of the shot's part at fault.
    """

    code: str
    message: str
    field: str | None = None


@dataclass(frozen=True)
class JobView:
    """A job as ``GET /v1/videos/ID`` and the events tell it.

    Attributes:
        created_at, started_at, finished_at: seconds since 1970.
        queue_position: jobs before this one; None unless queued.
        stage: what the engine does; None unless running.
        step, steps: within the stage.
        progress: 0 to 100 over the whole job.
        eta_seconds: until the job is done.
        notes: sentences for the animator.
        plan: of the result.
        error: of a job that failed.
    """

    id: str
    status: Status
    name: str = ""
    model: str = ""
    created_at: float = 0.0
    started_at: float | None = None
    finished_at: float | None = None
    queue_position: int | None = None
    stage: str | None = None
    step: int | None = None
    steps: int | None = None
    progress: float = 0.0
    eta_seconds: float | None = None
    notes: tuple[str, ...] = ()
    plan: VideoPlan | None = None
    error: JobError | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status.ended

    def to_json(self) -> dict[str, Any]:
        """As the wire has it."""
        return {"id": self.id, "object": "video", **asdict(self)}

    @classmethod
    def from_json(cls, data: Any) -> JobView:
        """Read an answer of the wire. Raises WireError."""
        view = read(cls, data, "job")
        if not _JOB_ID.fullmatch(view.id):
            # It becomes part of paths, here and in requests.
            raise WireError(f"job.id: must be vid_ and 8 to 64 small letters and digits, not {_words(view.id)}")
        return view


@dataclass(frozen=True)
class DownloadView:
    """A model's weights on their way to a backend, as ``GET /v1/models/ID/download`` tells it.

    Attributes:
        model: its id.
        status: ``in_progress``, ``completed``, ``failed`` or ``cancelled``.
        progress: 0 to 100.
        label: what is being done, how much is there, and the time left, in words.
        message: why it failed, for the animator.
    """

    model: str
    status: Status
    progress: float = 0.0
    label: str = ""
    message: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status.ended

    def to_json(self) -> dict[str, Any]:
        """As the wire has it."""
        return {"object": "download", **asdict(self)}


def model_path(model: str, part: str) -> str:
    """The path of a model's ``offer`` or ``download``."""
    return f"{MODELS_PATH}/{model}/{part}"


def video_path(job_id: str, part: str = "") -> str:
    """The path of a job, or of its ``content``, ``events`` or ``preview``."""
    return f"{VIDEOS_PATH}/{job_id}/{part}".rstrip("/")


Read = TypeVar("Read")


def read(kind: type[Read], data: Any, where: str) -> Read:
    """A dataclass from the object that JSON has for it; what it does not know is passed over.

    Args:
        where: what the object is, for errors.

    Raises:
        WireError: a field is missing or of the wrong type.
    """
    if not isinstance(data, dict):
        raise WireError(f"{where}: must be an object, not {_words(data)}")
    hints, values = _hints(kind), {}
    for f in fields(kind):  # type: ignore[arg-type]
        if f.name in data:
            values[f.name] = _value(hints[f.name], data[f.name], f"{where}.{f.name}")
        elif f.default is MISSING:
            raise WireError(f"{where}.{f.name}: is missing")
    return kind(**values)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _value(hint: Any, value: Any, where: str) -> Any:
    options = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    if value is None and NoneType in options:
        return None
    kind = options[0]
    if is_dataclass(kind):
        return read(kind, value, where)  # type: ignore[arg-type]
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise WireError(f"{where}: must be a list, not {_words(value)}")
        return tuple(_value(get_args(kind)[0], entry, f"{where}[{i}]") for i, entry in enumerate(value))
    if issubclass(kind, StrEnum):
        if value not in list(kind):
            raise WireError(f"{where}: must be one of {', '.join(kind)}, not {_words(value)}")
        return kind(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        raise WireError(f"{where}: must be {_NAMES[kind]}, not {_words(value)}")
    return value


_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def _words(value: object) -> str:
    return f"{value!r:.40}" if isinstance(value, (str, int, float, NoneType)) else type(value).__name__
