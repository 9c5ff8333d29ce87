"""Add Camera Move as the animator calls it, checked with Blender's own projection."""

from __future__ import annotations

import importlib
import tomllib

import bpy
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from maquette.backend.catalogue.cameras import Move
from mathutils import Vector

from ..scene.builders import keyed

MOVES = ("ORBIT", "DOLLY", "CRANE", "PUSH_IN", "DOLLY_ZOOM", "HANDHELD", "STATIC")


@pytest.fixture
def maquette(addon):
    class Modules:
        keys = importlib.import_module(addon.__name__ + ".scene.keys")
        moves = importlib.import_module(addon.__name__ + ".scene.camera.moves")
        operator = importlib.import_module(addon.__name__ + ".operators.camera")

    return Modules


@pytest.fixture
def actor(maquette):
    """A box as tall as a person, marked as a character, that walks two metres over the scene's 20 frames."""
    corners = [(x, y, z) for x in (-0.4, 0.4) for y in (-0.2, 0.2) for z in (0, 1.8)]
    mesh = bpy.data.meshes.new("Actor")
    mesh.from_pydata(corners, [], [])
    obj = bpy.data.objects.new("Actor", mesh)
    bpy.context.scene.collection.objects.link(obj)
    obj.maquette.is_character = True
    bpy.context.view_layer.objects.active = obj
    bpy.context.scene.frame_end = 20
    frames = np.arange(1, 21)
    path = np.stack([np.linspace(-1, 1, 20), np.zeros(20), np.zeros(20)], axis=1)
    maquette.keys.write_keys(obj, frames, maquette.keys.channels_of("location", path), action_name="Walk")
    bpy.context.scene.frame_set(1)
    return obj


def seen(obj, frame):
    """(N,2) corners in Blender's own camera view, 0 to 1."""
    scene = bpy.context.scene
    scene.frame_set(frame)
    corners = [obj.matrix_world @ v.co for v in obj.data.vertices]
    return np.array([world_to_camera_view(scene, scene.camera, corner) for corner in corners])


def test_the_menu_is_the_folder(maquette):
    presets = {path: tomllib.loads(path.read_text("utf-8")) for path in Move.FOLDER.glob("*.toml")}
    ordered = sorted(presets, key=lambda path: (presets[path]["order"], path.stem))
    expected = [(path.stem.upper(), presets[path]["label"], presets[path]["description"]) for path in ordered]
    assert maquette.operator.move_items(None, bpy.context) == expected
    assert {item[0] for item in expected} == set(MOVES)


@pytest.mark.parametrize("size", [(640, 360, 1.0), (360, 640, 1.0), (512, 512, 2.0)])
@pytest.mark.parametrize("fit", ["AUTO", "VERTICAL"])
def test_every_move_frames_the_character(maquette, actor, size, fit):
    render = bpy.context.scene.render
    render.resolution_x, render.resolution_y, render.pixel_aspect_x = size
    for move in MOVES:
        assert bpy.ops.maquette.add_camera_move(move=move) == {"FINISHED"}
        bpy.context.scene.camera.data.sensor_fit = fit
        bpy.ops.maquette.add_camera_move(move=move)
        views = np.array([seen(actor, frame) for frame in (1, 6, 10, 15, 20)])
        assert views[..., :2].min() > 0.03 and views[..., :2].max() < 0.97, move
        assert views[..., 2].min() > 0.1
        spans = np.ptp(views if move != "STATIC" else views.reshape(1, -1, 3), axis=1)[:, :2].max(axis=1)
        assert spans.max() > 0.7, (move, spans)


def test_a_camera_is_made_and_then_used_again(maquette, actor):
    bpy.ops.maquette.add_camera_move(move="ORBIT")
    camera = bpy.context.scene.camera
    assert camera is not None and [o.type for o in bpy.data.objects].count("CAMERA") == 1
    assert keyed(camera) == (1, 20) and keyed(camera.data) == (1, 20)
    first = camera.animation_data.action
    camera.rotation_mode = "QUATERNION"
    bpy.ops.maquette.add_camera_move(move="CRANE", frame_start=5, frame_end=9)
    assert bpy.context.scene.camera == camera and len(bpy.data.cameras) == 1
    assert keyed(camera) == (5, 9) and first.use_fake_user
    paths = {curve.data_path for curve in maquette.keys.curves(camera)}
    assert paths == {"location", "rotation_quaternion"}


def test_cameras_that_are_held_by_something_are_left_alone(maquette, actor):
    bpy.ops.maquette.add_camera_move(move="STATIC")
    held = bpy.context.scene.camera
    held.constraints.new("TRACK_TO").target = actor
    held.animation_data_clear()
    bpy.ops.maquette.add_camera_move(move="ORBIT")
    assert bpy.context.scene.camera != held and not maquette.keys.has_keys(held)


