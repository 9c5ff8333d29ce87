"""How a server is set up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..wire import CANCEL_SECONDS, MAX_QUEUE, MAX_UPLOAD, STALL_SECONDS

REGISTRY_ENGINES = "maquette.backend.server.engines:RegistryEngines"


@dataclass(frozen=True)
class ServerConfig:
    """Settings of one server.

    Attributes:
        data: folder for the job store, uploads and results; one server at a time uses it.
        token: bearer token that every request but health must carry; empty for none.
        any_host: answer whatever name the request was sent to. Without a token and on this computer only, requests
            sent to another name are refused: a web page could otherwise point its own name at this computer.
        device: for the engines, such as ``cuda:1`` or ``cpu``; None lets them choose.
        gpus: of each engine; empty for ``workers`` engines on ``device``.
        members: processes of an engine that make each film together, where no GPUs are named.
        cluster: what the Ray cluster has, in words, when that is to run the engines; else empty.
        engines: ``module:attribute`` of a factory of the engines (see ``engines.Engines``).
        models: folders with descriptions of more models, beside the built-in ones.
        downloads: whether clients may have it fetch published weights, once they have agreed to them.
        max_upload: bytes of a .shot file.
        max_queue: jobs that wait; more are refused.
        max_attempts: times a job is begun when the server does not survive it.
        idle_unload: seconds without a job after which the engine process ends and gives its memory back.
        cancel_patience: seconds after which a cancelled job that does not stop is stopped with its process; at least
            three of its steps are waited for.
        stall: seconds that an upload may stand still.
        keep_days, keep_gigabytes: results that are older, or do not fit, are deleted; None to keep them.
        log_file: where what is printed goes; kept short. None for the terminal.
        users: folder with a file for each process that wants this server, named by its number. Once none of them lives
            and no job waits, the server ends after ``idle_end`` seconds. None to run on.
    """

    data: Path
    token: str = ""
    any_host: bool = False
    device: str | None = None
    gpus: tuple[tuple[int, ...], ...] = ()
    workers: int = 1
    members: int = 1
    cluster: str = ""
    engines: str = REGISTRY_ENGINES
    models: tuple[Path, ...] = ()
    downloads: bool = False
    max_upload: int = MAX_UPLOAD
    max_queue: int = MAX_QUEUE
    max_attempts: int = 3
    idle_unload: float = 600.0
    cancel_patience: float = CANCEL_SECONDS
    stall: float = STALL_SECONDS
    keep_days: float | None = None
    keep_gigabytes: float | None = None
    log_file: Path | None = None
    users: Path | None = None
    idle_end: float = 600.0
