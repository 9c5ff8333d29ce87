"""A backend of one's own on this computer: install, start, watch and stop it from Blender."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import time
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .installer import clean_environment, venv_python
from .probe import Probe
from .process import Mailbox, is_alive, kill_group, read_json, spawn, tail, write_json

SOURCE = Path(__file__).resolve().parents[2]
"""The extension's own folder, which is the package's source."""

_CHECK = ("-c", "import torch, diffusers, fastapi, uvicorn, sse_starlette, maquette.backend.cli")
_STOP_SECONDS = 15.0
_ABSENT = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'|(?<=No module named )([\w.]+)$", re.MULTILINE)
"""A package that a Python lacks, by its last words."""


@dataclass(frozen=True)
class LocalStatus:
    """How the local backend is.

    Attributes:
        state: ``absent`` (not installed), ``installing``, ``cancelling``, ``stopped`` (installed), ``starting``,
            ``running``, ``stopping``, ``failed`` (the installation did) or ``dead`` (the server ended by itself).
        stage: of an installation: ``environment``, ``packages`` or ``check``.
        fraction: of an installation, 0 to 1.
        line: what is being done just now.
        message: for the animator, when something is wrong or has ended.
        address, token: of the running server.
    """

    state: str
    stage: str = ""
    fraction: float = 0.0
    line: str = ""
    message: str = ""
    address: str = ""
    token: str = field(default="", repr=False)


class LocalBackend:
    """The backend in one folder. Every method returns at once; ``poll()`` tells how things are and moves them on.

    The environment is a plain ``venv`` made with a Python 3.11 to 3.14 from PATH, or with Blender's own where there
    is none; nothing is ever installed into Blender's Python. pip installs ``maquette[backend]`` from the extension's
    folder, with torch as the default package index has it (on Linux that is the CUDA build).

    Args:
        folder: where everything lives: environment, logs, jobs. Made when needed.
        python: interpreter of an environment that already has the backend, used as it is; nothing is installed then.
        source: folder with the package's pyproject.toml.
    """

    def __init__(
        self, folder: str | os.PathLike[str], python: str = "", source: str | os.PathLike[str] = SOURCE
    ) -> None:
        self.folder = Path(folder)
        self.source = Path(source)
        self.python = Path(python) if python else venv_python(self.folder / "venv")
        self._given = bool(python)
        self._mailbox = Mailbox(self.folder, "install")
        self._installer: subprocess.Popen[Any] | None = None
        self._server: subprocess.Popen[Any] | None = None
        self._pid = 0
        self._token = ""
        self._stopping = 0.0
        self._probe: Probe | None = None
        self._status = self._at_rest()
        self._look_for_running()

    @property
    def log(self) -> Path:
        """What the server printed."""
        return self.folder / "server.log"

    @property
    def _users(self) -> Path:
        """A file for each Blender that uses the server, named by its process: without one it ends by itself."""
        return self.folder / "users"

    def _use(self) -> None:
        self._users.mkdir(parents=True, exist_ok=True)
        (self._users / str(os.getpid())).touch()

    # -- verbs ---------------------------------------------------------------------------------------------------

    def install(
        self,
        *,
        extra: str = "backend",
        base_python: str = "",
        pip_arguments: tuple[str, ...] = (),
        check: tuple[str, ...] = _CHECK,
        offline: bool = False,
    ) -> LocalStatus:
        """Begin to make the environment, or to complete or update it.

        Args:
            extra: the package's extra to install.
            base_python: interpreter to make the environment with; one is looked for when it is empty.
            pip_arguments: more arguments for pip, such as an index.
            check: arguments for the new interpreter that fail when the backend is unusable.
            offline: do not try to update pip.
        """
        if self._status.state not in ("absent", "stopped", "failed", "dead") or self._given:
            return self._status
        try:
            spec = {
                "source": str(self.source), "version": self._source_version(), "extra": extra, "python": base_python,
                "pip_arguments": pip_arguments, "check": check, "offline": offline,
            }  # fmt: skip
            self._installer = self._mailbox.start("installer", spec)
        except OSError as error:
            self._status = LocalStatus("failed", message=f"The backend cannot be installed in {self.folder}: {error}.")
        else:
            self._status = LocalStatus("installing", line="Starting")
        return self._status

    def cancel(self) -> LocalStatus:
        """Stop the installation; ``install()`` completes it later."""
        if self._status.state == "installing":
            self._mailbox.cancel()
            self._status = replace(self._status, state="cancelling", line="Stopping pip")
        return self._status

    def start(self, arguments: tuple[str, ...] = ()) -> LocalStatus:
        """Start the server on a free port of this computer, with a token of its own.

        Args:
            arguments: more arguments for ``maquette serve``.
        """
        if self._status.state not in ("stopped", "dead"):
            return self._status
        if not self.python.is_file():
            self._status = LocalStatus("absent", message=f"There is no Python at {self.python}.")
            return self._status
        self._probe = None
        self._token = secrets.token_urlsafe(32)
        info = self.folder / "server.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            info.unlink(missing_ok=True)
            self._use()
            if self.log.exists():
                os.replace(self.log, self.log.with_name("server.previous.log"))
            self._server = spawn(
                [
                    *(str(self.python), "-m", "maquette.backend.cli", "serve", "--host", "127.0.0.1", "--port", "0"),
                    *("--data", str(self.folder / "data"), "--info-file", str(info)),
                    *("--users", str(self._users), "--log-file", str(self.log), *arguments),
                ],
                log=self.log,
                cwd=self.folder,
                env={**clean_environment(), "MAQUETTE_TOKEN": self._token},
            )
            self._pid = self._server.pid
            # For a Blender that is started again while the server still runs.
            write_json(self.folder / "server.private.json", {"pid": self._pid, "token": self._token}, private=True)
        except OSError as error:
            self._status = LocalStatus("dead", message=f"The backend cannot be started: {error}.")
        else:
            self._status = LocalStatus("starting", line="Starting the backend")
        return self._status

    def stop(self) -> LocalStatus:
        """Stop the server that this add-on started; its jobs wait for the next start."""
        if self._status.state in ("starting", "running") and self._pid:
            kill_group(self._pid, gently=True)
            self._stopping = time.monotonic()
            self._status = replace(self._status, state="stopping", line="Stopping the backend", token="")
        return self._status

    def poll(self) -> LocalStatus:
        """Look at files and processes, and return how things are."""
        state = self._status.state
        if state in ("installing", "cancelling"):
            self._poll_install()
        elif state in ("starting", "running", "stopping"):
            self._poll_server()
        elif self._probe is not None:
            self._poll_probe()
        return self._status

    # -- installation --------------------------------------------------------------------------------------------

    def _at_rest(self, message: str = "") -> LocalStatus:
        if self._given:
            if self.python.is_file():
                return LocalStatus("stopped", message=message)
            return LocalStatus("absent", message=f"There is no Python at {self.python}. Correct it in the preferences.")
        marker = read_json(self.folder / "installed.json")
        if marker is None or not self.python.exists():
            half = (self.folder / "venv").exists()
            return LocalStatus(
                "absent", message=message or ("The installation is incomplete: install again." if half else "")
            )
        if marker.get("version") != self._source_version():
            return LocalStatus(
                "absent", message="The installed backend is of another version: install again to update it."
            )
        return LocalStatus("stopped", message=message)

    def _source_version(self) -> str:
        try:
            data = tomllib.loads((self.source / "pyproject.toml").read_text("utf-8"))
            return str(data["project"]["version"])
        except (OSError, ValueError, KeyError):
            return ""

    def _poll_install(self) -> None:
        assert self._installer is not None
        ended = self._installer.poll() is not None
        report: dict[str, Any] = read_json(self._mailbox.report) or {"state": "installing"}
        if not ended:
            if report["state"] == "installing":
                self._status = replace(
                    self._status,
                    stage=report.get("stage", ""),
                    fraction=report.get("fraction", 0.0),
                    line=report.get("line", "") if self._status.state == "installing" else self._status.line,
                )
            return
        self._installer = None
        if report["state"] == "installed":
            self._status = self._at_rest("The backend is installed.")
        elif report["state"] == "cancelled":
            self._status = LocalStatus("absent", message=report["message"])
        elif report["state"] == "failed":
            self._status = LocalStatus("failed", message=report["message"])
        else:
            last = tail(self._mailbox.log, 1)
            self._status = LocalStatus(
                "failed", message=f"The installation ended unexpectedly: install again. {last}".strip()
            )

    # -- server --------------------------------------------------------------------------------------------------

    def _alive(self) -> bool:
        if self._server is not None:
            return self._server.poll() is None
        return is_alive(self._pid)

    def _poll_server(self) -> None:
        alive = self._alive()
        if self._status.state == "stopping":
            if alive and time.monotonic() - self._stopping > _STOP_SECONDS:
                kill_group(self._pid)
            elif not alive:
                self._forget_server()
                self._status = self._at_rest()
            return
        if not alive:
            code = self._server.returncode if self._server is not None else None
            how = f" (signal {-code})" if code is not None and code < 0 else f" (exit {code})" if code else ""
            last = tail(self.log, 4)
            self._forget_server()
            message = f"The local backend has ended{how}. Start it again; its jobs are kept. Its last words:\n{last}"
            absent = _ABSENT.search(last)
            package = (absent[1] or absent[2]) if absent is not None else ""
            if package and self._given:
                message = (
                    f"The Python at {self.python} lacks the backend's package {package!r}. Install them there with: "
                    f"{self.python} -m pip install 'maquette[backend]'. Or clear Existing Python in the preferences, "
                    "and Maquette installs a backend of its own."
                )
            elif package:
                message = f"The installed backend is incomplete: it lacks {package!r}. Install it again."
            self._status = LocalStatus("dead", message=message)
            return
        if self._status.state == "starting":
            info = read_json(self.folder / "server.json")
            if info is not None:
                self._status = LocalStatus("running", address=str(info["address"]), token=self._token)
            else:
                self._status = replace(self._status, line=tail(self.log, 1) or "Starting the backend")

    def _forget_server(self) -> None:
        self._server, self._pid, self._token = None, 0, ""
        for name in ("server.private.json", "server.json"):
            (self.folder / name).unlink(missing_ok=True)

    def _look_for_running(self) -> None:
        """A server that an earlier Blender started here may still run."""
        private, info = read_json(self.folder / "server.private.json"), read_json(self.folder / "server.json")
        if private is None:
            return
        if info is None or not is_alive(int(private["pid"])):
            self._forget_server()
            return
        # Process numbers are used again: only ours takes the token.
        self._pid, self._token = int(private["pid"]), str(private["token"])
        try:
            self._probe = Probe(str(info["address"]), self._token, "", self.folder / "probe")
        except OSError:
            self._forget_server()

    def _poll_probe(self) -> None:
        answer = self._probe.answer() if self._probe is not None else None
        if self._probe is None or answer is None:
            return
        address, self._probe = self._probe.address, None
        if answer["error"] is None:
            self._use()
            self._status = LocalStatus("running", address=address, token=self._token)
        else:
            self._forget_server()
