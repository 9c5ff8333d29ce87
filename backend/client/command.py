"""Commands that a backend on this computer carries out in a process of their own: films drawn, weights fetched."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .installer import clean_environment
from .process import kill_group, spawn, tail


@dataclass(frozen=True)
class CommandReport:
    """How far a command is.

    Attributes:
        state: ``running``, ``done``, ``failed`` or ``cancelled``.
        share: 0 to 1.
        label: what is being done.
        message: when it has failed, why.
        notes: sentences for the animator, when it is done.
    """

    state: str
    share: float = 0.0
    label: str = ""
    message: str = ""
    notes: tuple[str, ...] = ()


class CommandRun:
    """One run of a command of ``maquette``; nothing here waits, ``poll()`` tells how it is.

    Args:
        python: interpreter of an environment with the backend.
        folder: for the log; made when needed.
        words: of the command; it also gets ``--quiet`` and ``--progress-lines``.
        used: a file for this run alone; it is removed at the end.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(
        self,
        python: str | os.PathLike[str],
        folder: str | os.PathLike[str],
        words: Sequence[str],
        used: Path | None = None,
    ) -> None:
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / f"{words[0]}.log"
        self.log.unlink(missing_ok=True)
        self._used = used
        self._cancelled = False
        line = [str(python), "-m", "maquette.backend.cli", *words, "--quiet", "--progress-lines"]
        self._process: subprocess.Popen[Any] = spawn(line, log=self.log, cwd=folder, env=clean_environment())

    def printed(self) -> Any:
        """What a command that ends with JSON has printed; None where it has not."""
        try:
            return json.loads(tail(self.log, 1, 1_000_000))
        except ValueError:
            return None

    def cancel(self) -> None:
        """Stop; what is finished stays."""
        self._cancelled = True
        kill_group(self._process.pid, gently=True)

    def close(self) -> None:
        """End the process at once: Blender ends."""
        if self._process.poll() is None:
            kill_group(self._process.pid)
            self._process.wait()
        self._clear()

    def _clear(self) -> None:
        if self._used is not None:
            self._used.unlink(missing_ok=True)

    def poll(self) -> CommandReport:
        """How far it is."""
        said = tail(self.log, 200, 60_000).splitlines()
        if self._process.poll() is None:
            told = next((line for line in reversed(said) if line.startswith("progress ")), "")
            _, _, rest = told.partition(" ")
            share, _, label = rest.partition(" ")
            return CommandReport("running", float(share or 0), label)
        self._clear()
        if self._cancelled:
            return CommandReport("cancelled")
        if self._process.returncode:
            errors = [line.removeprefix("maquette: ") for line in said if line.startswith("maquette: ")]
            last = next((line for line in reversed(said) if not line.startswith("progress ")), "")
            return CommandReport("failed", message=errors[-1] if errors else last or "The backend ended without a word")
        notes = tuple(line.removeprefix("Note: ") for line in said if line.startswith("Note: "))
        return CommandReport("done", 1.0, notes=notes)
