"""Generate pressed again while a job runs: the jobs that wait, and what can be done about them."""

from __future__ import annotations

from pathlib import Path

import bpy
import pytest

from ..fake_backend import FakeBackend
from ..scene.job_scene import Bench

RUNNING = [{"status": "in_progress", "stage": "denoising", "step": 1, "steps": 30, "progress": 3}]


def seeds(bench: Bench) -> list[int]:
    """Of the jobs that wait, as their shots are captured."""
    load = bench.module("backend.shot").load_shot
    return [load(Path(job.state.shot)).settings.seed for job in bench.jobs.queue]


def test_jobs_wait_as_they_were_captured_and_follow_each_other(bench: Bench, backend: FakeBackend) -> None:
    usual, backend.script = backend.script, RUNNING
    scene = bench.build()
    for seed in range(4):
        scene.maquette.seed = seed
        bpy.ops.maquette.generate()
        bench.until(lambda: all(job.state.shot for job in bench.jobs.queue) and bench.state.shot)
    bench.until_phase("running")
    with pytest.raises(RuntimeError, match="under way already"):
        bpy.ops.maquette.generate(wait=True)
    bench.until(lambda: all("turn" in item.message for item in bench.view.queue))
    assert seeds(bench) == [1, 2, 3] and bench.view.queue[2].name == "Scene, ISA Nano, Seed 3"
    assert len(backend.jobs) == 1, "the others wait here"
    bpy.ops.maquette.change_queue(place=2, change="UP")
    bpy.ops.maquette.change_queue(place=0, change="UP")
    assert seeds(bench) == [1, 3, 2]
    bpy.ops.maquette.change_queue(place=0, change="CANCEL")
    bench.until(lambda: len(bench.view.queue) == 2)
    with pytest.raises(RuntimeError, match="No job waits at place 7"):
        bpy.ops.maquette.change_queue(place=7, change="UP")
    backend.script = usual
    bpy.ops.maquette.cancel()
    assert bench.jobs.wait().phase.value == "done"
    assert [item.seed for item in scene.maquette.results] == [3, 2] and not bench.view.queue
    assert not list(bench.folders.user_folder("jobs").iterdir()), "nothing is left behind"


def test_what_is_more_urgent_comes_before_what_waits(bench: Bench, backend: FakeBackend) -> None:
    backend.script = RUNNING
    scene = bench.build()
    for seed, priority, quality in (
        *((0, "NORMAL", "standard"), (1, "NORMAL", "standard"), (2, "LOW", "standard")),
        *((3, "NORMAL", "draft"), (4, "HIGH", "standard"), (5, "NORMAL", "standard")),
    ):
        scene.maquette.seed, scene.maquette.priority, scene.maquette.quality = seed, priority, quality
        bpy.ops.maquette.generate()
        bench.until(lambda: all(job.state.shot for job in bench.jobs.queue) and bench.state.shot)
    bench.until_phase("running")
    assert seeds(bench) == [4, 3, 1, 5, 2]
    assert backend.priority == "u=3"


def test_one_that_fails_is_kept_and_the_others_go_on(bench: Bench, backend: FakeBackend) -> None:
    scene = bench.build()
    backend.refuse = (507, "no_space", "The backend's disk is full.")
    bpy.ops.maquette.generate()
    scene.maquette.seed = 5
    bpy.ops.maquette.generate()
    assert [item.message for item in bench.view.queue] == ["Waits to be captured"]
    bench.until(lambda: any(item.state == "FAILED" for item in bench.view.queue) or not bench.jobs.busy())
    backend.refuse = None
    bench.until(lambda: not bench.jobs.busy())
    (failed,) = bench.view.queue
    assert "disk is full" in failed.message and failed.can_resume
    bpy.ops.maquette.change_queue(place=0, change="AGAIN")
    bench.jobs.wait()
    assert not bench.view.queue and len(scene.maquette.results) == 2


def test_a_backend_with_two_engines_gets_two(
    bench: Bench, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.backends, "engines", lambda: 2)
    backend.script = RUNNING
    scene = bench.build()
    for seed in range(3):
        scene.maquette.seed = seed
        bpy.ops.maquette.generate()
        bench.until(lambda: bench.state.shot and all(job.state.shot for job in bench.jobs.queue))
    bench.until(lambda: [item.state for item in bench.view.queue] == ["RUNNING", "SUBMITTING"])
    bench.until(lambda: bench.state.phase.value == "running")
    assert len(backend.jobs) == 2 and not bench.view.queue[1].can_move
    bpy.ops.maquette.change_queue(place=1, change="UP")
    assert [item.state for item in bench.view.queue] == ["RUNNING", "SUBMITTING"]
    # The second is ready before the first, and the third takes its place.
    backend.change(job=bench.jobs.queue[0].state.job, status="completed", progress=100)
    bench.until(lambda: [item.seed for item in scene.maquette.results] == [1])
    bench.until(lambda: len(backend.jobs) == 3 and bench.view.queue[0].state == "RUNNING")
    assert bench.state.phase.value == "running" and len(bench.view.queue) == 1


def test_all_scenes(bench: Bench) -> None:
    bench.build()
    bpy.ops.scene.new(type="FULL_COPY")
    bpy.ops.scene.new(type="FULL_COPY")
    bpy.context.scene.camera = None
    bpy.ops.scene.new(type="NEW")
    assert bpy.ops.maquette.generate_all() == {"FINISHED"}
    bench.jobs.wait()
    made = [len(scene.maquette.results) for scene in bpy.data.scenes]
    assert sorted(made) == [0, 0, 1, 1]
    assert [item.state for item in bench.view.queue] in ([], ["FAILED"])


def test_cameras_of_markers_cut_a_scene_into_shots(bench: Bench, backend: FakeBackend) -> None:
    backend.script = RUNNING
    scene = bench.build()
    first, last = scene.frame_start, scene.frame_end
    cut = (first + last) // 2
    other = scene.camera.copy()
    scene.collection.objects.link(other)
    for frame, camera in ((first, scene.camera), (cut, other)):
        scene.timeline_markers.new(f"F{frame}", frame=frame).camera = camera
    assert bpy.ops.maquette.generate_all() == {"FINISHED"}
    (waiting,) = bench.jobs.queue
    bench.until(lambda: bench.state.shot and waiting.state.shot)
    load = bench.module("backend.shot").load_shot
    counts = [load(Path(job.state.shot)).clip.frames for job in (bench.jobs.runner, waiting)]
    assert counts == [cut - first, last + 1 - cut]
    assert waiting.title.startswith(f"Scene {cut}-{last}, ")
    bench.jobs.cancel(0)
    bench.until_phase("running")
    backend.change(status="completed", progress=100)
    bench.until(lambda: not bench.jobs.busy())
    (made,) = scene.maquette.results
    assert made.frame_start == first


def test_what_waits_outlives_blender(bench: Bench, backend: FakeBackend) -> None:
    backend.script = RUNNING
    bench.build()
    bpy.ops.maquette.generate()
    bpy.ops.maquette.generate()
    bench.until(lambda: bench.state.phase.value == "running" and bench.jobs.queue[0].state.shot)
    bench.jobs.close()
    assert len(list(bench.folders.user_folder("jobs").glob("*/record.json"))) == 2
