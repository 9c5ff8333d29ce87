"""What a server does now and then, beside its requests and jobs: forget old results, keep its log short, and end when
nobody is left who wants it."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from .config import ServerConfig
from .files import JobFiles
from .jobs import JobStore

log = logging.getLogger("maquette.upkeep")

LOG_BYTES = 16 << 20
"""A log that grows beyond is kept once, under another name, and begun anew."""

_LOOK_SECONDS = 5.0
_PRUNE_SECONDS = 600.0
_JUMP_SECONDS = 3600.0


class Upkeep:
    """A thread; what fails in it is logged and tried again.

    Args:
        end: called when nobody is left who wants the server.
    """

    def __init__(
        self,
        config: ServerConfig,
        store: JobStore,
        files: JobFiles,
        end: Callable[[], None],
    ) -> None:
        self._config, self._store, self._files, self._end = config, store, files, end
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="upkeep", daemon=True)
        self._clock = time.time() - _uptime()
        self._pruned: float | None = None
        self._wanted = time.monotonic()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def leave(self) -> None:
        """Begin nothing more: the store is about to be closed."""
        self._over.set()

    def stop(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join()

    def _loop(self) -> None:
        while not self._over.is_set():
            for task in (self._prune, self._shorten_log, self._look_for_users):
                try:
                    task()
                except Exception:
                    log.exception("The server's upkeep goes on after an error")
            self._over.wait(min(_LOOK_SECONDS, max(self._config.idle_end / 4, 0.05)))

    def _prune(self) -> None:
        now = time.monotonic()
        if self._pruned is not None and now - self._pruned < _PRUNE_SECONDS:
            return
        self._pruned = now
        days, gigabytes = self._config.keep_days, self._config.keep_gigabytes
        if abs(time.time() - _uptime() - self._clock) > _JUMP_SECONDS:
            # By a clock that was set, everything may look old.
            days = None
        gone = prune(self._store, self._files, days, gigabytes)
        if gone:
            log.info("%d results were deleted, as the server was told (%s)", len(gone), ", ".join(gone[:3]))

    def _shorten_log(self) -> None:
        path = self._config.log_file
        if path is not None and path.exists() and path.stat().st_size > LOG_BYTES:
            shutil.copyfile(path, path.with_name(f"{path.name}.1"))
            # All who write to it append, the engine's process too.
            os.truncate(path, 0)

    def _look_for_users(self) -> None:
        if self._config.users is None:
            return
        if self._store.size or alive_users(self._config.users):
            self._wanted = time.monotonic()
        elif time.monotonic() - self._wanted > self._config.idle_end:
            log.info("Nobody is left who wants this server, and no job waits: it ends")
            self._over.set()
            self._end()


def prune(
    store: JobStore, files: JobFiles, days: float | None, gigabytes: float | None, *, really: bool = True
) -> list[str]:
    """Delete jobs that have ended, with their results, oldest first; what waits or runs is never touched.

    Args:
        days: delete those that ended longer ago.
        gigabytes: then delete until the rest of them take no more.
        really: whether to delete them, or only to tell which.

    Returns:
        The ids of the jobs.
    """
    if days is None and gigabytes is None:
        return []
    ended = sorted((job for job in store.all_jobs() if job.ended), key=lambda job: job.finished_at or 0.0)
    before = -1.0 if days is None else time.time() - days * 86400
    sizes = {job.id: files.size(job.id) for job in ended} if gigabytes is not None else {}
    left = sum(sizes.values())
    gone = []
    for job in ended:
        too_much = gigabytes is not None and left > gigabytes * 1e9
        if not too_much and (job.finished_at or 0.0) >= before:
            continue
        left -= sizes.get(job.id, 0)
        gone.append(job.id)
        if really:
            store.delete(job.id)
            files.remove(job.id)
    return gone


def alive_users(folder: Path) -> list[int]:
    """Processes that have a file named by their number in ``folder``; files of dead ones are removed."""
    alive = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if not path.name.isdigit():
            continue
        try:
            # Numbers are used again: one that began after the file was written is somebody else.
            if psutil.Process(int(path.name)).create_time() <= path.stat().st_mtime + 2.0:
                alive.append(int(path.name))
                continue
        except (psutil.NoSuchProcess, OverflowError):
            pass
        except psutil.AccessDenied:
            alive.append(int(path.name))
            continue
        path.unlink(missing_ok=True)
    return alive


def log_to(path: Path) -> None:
    """Append what this process and its children print to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for standard in (1, 2):
        os.dup2(handle, standard)
    os.close(handle)


def _uptime() -> float:
    """Seconds since some moment, those that the computer slept among them where the system tells."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
