"""Control films on their way from the scene to files: one export at a time, drawn by the backend of this computer."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

import bpy

from ...backend.catalogue.control import KINDS
from ...backend.client.command import CommandReport, CommandRun
from ...backend.shot import Shot, save_shot
from .. import folders
from ..capture.wants import Wants
from . import backends
from . import view as job_view

_writer: CommandRun | None = None
_target = ""
_what = "Control films"

report = CommandReport("done")
"""How far the export is."""


def problem() -> str:
    """Why no film can be drawn on this computer, in one sentence; empty when one can."""
    local = backends.local()
    if local.python.is_file() and local.poll().state != "absent":
        return ""
    return (
        "Control films and mattes are drawn by a backend on this computer, and none is installed: press Install "
        "Backend with Backend set to This Computer. Or use Export Shot, and 'maquette control' where the backend is"
    )


def wants(kinds: Sequence[str]) -> Wants:
    """What the capture must hold for films of these kinds."""
    needs = {need for kind in kinds for need in KINDS[kind].needs}
    return Wants(
        keypoints="keypoints" in needs, meshes=True, tracks=False, clay="clay" in needs, pictures="pictures" in needs
    )


def busy() -> bool:
    """Whether films are being drawn."""
    return _writer is not None


def start(shot: Shot, target: str, arguments: Sequence[str], command: str = "control") -> None:
    """Begin to draw.

    Args:
        target: file or folder, for messages.
        arguments: of the command, after the shot.
        command: ``control`` or ``matte``.

    Raises:
        OSError: the shot cannot be written, or the process not started.
    """
    global _writer, _target, _what, report
    path = folders.user_folder("control") / f"{uuid.uuid4().hex}.shot"
    save_shot(shot, path)
    try:
        _writer = CommandRun(backends.local().python, path.parent, [command, str(path), *arguments], path)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    _target, report = target, CommandReport("running")
    _what = "Matte" if command == "matte" else "Control films"


def poll() -> bool:
    """Take in how far the films are; returns whether anything to be seen has changed."""
    global _writer, report
    if _writer is None:
        return False
    before, report = report, _writer.poll()
    if report.state != "running":
        _writer = None
        if not bpy.app.background:
            job_view.tell(*outcome())
    return report != before


def tick() -> float:
    """``poll``, and draw the panels again; returns the seconds until it wants to be called again."""
    if poll():
        job_view.redraw()
    return 0.2 if busy() else 1.0


def outcome() -> tuple[str, str]:
    """Level and words of how the last export ended."""
    if report.state == "failed":
        return "ERROR", report.message
    if report.state == "cancelled":
        return "WARNING", f"{_what} cancelled; what was finished stays"
    said = f"{_what} written to {Path(_target).name}"
    return "INFO", ". ".join([said, *(note.rstrip(".") for note in report.notes)])


def cancel() -> None:
    """Stop drawing."""
    if _writer is not None:
        _writer.cancel()


def close() -> None:
    """Blender or the add-on ends."""
    global _writer, report
    if _writer is not None:
        _writer.close()
    _writer, report = None, CommandReport("done")
