"""The backend that Blender installs and starts by itself, with a package that installs offline."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from maquette.backend.client import BackendClient, BackendError, LocalBackend, LocalStatus
from maquette.backend.client import installer as installer_module
from maquette.backend.client.installer import PipProgress
from maquette.backend.client.process import is_alive, kill_group

from .tiny import write_source

CHECK = ("-c", "import maquette.backend")


def poll(local: LocalBackend, *states: str, seconds: float = 240.0) -> LocalStatus:
    """The status once it is one of ``states``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status = local.poll()
        if status.state in states:
            return status
        time.sleep(0.03)
    raise AssertionError(f"{local.poll()} never became {states}")


def until(condition: Callable[[], Any], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.03)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Source and folder that the tests of this module share, in the order they stand here."""
    place = tmp_path_factory.mktemp("local backend")
    write_source(place / "extension")
    os.environ["TINY_MARK"] = str(place / "mark")
    yield place
    del os.environ["TINY_MARK"]


def backend(place: Path) -> LocalBackend:
    return LocalBackend(place / "own", source=place / "extension")


def install(local: LocalBackend) -> LocalStatus:
    return local.install(base_python=sys.executable, check=CHECK, offline=True)


def test_cancel_in_the_middle_ends_pip_and_its_children(place: Path):
    local = backend(place)
    assert local.poll() == LocalStatus("absent")
    assert local.start().state == "absent", "nothing to start yet"
    # What an attempt may have left that was killed at its very beginning: the environment is made anew.
    python = installer_module.venv_python(place / "own" / "venv")
    python.parent.mkdir(parents=True)
    python.touch()
    hold, mark = place / "mark.hold", place / "mark"
    hold.touch()
    assert install(local).state == "installing"
    assert install(local).state == "installing", "pressed twice"
    stages: list[tuple[str, float]] = []

    def building() -> bool:
        status = local.poll()
        assert status.state == "installing", status
        stages.append((status.stage, status.fraction))
        return mark.exists()

    until(building)
    fractions = [fraction for _, fraction in stages]
    assert fractions == sorted(fractions) and fractions[0] >= 0 and fractions[-1] < 1
    assert {"environment", "packages"} <= {stage for stage, _ in stages}
    assert local.cancel().state == "cancelling"
    status = poll(local, "absent", "failed", "stopped")
    assert status.state == "absent" and status.message == "Cancelled. Install again to complete it."
    # A build that still ran would go on now.
    hold.unlink()
    until(lambda: not any(str(place).encode() in _command(pid) for pid in _pids()))
    assert not (place / "own" / "installed.json").exists()
    assert backend(place).poll().message == "The installation is incomplete: install again."


def test_a_step_that_fails_is_told(place: Path):
    (place / "mark.fail").touch()
    local = backend(place)
    install(local)
    status = poll(local, "failed", "stopped")
    (place / "mark.fail").unlink()
    assert status.state == "failed" and "install.log" in status.message, status
    assert "the tiny package cannot be built" in (place / "own" / "install.log").read_text()


def test_a_later_attempt_completes_it(place: Path):
    local = backend(place)
    install(local)
    status = poll(local, "stopped", "failed", "absent")
    assert status.state == "stopped" and status.message == "The backend is installed."
    assert backend(place).poll().state == "stopped"
    assert not (place / "own" / "source").exists()
    # Building has written nothing into the extension's folder.
    assert sorted(p.name for p in (place / "extension").iterdir()) == [
        "pyproject.toml", "tests", "tiny_build.py", "tiny_cli.py",
    ]  # fmt: skip


def test_start_watch_and_stop(place: Path):
    local = backend(place)
    assert local.start().state == "starting"
    status = poll(local, "running", "dead")
    assert status.state == "running" and status.address.startswith("http://127.0.0.1:") and len(status.token) > 30
    with BackendClient(status.address, status.token) as client:
        assert client.models() == []
    private = place / "own" / "server.private.json"
    if os.name != "nt":
        assert private.stat().st_mode & 0o777 == 0o600
    assert status.token not in (place / "own" / "server.log").read_text()
    assert local.stop().state == "stopping"
    assert poll(local, "stopped").token == ""
    with pytest.raises(BackendError):
        BackendClient(status.address, status.token).health()
    assert not private.exists()


def test_a_dead_server_is_noticed_with_its_last_words(place: Path):
    local = backend(place)
    local.start(("--die",))
    status = poll(local, "dead")
    assert "no GPU driver was found" in status.message and "(exit 1)" in status.message
    local.start()
    status = poll(local, "running")
    pid = json.loads((place / "own" / "server.private.json").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    status = poll(local, "dead")
    assert "has ended (signal 9)" in status.message and "its jobs are kept" in status.message
    # It can be started again from there.
    local.start()
    assert poll(local, "running").state == "running"
    local.stop()
    poll(local, "stopped")


def test_a_later_blender_adopts_it(place: Path):
    first = backend(place)
    first.start()
    running = poll(first, "running")
    second = backend(place)
    status = poll(second, "running")
    assert (status.address, status.token) == (running.address, running.token)
    # By this the server sees that a Blender lives that wants it.
    assert [path.name for path in (place / "own" / "users").iterdir()] == [str(os.getpid())]
    # The child of this very test must be reaped for its end to be seen.
    assert first._server is not None
    second.stop()
    first._server.wait(60)
    assert poll(second, "stopped").state == "stopped"


def test_a_stranger_with_the_same_number_is_left_alone(place: Path):
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    own = place / "own"
    try:
        (own / "server.private.json").write_text(json.dumps({"pid": stranger.pid, "token": "x"}))
        (own / "server.json").write_text(json.dumps({"pid": stranger.pid, "address": "http://127.0.0.1:9"}))
        local = backend(place)
        until(lambda: local.poll().state == "stopped" and not (own / "server.private.json").exists())
        assert local.stop().state == "stopped"
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_an_update_asks_for_another_installation(place: Path):
    write_source(place / "extension", "0.0.2")
    status = backend(place).poll()
    assert status.state == "absent" and "another version: install again" in status.message


@pytest.mark.parametrize(("existed", "attempts"), [(True, [False, True]), (False, [False])])
def test_an_environment_that_fails_its_check_is_made_again(tmp_path: Path, existed: bool, attempts: list[bool]):
    class Twice(installer_module.Installer):
        def _attempt(self, *, clear: bool) -> None:
            made.append(clear)
            if not clear:
                raise installer_module.Broken("torch cannot be imported")

    made: list[bool] = []
    if existed:
        (tmp_path / "venv").mkdir()
    Twice({"folder": str(tmp_path), "parent_pid": os.getppid(), "version": "1"}).run()
    assert made == attempts and (tmp_path / "installed.json").exists() == existed


def test_blenders_end_ends_the_installation(place: Path):
    (place / "mark.hold").touch()
    (place / "mark").unlink()
    spec = {
        "folder": str(place / "own"), "source": str(place / "extension"), "version": "0.0.2", "parent_pid": 1,
        "extra": "", "python": sys.executable, "pip_arguments": [], "check": list(CHECK), "offline": True,
    }  # fmt: skip
    path = place / "spec.json"
    path.write_text(json.dumps(spec))
    script = str(Path(installer_module.__file__).with_name("start.py"))
    command = [sys.executable, "-I", script, "installer", str(path)]
    subprocess.run(command, timeout=240, check=True, stdout=subprocess.DEVNULL)
    assert json.loads((place / "own" / "install.json").read_text())["state"] == "cancelled"
    assert not (place / "mark").exists()
    (place / "mark.hold").unlink()


def test_an_environment_of_ones_own(place: Path, tmp_path: Path):
    local = LocalBackend(tmp_path, python=str(installer_module.venv_python(place / "own" / "venv")))
    assert local.poll().state == "stopped" and local.install().state == "stopped", "nothing is installed into it"
    gone = LocalBackend(tmp_path, python="/nowhere/python")
    assert gone.poll().state == "absent" and "There is no Python at /nowhere/python" in gone.poll().message


def test_a_python_without_the_backend_says_how_to_add_it(tmp_path: Path):
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    python = installer_module.venv_python(bare)
    local = LocalBackend(tmp_path / "own", source=tmp_path, python=str(python))
    assert local.start().state == "starting"
    message = poll(local, "dead").message
    assert f"The Python at {python} lacks the backend's package 'maquette'" in message
    assert f"{python} -m pip install 'maquette[backend]'" in message and "clear Existing Python" in message
    assert "Traceback" not in message and "last words" not in message


def test_an_extension_without_its_source(tmp_path: Path):
    (tmp_path / "extension").mkdir()
    local = LocalBackend(tmp_path / "own", source=tmp_path / "extension")
    (tmp_path / "own" / "venv").mkdir(parents=True)
    local.install(base_python="/nowhere/python", check=CHECK, offline=True)
    status = poll(local, "failed")
    assert "No Python 3.11 to 3.14 with 'venv' was found" in status.message


def test_a_folder_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "own").write_text("a file")
    local = LocalBackend(tmp_path / "own", source=tmp_path)
    assert "cannot be installed in" in install(local).message and local.poll().state == "failed"


def test_pip_progress_is_read():
    progress = PipProgress(expected_mb=1000)
    seen = []
    lines = [
        "Collecting torch==2.13.0 (from maquette)",
        "  Downloading torch-2.13.0-cp311-cp311-linux_x86_64.whl.metadata (28 kB)",
        "Downloading https://example.org/torch-2.13.0-cp311-cp311-linux_x86_64.whl (500.0 MB)",
        "Progress 100000000 of 500000000",
        "Progress 500000000 of 500000000",
        "Using cached nvidia_cudnn-9-py3-none-any.whl (1.5 GB)",
        "Installing collected packages: torch, maquette",
        "Successfully installed maquette-0.1.0 torch-2.13.0",
    ]
    for line in lines:
        progress.feed(line)
        seen.append((round(progress.fraction, 3), progress.line))
    assert [fraction for fraction, _ in seen] == [0, 0, 0, 0.08, 0.4, 0.784, 0.85, 1.0]
    assert seen[2][1] == "Downloading torch (500.0 MB)" and seen[5][1] == "Using cached nvidia_cudnn (1.5 GB)"


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        ("WARNING: Retrying: NewConnectionError('x: Temporary failure in name resolution')", "internet connection"),
        ("ERROR: No matching distribution found for torch==2.13.0", "no torch==2.13.0 for this computer"),
        ("Error: Command ensurepip failed", "python3-venv"),
        ("something\nERROR: it broke\nmore", "Installing failed: ERROR: it broke"),
        ("", "no message"),
    ],
)  # fmt: skip
def test_what_pip_says_is_explained(output: str, words: str, tmp_path: Path):
    assert words in installer_module._explain(output, tmp_path)


def _pids() -> list[int]:
    return [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()] if Path("/proc").exists() else []


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_group_ends_with_its_children(tmp_path: Path):
    code = "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    code += f"open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid)); time.sleep(600)"
    from maquette.backend.client.process import spawn

    process = spawn([sys.executable, "-c", code], log=tmp_path / "log", cwd=tmp_path)
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    child = int((tmp_path / "pid").read_text())
    assert is_alive(process.pid) and is_alive(child)
    kill_group(process.pid)
    process.wait(60)
    until(lambda: not is_alive(child))
    assert not is_alive(process.pid)
