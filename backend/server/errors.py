"""Refusals on the wire, and what a full disk looks like."""

from __future__ import annotations

import errno
import sqlite3
from typing import Any

from ..wire import HTTP_STATUS, Code


class ApiError(Exception):
    """A refusal: an HTTP status, the code's own unless another is given, and ``{"error": {code, message, field?}}``."""

    def __init__(
        self, code: Code, message: str, field: str | None = None, *, status: int | None = None, **more: Any
    ) -> None:
        super().__init__(message)
        self.status = status or HTTP_STATUS[code]
        self.body = {"error": {"code": code, "message": message, **({"field": field} if field else {}), **more}}


def is_disk_full(error: BaseException) -> bool:
    """Whether ``error`` says that a disk, or this user's share of it, is full."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorname", "") == "SQLITE_FULL"


def no_space() -> ApiError:
    """The disk that holds the jobs is full."""
    return ApiError(
        Code.NO_SPACE,
        "The backend's disk is full. Delete old results there (or in Maquette's list of jobs) and send the shot again.",
    )
