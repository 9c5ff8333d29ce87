"""A model's weights on their way from their hub to this computer: one fetch at a time, by the backend that is here."""

from __future__ import annotations

import shutil
from pathlib import Path

import bpy

from ...backend.catalogue.models import weights_home
from ...backend.client.command import CommandReport, CommandRun
from .. import folders
from . import backends, models
from . import view as job_view

_run: CommandRun | None = None
_model = ""

report = CommandReport("done")
"""How far the fetch is."""


def can(model: models.Model) -> bool:
    """Whether a model's weights may be fetched by a press of a button: it lacks them, and runs on this computer."""
    local = backends.is_local() and backends.local().python.is_file()
    return model.state == "MISSING" and bool(model.sources) and local


def facts(model: models.Model) -> list[str]:
    """What one must know before anything comes, a line each."""
    lines, total = [], 0.0
    wanted = [source for source in model.sources if not source.optional]
    for repository in dict.fromkeys(source.repository for source in wanted):
        parts = [source for source in wanted if source.repository == repository]
        size = sum(source.gigabytes for source in parts)
        total += size
        lines.append(f"huggingface.co/{repository}: {size:.1f} GB")
        lines += [f"    Licence: {license}" for license in dict.fromkeys(source.license for source in parts)]
        lines += [f"    {note}" for note in dict.fromkeys(source.note for source in parts) if note]
    free, there = _room()
    lines.append(f"About {total:.1f} GB in all, and as much again on the way; {free:.0f} GB are free in {there}")
    return lines


def lack(model: models.Model) -> str:
    """What is said where the disk has not even room for the model alone, or empty."""
    total = sum(source.gigabytes for source in model.sources if not source.optional)
    free, _ = _room()
    return f"Not enough room: free {total - free + 1:.0f} GB first" if free < total else ""


def _room() -> tuple[float, Path]:
    """Free GB where weights go, and that folder, or the one above that is there."""
    home = weights_home()
    there = next(path for path in (home, *home.parents) if path.is_dir())
    return shutil.disk_usage(there).free / 1e9, there


def busy() -> bool:
    """Whether weights are coming."""
    return _run is not None


def start(model: str) -> None:
    """Begin, or go on where a fetch was stopped. Raises OSError when the process cannot be started."""
    global _run, _model, report
    words = ["models", "fetch", model, "--yes"]
    _run = CommandRun(backends.local().python, folders.user_folder("fetch"), words)
    _model, report = model, CommandReport("running", label="Asking the Hub")


def poll() -> bool:
    """Take in how far it is; returns whether anything to be seen has changed."""
    global _run, report
    if _run is None:
        return False
    before, report = report, _run.poll()
    if report.state != "running":
        _run = None
        if report.state == "done" and not bpy.app.background:
            backends.start_test()
        if not bpy.app.background:
            job_view.tell(*outcome())
    return report != before


def tick() -> float:
    """``poll``, and draw the panels again; returns the seconds until it wants to be called again."""
    if poll():
        job_view.redraw()
    return 0.5 if busy() else 1.0


def outcome() -> tuple[str, str]:
    """Level and words of how the last fetch ended."""
    label = models.find(_model).label
    if report.state == "failed":
        return "ERROR", f"{label} was not fetched: {report.message}"
    if report.state == "cancelled":
        return "WARNING", f"{label} was not fetched; what has come stays, and Download goes on from there"
    return "INFO", f"{label} is here"


def cancel() -> None:
    """Stop; what has come stays."""
    if _run is not None:
        _run.cancel()


def close() -> None:
    """Blender or the add-on ends."""
    global _run, report
    if _run is not None:
        _run.close()
    _run, report = None, CommandReport("done")
