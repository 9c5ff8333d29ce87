"""Motion from armatures: one of the scene, and what Blender imports from FBX and glTF."""

from __future__ import annotations

import importlib

import bpy
import numpy as np
import pytest

from ..motions.writers import named
from ..scene.builders import keyed


@pytest.fixture
def maquette(addon):
    class Modules:
        rig = importlib.import_module(addon.__name__ + ".scene.rig.bodies")
        channels = importlib.import_module(addon.__name__ + ".scene.rig.channels")

    return Modules


@pytest.fixture
def walker(maquette):
    """An armature with Mixamo's names that walks for a second, of another size and place than the body."""
    bpy.context.scene.render.fps = 24
    bpy.ops.maquette.add_walk(seconds=1.0)
    mesh = next(obj for obj in bpy.data.objects if maquette.rig.is_body(obj))
    armature = mesh.parent
    joints = _joints(maquette, mesh)
    bpy.data.objects.remove(mesh)
    for bone, name in zip(list(maquette_bones(armature)), named("mixamo", "Left"), strict=True):
        bone.name = name
    armature.name = "Walker"
    armature.scale = (1.2, 1.2, 1.2)
    armature.location.x = 2.0
    bpy.context.view_layer.objects.active = armature
    armature.select_set(True)
    return armature, joints


def maquette_bones(armature):
    from maquette.backend.shot.types import SMPL_JOINT_NAMES

    return [armature.data.bones[name] for name in SMPL_JOINT_NAMES]


def _joints(maquette, mesh) -> np.ndarray:
    """(25,24,3) over frames 1 to 25, from the pelvis."""
    reader = maquette.channels.BodyReader(mesh)
    out = []
    for frame in range(1, 26):
        bpy.context.scene.frame_set(frame)
        out.append(reader.read(bpy.context.evaluated_depsgraph_get()).joints)
    bpy.context.scene.frame_set(1)
    return np.array(out) - np.array(out)[:, :1]


def _body(maquette):
    (mesh,) = [obj for obj in bpy.data.objects if maquette.rig.is_body(obj)]
    return mesh


def test_an_armature_of_the_scene_gives_its_motion(maquette, walker) -> None:
    armature, joints = walker
    bpy.context.scene.frame_set(7)
    assert bpy.ops.maquette.use_armature_motion() == {"FINISHED"}
    assert bpy.context.scene.frame_current == 7 and armature.name in bpy.data.objects
    mesh = _body(maquette)
    assert keyed(mesh.parent) == (1, 25)
    np.testing.assert_allclose(_joints(maquette, mesh)[:, :22], joints[:, :22], atol=0.01)


@pytest.fixture
def dancer(maquette, walker):
    """The walker with twist in its limbs, a bent trunk, and a way through the room."""
    armature, _ = walker
    random = np.random.default_rng(3)
    limbs = [f"{side}{limb}" for side in ("Left", "Right") for limb in ("Shoulder", "Arm", "ForeArm", "Leg", "Foot")]
    for name in (*limbs, "Spine", "Spine2", "Head"):
        bone, angle = armature.pose.bones[name], 0.4 * random.normal(size=3)
        for frame in range(1, 26):
            bone.rotation_quaternion = (1, *(angle * np.cos(frame / 8)))
            bone.keyframe_insert("rotation_quaternion", frame=frame)
    armature.rotation_euler.z = 0.7
    armature.scale = (0.5, 0.5, 0.5)
    return armature


def _make_active(armature, mesh) -> None:
    bpy.ops.object.select_all(action="DESELECT")
    for obj in (mesh, armature):
        obj.select_set(True)
    bpy.context.view_layer.objects.active = armature


def _at(maquette, mesh, frames) -> np.ndarray:
    """(T,24,3) joints in the world."""
    reader, out = maquette.channels.BodyReader(mesh), []
    for frame in frames:
        bpy.context.scene.frame_set(frame)
        out.append(reader.read(bpy.context.evaluated_depsgraph_get()).joints)
    return np.array(out)


