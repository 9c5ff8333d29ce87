"""One shot for several models: captured once, sent to each in turn, and shown side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import pytest
from maquette.backend.shot import Shot, load_shot
from maquette.backend.wire import GIVE_UP_CANCEL_SECONDS

from ...fake_backend import FakeBackend
from ..job_scene import Bench

RUNNING = {"status": "in_progress", "stage": "denoising", "step": 1, "steps": 30, "progress": 3}
ERROR = {"code": "out_of_memory", "message": "The GPU is full.", "field": None}
INPUTS = {"characters": "required", "camera": "required"}
ENTRIES: list[dict[str, Any]] = [
    {"id": "a", "label": "Model A", "available": True, "inputs": INPUTS},
    {
        "id": "b", "label": "Model B", "available": True, "inputs": INPUTS | {"meshes": "optional"},
        "options": {"strength": {"type": "float", "default": 0.5, "min": 0, "max": 1}},
    },
    {"id": "c", "label": "Model C", "available": True, "inputs": INPUTS},
    {"id": "short", "label": "Short", "available": True, "inputs": INPUTS, "limits": {"max_frames": 3}},
]  # fmt: skip


@pytest.fixture
def backend(backend: FakeBackend) -> FakeBackend:
    backend.models = ENTRIES
    return backend


@pytest.fixture
def bench(bench: Bench, backend: FakeBackend, tmp_path: Path) -> Bench:
    bench.preferences.address = backend.address
    bench.preferences.results_folder = str(tmp_path / "results")
    scene = bench.build()
    bench.backends.show_models(ENTRIES)
    scene.maquette.model = "a"
    return bench


def compare(*names: str) -> bpy.types.Scene:
    for name in names:
        bpy.ops.maquette.compare_model(model=name)
    return bpy.context.scene


def shots(backend: FakeBackend, tmp_path: Path) -> dict[str, Shot]:
    """What was sent, by model."""
    found = {}
    for index, data in enumerate(backend.shots.values()):
        path = tmp_path / f"{index}.shot"
        path.write_bytes(data)
        shot = load_shot(path)
        found[shot.settings.model] = shot
    return found


def screens() -> list[str]:
    return [obj.name for obj in bpy.data.objects if obj.get("maquette_result")]


def test_the_whole_way(bench: Bench, backend: FakeBackend, tmp_path: Path) -> None:
    scene = compare("b", "c")
    scene.maquette.steps, scene.maquette.show_as = 7, "PLANE"
    bench.readiness.publish(now=True)
    scene.maquette.options[0].as_float = 0.9
    captures = []
    original = bench.module("scene.capture.shot").capture_steps
    bench.module("scene.capture.shot").capture_steps = lambda *a, **k: captures.append(k["wants"]) or original(*a, **k)
    try:
        bench.jobs.generate(scene)
        state = bench.jobs.wait()
    finally:
        bench.module("scene.capture.shot").capture_steps = original
    assert state.phase.value == "done" and state.message == "3 of 3 videos ready: Model A, Model B, Model C"
    # Captured once, for what any of them takes.
    assert len(captures) == 1 and captures[0].meshes and not captures[0].tracks

    sent = shots(backend, tmp_path)
    assert list(sent) == ["a", "b", "c"]
    assert [dict(shot.settings.options) for shot in sent.values()] == [{}, {"strength": 0.9}, {}]
    # Steps are the scene's model's; the others take their own, and the animator is told.
    assert [shot.settings.steps for shot in sent.values()] == [7, None, None]
    assert "Steps and guidance are for Model A" in bench.view.notes
    assert sent["b"].meshes and not sent["a"].meshes
    assert all((shot.clip.viewmats == sent["a"].clip.viewmats).all() for shot in sent.values())

    items = scene.maquette.results
    assert [(item.model, item.model_label) for item in items] == [("a", "Model A"), ("b", "Model B"), ("c", "Model C")]
    assert len({item.comparison for item in items}) == 1 and items[0].comparison
    names = [Path(item.filepath).name for item in items]
    assert all(name.startswith(f"Scene_take01_{each}_20") for name, each in zip(names, "abc", strict=True))
    assert bench.library.read(items[1].filepath).model_label == "Model B"
    # All are in the scene together, and nothing of the jobs is left behind.
    assert sum(name.startswith("Maquette Screen") for name in screens()) == 3
    assert [(part.name, part.state) for part in bench.view.parts] == [
        ("Model A", "DONE"), ("Model B", "DONE"), ("Model C", "DONE"),
    ]  # fmt: skip
    assert not list(bench.folders.user_folder("jobs").iterdir())


def test_progress_is_of_the_one_at_work(bench: Bench, backend: FakeBackend) -> None:
    backend.scripts["b"] = [RUNNING | {"step": 6, "progress": 20}]
    bench.jobs.generate(compare("b", "c"))
    bench.until(lambda: bench.view.step == 6)
    assert [(part.name, part.state) for part in bench.view.parts] == [
        ("Model A", "DONE"), ("Model B", "NOW"), ("Model C", "WAITING"),
    ]  # fmt: skip
    assert bench.view.progress == pytest.approx(0.2)
    backend.change(status="completed")
    assert bench.jobs.wait().phase.value == "done"


def test_one_that_fails_does_not_stop_the_others_and_is_tried_again(bench: Bench, backend: FakeBackend) -> None:
    backend.scripts["b"] = [{"status": "failed", "error": ERROR}]
    scene = compare("b", "c")
    bench.jobs.generate(scene)
    state = bench.jobs.wait()
    assert state.phase.value == "done" and state.message.splitlines() == [
        "2 of 3 videos ready: Model A, Model C", "Model B: The GPU is full.",
    ]  # fmt: skip
    assert bench.view.can_resume and len(scene.maquette.results) == 2
    backend.scripts.clear()
    assert bpy.ops.maquette.resume_job(wait=True) == {"FINISHED"}
    assert bench.state.message == "3 of 3 videos ready: Model A, Model C, Model B"
    assert {item.model for item in scene.maquette.results} == {"a", "b", "c"} and len(backend.jobs) == 4
    assert len({item.comparison for item in scene.maquette.results}) == 1
    assert not list(bench.folders.user_folder("jobs").iterdir())


def test_dismissing_gives_up_what_failed(bench: Bench, backend: FakeBackend) -> None:
    backend.scripts["b"] = [{"status": "failed", "error": ERROR}]
    bench.jobs.generate(compare("b"))
    bench.jobs.wait()
    bpy.ops.maquette.dismiss()
    assert bench.view.state == "idle" and not list(bench.folders.user_folder("jobs").iterdir())


def test_a_model_that_cannot_take_the_shot_is_left_out(bench: Bench, backend: FakeBackend) -> None:
    scene = compare("short", "b")
    bench.jobs.generate(scene)
    state = bench.jobs.wait()
    assert list(job["model"] for job in backend.jobs.values()) == ["a", "b"]
    assert state.phase.value == "done" and "Short: Short makes at most 3 frames" in state.message


def test_a_model_that_cannot_take_the_shot_is_refused_before_the_capture(bench: Bench, backend: FakeBackend) -> None:
    scene = bpy.context.scene
    scene.maquette.model = "short"
    with pytest.raises(RuntimeError, match="at most 3 frames and the range has 5: set its end to 3"):
        bpy.ops.maquette.generate()
    assert not backend.jobs and not list(bench.folders.user_folder("jobs").iterdir())


def test_a_cancel_is_for_all(bench: Bench, backend: FakeBackend) -> None:
    backend.scripts["b"] = [RUNNING]
    scene = compare("b", "c")
    bench.jobs.generate(scene)
    bench.until(lambda: bench.state.phase.value == "running" and bench.state.model == "b")
    bpy.ops.maquette.cancel()
    bench.until_phase("cancelled")
    assert bench.state.message == "Cancelled. 1 of 3 videos ready: Model A"
    assert [job["status"] for job in backend.jobs.values()] == ["completed", "cancelled"]
    assert len(scene.maquette.results) == 1 and not screens() and not bench.view.can_resume
    assert not list(bench.folders.user_folder("jobs").iterdir())


def test_what_waits_outlives_blender(bench: Bench, backend: FakeBackend) -> None:
    backend.scripts["a"] = [RUNNING]
    scene = compare("b")
    bench.jobs.generate(scene)
    bench.until_phase("running")
    bench.jobs.close()  # Blender ends here, as far as the jobs can tell
    backend.change(status="completed")
    for _ in range(2):
        bench.jobs.runner.take_up()
        bench.jobs.poll()
        assert bench.view.can_resume
        bench.jobs.runner.dispatch(bench.events.Resume())
        assert bench.jobs.wait().phase.value == "done"
        bench.jobs.runner.dispatch(bench.events.Dismiss())
    assert {(item.model, item.model_label) for item in scene.maquette.results} == {("a", "Model A"), ("b", "Model B")}
    bench.jobs.runner.take_up()
    assert bench.state.phase.value == "idle"


def test_an_unknown_model_leaves_nothing_to_try_again(bench: Bench, backend: FakeBackend) -> None:
    backend.refuse = (422, "invalid_shot", "This backend knows no model 'a'.", "settings.model")
    bench.jobs.generate(bpy.context.scene)
    state = bench.jobs.wait()
    assert state.phase.value == "failed" and "knows no model" in state.message and not bench.view.can_resume
    assert not list(bench.folders.user_folder("jobs").iterdir())


def test_a_cancel_that_was_not_heard_is_said_later(bench: Bench, backend: FakeBackend) -> None:
    backend.script = [RUNNING]
    backend.deaf = True
    bench.jobs.generate(bpy.context.scene)
    bench.until_phase("running")
    bpy.ops.maquette.cancel()
    owed = bench.module("backend.client.owed").owed
    bench.until(lambda: owed(bench.backends.owed_file()))
    bench.jobs.runner.dispatch(bench.events.Waited(bench.state.run, GIVE_UP_CANCEL_SECONDS))
    assert bench.state.phase.value == "cancelled" and owed(bench.backends.owed_file()) == ["vid_00000000"]
    # The backend is back, and is asked who it is.
    backend.deaf = False
    bpy.ops.maquette.test_connection()
    bench.until(lambda: bench.view.backend.test_state == "OK")
    assert backend.jobs["vid_00000000"]["status"] == "cancelled" and not owed(bench.backends.owed_file())


def test_in_a_window_a_server_is_asked_by_itself(
    bench: Bench, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.preferences.address = backend.address + " "  # named anew: nobody has asked it
    bench.readiness.publish(now=True)
    assert bench.view.backend.test_state == "NONE"
    monkeypatch.setattr(bench.backends, "_has_window", lambda: True)
    bpy.data.objects["Performer"].maquette.is_character = False
    bench.readiness.publish(now=True)
    assert bench.view.backend.test_state == "NONE"  # Maquette is not in use in this scene
    bpy.data.objects["Performer"].maquette.is_character = True
    bench.readiness.publish(now=True)
    bench.until(lambda: bench.view.backend.test_state == "OK")
    assert bench.view.backend.models["b"].state == "READY"
    # Once is enough, also where it does not answer.
    bench.view.backend.test_state = "NONE"
    bench.readiness.publish(now=True)
    assert bench.view.backend.test_state == "NONE"


def test_several_seeds_of_one_capture(bench: Bench, backend: FakeBackend, tmp_path: Path) -> None:
    scene = bpy.context.scene
    scene.maquette.seed, scene.maquette.seeds = 7, 2
    bench.jobs.generate(scene)
    state = bench.jobs.wait()
    assert state.message == "2 of 2 videos ready: Model A, Seed 7, Model A, Seed 8"
    sent = []
    for index, data in enumerate(backend.shots.values()):
        path = tmp_path / f"{index}.shot"
        path.write_bytes(data)
        sent.append(load_shot(path).settings.seed)
    assert sent == [7, 8]
    assert [item.seed for item in scene.maquette.results] == [7, 8]
    assert len({item.comparison for item in scene.maquette.results}) == 1 and scene.maquette.results[0].comparison
