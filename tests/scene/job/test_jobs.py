"""Jobs from the press of the button to the video in the scene, against a backend of the tests over real HTTP."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import bpy
import pytest

from ...fake_backend import FILM, FakeBackend
from ..job_scene import Bench

RUNNING = [{"status": "in_progress", "stage": "denoising", "step": 1, "steps": 30, "progress": 3, "eta_seconds": 29.0}]


@pytest.fixture
def bench(bench: Bench, backend: FakeBackend, tmp_path: Path) -> Bench:
    bench.preferences.address = backend.address
    bench.preferences.results_folder = str(tmp_path / "results")
    return bench


def sent_shot(backend: FakeBackend, path: Path):
    from maquette.backend.shot import load_shot

    path.write_bytes(list(backend.shots.values())[-1])
    return load_shot(path)


def test_the_whole_way(bench: Bench, backend: FakeBackend, tmp_path: Path) -> None:
    scene = bench.build()
    scene.maquette.seed = 7
    scene.frame_set(2)
    backend.script = [{"status": "completed", "progress": 100, "notes": ["Size snapped to 16 x 16"]}]
    objects = set(bpy.data.objects)
    bench.jobs.generate(scene)
    state = bench.jobs.wait()
    assert state.phase.value == "done", state.message
    assert scene.frame_current == 2 and list(bpy.data.scenes) == [scene]

    shot = sent_shot(backend, tmp_path / "sent.shot")
    assert [c.name for c in shot.characters] == ["Performer"] and shot.clip.frames == 5 and shot.settings.seed == 7

    (item,) = scene.maquette.results
    video = Path(item.filepath)
    assert video.parent == tmp_path / "results" and video.read_bytes() == FILM
    assert (item.frame_start, item.frame_count, item.seed, item.camera) == (1, 5, 7, scene.camera)
    record = bench.library.read(video)
    assert (
        record.created == item.created != ""
        and record.scene == scene.maquette.uid
        and record.notes[-1] == "Size snapped to 16 x 16"
    )
    assert set(bpy.data.objects) == objects and scene.maquette.show_as == "OVERLAY"
    assert bench.view.state == "done" and "Size snapped" in bench.view.notes
    # Nothing of the job is left behind.
    assert not list(bench.folders.user_folder("jobs").iterdir())
    assert backend.clients == {bench.folders.client_id()}


def test_nowhere_leaves_the_scene_alone(bench: Bench, backend: FakeBackend) -> None:
    scene = bench.build()
    scene.maquette.show_as = "OFF"
    objects = set(bpy.data.objects)
    bench.jobs.generate(scene)
    bench.jobs.wait()
    assert len(scene.maquette.results) == 1 and set(bpy.data.objects) == objects


def test_progress_is_shown(bench: Bench, backend: FakeBackend) -> None:
    backend.script = [{"queue_position": 2}]
    bench.jobs.generate(bench.build())
    bench.until(lambda: bench.view.queue_position == 2)
    assert bench.view.state == "queued"
    backend.change(**RUNNING[0] | {"step": 6, "progress": 20})
    bench.until(lambda: bench.view.step == 6)
    assert (bench.view.stage, bench.view.steps, bench.view.eta_seconds) == ("denoising", 30, 29.0)
    assert bench.view.progress == pytest.approx(0.2)
    bench.until(lambda: bench.view.preview_path)
    backend.change(status="completed")
    bench.until_phase("done")
    assert not bench.view.preview_path


def test_cancel_while_running(bench: Bench, backend: FakeBackend) -> None:
    backend.script = RUNNING
    scene = bench.build()
    bench.jobs.generate(scene)
    bench.until_phase("running")
    bench.jobs.runner.dispatch(bench.events.Cancel())
    assert bench.state.phase.value == "cancelling"
    bench.until_phase("cancelled")
    assert [job["status"] for job in backend.jobs.values()] == ["cancelled"]
    assert not scene.maquette.results


def test_a_video_that_beats_the_cancel_is_listed(bench: Bench, backend: FakeBackend) -> None:
    backend.script, backend.obeys = RUNNING, False
    scene = bench.build()
    bench.jobs.generate(scene)
    bench.until_phase("running")
    bench.jobs.runner.dispatch(bench.events.Cancel())
    bench.until(lambda: backend.cancels)
    backend.change(status="completed")
    objects = set(bpy.data.objects)
    bench.until_phase("done")
    assert len(scene.maquette.results) == 1 and set(bpy.data.objects) == objects
    assert "before the cancel" in bench.state.message


def test_cancel_while_capturing(bench: Bench, backend: FakeBackend) -> None:
    scene = bench.build(frames=30)
    scene.frame_set(4)
    bench.jobs.generate(scene)
    next(bench.jobs.runner._capture.turn())
    next(bench.jobs.runner._capture.turn())
    bench.jobs.runner.dispatch(bench.events.Cancel())
    assert bench.state.phase.value == "cancelled"
    assert scene.frame_current == 4 and list(bpy.data.scenes) == [scene]
    assert not backend.jobs


@pytest.mark.parametrize("event", ["save", "undo"])
def test_the_capture_steps_aside(bench: Bench, backend: FakeBackend, tmp_path: Path, event: str) -> None:
    """A file saved, or an undo made, in the middle of a capture knows nothing of it."""
    scene = bench.build(frames=30)
    bench.jobs.generate(scene)
    next(bench.jobs.runner._capture.turn())
    assert len(bpy.data.scenes) > 1
    if event == "save":
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"), copy=True)
        with bpy.data.libraries.load(str(tmp_path / "a.blend")) as (there, _):
            assert there.scenes == ["Scene"]
    else:
        bench.module("scene.job.handlers")._before_change()
    assert list(bpy.data.scenes) == [scene] and bench.state.phase.value == "capturing"
    assert bench.jobs.wait().phase.value == "done"


def test_another_file_while_capturing(bench: Bench, backend: FakeBackend) -> None:
    bench.jobs.generate(bench.build(frames=30))
    next(bench.jobs.runner._capture.turn())
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    assert bench.state.phase.value == "failed" and "Another file" in bench.state.message
    assert not any("Stage" in scene.name for scene in bpy.data.scenes)


def test_another_file_while_running(
    bench: Bench, backend: FakeBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The video waits on disk until its scene is opened again."""
    monkeypatch.setenv("HOME", str(tmp_path))
    bench.preferences.results_folder = ""
    backend.script = RUNNING
    bench.build()
    blend = tmp_path / "walk.blend"
    bench.jobs.generate(bpy.context.scene)
    bpy.ops.wm.save_as_mainfile(filepath=str(blend))
    bench.until_phase("running")
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    bench.jobs.poll()
    assert bench.view.state == "running"
    backend.change(status="completed")
    assert bench.jobs.wait().phase.value == "done"
    assert "results list" in bench.state.message and not bpy.context.scene.maquette.results
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    (item,) = bpy.context.scene.maquette.results
    video = Path(bpy.path.abspath(item.filepath))
    assert video.is_file() and video.parent == tmp_path / "maquette" and item.filepath.startswith("//")
    assert item.camera == bpy.context.scene.camera


