"""Keys in bulk equal keys set one by one, on any Blender version."""

from __future__ import annotations

import importlib

import bpy
import numpy as np
import pytest

from .builders import keyed


@pytest.fixture
def keys(addon):
    return importlib.import_module(addon.__name__ + ".scene.keys")


@pytest.fixture
def cube(addon):
    obj = bpy.data.objects.new("Cube", bpy.data.meshes.new("Cube"))
    bpy.context.scene.collection.objects.link(obj)
    return obj


def test_values_show_at_their_frames(keys, cube):
    frames = np.arange(10, 20)
    values = np.random.default_rng(0).normal(0, 1, (10, 3))
    action = keys.write_keys(cube, frames, keys.channels_of("location", values, "Place"), action_name="Path")
    scene = bpy.context.scene
    scene.frame_set(3)
    bpy.context.view_layer.update()
    np.testing.assert_allclose(cube.location, values[0], atol=1e-6)
    for frame, value in zip(frames.tolist(), values, strict=True):
        scene.frame_set(frame)
        np.testing.assert_allclose(cube.location, value, atol=1e-6)
    scene.frame_set(12, subframe=0.5)
    np.testing.assert_allclose(cube.location, (values[2] + values[3]) / 2, atol=1e-6)
    curves = keys.curves(cube)
    assert action == cube.animation_data.action and action.name == "Path"
    assert [(c.data_path, c.array_index, c.group.name) for c in curves] == [("location", i, "Place") for i in range(3)]
    assert keyed(cube) == (10, 19)


def test_the_current_frame_shows_new_keys_without_going_anywhere(keys, cube):
    bpy.context.scene.frame_set(5)
    keys.write_keys(cube, np.array([5]), keys.channels_of("location", np.array([[1.0, 2, 3]])), action_name="Still")
    bpy.context.view_layer.update()
    evaluated = cube.evaluated_get(bpy.context.evaluated_depsgraph_get())
    assert tuple(evaluated.matrix_world.translation) == (1, 2, 3)


@pytest.mark.parametrize("interpolation", ["CONSTANT", "LINEAR", "BEZIER"])
def test_equal_to_keyframe_insert(keys, cube, interpolation):
    frames, values = np.arange(1, 7), np.random.default_rng(1).normal(0, 1, 6)
    keys.write_keys(
        cube, frames, [keys.Channel("location", 2, values)], action_name="Bulk", interpolation=interpolation
    )
    bulk = keys.curves(cube)[0]
    other = bpy.data.objects.new("Other", None)
    for frame, value in zip(frames.tolist(), values.tolist(), strict=True):
        other.location.z = value
        other.keyframe_insert("location", index=2, frame=frame)
    single = keys.curves(other)[0]
    for point in single.keyframe_points:
        point.interpolation = interpolation
        point.handle_left_type = point.handle_right_type = "AUTO_CLAMPED"
    single.update()
    times = np.linspace(0, 8, 41)
    np.testing.assert_allclose([bulk.evaluate(t) for t in times], [single.evaluate(t) for t in times], atol=1e-5)


def test_a_former_action_is_kept_in_the_file(keys, cube, tmp_path):
    still = keys.channels_of("location", np.zeros((1, 3)))
    keys.write_keys(cube, np.array([1]), still, action_name="First")
    keys.write_keys(cube, np.array([1]), still, action_name="Second")
    path = str(tmp_path / "keys.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    bpy.ops.wm.open_mainfile(filepath=path)
    assert {action.name for action in bpy.data.actions} == {"First", "Second"}
    assert bpy.data.objects["Cube"].animation_data.action.name == "Second"
    assert len(keys.curves(bpy.data.objects["Cube"])) == 3


def test_shapes_that_do_not_fit_change_nothing(keys, cube):
    with pytest.raises(ValueError, match=r"location\[0\]"):
        keys.write_keys(cube, np.arange(3), [keys.Channel("location", 0, np.zeros(2))], action_name="Bad")
    assert cube.animation_data is None and not len(bpy.data.actions)


def test_data_and_shape_keys_can_be_animated(keys, cube):
    camera = bpy.data.cameras.new("Camera")
    keys.write_keys(camera, np.array([1, 5]), [keys.Channel("lens", 0, np.array([20.0, 40.0]))], action_name="Lens")
    assert keys.curves(camera)[0].evaluate(3) == pytest.approx(30)
    cube.shape_key_add(name="Basis")
    cube.shape_key_add(name="Big")
    keys.write_keys(
        cube.data.shape_keys,
        np.array([1, 2]),
        [keys.Channel('key_blocks["Big"].value', 0, np.array([0.0, 1.0]))],
        action_name="Grow",
    )
    bpy.context.scene.frame_set(2)
    assert cube.data.shape_keys.key_blocks["Big"].value == 1


def test_unanimated_datablocks_have_no_keys(keys, cube):
    assert keys.curves(cube) == [] and not keys.has_keys(cube)
    keys.write_keys(cube, np.array([1]), [keys.Channel("location", 0, np.zeros(1))], action_name="One")
    assert keys.has_keys(cube)
    cube.animation_data.action = None
    assert not keys.has_keys(cube)
