"""Import Motion and Add Walk as the animator calls them."""

from __future__ import annotations

import importlib
import pickle

import bpy
import numpy as np
import pytest

from ..motions.writers import body_bvh
from ..scene.builders import keyed, world_vertices


@pytest.fixture
def maquette(addon):
    class Modules:
        rig = importlib.import_module(addon.__name__ + ".scene.rig.bodies")
        channels = importlib.import_module(addon.__name__ + ".scene.rig.channels")
        keys = importlib.import_module(addon.__name__ + ".scene.keys")
        motion = importlib.import_module(addon.__name__ + ".scene.rig.motion")
        operator = importlib.import_module(addon.__name__ + ".operators.motion")
        bodies = importlib.import_module(addon.__name__ + ".backend.bodies")
        motions = importlib.import_module(addon.__name__ + ".backend.motions")
        rotations = importlib.import_module(addon.__name__ + ".backend.bodies.rotations")

    return Modules


def swing(maquette, frames=25, fps=24.0, seed=0):
    """A body that swings its joints and walks in a curve, standing upright in the world."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames) / fps
    poses = 0.4 * np.sin(2 * np.pi * (time[:, None, None] * rng.uniform(0.2, 1, (24, 3)) + rng.random((24, 3))))
    to_matrix, to_axis = maquette.rotations.axis_angle_to_matrix, maquette.rotations.matrix_to_axis_angle
    upright = to_matrix(np.array([np.pi / 2, 0, 0]))
    heading = to_matrix(np.stack([0 * time, 0 * time, 2.5 * time], axis=1))
    poses[:, 0] = to_axis(heading @ upright)
    trans = np.stack([np.sin(time), time, 1.2 + 0 * time], axis=1)
    return poses.astype(np.float32), trans.astype(np.float32)


@pytest.fixture
def amass(maquette, tmp_path):
    """An AMASS-like file of 25 frames at 24 fps."""

    def write(name="swing.npz", fps=24.0, **arrays):
        poses, trans = swing(maquette)
        path = tmp_path / name
        data = {"poses": poses.reshape(len(poses), -1), "trans": trans, "mocap_framerate": fps, **arrays}
        np.savez(path, **{key: value for key, value in data.items() if value is not None})
        return str(path)

    return write


def only_body(maquette):
    (mesh,) = [obj for obj in bpy.data.objects if maquette.rig.is_body(obj)]
    return mesh


def test_every_frame_shows_what_the_file_says(maquette, amass):
    path = amass()
    body = maquette.bodies.embedded()
    motion = maquette.motions.load_motion(path, body=body)
    expected = body.pose(np.zeros(10, np.float32), motion.poses, motion.trans)
    bpy.context.scene.frame_start = 5
    assert bpy.ops.maquette.import_motion(filepath=path) == {"FINISHED"}
    mesh = only_body(maquette)
    assert keyed(mesh.parent) == (5, 29)
    for frame in (0, 7, 24):
        bpy.context.scene.frame_set(5 + frame)
        np.testing.assert_allclose(world_vertices(mesh), expected.vertices[frame], atol=1e-4)


def test_a_placed_body_still_shows_world_motion_or_begins_where_it_stands(maquette, amass):
    path = amass()
    motion = maquette.motions.load_motion(path, body=maquette.bodies.embedded())
    bpy.ops.maquette.add_body(location=(5, -3, 0))
    armature = bpy.context.active_object
    armature.rotation_euler.z += 1.0
    bpy.context.view_layer.update()
    mesh = only_body(maquette)
    scene = bpy.context.scene
    read = lambda: maquette.channels.read_body_pose(mesh, bpy.context.evaluated_depsgraph_get())  # noqa: E731
    bpy.ops.maquette.import_motion(filepath=path, frame_start=1, place="FILE")
    scene.frame_set(10)
    np.testing.assert_allclose(read().trans, motion.trans[9], atol=1e-4)
    armature.animation_data.action = None
    armature.pose.bones["pelvis"].location = (0, 0, 0)
    bpy.context.view_layer.update()
    stood = read().joints[0]
    bpy.ops.maquette.import_motion(filepath=path, frame_start=1)
    scene.frame_set(1)
    np.testing.assert_allclose(read().joints[0, :2], stood[:2], atol=1e-4)
    start = read().trans
    scene.frame_set(10)
    np.testing.assert_allclose(read().trans - start, motion.trans[9] - motion.trans[0], atol=1e-4)


def test_the_scene_keeps_its_rate_range_frame_selection_and_mode(maquette, amass):
    bpy.ops.maquette.add_body()
    bpy.ops.object.mode_set(mode="POSE")
    armature = bpy.context.active_object
    scene = bpy.context.scene
    scene.render.fps, scene.frame_start, scene.frame_end = 30, 1, 12
    scene.frame_set(4)
    bpy.ops.maquette.import_motion(filepath=amass(fps=120.0), fit_range=False)
    assert (scene.render.fps, scene.render.fps_base) == (30, 1)
    assert (scene.frame_start, scene.frame_end, scene.frame_current) == (1, 12, 4)
    assert bpy.context.mode == "POSE" and bpy.context.active_object == armature
    # 25 frames at 120 fps are 0.2 s: seven frames at 30 fps, the same speed.
    assert keyed(armature) == (1, 7)


def test_a_new_body_from_pose_mode_returns_to_it(maquette, amass):
    bpy.ops.maquette.add_body()
    armature = bpy.context.active_object
    bpy.ops.object.mode_set(mode="POSE")
    bpy.ops.maquette.import_motion(filepath=amass(), target="NEW")
    assert bpy.context.mode == "POSE" and bpy.context.active_object == armature
    assert len([obj for obj in bpy.data.objects if maquette.rig.is_body(obj)]) == 2


def test_the_first_motion_fits_the_range_and_its_notes_stay(maquette, amass):
    scene, view = bpy.context.scene, bpy.context.window_manager.maquette
    bpy.ops.maquette.import_motion(filepath=amass())
    assert (scene.frame_start, scene.frame_end) == (1, 25)
    told = view.motion_notes
    assert "Scene range set to frames 1 to 25" in told.splitlines()
    scene.frame_end = 12
    bpy.ops.maquette.import_motion(filepath=amass(), target="NEW")
    assert scene.frame_end == 12 and view.motion_notes != told
    bpy.ops.maquette.dismiss_notes()
    assert not view.motion_notes


def test_range_is_fitted_when_asked(maquette, amass):
    bpy.ops.maquette.import_motion(filepath=amass(), frame_start=11, fit_range=True)
    assert (bpy.context.scene.frame_start, bpy.context.scene.frame_end) == (11, 35)


def test_rate_can_be_given(maquette, amass):
    bpy.ops.maquette.import_motion(filepath=amass(fps=None), fps=12.0)
    assert keyed(only_body(maquette).parent) == (1, 49)


def test_quaternions_never_flip_between_frames(maquette, amass):
    bpy.ops.maquette.import_motion(filepath=amass())
    armature = only_body(maquette).parent
    curves = {(c.data_path, c.array_index): c for c in maquette.keys.curves(armature)}
    assert len(curves) == 24 * 4 + 3
    for path in {path for path, _ in curves if path.endswith("rotation_quaternion")}:
        values = np.array([[curves[path, i].evaluate(f) for i in range(4)] for f in range(1, 26)])
        assert ((values[1:] * values[:-1]).sum(axis=1) > 0).all()
        np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, atol=1e-5)


def test_one_undo_takes_back_the_whole_import(maquette, amass):
    path = amass()
    bpy.ops.maquette.add_body()
    bpy.ops.ed.undo_push(message="body")
    assert bpy.ops.maquette.import_motion("EXEC_DEFAULT", True, filepath=path) == {"FINISHED"}
    assert maquette.keys.has_keys(only_body(maquette).parent)
    bpy.ops.ed.undo()
    assert not maquette.keys.has_keys(only_body(maquette).parent) and not len(bpy.data.actions)
    bpy.ops.ed.redo()
    assert maquette.keys.has_keys(only_body(maquette).parent)


def test_undo_of_an_import_with_a_new_body(maquette, amass):
    bpy.ops.ed.undo_push(message="start")
    bpy.ops.maquette.import_motion("EXEC_DEFAULT", True, filepath=amass())
    assert len(bpy.data.objects) == 2
    bpy.ops.ed.undo()
    assert not len(bpy.data.objects) and not len(bpy.data.actions)


def test_former_keys_are_kept_in_the_file(maquette, amass):
    path = amass()
    bpy.ops.maquette.import_motion(filepath=path)
    first = only_body(maquette).parent.animation_data.action
    assert bpy.context.active_object == only_body(maquette).parent
    bpy.ops.maquette.import_motion(filepath=path)
    assert first.use_fake_user and len(bpy.data.actions) == 2
    assert only_body(maquette).parent.animation_data.action != first


def test_several_files_become_several_bodies(maquette, amass, tmp_path):
    for name in ("a.npz", "b.npz"):
        amass(name)
    bpy.ops.maquette.import_motion(directory=str(tmp_path), files=[{"name": "a.npz"}, {"name": "b.npz"}])
    assert {obj.name for obj in bpy.data.objects if maquette.rig.is_body(obj)} == {"a", "b"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.npz", None, "absent"),
        ("empty.bvh", b"", "empty"),
        ("broken.npz", b"PK\x03\x04 not a zip", "broken"),
        ("text.pkl", b"hello", "text"),
        ("bad.bvh", b"HIERARCHY\nROOT Hips\n{", "bad"),
    ],
)
def test_bad_files_get_one_message_and_change_nothing(maquette, tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RuntimeError) as caught:
        bpy.ops.maquette.import_motion(filepath=str(path))
    text = str(caught.value)
    assert text.count("Error:") == 1 and "Traceback" not in text and len(text) > 20
    assert not len(bpy.data.objects) and not len(bpy.data.actions) and not len(bpy.data.armatures)


def test_a_bad_file_among_several_changes_nothing(maquette, amass, tmp_path):
    amass("good.npz")
    (tmp_path / "bad.npz").write_bytes(b"x")
    with pytest.raises(RuntimeError):
        bpy.ops.maquette.import_motion(directory=str(tmp_path), files=[{"name": "good.npz"}, {"name": "bad.npz"}])
    assert not len(bpy.data.objects)


def test_missing_clip_is_named(maquette, amass):
    with pytest.raises(RuntimeError, match="clip"):
        bpy.ops.maquette.import_motion(filepath=amass(), clip=3)
    assert not len(bpy.data.objects)


def test_no_file_is_said(maquette):
    with pytest.raises(RuntimeError, match="No file chosen"):
        bpy.ops.maquette.import_motion()


def test_a_shape_that_the_animator_gave_keeps_its_soles_on_the_floor(maquette, amass):
    bpy.ops.maquette.add_body(betas=[3.0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    mesh = only_body(maquette)
    bpy.ops.maquette.add_walk(seconds=1.0)
    np.testing.assert_allclose(maquette.rig.load_rig(mesh).betas()[0], 3.0)
    lowest = []
    for frame in range(1, 25, 4):
        bpy.context.scene.frame_set(frame)
        lowest.append(world_vertices(mesh)[:, 2].min())
    assert np.abs(lowest).max() < 0.04


def test_walk_goes_forward_at_its_speed(maquette):
    bpy.ops.maquette.add_walk(seconds=2.0, speed=1.0)
    mesh = only_body(maquette)
    places = []
    for frame in (1, 49):
        bpy.context.scene.frame_set(frame)
        places.append(maquette.channels.read_body_pose(mesh, bpy.context.evaluated_depsgraph_get()).joints[0])
    assert np.linalg.norm((places[1] - places[0])[:2]) == pytest.approx(2.0, abs=0.3)


def test_dropped_files_are_taken(maquette):
    handler = maquette.operator.MAQUETTE_FH_motion
    assert handler.is_registered
    endings = {".bvh", ".fbx", ".glb", ".gltf", ".npz", ".npy", ".pkl", ".pt", ".pth"}
    assert set(handler.bl_file_extensions.split(";")) == endings
    assert handler.bl_import_operator == "maquette.import_motion"


def write_walk(maquette, path):
    """A walk of a second as a skeleton in centimetres, as joint positions in metres, or as the second of two clips."""
    body = maquette.bodies.embedded()
    walk = maquette.motions.generate_walk(1.0, 30, body=body, seed=3)
    joints = body.pose(None, walk.poses, walk.trans).joints
    if path.suffix == ".bvh":
        path.write_text(body_bvh(body, walk, body.joint_names))
    elif path.suffix == ".npy":
        np.save(path, joints)
    else:
        path.write_bytes(pickle.dumps([{"pose": 0 * joints}, {"pose": 1000 * joints}]))
    return joints


@pytest.mark.parametrize(("suffix", "clip"), [(".bvh", 0), (".npy", 0), (".pkl", 1)])
def test_other_formats_walk_the_same_way(maquette, tmp_path, suffix, clip):
    path = tmp_path / f"walk{suffix}"
    joints = write_walk(maquette, path)
    scene = bpy.context.scene
    scene.render.fps = 30
    assert bpy.ops.maquette.import_motion(filepath=str(path), clip=clip, fit_range=True) == {"FINISHED"}
    assert (scene.frame_start, scene.frame_end) == (1, len(joints))
    mesh = only_body(maquette)
    pelvis, lowest = [], []
    for frame in (1, len(joints) // 2, len(joints)):
        scene.frame_set(frame)
        reading = maquette.channels.read_body_pose(mesh, bpy.context.evaluated_depsgraph_get())
        pelvis.append(reading.joints[0] - joints[frame - 1, 0])
        lowest.append(world_vertices(mesh)[:, 2].min())
    assert np.ptp(pelvis, axis=0).max() < 0.05
    assert np.abs(lowest).max() < 0.05


def test_too_long_motions_are_refused_before_anything_is_made(maquette, amass, monkeypatch):
    monkeypatch.setattr(maquette.motion, "_LONGEST", 10)
    with pytest.raises(RuntimeError, match="frames"):
        bpy.ops.maquette.import_motion(filepath=amass())
    assert not len(bpy.data.objects)
