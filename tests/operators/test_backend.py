"""The connection test, and the local backend's buttons."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import bpy
import pytest

from ..fake_backend import FakeBackend
from ..scene.job_scene import Bench

# Stands in for a Python that has the backend: answers ``-m maquette.backend.cli serve ... --info-file FILE``.
_PYTHON = """#!{python}
import json, os, sys, time
sys.path.insert(0, {root!r})
from tests.fake_backend import FakeBackend
print("fake backend starts", flush=True)
backend = FakeBackend()
backend.token = os.environ["MAQUETTE_TOKEN"]
backend.script = {script!r}
path = sys.argv[sys.argv.index("--info-file") + 1]
with open(path + ".new", "w") as stream:
    json.dump({{"address": "http://" + backend.address, "pid": os.getpid()}}, stream)
os.replace(path + ".new", path)
while not os.path.exists(path + ".die"):
    time.sleep(0.02)
print("CUDA out of memory, for instance", flush=True)
os._exit(3)
"""

RUNNING = [{"status": "in_progress", "stage": "denoising", "step": 1, "steps": 30, "progress": 3}]


@pytest.fixture
def bench(bench: Bench, tmp_path: Path) -> Iterator[Bench]:
    bench.preferences.results_folder = str(tmp_path / "results")
    yield bench
    bench.backends.close()
    bench.preferences.local_python = ""


def local_python(bench: Bench, folder: Path, script: list) -> None:
    """Point the preferences at an interpreter that has a backend."""
    path = folder / "python"
    root = str(Path(__file__).resolve().parents[2])
    path.write_text(_PYTHON.format(python=sys.executable, root=root, script=script))
    path.chmod(0o755)
    bench.preferences.mode = "LOCAL"
    bench.preferences.local_python = str(path)


def test_connection_test(bench: Bench, backend: FakeBackend) -> None:
    bench.preferences.address = backend.address
    assert bpy.ops.maquette.test_connection() == {"FINISHED"}
    view = bench.view.backend
    assert view.test_state == "BUSY"
    bench.until(lambda: view.test_state != "BUSY")
    assert view.test_state == "OK", view.test_message
    assert "0.1.0" in view.test_message and "fake" in view.test_message and "1 of 2 models" in view.test_message
    assert {item.name: item.state for item in view.models} == {"isa-nano": "READY", "isa-4b": "MISSING"}
    assert view.models["isa-4b"].missing.endswith(": dit.safetensors")
    # What the backend said is still known in the next file, and when no backend answers.
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    assert len(bench.view.backend.models) == 2


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda b, f: setattr(b.preferences, "address", ""), "address is empty"),
        (lambda b, f: setattr(b.preferences, "address", "box.example"), "Allow Online Access"),
        (lambda b, f: setattr(f, "token", "secret"), "wants a token"),
        (lambda b, f: setattr(f, "wire", 2), "version 2 of the wire"),
        (lambda b, f: f.close(), "No backend answers"),
    ],
)
def test_a_connection_that_fails(bench: Bench, backend: FakeBackend, prepare, words: str) -> None:
    bench.preferences.address = backend.address
    prepare(bench, backend)
    try:
        bpy.ops.maquette.test_connection()
    except RuntimeError as error:
        assert words in str(error)
    view = bench.view.backend
    bench.until(lambda: view.test_state != "BUSY")
    assert view.test_state == "ERROR" and words in view.test_message


def test_another_address_clears_the_answer(bench: Bench, backend: FakeBackend) -> None:
    bench.preferences.address = backend.address
    bpy.ops.maquette.test_connection()
    bench.preferences.address = "127.0.0.1:1"
    assert bench.view.backend.test_state == "NONE" and not bench.backends.testing()


def test_that_it_cannot_upscale_is_told_before_anything_is_captured(bench: Bench, backend: FakeBackend) -> None:
    shot = bench.build().maquette
    backend.health = {"upscale": {"available": False, "reason": "the backend cannot upscale: run 'pip install it'"}}
    bench.preferences.address = backend.address

    def told() -> list[tuple[str, str, str]]:
        bench.readiness.publish(now=True)
        return [(c.level, c.message, c.cure) for c in bench.view.checks if c.kind == "UPSCALE"]

    shot.upscale = "X2"
    assert told() == [], "nobody has been asked yet"
    bpy.ops.maquette.test_connection()
    bench.until(lambda: bench.view.backend.test_state != "BUSY")
    assert told() == [("ERROR", "The backend cannot upscale: run 'pip install it'", "UPSCALE_OFF")]
    shot.quality = "draft"
    assert told() == [], "drafts are not made larger"
    shot.quality = "standard"
    assert bpy.ops.maquette.cure(cure="UPSCALE_OFF") == {"FINISHED"} and shot.upscale == "OFF" and told() == []
    shot.upscale = "X4"
    assert told()
    bench.preferences.address = "127.0.0.1:1"
    assert told() == [], "of another backend nothing is known"


def test_installing_needs_to_be_online(bench: Bench) -> None:
    bench.preferences.mode = "LOCAL"
    assert not bpy.app.online_access
    with pytest.raises(RuntimeError, match="Allow Online Access"):
        bpy.ops.maquette.install_backend()


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for the backend's Python is a script with a shebang")
def test_generate_starts_the_local_backend(bench: Bench, tmp_path: Path) -> None:
    local_python(bench, tmp_path, [{"status": "completed", "progress": 100}])
    scene = bench.build()
    assert bpy.ops.maquette.generate(wait=True) == {"FINISHED"}
    assert len(scene.maquette.results) == 1
    view = bench.view.backend
    bench.until(lambda: view.test_state == "OK")
    assert view.local_state == "RUNNING" and view.local_log.endswith("server.log")
    assert bpy.ops.maquette.stop_backend() == {"FINISHED"}
    bench.until(lambda: view.local_state == "STOPPED")


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for the backend's Python is a script with a shebang")
def test_a_local_backend_that_dies_is_said(bench: Bench, tmp_path: Path) -> None:
    local_python(bench, tmp_path, RUNNING)
    bench.build()
    assert bpy.ops.maquette.generate() == {"FINISHED"}
    bench.until_phase("running")
    (bench.backends.local().folder / "server.json.die").touch()
    state = bench.jobs.wait()
    (bench.backends.local().folder / "server.json.die").unlink()
    assert state.phase.value == "failed" and state.resumable
    assert "exit 3" in state.message and "CUDA out of memory, for instance" in state.message
    assert bench.view.backend.local_state == "DEAD"
    # Trying again starts it again.
    assert bpy.ops.maquette.resume_job() == {"FINISHED"}
    bench.until_phase("running")


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for the backend's Python is a script with a shebang")
def test_a_local_backend_that_cannot_start(bench: Bench, tmp_path: Path) -> None:
    local_python(bench, tmp_path, [])
    (tmp_path / "python").write_text("#!/bin/sh\necho no module named torch\nexit 1\n")
    bench.build()
    with pytest.raises(RuntimeError, match="no module named torch"):
        bpy.ops.maquette.generate(wait=True)
