"""What ``GET /v1/status`` tells whoever has the token, and the page for people that shows it."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import psutil

from .config import ServerConfig
from .engines import Engines
from .executor import Executor
from .files import JobFiles
from .job_row import JobRow
from .jobs import JobStore

PAGE = Path(__file__).parent / "page"
PAGE_FILES = {
    "": ("index.html", "text/html"),
    "page.js": ("page.js", "text/javascript"),
    "page.css": ("page.css", "text/css"),
}
"""The files of the page by their paths, each with its type; there is no secret in them."""

PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

_DAY = 86400.0
_MOST = 50


def status(
    config: ServerConfig, store: JobStore, files: JobFiles, executor: Executor, engines: Engines, version: str
) -> dict[str, Any]:
    """Queue, running job, models, disk, memory and the last day's errors; of jobs only what people need to see."""
    waiting = store.waiting()
    running = store.running()
    usage = shutil.disk_usage(files.root)
    memory = psutil.virtual_memory()
    return {
        "version": version,
        "device": executor.device,
        "runner": {"alive": executor.alive, "doing": executor.doing, "problem": executor.problem},
        "running": _entry(store, running[0]) if running else None,
        "engines": [
            {
                "device": runner.device,
                "doing": runner.doing,
                "problem": runner.problem,
                "model": runner.seat.model,
                "running": next((_entry(store, job) for job in running if job.id == runner.seat.job), None),
            }
            for runner in executor.runners
        ],
        "queue": [_entry(store, job) for job in waiting[:_MOST]],
        "waiting": len(waiting),
        "models": [
            {"id": model.spec.id, "label": model.spec.label, "available": model.available, "reason": model.reason}
            for model in engines.models()
        ],
        "disk": {"free": usage.free, "total": usage.total},
        "memory": {"free": memory.available, "total": memory.total, "server": _resident()},
        "errors": [
            {"at": job.finished_at, "name": job.name, "model": job.model, "message": job.error and job.error.message}
            for job in store.failed_since(time.time() - _DAY, _MOST)
        ],
        "retention": {"days": config.keep_days, "gigabytes": config.keep_gigabytes},
    }


def _entry(store: JobStore, job: JobRow) -> dict[str, Any]:
    view = store.view(job)
    return {
        "name": view.name, "model": view.model, "created_at": view.created_at, "stage": view.stage, "step": view.step,
        "steps": view.steps, "progress": view.progress, "eta_seconds": view.eta_seconds,
    }  # fmt: skip


def _resident() -> int:
    """Bytes of memory that the server and its engines hold."""
    total = 0
    for process in (own := psutil.Process(os.getpid()), *own.children(recursive=True)):
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total