@pytest.mark.parametrize("shape", [0.0, 2.0])
def test_a_body_follows_an_armature_live_as_if_baked(maquette, dancer, shape: float) -> None:
    bpy.ops.maquette.add_body()
    mesh = _body(maquette)
    mesh.data.shape_keys.key_blocks["Shape000"].value = shape
    mesh.parent.location = (1.0, 2.0, 0.3)
    _make_active(dancer, mesh)
    frames = (1, 6, 12, 19, 25)
    objects = set(bpy.data.objects)
    assert bpy.ops.maquette.use_armature_motion(live=True) == {"FINISHED"}
    assert mesh.parent.animation_data is None or mesh.parent.animation_data.action is None
    live = _at(maquette, mesh, frames)
    dancer.location.x += 1.0
    moved = _at(maquette, mesh, frames) - live
    assert moved[..., 0].min() > 1.5 and np.ptp(moved, axis=(0, 1)).max() < 1e-4  # it is twice the size of its source
    dancer.location.x -= 1.0
    bpy.context.view_layer.objects.active = mesh
    assert bpy.ops.maquette.bake_motion() == {"FINISHED"} and set(bpy.data.objects) == objects
    np.testing.assert_allclose(_at(maquette, mesh, frames), live, atol=2e-4)
    assert not bpy.ops.maquette.bake_motion.poll()
    _make_active(dancer, mesh)
    assert bpy.ops.maquette.use_armature_motion(heights=True) == {"FINISHED"}
    np.testing.assert_allclose(_at(maquette, mesh, frames)[:, :22], live[:, :22], atol=1e-4)


def test_what_is_mended_is_for_the_animator_to_say(addon, maquette, walker) -> None:
    armature, _ = walker
    bone = armature.pose.bones["LeftArm"]
    for frame, turn in ((11, 0.0), (12, 2.5), (13, 0.0)):
        bone.rotation_quaternion = (np.cos(turn / 2), np.sin(turn / 2), 0, 0)
        bone.keyframe_insert("rotation_quaternion", frame=frame)
    told = []
    operators = importlib.import_module(addon.__name__ + ".operators.motion_target")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operators.MotionTarget, "tell", lambda _self, notes: told.append(" ".join(notes)))
        for given in ({}, {"mend": False}, {"live": True}):
            _make_active(armature, armature)
            assert bpy.ops.maquette.use_armature_motion(target="NEW", **given) == {"FINISHED"}
    assert ["turned away and back" in notes for notes in told] == [True, False, False]