def test_a_refused_shot_is_kept_and_sent_again(bench: Bench, backend: FakeBackend) -> None:
    backend.refuse = (422, "invalid_shot", "clip: has too many frames.")
    scene = bench.build()
    bench.jobs.generate(scene)
    state = bench.jobs.wait()
    assert state.phase.value == "failed" and "too many frames" in state.message and Path(state.shot).is_file()
    assert bench.view.can_resume
    backend.refuse = None
    bench.jobs.runner.dispatch(bench.events.Resume())
    assert bench.jobs.wait().phase.value == "done"
    assert not Path(state.shot).exists()


def test_a_backend_that_dies(bench: Bench, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.module("scene.job.effect_runner"), "RECONNECT_SECONDS", 0.3)
    backend.script = RUNNING
    bench.jobs.generate(bench.build())
    bench.until_phase("running")
    backend.close()
    state = bench.jobs.wait()
    assert state.phase.value == "failed" and state.resumable and state.job
    assert backend.address in state.message


def test_a_worker_that_dies(bench: Bench, backend: FakeBackend) -> None:
    backend.script = RUNNING
    bench.jobs.generate(bench.build())
    bench.until_phase("running")
    os.kill(bench.jobs.runner._follower._process.pid, signal.SIGKILL)
    state = bench.jobs.wait()
    assert state.phase.value == "failed" and "follow it again" in state.message
    backend.change(status="completed")
    bench.jobs.runner.dispatch(bench.events.Resume())
    assert bench.jobs.wait().phase.value == "done"
    assert len(backend.jobs) == 1


def test_a_job_of_an_earlier_session(bench: Bench, backend: FakeBackend) -> None:
    backend.script = RUNNING
    scene = bench.build()
    bench.jobs.generate(scene)
    bench.until_phase("running")
    bench.jobs.close()  # Blender ends here, as far as the job can tell
    assert bench.state.phase.value == "idle"
    backend.change(status="completed")
    bench.jobs.runner.take_up()
    bench.jobs.poll()
    assert bench.view.state == "failed" and bench.view.can_resume and "Blender was closed" in bench.view.message
    bench.jobs.runner.dispatch(bench.events.Resume())
    assert bench.jobs.wait().phase.value == "done"
    assert len(scene.maquette.results) == 1 and scene.maquette.results[0].frame_count == 5
    bench.jobs.close()
    bench.jobs.runner.take_up()
    assert bench.state.phase.value == "idle"


