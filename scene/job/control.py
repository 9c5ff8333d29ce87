"""Control films on their way from the scene to files: one export at a time, drawn by the backend of this computer."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

from ...backend.catalogue.control import KINDS
from ...backend.client.command import CommandReport, CommandRun
from ...backend.shot import Shot, save_shot
from .. import folders
from ..capture.wants import Wants
from . import backends
from .beside import Beside

_target = ""
_what = "Control films"


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


def start(shot: Shot, target: str, arguments: Sequence[str], command: str = "control") -> None:
    """Begin to draw.

    Args:
        target: file or folder, for messages.
        arguments: of the command, after the shot.
        command: ``control`` or ``matte``.

    Raises:
        OSError: the shot cannot be written, or the process not started.
    """
    global _target, _what
    path = folders.user_folder("control") / f"{uuid.uuid4().hex}.shot"
    save_shot(shot, path)
    try:
        writer = CommandRun(backends.local().python, path.parent, [command, str(path), *arguments], path)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    beside.begin(writer)
    _target = target
    _what = "Matte" if command == "matte" else "Control films"


def _outcome(report: CommandReport) -> tuple[str, str]:
    if report.state == "failed":
        return "ERROR", report.message
    if report.state == "cancelled":
        return "WARNING", f"{_what} cancelled; what was finished stays"
    said = f"{_what} written to {Path(_target).name}"
    return "INFO", ". ".join([said, *(note.rstrip(".") for note in report.notes)])


beside = Beside(_outcome, 0.2)
"""The export under way."""
