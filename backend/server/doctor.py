"""``maquette doctor``: whether this computer can be a backend, and what to do where it cannot."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import shutil
import socket
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ..wire import DEFAULT_PORT
from .serve import default_data_folder

_GB = 1e9
_PACKAGES = (
    "numpy", "torch", "diffusers", "transformers", "safetensors", "fastapi", "uvicorn", "python-multipart",
    "sse-starlette", "psutil", "imageio", "av", "pillow", "opencv-python-headless", "platformdirs", "requests",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        good: True, False, or None where it only costs something.
        cure: what to do; empty where nothing is to be done.
    """

    what: str
    good: bool | None
    told: str
    cure: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``maquette doctor``."""
    parser.add_argument("--data", type=Path, metavar="DIR", help="the server's folder (default: the user's)")
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="that the server will use (default: %(default)s)"
    )
    parser.set_defaults(run=run_doctor)


def run_doctor(args: argparse.Namespace) -> int:
    """Print what was found; 1 when something keeps a backend from running here."""
    wrong = 0
    for finding in examine(args.data or default_data_folder(), args.port):
        mark = {True: "ok  ", None: "note", False: "BAD "}[finding.good]
        print(f"{mark}  {finding.what}: {finding.told}", flush=True)
        if finding.cure:
            print(f"      {finding.cure}")
        wrong += finding.good is False
    print("Nothing keeps a backend from running here." if not wrong else f"{wrong} of these must be put right first.")
    return int(bool(wrong))


def examine(data: Path, port: int) -> Iterator[Finding]:
    """Look at everything; a look that fails by itself is told as a finding."""
    looks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python, _packages, _torch, _memory, lambda: _disk(data), lambda: _store(data), lambda: _port(port), _weights,
    )  # fmt: skip
    for look in looks:
        try:
            yield from look()
        except Exception as error:
            yield Finding("this check", False, f"failed with {type(error).__name__}: {error}", "Report it, please.")


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    good = (3, 11) <= sys.version_info[:2] <= (3, 14)
    cure = "" if good else "Make an environment with Python 3.11 to 3.14 and install 'maquette[backend]' there."
    yield Finding("Python", good, f"{version} at {sys.executable} on {platform.platform()}", cure)


def _packages() -> Iterator[Finding]:
    found, missing = [], []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        cure = f"{sys.executable} -m pip install 'maquette[backend]'"
        yield Finding("packages", False, f"missing: {', '.join(missing)}", cure)
    else:
        yield Finding("packages", True, ", ".join(found))


def _torch() -> Iterator[Finding]:
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:
        yield Finding(
            "torch", False, f"cannot be imported ({error})", "Install it again: pip install --force-reinstall torch"
        )
        return
    built = torch.version.cuda
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            name = torch.cuda.get_device_name(index)
            told = f"{name}, {free / _GB:.1f} of {total / _GB:.1f} GB free, CUDA {built}, {_driver()}"
            cure = "" if free > total / 2 else "Close what else uses its memory, a render in Blender for instance."
            yield Finding(f"GPU {index}", True if not cure else None, told, cure)
        x = torch.ones(64, 64, device="cuda")
        good = bool((x @ x).sum().item() == 64.0**3)
        yield Finding("a sum on the GPU", good, "right" if good else "wrong", "" if good else "Update the driver.")
    elif shutil.which("nvidia-smi") or Path("/proc/driver/nvidia").exists():
        cure = (
            "This torch was built without CUDA: install torch as the default index has it."
            if built is None
            else f"Update the driver to one for CUDA {built} or later, then restart the computer."
        )
        yield Finding(
            "GPU", False, f"there is one, but torch {torch.__version__} does not reach it ({_driver()})", cure
        )
    else:
        yield Finding(
            "GPU", None, "none; torch uses the processor", "Small models and drafts run on it, large ones take hours."
        )


def _driver() -> str:
    try:
        return "driver " + Path("/proc/driver/nvidia/version").read_text().split("Module", 1)[1].split()[0]
    except (OSError, IndexError):
        return "driver unknown"


def _memory() -> Iterator[Finding]:
    import psutil

    memory = psutil.virtual_memory()
    good = True if memory.available > 8 * _GB else None
    cure = "" if good else "Models of gigabytes need as much of it while they load; close what else runs."
    yield Finding("memory", good, f"{memory.available / _GB:.1f} of {memory.total / _GB:.1f} GB free", cure)


def _disk(data: Path) -> Iterator[Finding]:
    place = next(path for path in (data, *data.parents) if path.exists())
    usage = shutil.disk_usage(place)
    good = True if usage.free > 20 * _GB else None if usage.free > 0.5 * _GB else False
    cure = (
        "" if good else "Free some space, or choose another folder with --data; 'maquette jobs prune' deletes results."
    )
    yield Finding("disk", good, f"{usage.free / _GB:.1f} GB free for {data}", cure)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        yield Finding(
            "folder of jobs", False, f"{place} cannot be written ({error.strerror})", "Choose another with --data."
        )


def _store(data: Path) -> Iterator[Finding]:
    from .database import VERSION, StoreBroken, StoreInUse, read_copy

    path = data / "jobs.sqlite"
    if not path.exists():
        yield Finding("jobs", True, f"none yet in {data}")
        return
    with tempfile.TemporaryDirectory(prefix="maquette-doctor-") as copy:
        try:
            db = read_copy(path, Path(copy))
            count = db.execute("SELECT count(*) FROM jobs").fetchone()[0]
            db.close()
            damaged = list(Path(copy).glob("*.damaged-*"))
        except (StoreBroken, StoreInUse, sqlite3.Error) as error:
            yield Finding("jobs", False, str(error), "Update Maquette, or choose another folder with --data.")
            return
    if damaged:
        yield Finding(
            "jobs", None, f"{path} is damaged; {count} jobs can be read", "The next start keeps it aside and goes on."
        )
    else:
        yield Finding("jobs", True, f"{count} in {data}, layout {VERSION}")
    aside = data / "set-aside"
    if aside.is_dir() and (folders := list(aside.iterdir())):
        yield Finding(
            "folders set aside",
            None,
            f"{len(folders)} in {aside}",
            "Look for results of worth there, then delete them.",
        )


def _port(port: int) -> Iterator[Finding]:
    with socket.socket() as probe:
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            cure = "If a backend runs there already, use that one; else choose another with --port."
            yield Finding("port", None, f"{port} cannot be used ({error.strerror})", cure)
            return
    yield Finding("port", True, f"{port} is free")


def _weights() -> Iterator[Finding]:
    from ..models.registry import list_models
    from ..models.weights.check import check

    for status in list_models():
        if not status.available:
            yield Finding(f"model {status.spec.id}", None, "its weights are not here", status.reason)
            continue
        problems = check(status.spec)
        yield Finding(
            f"model {status.spec.id}", not problems, problems[0] if problems else f"ready in {status.spec.folder}",
            f"maquette models check {status.spec.id}" if problems else "",
        )  # fmt: skip