def test_a_job_that_the_backend_has_is_delivered_at_the_next_start(bench: Bench, backend: FakeBackend) -> None:
    backend.script = RUNNING
    scene = bench.build()
    bench.jobs.generate(scene)
    bench.until_phase("running")
    bench.jobs.close()
    backend.change(status="completed")
    bench.jobs.runner.take_up(follow=True)
    assert bench.jobs.wait().phase.value == "done" and len(scene.maquette.results) == 1
    assert Path(scene.maquette.results[0].filepath).name.startswith("Scene_take01_")


def test_the_job_of_another_blender_is_let_alone(bench: Bench) -> None:
    folder = bench.folders.user_folder("jobs", "other")
    (folder / "record.json").write_text(json.dumps({"pid": os.getppid(), "scene": "x", "shot": "", "job": "vid_1"}))
    bench.jobs.runner.take_up()
    assert bench.state.phase.value == "idle" and folder.is_dir()
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda b, f: setattr(f, "wire", 9), "version 9 of the wire"),
        (lambda b, f: setattr(f, "token", "secret"), "wants a token"),
        (lambda b, f: (setattr(f, "token", "secret"), setattr(b.preferences, "token", "x")), "refuses this token"),
        (lambda b, f: f.close(), "No backend answers"),
        (lambda b, f: setattr(b.preferences, "address", "ftp://nowhere"), "only http:// and https://"),
        (lambda b, f: setattr(b.preferences, "address", "render-box.example"), "Allow Online Access"),
        (lambda b, f: setattr(bpy.context.scene, "camera", None), "camera"),
        (lambda b, f: setattr(bpy.data.objects["Performer"].maquette, "is_character", False), "characters"),
        (lambda b, f: setattr(b.preferences, "results_folder", "/proc/nowhere"), "results folder /proc/nowhere"),
    ],
)
def test_what_is_wrong_is_said_in_one_message(bench: Bench, backend: FakeBackend, prepare, words: str) -> None:
    scene = bench.build()
    prepare(bench, backend)
    bench.jobs.generate(scene)
    state = bench.jobs.wait()
    assert state.phase.value == "failed" and words in state.message and "\n" not in state.message
    assert "Error" not in state.message and "Traceback" not in state.message
    assert list(bpy.data.scenes) == [scene]


def test_a_scene_that_is_gone(bench: Bench, backend: FakeBackend) -> None:
    backend.script = RUNNING
    scene = bench.build()
    other = bpy.data.scenes.new("Other")
    bench.jobs.generate(scene)
    bench.until_phase("running")
    bpy.context.window_manager  # noqa: B018 - the scene is not shown anywhere from here on
    bpy.data.scenes.remove(scene)
    backend.change(status="completed")
    state = bench.jobs.wait()
    assert state.phase.value == "done" and Path(state.video).is_file() and not other.maquette.results


def test_a_copied_scene_gets_its_own_results(bench: Bench, backend: FakeBackend) -> None:
    scene = bench.build()
    first = bench.folders.scene_id(scene)
    copy = scene.copy()
    assert copy.maquette.uid == first
    assert bench.folders.scene_id(copy) != first and scene.maquette.uid == first
    bpy.data.scenes.remove(copy)


def test_an_undo_does_not_part_a_scene_from_its_job(bench: Bench, backend: FakeBackend) -> None:
    backend.script = RUNNING
    scene = bench.build()
    bench.jobs.generate(scene)
    bench.until_phase("running")
    scene.maquette.uid = ""  # as it was before Generate
    bench.module("scene.job.handlers")._after_undo()
    backend.change(status="completed")
    assert bench.jobs.wait().phase.value == "done"
    assert len(scene.maquette.results) == 1


def test_an_entry_taken_off_stays_off(bench: Bench, backend: FakeBackend) -> None:
    scene = bench.build()
    bench.jobs.generate(scene)
    bench.jobs.wait()
    scene.maquette.results.clear()  # as an undo would
    assert bench.library.sync() == 1
    path = bench.library.take_off_list(scene, 0)
    assert path.is_file() and bench.library.sync() == 0


def test_a_damaged_record_is_passed_over(bench: Bench, backend: FakeBackend) -> None:
    scene = bench.build()
    bench.jobs.generate(scene)
    bench.jobs.wait()
    folder = Path(scene.maquette.results[0].filepath).parent
    uid = scene.maquette.uid
    for name, text in {
        "a": "{", "b": "[]", "c": json.dumps({"scene": uid, "seed": "x"}), "d": json.dumps({"scene": uid, "fps": None}),
    }.items():  # fmt: skip
        (folder / f"{name}.mp4").write_bytes(FILM)
        (folder / f"{name}.json").write_text(text)
    assert bench.library.sync() == 0


def test_no_timer_in_the_background(bench: Bench) -> None:
    assert not bpy.app.timers.is_registered(bench.module("scene.job.handlers")._tick)
