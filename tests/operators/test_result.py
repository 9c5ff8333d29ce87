"""Load Result as the animator and the finished job call it."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from ..scene.builders import add_camera, module, small_scene, write_film


@pytest.fixture
def scene(addon):
    scene = small_scene(frames=5)
    add_camera()
    return scene


@pytest.fixture
def film(scene, tmp_path):
    return write_film(tmp_path / "take.mp4", np.full((5, 3), 128))


def test_a_new_video_is_listed_with_its_timing(scene, film):
    scene.frame_start, scene.frame_step, scene.maquette.seed = 7, 1, 42
    assert bpy.ops.maquette.load_result(filepath=str(film), job="vid_9") == {"FINISHED"}
    record = scene.maquette.results[scene.maquette.active_result]
    assert (record.job, record.name, record.frame_start, record.frame_count) == ("vid_9", "take", 7, 5)
    assert (record.fps, record.seed, record.model, record.camera) == (24, 42, "isa-nano", scene.camera)


def test_a_known_video_plays_where_its_shot_was(scene, film):
    """Even when the scene's range has been moved since."""
    record = scene.maquette.results.add()
    record.job, record.filepath, record.frame_start, record.frame_count = "vid_1", str(film), 31, 5
    scene.frame_start = 99
    bpy.ops.maquette.load_result(job="vid_1")
    bpy.ops.maquette.load_result(filepath=str(film))
    bpy.ops.maquette.load_result()
    assert len(scene.maquette.results) == 1
    material = next(o for o in scene.objects if "maquette_result" in o).data.materials[0]
    assert material.node_tree.nodes["Video"].image_user.frame_start == 31
    bpy.ops.maquette.load_result(frame_start=-4)
    material = next(o for o in scene.objects if "maquette_result" in o).data.materials[0]
    assert material.node_tree.nodes["Video"].image_user.frame_start == -4 == record.frame_start


def test_the_module_does_the_same_for_a_job(addon, scene, film):
    screen = module(addon, "scene.screen.show")
    record = screen.record_of(scene, film, "vid_2")
    record.frame_count = 9
    notices = screen.load_result(scene, record, "PLANE")
    assert any("has 5 frames, its shot 9" in n for n in notices)
    scene.view_settings.view_transform = "Standard"
    assert screen.load_result(scene, record, "STRIP") == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ("video", "does not exist")),
        (b"", ("is empty",)),
        (b"hello, no film", ("not a film",)),
        ("half", ("stops before its end",)),
    ],
)
def test_files_that_are_none_change_nothing(scene, film, tmp_path, content, words):
    path = tmp_path / "bad.mp4"
    if content == "half":
        path.write_bytes(film.read_bytes()[:-300])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(RuntimeError) as caught:
        bpy.ops.maquette.load_result(filepath=str(path))
    for word in words:
        assert word in str(caught.value)
    assert not scene.maquette.results and len(scene.objects) == 1 and not bpy.data.images


def test_says_when_there_is_nothing_to_load_or_to_load_it_on(scene, film):
    with pytest.raises(RuntimeError, match="no video is chosen"):
        bpy.ops.maquette.load_result()
    with pytest.raises(RuntimeError, match="no video of job 'vid_7'"):
        bpy.ops.maquette.load_result(job="vid_7")
    scene.camera = None
    with pytest.raises(RuntimeError, match="camera: the scene has none"):
        bpy.ops.maquette.load_result(filepath=str(film))
    assert not scene.maquette.results
    assert bpy.ops.maquette.load_result(filepath=str(film), mode="STRIP") == {"FINISHED"}
