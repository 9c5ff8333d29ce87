"""Make the backend's own virtual environment.

Runs as a process of its own under Blender's Python (see ``local.LocalBackend``). It prints pip's output into its log,
reports by an atomically replaced JSON file, obeys a cancel file, and ends with its parent. Whatever stops it, the next
attempt completes what is there or, where that is broken, begins again.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from .process import Mailbox, kill_group, parent_is, watching, write_json

OLDEST, TOO_NEW = (3, 11), (3, 15)
"""Pythons for which the pinned torch has wheels."""

SIZES_GB = (3.2, 8.0) if sys.platform == "linux" else (0.7, 3.0)
"""About what pip downloads, and what it takes on disk: torch for Linux comes with CUDA."""
_EXPECTED_MB = 1000 * SIZES_GB[0]

_SKIPPED = shutil.ignore_patterns(
    ".*", "__pycache__", "*.pyc", "tests", "bench", "demo", "docs", "runs", "dist", "build", "tools", "wheels",
    "*.egg-info", "*.zip", "*.blend", "*.blend1",
)  # fmt: skip
_UNITS = {"kb": 1e-3, "mb": 1.0, "gb": 1e3}


class Stopped(Exception):
    """Cancelled, or the parent is gone."""


class Failed(Exception):
    """A step that did not work; the message says what to do."""


class Broken(Failed):
    """The environment itself is at fault, as after an attempt that was killed; making it again may help."""


class PipProgress:
    """Reads pip's output and knows how far it is.

    Attributes:
        fraction: 0 to 1, never falling.
        line: what to show: the package being fetched or installed.
    """

    def __init__(self, expected_mb: float = _EXPECTED_MB) -> None:
        self.fraction = 0.0
        self.line = ""
        self._expected = expected_mb
        self._done = self._current = 0.0

    def feed(self, line: str) -> None:
        """Take one line of output."""
        line = line.strip()
        if match := re.match(r"Progress (\d+) of (\d+)$", line):
            self._current = int(match[1]) / 1e6
        elif match := re.match(r"(Downloading|Using cached) (\S+?)(?:\.metadata)? \(([\d.]+) (kB|MB|GB)\)", line):
            self._done += self._current
            self._current = 0.0
            size = float(match[3]) * _UNITS[match[4].lower()]
            if match[1] == "Using cached":
                self._done += size
            name = match[2].rsplit("/", 1)[-1].split("-")[0]
            self.line = f"{match[1]} {name} ({match[3]} {match[4]})"
        elif line.startswith("Collecting "):
            self.line = f"Looking for {line.split()[1]}"
        elif line.startswith("Installing collected packages"):
            self.fraction = max(self.fraction, 0.85)
            self.line = "Unpacking the packages"
        elif line.startswith("Successfully installed"):
            self.fraction = 1.0
            self.line = "Packages installed"
        have = self._done + self._current
        # The estimate may be far off: the bar nears 0.8 but does not pass it while pip still downloads.
        self.fraction = max(self.fraction, min(0.8, 0.8 * have / max(self._expected, have * 1.02)))


class Installer:
    """One attempt. ``spec``: folder, source, parent_pid, extra, python, pip_arguments, check."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.folder = Path(spec["folder"])
        self.mailbox = Mailbox(self.folder, "install")
        self.venv = self.folder / "venv"
        self.cancelled = False
        self.child: subprocess.Popen[str] | None = None
        self.report = {"state": "installing", "stage": "", "fraction": 0.0, "line": "", "message": ""}
        self._told = 0.0

    def run(self) -> None:
        """Everything; the report says how it ended."""
        with watching(self._look):
            try:
                self._run()
            except Stopped:
                self._tell(state="cancelled", message="Cancelled. Install again to complete it.")
            except Failed as error:
                self._tell(state="failed", message=str(error))
            except OSError as error:
                self._tell(state="failed", message=_explain(str(error), self.folder))
            except Exception as error:
                traceback.print_exc()
                self._tell(state="failed", message=f"Installing failed: {type(error).__name__}: {error}")
            finally:
                shutil.rmtree(self.folder / "source", ignore_errors=True)

    def _run(self) -> None:
        marker = self.folder / "installed.json"
        marker.unlink(missing_ok=True)
        existed = self.venv.exists()
        try:
            self._attempt(clear=False)
        except Broken:
            if not existed:
                raise
            # pip's cache makes the second time quick.
            self._attempt(clear=True)
        write_json(marker, {"version": self.spec["version"]})
        self._tell(state="installed", stage="done", fraction=1.0, line="", message="The backend is installed.")

    def _attempt(self, *, clear: bool) -> None:
        python = venv_python(self.venv)
        self._tell(stage="environment", fraction=0.01, line="Looking for a Python")
        if clear or not self._works([str(python), "-m", "pip", "--version"]):
            base = self._base_python()
            self._tell(fraction=0.02, line="Making the environment")
            self._call([base, "-m", "venv", "--clear", str(self.venv)])
        source = self._copy_source()
        self._tell(stage="packages", fraction=0.05, line="Preparing pip")
        # Newer pips tell their progress; an old one does as well otherwise.
        if not self.spec["offline"]:
            self._works([str(python), "-m", "pip", "install", "--upgrade", "pip"])
        # Removed first, so that an update of equal version is not skipped.
        self._works([str(python), "-m", "pip", "uninstall", "--yes", "maquette"])
        progress = PipProgress()

        def fed(line: str) -> None:
            progress.feed(line)
            self._tell(fraction=round(0.08 + 0.87 * progress.fraction, 4), line=progress.line, throttled=True)

        extra = f"[{self.spec['extra']}]" if self.spec["extra"] else ""
        raw = self._works(
            [str(python), "-m", "pip", "install", "--progress-bar", "raw", "--dry-run", "pip"], quiet=True
        )
        self._call(
            [
                *(str(python), "-m", "pip", "install", "--progress-bar", "raw" if raw else "off"),
                *self.spec["pip_arguments"],
                f"maquette{extra} @ {source.as_uri()}",
            ],
            fed,
        )
        self._tell(stage="check", fraction=0.96, line="Trying the backend")
        try:
            self._call([str(python), *self.spec["check"]])
        except Failed as error:
            raise Broken(str(error)) from error

    # -- parts ---------------------------------------------------------------------------------------------------

    def _base_python(self) -> str:
        """A Python for the environment: the one asked for, one on PATH, else the one Blender brings."""
        if self.spec["python"]:
            names = [self.spec["python"]]
        else:
            found = [shutil.which(n) for n in ("python3.13", "python3.12", "python3.11", "python3", "python")]
            names = [name for name in found if name] + [sys.executable]
        test = f"import sys, venv, ensurepip; sys.exit(not {OLDEST} <= sys.version_info[:2] < {TOO_NEW})"
        for name in names:
            if self._works([name, "-I", "-c", test], quiet=True):
                return name
        raise Failed(
            "No Python 3.11 to 3.14 with 'venv' was found. Install one (on Debian and Ubuntu: the package "
            "python3-venv) and install the backend again."
        )

    def _copy_source(self) -> Path:
        """The package's source beside the environment: building must not write into the extension's folder."""
        source, target = Path(self.spec["source"]), self.folder / "source"
        if not (source / "pyproject.toml").is_file():
            raise Failed(f"{source} lacks pyproject.toml; install the extension again from its zip.")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, ignore=_SKIPPED)
        return target

    def _works(self, command: list[str], *, quiet: bool = False) -> bool:
        try:
            self._call(command, quiet=quiet)
        except Failed:
            return False
        return True

    def _call(self, command: list[str], on_line: Any = None, *, quiet: bool = False) -> None:
        """Run one program to its end; its output goes to the log and to ``on_line``."""
        self._check()
        options: dict[str, Any] = {} if os.name == "nt" else {"start_new_session": True}
        output: list[str] = []
        try:
            self.child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                cwd=self.folder,
                env=clean_environment(),
                **options,
            )
        except OSError as error:
            raise Failed(f"{command[0]} cannot be started ({error.strerror}).") from error
        with self.child as child:
            assert child.stdout is not None
            self._check()
            for line in child.stdout:
                output.append(line.rstrip())
                del output[:-200]
                if not quiet and not line.startswith("Progress "):
                    print(line, end="", flush=True)
                if on_line:
                    on_line(line)
        self._check()
        if child.returncode:
            text = "\n".join(output)
            # pip says what is wrong with a package in plain words; a traceback is its own.
            kind = Broken if "Traceback (most recent call last)" in text else Failed
            raise kind(_explain(text, self.folder))

    # -- report, cancel, parent ----------------------------------------------------------------------------------

    def _tell(self, *, throttled: bool = False, **changes: Any) -> None:
        self.report.update(changes)
        now = time.monotonic()
        if throttled and now - self._told < 0.2:
            return
        self._told = now
        try:
            write_json(self.mailbox.report, self.report)
        except OSError as error:
            print(f"{self.mailbox.report.name}: {error}", flush=True)

    def _check(self) -> None:
        if self.cancelled:
            self._end_child()
            raise Stopped

    def _look(self) -> None:
        if not parent_is(self.spec["parent_pid"]) or self.mailbox.cancelled:
            self.cancelled = True
            self._end_child()

    def _end_child(self) -> None:
        child = self.child
        if child is not None and child.poll() is None:
            kill_group(child.pid)


