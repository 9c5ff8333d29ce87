"""What the overlay would draw at a frame; the drawing itself needs a window: ``tests/gui/overlay.py``."""

from __future__ import annotations

from pathlib import Path

import bpy
import pytest

from ..builders import add_camera, module, small_scene


@pytest.fixture
def scene(addon, tmp_path):
    """A scene with a result of four frames, from frame 11 on."""
    scene = small_scene(frames=20)
    scene.render.fps = 24
    add_camera()
    item = scene.maquette.results.add()
    item.filepath, item.frame_start, item.frame_count, item.fps = str(tmp_path / "a.mp4"), 11, 4, 24
    return scene


@pytest.fixture
def showing(addon):
    return module(addon, "scene.screen.overlay").showing


def test_it_plays_with_the_scene(scene, showing, tmp_path):
    found = []
    for frame in (10, 11, 14, 15):
        scene.frame_set(frame)
        shown = showing(scene)
        found.append(shown and shown.frame)
    assert found == [None, 0, 3, None]
    scene.frame_set(12)
    assert showing(scene).path == Path(tmp_path / "a.mp4") and showing(scene).cameras == (scene.camera,)


def test_a_shot_of_every_second_frame_plays_at_half_the_rate(scene, showing):
    item = scene.maquette.results[0]
    item.fps, item.frame_step = 12, 2
    found = []
    for frame in range(11, 20):
        scene.frame_set(frame)
        found.append(showing(scene) and showing(scene).frame)
    assert found == [0, 0, 1, 1, 2, 2, 3, 3, None]


def test_it_lies_over_the_cameras_of_its_shot_alone(scene, showing):
    first, second = scene.camera, add_camera(name="Second")
    scene.frame_set(12)
    scene.maquette.results[0].camera = first
    assert showing(scene).cameras == (first,)
    scene.timeline_markers.new("cut", frame=13).camera = second
    scene.timeline_markers.new("start", frame=1).camera = first
    assert set(showing(scene).cameras) == {first, second}


@pytest.mark.parametrize("change", [("show_as", "BACKGROUND"), ("active_result", 7), ("beside", True)])
def test_otherwise_nothing_is_drawn(scene, showing, change):
    scene.frame_set(12)
    assert showing(scene) is not None
    setattr(scene.maquette, *change)
    assert showing(scene) is None


def test_without_a_window_it_is_quiet(addon, scene):
    overlay = module(addon, "scene.screen.overlay").overlay
    overlay.start()
    assert not overlay._handles and not bpy.app.timers.is_registered(overlay._open)
    overlay.forget()
    overlay.stop()
