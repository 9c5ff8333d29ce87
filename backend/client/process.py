"""Child processes that neither block Blender nor outlive it unseen, and the files by which they talk.

Processes rather than threads: a daemon thread left behind in Blender's own interpreter was there when it crashed in
the middle of an operator (Blender 4.5), and a process can be ended whatever it waits for.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WINDOWS = os.name == "nt"


class Mailbox:
    """The files by which a module of this folder, run as a process, and whoever started it talk.

    Attributes:
        report: what the process says, replaced as a whole.
        log: what it printed.

    Args:
        folder: made when the process is started.
        name: begins the names of the files.
    """

    def __init__(self, folder: str | os.PathLike[str], name: str) -> None:
        self.folder = Path(folder)
        self.report = self.folder / f"{name}.json"
        self.log = self.folder / f"{name}.log"
        self._spec = self.folder / f"{name}.spec.json"
        self._cancel = self.folder / f"{name}.cancel"

    def start(self, module: str, spec: Mapping[str, Any], python: str = "") -> subprocess.Popen[Any]:
        """Start the module's ``main`` with ``spec``, to which the folder and this process's number are added.

        Args:
            python: interpreter with ``requests``; Blender's own by default.

        Raises:
            OSError: the folder cannot be written or the interpreter not started.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in (self.report, self.log, self._cancel):
            path.unlink(missing_ok=True)
        write_json(self._spec, {**spec, "folder": str(self.folder), "parent_pid": os.getpid()}, private=True)
        # Isolated: neither the environment nor the module's own folder may stand in for Blender's modules.
        command = [python or sys.executable, "-I", str(Path(__file__).with_name("start.py")), module, str(self._spec)]
        try:
            return spawn(command, log=self.log, cwd=self.folder)
        except OSError:
            self.forget()
            raise

    def forget(self) -> None:
        """Remove what the process was told, where it has not done so itself."""
        self._spec.unlink(missing_ok=True)

    def cancel(self) -> None:
        """Ask the process to stop."""
        self._cancel.touch()

    @property
    def cancelled(self) -> bool:
        """Whether it was asked to."""
        return self._cancel.exists()


@contextmanager
def watching(look: Callable[[], None], seconds: float = 0.2) -> Iterator[None]:
    """Call ``look`` every so often beside the body of a ``with``; its thread has ended when that is left."""
    over = threading.Event()

    def loop() -> None:
        look()
        while not over.wait(seconds):
            look()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def spawn(command: list[str], *, log: Path, cwd: Path, env: dict[str, str] | None = None) -> subprocess.Popen[Any]:
    """Start a program in its own process group, without a window; what it prints goes to ``log``."""
    options: dict[str, Any] = (
        {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}  # type: ignore[attr-defined]
        if sys.platform == "win32"
        else {"start_new_session": True}
    )
    with open(log, "ab") as stream:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=env,
            **options,
        )


def kill_group(pid: int, *, gently: bool = False) -> None:
    """End a process started by ``spawn`` and everything that it started."""
    try:
        if sys.platform == "win32":
            subprocess.run(
                ["taskkill", "/T", *([] if gently else ["/F"]), "/PID", str(pid)], capture_output=True, check=False
            )
        else:
            os.killpg(pid, signal.SIGTERM if gently else signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def is_alive(pid: int) -> bool:
    """Whether a process of that number exists and is not merely waiting to be reaped."""
    if pid <= 0:
        return False
    if sys.platform == "win32":
        import ctypes

        kernel = ctypes.windll.kernel32
        handle = kernel.OpenProcess(0x00100000, False, pid)  # SYNCHRONIZE
        if not handle:
            return False
        waiting = kernel.WaitForSingleObject(handle, 0) == 0x102  # WAIT_TIMEOUT
        kernel.CloseHandle(handle)
        return bool(waiting)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
        return stat.rpartition(")")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return True


def parent_is(pid: int) -> bool:
    """Whether the process that started this one is still ``pid`` and alive."""
    if WINDOWS:
        return is_alive(pid)
    return os.getppid() == pid


def write_json(path: Path, data: object, *, private: bool = False) -> None:
    """Write a file that a reader sees either as it was or complete.

    Raises:
        OSError: it cannot be written; the old one stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if private else 0o644)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(data, stream)
        replace_file(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def replace_file(source: Path, target: Path) -> None:
    """``os.replace``, patient with a reader that has the target open (Windows refuses then)."""
    for attempt in range(20):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if not WINDOWS or attempt == 19:
                raise
            time.sleep(0.02)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file, or None when there is none that can be read."""
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def tail(path: Path, lines: int = 5, limit: int = 4000) -> str:
    """The last lines of a log that say something."""
    try:
        with open(path, "rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - limit))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join([line.rstrip() for line in text.splitlines() if line.strip()][-lines:])