def venv_python(venv: Path) -> Path:
    """The interpreter of a virtual environment."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def clean_environment() -> dict[str, str]:
    """This process's environment without what would lead another Python to Blender's modules."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__")}
    env.update(PYTHONNOUSERSITE="1", PYTHONUNBUFFERED="1", PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1")
    return env


def _explain(output: str, folder: Path) -> str:
    """What a failed step's output means, and what to do."""
    low = output.lower()
    if "no space left" in low or "disk quota" in low or "not enough space" in low:
        return f"The disk is full: the backend takes about 8 GB in {folder}. Free some space and install again."
    if any(
        w in low
        for w in (
            "name resolution",
            "newconnectionerror",
            "getaddrinfo",
            "network is unreachable",
            "read timed out",
            "proxyerror",
        )
    ):
        return "The package index cannot be reached. Check this computer's internet connection and install again."
    if "no matching distribution" in low or "could not find a version" in low:
        wanted = re.findall(r"No matching distribution found for (\S+)", output)
        return f"The package index has no {wanted[-1] if wanted else 'package'} for this computer and its Python."
    if "ensurepip" in low:
        return "This Python lacks 'ensurepip' (on Debian and Ubuntu: install the package python3-venv)."
    errors = [line for line in output.splitlines() if line.strip().lower().startswith("error")]
    lines = errors or [line for line in output.splitlines() if line.strip()]
    return (
        f"Installing failed: {lines[-1].strip() if lines else 'no message'} (all of it is in {folder / 'install.log'})"
    )


def main(spec: dict[str, Any]) -> None:
    """Run what ``LocalBackend`` has written."""
    Installer(spec).run()
