"""Previews against a backend of the tests: windows, edits, a busy backend, and what must not stay in the file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import bpy
import pytest

from ...fake_backend import FakeBackend
from ..job_scene import Bench

RUNNING = {"status": "in_progress", "stage": "denoising", "step": 1, "steps": 4}


class PreviewBench(Bench):
    """The same for previews.

    Attributes:
        preview, previews: the modules of ``scene/``.
    """

    def __init__(self, addon: ModuleType) -> None:
        super().__init__(addon)
        self.preview, self.previews = self.module("scene.job.preview"), self.module("scene.screen.previews")

    @property
    def runner(self) -> Any:
        return self.preview.runner

    def turn(self, condition: Callable[[], Any], seconds: float = 30.0) -> None:
        """Poll until something is so."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"did not happen: {self.runner.message}"
            self.runner.poll()
            time.sleep(0.01)

    def rest(self) -> None:
        self.turn(lambda: not self.runner.busy)

    def standing(self) -> str:
        """How the scene's frames stand, a letter each from the first on."""
        reel = self.previews.reel_of(bpy.context.scene.maquette.uid)
        found = reel.standing() if reel is not None else {}
        return "".join(str(found[frame])[0] for frame in sorted(found))


@pytest.fixture
def bench(addon: ModuleType, backend: FakeBackend, monkeypatch: pytest.MonkeyPatch) -> Iterator[PreviewBench]:
    bench = PreviewBench(addon)
    bench.preferences.address = backend.address
    monkeypatch.setattr(bench.preview, "QUIET", 0.0)
    monkeypatch.setattr(bench.module("scene.job.preview_edits"), "CHECK_SECONDS", 0.0)
    yield bench
    bench.view.live = False
    bench.preview.close()
    bench.jobs.close()


@pytest.fixture
def scene(bench: PreviewBench) -> bpy.types.Scene:
    """Five frames, previewed by the model in one window."""
    scene = bench.build(5)
    scene.maquette.preview_by = "MODEL"
    scene.frame_set(3)
    return scene


def key(frame: int, z: float) -> None:
    """Another way of the performer at one frame; its keys are at the first and the last."""
    cube = bpy.data.objects["Performer"]
    cube.location.z = z
    cube.keyframe_insert("location", frame=frame)
    bpy.context.view_layer.update()


def test_windows_come_one_after_the_other_and_refine_puts_one_film_in_their_place(bench, backend, scene, monkeypatch):
    monkeypatch.setattr(bench.module("scene.job.preview_windows"), "WINDOW", 3)
    scene.frame_set(4)
    assert bpy.ops.maquette.preview() == {"FINISHED"}
    bench.turn(bench.standing)
    assert bench.standing() == "mmm", "frames 3 to 5 about the playhead"
    bench.rest()
    assert bench.standing() == "ccccc" and not bench.runner.message
    assert len(backend.shots) == 2
    assert list(bpy.data.scenes) == [scene] and not scene.maquette.results
    other = bpy.data.scenes.new("Other")
    assert bench.previews.reel_of(bench.folders.scene_id(other)) is None
    scene.maquette.quality = "draft"
    bpy.ops.maquette.refine()
    bench.rest()
    (clip,) = bench.previews.reel_of(scene.maquette.uid).clips
    assert clip.frames == range(1, 6)
    bench.turn(lambda: set(backend.cancels) == set(backend.jobs))  # Each is deleted at the backend too.


def test_an_edit_outdates_its_frames_and_undoing_it_by_hand_brings_them_back(bench, scene):
    for frame in range(1, 6):
        scene.frame_set(frame)
        bpy.data.objects["Performer"].keyframe_insert("location", frame=frame)
    bpy.ops.maquette.preview()
    bench.rest()
    scene.frame_set(4)
    key(4, 1.0)
    bench.turn(lambda: "o" in bench.standing())
    assert bench.standing() == "cccoc"
    showing = bench.module("scene.screen.overlay").showing
    assert showing(scene) is None, "an outdated preview gives way to the scene"
    scene.frame_set(5)
    assert showing(scene).preview
    scene.frame_set(4)
    key(4, 0.0)
    bench.turn(lambda: "o" not in bench.standing())


def test_live_makes_the_playheads_window_anew_and_cancels_what_an_edit_outdates(bench, backend, scene):
    backend.script = [RUNNING]
    bench.view.live = True
    bench.turn(lambda: len(backend.jobs) == 1)
    bench.turn(lambda: bench.runner._sending is not None and bench.runner._sending.started)
    key(3, 1.0)
    bench.turn(lambda: "cancelled" in [job["status"] for job in backend.jobs.values()])
    backend.script = [{"status": "completed", "progress": 100}]
    bench.turn(lambda: bench.standing() == "ccccc")
    bench.rest()
    assert bench.view.live and not bench.runner.problem