def test_dolly_zoom_keeps_the_size_in_the_picture(maquette, actor):
    actor.animation_data_clear()
    actor.location = (0, 0, 0)
    bpy.ops.maquette.add_camera_move(move="DOLLY_ZOOM")
    scene, heights, lenses = bpy.context.scene, [], []
    for frame in range(1, 21):
        scene.frame_set(frame)
        up = 0.9 * (scene.camera.matrix_world.to_3x3() @ Vector((0, 1, 0)))
        ends = [world_to_camera_view(scene, scene.camera, Vector((0, 0, 0.9)) + sign * up) for sign in (-1, 1)]
        heights.append(ends[1].y - ends[0].y)
        lenses.append(scene.camera.data.lens)
    assert np.ptp(heights) < 1e-4 and max(lenses) / min(lenses) > 2


def test_static_camera_stands_still_and_sees_the_whole_walk(maquette, actor):
    bpy.ops.maquette.add_camera_move(move="STATIC")
    bpy.context.scene.frame_set(1)
    first = bpy.context.scene.camera.matrix_world.copy()
    bpy.context.scene.frame_set(20)
    assert bpy.context.scene.camera.matrix_world == first


def test_bodies_are_filmed_from_the_front(maquette):
    bpy.ops.maquette.add_body(location=(2, 0, 0))
    bpy.context.active_object.rotation_euler.z = 1.2
    bpy.context.scene.frame_end = 3
    bpy.ops.maquette.add_camera_move(move="STATIC")
    camera = bpy.context.scene.camera
    bpy.context.scene.frame_set(2)
    aside = camera.matrix_world.translation - Vector((2, 0, 0))
    front = np.array([np.sin(1.2), -np.cos(1.2)])
    assert aside.xy.normalized().dot(Vector(front)) > 0.99


def test_the_frame_selection_and_unkeyed_poses_stay(maquette, actor):
    scene = bpy.context.scene
    scene.frame_set(7)
    actor.location.y = 3.0  # posed but not keyed: y is keyed to 0
    actor.select_set(True)
    bpy.ops.maquette.add_camera_move(move="ORBIT")
    assert scene.frame_current == 7 and actor.location.y == 3.0
    assert bpy.context.active_object == actor and actor.select_get()
    assert (scene.frame_start, scene.frame_end) == (1, 20) and len(bpy.data.scenes) == 1


def test_handheld_repeats_with_its_seed(maquette, actor):
    def film(seed):
        bpy.ops.maquette.add_camera_move(move="HANDHELD", seed=seed)
        curves = maquette.keys.curves(bpy.context.scene.camera)
        return np.array([[curve.evaluate(f) for f in range(1, 21)] for curve in curves])

    first, again, other = film(1), film(1), film(2)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_rotation_keys_do_not_jump(maquette, actor):
    bpy.ops.maquette.add_camera_move(move="ORBIT", amount=8.0)
    curves = [c for c in maquette.keys.curves(bpy.context.scene.camera) if c.data_path == "rotation_euler"]
    angles = np.array([[curve.evaluate(f) for f in range(1, 21)] for curve in curves])
    assert np.abs(np.diff(angles, axis=1)).max() < 1.0
    assert np.ptp(angles[2]) == pytest.approx(4 * np.pi, abs=1e-3)


def test_one_undo_takes_the_move_back(maquette, actor):
    bpy.ops.ed.undo_push(message="start")
    bpy.ops.maquette.add_camera_move("EXEC_DEFAULT", True, move="ORBIT")
    assert bpy.context.scene.camera is not None
    bpy.ops.ed.undo()
    assert bpy.context.scene.camera is None and not len(bpy.data.cameras)
    assert [action.name for action in bpy.data.actions] == ["Walk"]


def test_active_character_only(maquette, actor):
    other = bpy.data.objects.new("Far", actor.data)
    bpy.context.scene.collection.objects.link(other)
    other.maquette.is_character = True
    other.location = (30, 0, 0)
    bpy.ops.maquette.add_camera_move(move="STATIC", target="ACTIVE")
    near = (bpy.context.scene.camera.matrix_world.translation - actor.location).length
    bpy.ops.maquette.add_camera_move(move="STATIC")
    assert (bpy.context.scene.camera.matrix_world.translation - actor.location).length > 2 * near
    bpy.context.view_layer.objects.active = bpy.context.scene.camera
    with pytest.raises(RuntimeError, match="no character"):
        bpy.ops.maquette.add_camera_move(move="STATIC", target="ACTIVE")


def test_what_cannot_be_filmed_is_said(maquette, actor):
    with pytest.raises(RuntimeError, match="End Frame 2 lies before"):
        bpy.ops.maquette.add_camera_move(move="ORBIT", frame_start=5, frame_end=2)
    actor.data.clear_geometry()
    with pytest.raises(RuntimeError, match="Actor: has no vertices"):
        bpy.ops.maquette.add_camera_move(move="ORBIT")
    assert bpy.context.scene.camera is None and not len(bpy.data.cameras)
    actor.maquette.is_character = False
    assert not bpy.ops.maquette.add_camera_move.poll()
    with pytest.raises(RuntimeError, match="mark a mesh as a character"):
        bpy.ops.maquette.add_camera_move(move="ORBIT")


def test_far_characters_widen_the_clipping(maquette, actor):
    actor.scale = (100, 100, 100)
    bpy.ops.maquette.add_camera_move(move="ORBIT")
    scene = bpy.context.scene
    views = seen(actor, 10)
    assert views[:, 2].max() < scene.camera.data.clip_end
