"""Generate, cancel and what can be done about a job, as scripts and buttons call them."""

from __future__ import annotations

from pathlib import Path

import bpy
import pytest

from ..fake_backend import FakeBackend
from ..scene.job_scene import Bench

RUNNING = [{"status": "in_progress", "stage": "denoising", "step": 1, "steps": 30, "progress": 3}]


def test_generate_and_wait(bench: Bench) -> None:
    scene = bench.build()
    assert bpy.ops.maquette.generate(wait=True) == {"FINISHED"}
    (item,) = scene.maquette.results
    assert Path(item.filepath).is_file()
    showing = bench.module("scene.screen.overlay").showing(scene)
    assert showing is not None and showing.path == Path(item.filepath)


def test_generate_returns_at_once(bench: Bench, backend: FakeBackend) -> None:
    backend.script = RUNNING
    bench.build()
    assert bpy.ops.maquette.generate() == {"FINISHED"}
    assert bench.state.phase.value == "capturing"
    with pytest.raises(RuntimeError, match="under way already"):
        bpy.ops.maquette.generate(wait=True)
    bench.until_phase("running")
    assert bpy.ops.maquette.cancel() == {"FINISHED"}
    bench.until_phase("cancelled")
    assert not bpy.ops.maquette.cancel.poll()
    assert bpy.ops.maquette.dismiss() == {"FINISHED"}
    assert bench.view.state == "idle" and not bench.view.message


def test_what_is_wrong_is_reported(bench: Bench, backend: FakeBackend) -> None:
    scene = bench.build()
    scene.camera = None
    with pytest.raises(RuntimeError, match="camera"):
        bpy.ops.maquette.generate(wait=True)
    assert bench.view.state == "failed" and "camera" in bench.view.message
    assert not bpy.ops.maquette.resume_job.poll()


def test_a_backend_that_is_missing_is_said_before_the_capture(bench: Bench) -> None:
    bench.build()
    bench.preferences.mode = "LOCAL"
    with pytest.raises(RuntimeError, match="No backend is installed"):
        bpy.ops.maquette.generate()
    assert not list(bench.folders.user_folder("jobs").iterdir())


def test_try_again(bench: Bench, backend: FakeBackend) -> None:
    backend.refuse = (507, "no_space", "The backend's disk is full.")
    scene = bench.build()
    with pytest.raises(RuntimeError, match="disk is full"):
        bpy.ops.maquette.generate(wait=True)
    backend.refuse = None
    assert bpy.ops.maquette.resume_job(wait=True) == {"FINISHED"}
    assert len(scene.maquette.results) == 1


def test_a_second_job_after_the_first(bench: Bench) -> None:
    scene = bench.build()
    bpy.ops.maquette.generate(wait=True)
    scene.maquette.seed = 2
    bpy.ops.maquette.generate(wait=True)
    assert [item.seed for item in scene.maquette.results] == [0, 2] and scene.maquette.active_result == 1
    assert [item.take for item in scene.maquette.results] == [1, 2]


def test_remove_result(bench: Bench) -> None:
    scene = bench.build()
    bpy.ops.maquette.generate(wait=True)
    bpy.ops.maquette.generate(wait=True)
    first, second = (Path(item.filepath) for item in scene.maquette.results)
    with pytest.raises(RuntimeError, match="no entry 5"):
        bpy.ops.maquette.remove_result(index=5)
    assert bpy.ops.maquette.remove_result(index=0) == {"FINISHED"}
    assert first.is_file() and [Path(item.filepath) for item in scene.maquette.results] == [second]
    assert bpy.ops.maquette.remove_result(delete_file=True) == {"FINISHED"}
    assert not second.exists() and not second.with_suffix(".json").exists()
    assert not scene.maquette.results and not bpy.ops.maquette.remove_result.poll()
    assert bench.library.sync() == 0


def test_a_file_that_cannot_be_shown(bench: Bench, tmp_path: Path) -> None:
    scene = bench.build()
    item = scene.maquette.results.add()
    item.filepath = str(tmp_path / "gone" / "a.mp4")
    with pytest.raises(RuntimeError, match="not there any more"):
        bpy.ops.maquette.reveal_result()
