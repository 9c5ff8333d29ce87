"""A backend of this batch's own on this computer: its engines are those of ``maquette serve``."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..client.process import kill_group, read_json, spawn, tail
from .tasks import BatchError

_STOP_SECONDS = 30.0
_LOOK_SECONDS = 0.1


@contextmanager
def own_backend(arguments: Sequence[str]) -> Iterator[tuple[str, str, Path]]:
    """A server that lives as long as the context.

    Args:
        arguments: of ``maquette serve``, such as ``--gpus 0+1``.

    Yields:
        Its address, its token, and a folder for what is sent, which goes with it.

    Raises:
        BatchError: it cannot be started; has its own words.
    """
    with tempfile.TemporaryDirectory(prefix="maquette-batch-", ignore_cleanup_errors=True) as scratch:
        folder, token = Path(scratch), secrets.token_urlsafe(32)
        users, info, log = folder / "users", folder / "server.json", folder / "server.log"
        users.mkdir()
        # Without this process it ends by itself.
        (users / str(os.getpid())).touch()
        command = [
            *(sys.executable, "-m", "maquette.backend.cli", "serve", "--port", "0", "--data", str(folder / "data")),
            *("--info-file", str(info), "--users", str(users), "--idle-end", "5", *arguments),
        ]
        server = spawn(command, log=log, cwd=Path.cwd(), env={**os.environ, "MAQUETTE_TOKEN": token})
        try:
            while (told := read_json(info)) is None:
                if server.poll() is not None:
                    raise BatchError(_last_words(log))
                time.sleep(_LOOK_SECONDS)
            yield str(told["address"]), token, folder / "sent"
        finally:
            kill_group(server.pid, gently=True)
            try:
                server.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                kill_group(server.pid)
                server.wait()


def _last_words(log: Path) -> str:
    """Of a server that did not start: what is wrong, without the name of the command that says so."""
    last = tail(log, 1)
    return last.removeprefix("maquette: ").partition("error: ")[2] or last.removeprefix("maquette: ")