def test_a_final_has_the_backend_for_itself(bench, backend, scene):
    bpy.ops.maquette.preview()
    bench.turn(bench.standing)
    backend.script = [RUNNING]
    bench.jobs.generate(scene)
    bench.view.live = True
    bench.runner.poll()
    assert not bench.runner.busy and bench.runner.message == bench.preview.BUSY
    with pytest.raises(RuntimeError, match="busy"):
        bpy.ops.maquette.preview()
    bench.until_phase("running")
    backend.change(status="completed", progress=100)
    backend.script = [{"status": "completed", "progress": 100}]
    bench.until_phase("done")
    for _ in range(5):
        bench.runner.poll()
    assert not bench.runner.busy and not bench.standing(), "the final is to be seen until the next edit"
    assert bench.runner.message != bench.preview.BUSY
    key(3, 1.0)
    bench.turn(lambda: bench.standing() == "ccccc")


def test_live_does_not_queue_behind_somebody_elses_film(bench, backend, scene):
    backend.script = [{"queue_position": 2}]
    bench.view.live = True
    bench.turn(lambda: "busy" in bench.runner.message)
    assert not bench.runner.busy
    bench.turn(lambda: [job["status"] for job in backend.jobs.values()] == ["cancelled"])


@pytest.mark.parametrize("way", ["stop_preview", "clear_preview"])
def test_it_stops(bench, backend, scene, way):
    bpy.ops.maquette.preview()
    bench.turn(bench.standing)
    assert getattr(bpy.ops.maquette, way)() == {"FINISHED"}
    assert not bench.runner.busy and "m" not in bench.standing() and list(bpy.data.scenes) == [scene]


def test_without_a_backend_one_sentence_says_so(bench, scene):
    bench.preferences.address = "127.0.0.1:9"
    bpy.ops.maquette.preview()
    bench.rest()
    assert bench.runner.problem and "127.0.0.1:9" in bench.runner.message
    assert "m" not in bench.standing()


def test_a_save_in_the_middle_keeps_no_copy_of_the_scene(bench, scene, tmp_path, monkeypatch):
    pace = bench.module("scene.capture.pace").Pace
    monkeypatch.setattr(bench.module("scene.job.capturing"), "Pace", lambda *_: pace(windowed=True, longest=0.0))
    bpy.ops.maquette.preview()
    bench.turn(lambda: len(bpy.data.scenes) > 1)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    assert list(bpy.data.scenes) == [scene]
    bench.rest()
    assert bench.standing() == "ccccc", "it has begun again"


def test_another_file_has_none(bench, scene):
    bpy.ops.maquette.preview()
    bench.turn(bench.standing)
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    bench.runner.poll()
    assert not bench.runner.busy and not bench.previews.reels


def test_the_draft_carries_a_picture_without_a_backend(bench, backend, scene):
    scene.maquette.preview_by = "DRAFT"
    cube = bpy.data.objects["Performer"]
    image = bpy.data.images.new("Looks", 32, 32)
    image.pixels = [0.2, 0.4, 0.6, 1.0] * (32 * 32)
    cube.maquette.reference_source, cube.maquette.reference_image = "IMAGE", image
    bpy.ops.maquette.preview()
    bench.rest()
    draft = bench.previews.reel_of(scene.maquette.uid).draft
    (dress,) = draft.dressed
    seen = dress.plain[:, 3] < 0.5
    near = [vertex.co.y < 0 for vertex in cube.data.vertices]
    assert seen.sum() >= 2 and all(n for n, s in zip(near, seen, strict=True) if s), "the camera looks along y"
    assert abs(dress.plain[:, :3] - (0.2, 0.4, 0.6)).max() < 0.01
    assert bench.standing() == "ccccc" and not backend.shots
    cube.scale.x = 2
    bpy.context.view_layer.update()
    bench.turn(lambda: bench.standing() == "ooooo")
    bench.view.live = True
    bench.turn(lambda: bench.standing() == "ccccc")


def test_a_missing_picture_is_told_in_the_panel(bench, scene):
    scene.maquette.preview_by = "DRAFT"
    bpy.data.objects["Performer"].maquette.reference_source = "IMAGE"
    bpy.ops.maquette.preview()
    bench.rest()
    assert bench.runner.problem and "has no picture" in bench.runner.message
    assert list(bpy.data.scenes) == [scene]
    # An undo may be the cure.
    bench.runner.undone()
    assert not bench.runner.problem and not bench.runner.message


def test_the_preview_range_counts(bench, scene):
    scene.use_preview_range, scene.frame_preview_start, scene.frame_preview_end = True, 3, 6
    assert bench.preview.preview_frames(scene) == range(3, 7)
    scene.use_preview_range, scene.frame_end, scene.frame_step = False, 200, 2
    scene.frame_set(101)
    frames = bench.preview.preview_frames(scene)
    assert 101 in frames and frames.step == 2 and len(frames) == 25
    windows = [window.frames for window in bench.preview.model_windows(scene)]
    assert 101 in windows[0] and sorted(f for w in windows for f in w) == list(frames)