def test_unlinked_a_body_has_its_own_keys_again(maquette, walker, tmp_path) -> None:
    armature, _ = walker
    bpy.ops.object.select_all(action="DESELECT")
    bpy.ops.maquette.add_walk(seconds=1.0, seed=5, target="NEW")
    mesh = _body(maquette)
    before = _at(maquette, mesh, (1, 9))
    _make_active(armature, mesh)
    bpy.ops.object.mode_set(mode="POSE")
    for _ in range(2):  # following again replaces the link
        assert bpy.ops.maquette.use_armature_motion(live=True) == {"FINISHED"}
    assert bpy.context.mode == "POSE" and sum("Follows" in obj.name for obj in bpy.data.objects) == 1
    bpy.ops.object.mode_set(mode="OBJECT")
    live = _at(maquette, mesh, (1, 9))
    assert np.abs(live - before).max() > 0.1
    path = str(tmp_path / "live.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    bpy.ops.wm.open_mainfile(filepath=path)
    mesh = _body(maquette)
    np.testing.assert_allclose(_at(maquette, mesh, (1, 9)), live, atol=1e-5)
    bpy.context.view_layer.objects.active = mesh
    assert bpy.ops.maquette.unlink_motion() == {"FINISHED"}
    np.testing.assert_allclose(_at(maquette, mesh, (1, 9)), before, atol=1e-5)
    assert not any("Follows" in obj.name for obj in bpy.data.objects) and not bpy.ops.maquette.unlink_motion.poll()


def test_a_body_whose_armature_is_gone_follows_nothing(maquette, walker) -> None:
    armature, _ = walker
    assert bpy.ops.maquette.use_armature_motion(live=True) == {"FINISHED"}
    mesh = _body(maquette)
    bpy.data.objects.remove(armature)
    bpy.context.view_layer.objects.active = mesh
    assert not bpy.ops.maquette.bake_motion.poll() and bpy.ops.maquette.unlink_motion() == {"FINISHED"}
    assert not any("Follows" in obj.name for obj in bpy.data.objects)


def test_bodies_and_nothing_are_no_source(maquette) -> None:
    assert not bpy.ops.maquette.use_armature_motion.poll()
    bpy.ops.maquette.add_body()
    assert not bpy.ops.maquette.use_armature_motion.poll()


@pytest.mark.parametrize("ending", [".fbx", ".glb"])
def test_files_of_blenders_importers_give_their_motion(maquette, walker, tmp_path, ending: str) -> None:
    armature, joints = walker
    path = str(tmp_path / f"walker{ending}")
    if ending == ".fbx":
        bpy.ops.export_scene.fbx(filepath=path, use_selection=True, add_leaf_bones=False, bake_anim_simplify_factor=0)
    else:
        bpy.ops.export_scene.gltf(filepath=path, use_selection=True)
    bpy.data.objects.remove(armature)
    before = {kind: len(getattr(bpy.data, kind)) for kind in ("objects", "armatures", "collections", "scenes")}
    assert bpy.ops.maquette.import_motion(filepath=path, frame_start=1) == {"FINISHED"}
    mesh = _body(maquette)
    assert keyed(mesh.parent)[1] in (25, 26)
    np.testing.assert_allclose(_joints(maquette, mesh)[:24, :22], joints[:24, :22], atol=0.015)
    assert len(bpy.data.objects) == before["objects"] + 2 and len(bpy.data.armatures) == before["armatures"] + 1
    assert len(bpy.data.collections) <= before["collections"] + 1 and len(bpy.data.scenes) == before["scenes"]
    bpy.ops.maquette.import_motion(filepath=path, target="NEW", keep_character=True)
    assert any(obj.type == "ARMATURE" and obj.name.startswith("Walker") for obj in bpy.data.objects)


def test_a_file_without_a_person_is_refused_and_leaves_nothing(maquette, tmp_path) -> None:
    mesh = bpy.data.meshes.new("Stone")
    mesh.from_pydata([(0, 0, 0), (1, 0, 0), (0, 1, 0)], [], [(0, 1, 2)])
    stone = bpy.data.objects.new("Stone", mesh)
    bpy.context.collection.objects.link(stone)
    path = str(tmp_path / "stone.glb")
    bpy.ops.export_scene.gltf(filepath=path)
    before = len(bpy.data.objects)
    with pytest.raises(RuntimeError, match="holds no armature of a person"):
        bpy.ops.maquette.import_motion(filepath=path)
    assert len(bpy.data.objects) == before


@pytest.mark.parametrize("ending", [".bvh", ".npz", ".fbx"])
def test_a_body_s_motion_is_written_and_comes_back(maquette, tmp_path, ending: str) -> None:
    bpy.context.scene.render.fps = 24
    bpy.ops.maquette.add_walk(seconds=1.0)
    mesh = _body(maquette)
    if ending != ".npz":  # whose shapes are those of the licensed bodies
        mesh.data.shape_keys.key_blocks["Shape000"].value = 1.5
    joints = _at(maquette, mesh, range(1, 26))
    path = str(tmp_path / f"walk{ending}")
    bpy.context.scene.frame_set(5)
    objects = set(bpy.data.objects)
    assert bpy.ops.maquette.export_motion(filepath=path) == {"FINISHED"}
    assert bpy.context.scene.frame_current == 5 and set(bpy.data.objects) == objects
    assert bpy.ops.maquette.import_motion(filepath=path) == {"FINISHED"} and keyed(mesh.parent) == (1, 25)
    moved = _at(maquette, mesh, range(1, 26)) - joints
    moved[..., 2] -= np.median(moved[..., 2])  # soles come to lie on the floor
    np.testing.assert_allclose(moved[:, :22], 0, atol=1e-3)


@pytest.mark.parametrize("kind", ["import", "export"])
def test_a_blender_without_fbx_says_how_to_get_it(maquette, monkeypatch, tmp_path, kind: str) -> None:
    armature = importlib.import_module(maquette.rig.__name__.replace("bodies", "armature"))
    fbx = importlib.import_module(maquette.rig.__name__.replace("bodies", "fbx"))
    for module in (armature, fbx):
        monkeypatch.setattr(module, "blender_operator", lambda group, name: None)
    bpy.ops.maquette.add_walk(seconds=0.2)
    path = str(tmp_path / "walk.fbx")
    with pytest.raises(RuntimeError, match=f"no FBX {kind}er.*Preferences > Add-ons"):
        bpy.ops.maquette.import_motion(filepath=path) if kind == "import" else bpy.ops.maquette.export_motion(
            filepath=path
        )


def test_feet_are_locked_on_the_body_s_own_keys(maquette) -> None:
    assert not bpy.ops.maquette.lock_feet.poll()
    bpy.ops.maquette.add_walk(seconds=1.0)
    mesh = _body(maquette)
    before = _joints(maquette, mesh)
    assert bpy.ops.maquette.lock_feet() == {"FINISHED"}
    after = _joints(maquette, mesh)
    assert keyed(mesh.parent) == (1, 25)
    assert 0 < np.abs(after - before).max() < 0.03
    np.testing.assert_allclose(after[:, 9:10], before[:, 9:10], atol=1e-4)
