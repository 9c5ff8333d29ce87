"""Control films drawn by a backend on this computer, in a process of their own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .installer import clean_environment
from .process import kill_group, spawn, tail


@dataclass(frozen=True)
class FilmReport:
    """How far the films are.

    Attributes:
        state: ``drawing``, ``done``, ``failed`` or ``cancelled``.
        share: 0 to 1.
        label: of the kind that is drawn.
        message: when it has failed, why.
        notes: sentences for the animator, when it is done.
    """

    state: str
    share: float = 0.0
    label: str = ""
    message: str = ""
    notes: tuple[str, ...] = ()


class FilmWriter:
    """One run of a command that draws films of a shot; nothing here waits, ``poll()`` tells how it is.

    Args:
        python: interpreter of an environment with the backend.
        folder: for the log; made when needed.
        shot: the .shot file; it is removed at the end.
        arguments: of the command, after the shot.
        command: ``control`` or ``matte``.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(
        self,
        python: str | os.PathLike[str],
        folder: str | os.PathLike[str],
        shot: Path,
        arguments: Sequence[str],
        command: str = "control",
    ) -> None:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "control.log"
        self.log.unlink(missing_ok=True)
        self._shot = shot
        self._cancelled = False
        line = [str(python), "-m", "maquette.backend.cli", command, str(shot), *arguments]
        self._process: subprocess.Popen[Any] = spawn(
            [*line, "--quiet", "--progress-lines"], log=self.log, cwd=folder, env=clean_environment()
        )

    def cancel(self) -> None:
        """Stop; films that are finished stay."""
        self._cancelled = True
        kill_group(self._process.pid, gently=True)

    def close(self) -> None:
        """End the process at once: Blender ends."""
        if self._process.poll() is None:
            kill_group(self._process.pid)
            self._process.wait()
        self._shot.unlink(missing_ok=True)

    def poll(self) -> FilmReport:
        """How far it is."""
        said = tail(self.log, 200, 60_000).splitlines()
        if self._process.poll() is None:
            told = next((line for line in reversed(said) if line.startswith("progress ")), "")
            _, _, rest = told.partition(" ")
            share, _, label = rest.partition(" ")
            return FilmReport("drawing", float(share or 0), label)
        self._shot.unlink(missing_ok=True)
        if self._cancelled:
            return FilmReport("cancelled")
        if self._process.returncode:
            errors = [line.removeprefix("maquette: ") for line in said if line.startswith("maquette: ")]
            last = next((line for line in reversed(said) if not line.startswith("progress ")), "")
            return FilmReport("failed", message=errors[-1] if errors else last or "The backend ended without a word")
        notes = tuple(line.removeprefix("Note: ") for line in said if line.startswith("Note: "))
        return FilmReport("done", 1.0, notes=notes)
