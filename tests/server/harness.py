"""A real server process over real HTTP on this computer, with the engines of fake_engines."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from maquette.backend import shot as shots
from maquette.backend.client import BackendClient, normalise_address
from maquette.backend.wire import CLIENT_HEADER, VERSION, VERSION_HEADER, JobView

from ..builders import make_shot

HERE = Path(__file__).parent
TOKEN = "a-token-of-the-tests"
ALICE, BOB = str(uuid.UUID(int=0xA11CE)), str(uuid.UUID(int=0xB0B))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(condition: Callable[[], Any], seconds: float = 90.0, what: str = "") -> Any:
    """What ``condition`` gives as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"did not happen within {seconds} s: {what}")


def save_shot(
    path: Path, prompt: str = "", *, steps: int = 4, name: str = "test", frames: int = 5, model: str = "", **more: Any
) -> Path:
    """A .shot file whose prompt orders the fake engine about."""
    shot = make_shot(frames=frames, **more)
    settings = replace(shot.settings, steps=steps, model=model or shot.settings.model)
    shot = replace(shot, prompt=prompt, name=name, settings=settings)
    shots.save_shot(shot, path)
    return path


class Server:
    """``maquette serve`` on a port and data folder of its own; may be stopped and started again on both."""

    def __init__(self, folder: Path, *arguments: str, token: str = TOKEN, **environment: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "server.log"
        self.fake_log = folder / "fake.log"
        self.token = token
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._arguments = arguments
        self._environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH")))),
            "MAQUETTE_ENGINES": "fake_engines:FakeEngines",
            "MAQUETTE_TOKEN": token,
            "FAKE_LOG": str(self.fake_log),
            **environment,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        try:
            self.start()
        except BaseException:
            self.stop(signal.SIGKILL)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGKILL)

    def start(self) -> None:
        info = self.folder / "info.json"
        info.unlink(missing_ok=True)
        command = [sys.executable, "-m", "maquette.backend.cli", "serve", "--port", str(self.port)]
        command += ["--data", str(self.data), "--info-file", str(info), *self._arguments]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)

        def up() -> bool:
            assert self.process is not None and self.process.poll() is None, self.log.read_text()[-2000:]
            return info.exists()

        until(up, what="server up")
        self.announced = json.loads(info.read_text())["address"]
        self.address = normalise_address(self.announced)

    def stop(self, how: int = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(90)

    def client(self, who: str = ALICE, **more: Any) -> BackendClient:
        return BackendClient(self.address, more.pop("token", self.token), who, **{"timeout": 60.0, **more})

    def headers(self, who: str = ALICE) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", VERSION_HEADER: str(VERSION), CLIENT_HEADER: who}

    def noted(self) -> list[str]:
        """What the fake engines have noted."""
        return self.fake_log.read_text().splitlines() if self.fake_log.exists() else []

    def engine_pid(self) -> int:
        """Of the newest job."""
        return int([line for line in self.noted() if line.startswith("begin ")][-1].split()[2])

    def wait_for(self, job_id: str, *statuses: str, who: str = ALICE, seconds: float = 90.0) -> JobView:
        with self.client(who) as client:

            def there() -> JobView | None:
                job = client.job(job_id)
                return job if job.status in statuses else None

            return until(there, seconds, f"{job_id} {statuses}")
