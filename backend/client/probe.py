"""Ask a backend who it is and what it has, without waiting for it: ``python probe.py SPEC.json``.

Like the worker, it runs as a process of its own, started by path under Blender's Python, and reports by a file.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from .api import BackendClient
    from .errors import BackendError
    from .owed import settle
    from .process import kill_group, read_json, spawn, tail, write_json
else:

    def _load_siblings() -> None:
        """The folder of this file as a package under a name of its own."""
        folder = Path(__file__).resolve().parent
        spec = importlib.util.spec_from_file_location(
            "maquette_client", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)

    _load_siblings()
    from maquette_client.api import BackendClient
    from maquette_client.errors import BackendError
    from maquette_client.owed import settle
    from maquette_client.process import kill_group, read_json, spawn, tail, write_json


class Probe:
    """One question to a backend. Every method returns at once."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self._process = process

    @classmethod
    def start(
        cls,
        address: str,
        token: str,
        client_id: str,
        folder: str | os.PathLike[str],
        timeout: float = 10.0,
        owed: str = "",
    ) -> Probe:
        """Start asking.

        Args:
            folder: scratch folder of this probe alone; made if missing.
            timeout: seconds to wait for each answer.
            owed: file of cancels that this backend has not heard of; they are said when it answers.

        Raises:
            OSError: the folder cannot be written or the interpreter not started.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("probe.json", "probe.log"):
            (folder / name).unlink(missing_ok=True)
        spec_path = folder / "probe.spec.json"
        spec = {
            "address": address, "token": token, "client_id": client_id, "timeout": timeout, "folder": str(folder),
            "owed": owed,
        }  # fmt: skip
        write_json(spec_path, spec, private=True)
        try:
            process = spawn(
                [sys.executable, "-I", str(Path(__file__)), str(spec_path)], log=folder / "probe.log", cwd=folder
            )
        except OSError:
            spec_path.unlink(missing_ok=True)
            raise
        return cls(folder, process)

    def report(self) -> dict[str, Any] | None:
        """None while the backend has not answered; then ``health``, ``models`` and ``error`` (None or a message)."""
        if self._process.poll() is None:
            return None
        answer = read_json(self.folder / "probe.json")
        if answer is None:
            last = tail(self.folder / "probe.log", 1) or "it left no message"
            answer = {"health": None, "models": [], "error": f"The process that asks the backend ended: {last}."}
        return answer

    def stop(self) -> None:
        """Ask no longer."""
        if self._process.poll() is None:
            kill_group(self._process.pid)
            self._process.wait()
        (self.folder / "probe.spec.json").unlink(missing_ok=True)


def ask(spec: dict[str, Any]) -> dict[str, Any]:
    """What the backend answers; never raises."""
    answer: dict[str, Any] = {"health": None, "models": [], "error": None}
    try:
        with BackendClient(spec["address"], spec["token"], spec["client_id"], spec["timeout"]) as client:
            answer["health"] = client.health()
            answer["models"] = client.models()
            if spec.get("owed"):
                settle(spec["owed"], client)
    except BackendError as error:
        answer["error"] = error.message
    except Exception as error:
        traceback.print_exc()
        answer["error"] = f"Asking the backend failed: {type(error).__name__}: {error}"
    return answer


def main(arguments: list[str]) -> int:
    """Run the spec named by the only argument; the file is removed once read, since it holds the token."""
    if len(arguments) != 1:
        print("usage: probe.py SPEC.json", file=sys.stderr)
        return 2
    path = Path(arguments[0])
    spec = json.loads(path.read_text("utf-8"))
    path.unlink()
    write_json(Path(spec["folder"]) / "probe.json", ask(spec))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
