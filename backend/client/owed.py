"""Cancels that a backend has not heard of yet: written down, and said at the next contact.

A job survives its server's restart, so a cancel that did not arrive would let it run after all.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .errors import BackendError
from .process import read_json, write_json

if TYPE_CHECKING:
    from .api import BackendClient

_MOST = 200


def owed(path: str | Path) -> list[str]:
    """Ids of the jobs whose cancel a backend is owed; ``path`` is a file for that backend alone."""
    data = read_json(Path(path)) or {}
    jobs = data.get("jobs") if isinstance(data, dict) else None
    return [job for job in jobs if isinstance(job, str)] if isinstance(jobs, list) else []


def owe(path: str | Path, job: str) -> None:
    """Write down that a job is to be cancelled.

    Raises:
        OSError: the file cannot be written.
    """
    jobs = owed(path)
    if job and job not in jobs:
        write_json(Path(path), {"jobs": [*jobs, job][-_MOST:]})


def settled(path: str | Path, job: str) -> None:
    """The backend has heard of it.

    Raises:
        OSError: the file cannot be written.
    """
    left = [other for other in owed(path) if other != job]
    if left:
        write_json(Path(path), {"jobs": left})
    else:
        Path(path).unlink(missing_ok=True)


def settle(path: str | Path, client: BackendClient, but: str = "") -> int:
    """Say every cancel that is owed; returns how many the backend has heard.

    Args:
        but: a job that is to go on, since the animator has asked for it again.
    """
    heard = 0
    for job in owed(path):
        try:
            if job != but:
                client.cancel(job)
                heard += 1
        except BackendError as error:
            # Whoever does not answer now is told another time; a job that is not known there needs no cancel.
            if error.transient:
                return heard
        except OSError:
            return heard
        settled(path, job)
    return heard
