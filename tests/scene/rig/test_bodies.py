"""The rig reproduces SMPL exactly, and stays whole through undo, saving, rendering and duplication."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
import pytest
from mathutils import Matrix

from ..builders import world_vertices

TOLERANCE = 1e-4


@pytest.fixture
def scene(addon):
    class Modules:
        rig = importlib.import_module(addon.__name__ + ".scene.rig.bodies")
        build = importlib.import_module(addon.__name__ + ".scene.rig.build")
        channels = importlib.import_module(addon.__name__ + ".scene.rig.channels")
        drivers = importlib.import_module(addon.__name__ + ".scene.rig.drivers")
        motion = importlib.import_module(addon.__name__ + ".scene.rig.motion")
        paint = importlib.import_module(addon.__name__ + ".scene.rig.paint")
        bodies = importlib.import_module(addon.__name__ + ".backend.bodies")
        motions = importlib.import_module(addon.__name__ + ".backend.motions")
        rotations = importlib.import_module(addon.__name__ + ".backend.bodies.rotations")

    return Modules


def small_body(scene, correctives=True, joints=None, seed=0):
    """A body of few vertices with pose correctives, in the embedded body's proportions."""
    body = scene.bodies.embedded()
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(body.v_template), 300, replace=False))
    regressor = rng.random((24, 300)).astype(np.float32) ** 8
    # Joints near where the real ones are: each draws on the vertices close to it.
    real = body.J_regressor @ body.v_template
    near = np.exp(-(np.linalg.norm(real[:, None] - body.v_template[chosen][None], axis=2) ** 2) / 0.01)
    regressor = regressor * near + 1e-9
    regressor /= regressor.sum(axis=1, keepdims=True)
    faces = np.stack([np.arange(298), np.arange(1, 299), np.arange(2, 300)], axis=1).astype(np.int32)
    posedirs = (0.01 * rng.standard_normal((300, 3, 207))).astype(np.float32) if correctives else None
    return replace(
        body,
        id="small",
        v_template=body.v_template[chosen],
        faces=faces,
        weights=body.weights[chosen],
        shapedirs=body.shapedirs[chosen],
        posedirs=posedirs,
        J_regressor=regressor.astype(np.float32),
        regions=None,
        region_names=(),
    )


def random_pose(rng, joints=24):
    return rng.uniform(-3, 3, 10), rng.normal(0, 0.8, (joints, 3)), rng.normal(0, 2, 3)


def take_pose(scene, rig, betas, poses, trans):
    family = {24: "smpl", 52: "smplh", 55: "smplx"}[len(poses)]
    motion = scene.motions.BodyMotion(24.0, poses[None], trans[None], betas, family)
    frame, depsgraph = bpy.context.scene.frame_current, bpy.context.evaluated_depsgraph_get()
    scene.motion.key_motion(rig, motion, frame, depsgraph)


def check(scene, rig, body, betas, poses, trans):
    take_pose(scene, rig, betas, poses, trans)
    depsgraph = bpy.context.evaluated_depsgraph_get()
    depsgraph.update()
    posed = body.pose(betas.astype(np.float32), poses[None].astype(np.float32), trans[None].astype(np.float32))
    np.testing.assert_allclose(world_vertices(rig.mesh), posed.vertices[0], atol=TOLERANCE)
    reading = scene.channels.read_body_pose(rig.mesh, depsgraph)
    to_matrix = scene.rotations.axis_angle_to_matrix
    np.testing.assert_allclose(reading.joints, posed.joints[0], atol=TOLERANCE)
    np.testing.assert_allclose(reading.betas, betas, atol=1e-5)
    np.testing.assert_allclose(reading.trans, trans, atol=TOLERANCE)
    np.testing.assert_allclose(to_matrix(reading.poses), to_matrix(poses), atol=TOLERANCE)
    assert reading.error < TOLERANCE


@pytest.mark.parametrize("correctives", [False, True])
def test_vertices_and_parameters_agree_with_the_body_model(scene, correctives):
    body = small_body(scene, correctives)
    rig = scene.build.build_body(bpy.context, body)
    rng = np.random.default_rng(1)
    for _ in range(6):
        check(scene, rig, body, *random_pose(rng))


def test_embedded_body_agrees_wherever_its_armature_stands(scene):
    body = scene.bodies.embedded()
    rig = scene.build.build_body(bpy.context, body, location=(3, 1, 2))
    rng = np.random.default_rng(2)
    for _ in range(3):
        check(scene, rig, body, *random_pose(rng))
        rig.armature.location = rng.normal(0, 2, 3)
        rig.armature.rotation_euler = rng.normal(0, 2, 3)
        bpy.context.view_layer.update()


def test_several_bodies_do_not_influence_each_other(scene):
    body = small_body(scene)
    first, second = (scene.build.build_body(bpy.context, body, name="Twin") for _ in range(2))
    names = {first.mesh.name, second.mesh.name, first.armature.name, second.armature.name}
    assert len(names) == 4
    assert first.mesh.data != second.mesh.data and first.armature.data != second.armature.data
    assert first.mesh.data.shape_keys != second.mesh.data.shape_keys
    assert first.mesh.active_material != second.mesh.active_material
    before = world_vertices(second.mesh)
    take_pose(scene, first, *random_pose(np.random.default_rng(3)))
    np.testing.assert_array_equal(world_vertices(second.mesh), before)
    check(scene, second, body, *random_pose(np.random.default_rng(4)))


def test_rest_heads_are_the_joints_and_follow_the_shape(scene):
    body = scene.bodies.embedded()
    rig = scene.build.build_body(bpy.context, body)
    np.testing.assert_allclose(rig.heads, body.joints_rest(np.zeros(10, np.float32)), atol=1e-6)
    assert rig.bones == body.joint_names
    betas = np.array([2.5, -2, 1, 0, 0, 3, 0, 0, -1, 2], dtype=np.float32)
    for key, value in zip(rig.shape_keys, betas, strict=True):
        key.value = value
    bpy.context.view_layer.update()
    evaluated = rig.armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
    heads = np.array([evaluated.pose.bones[name].head for name in rig.bones])
    heads = (heads - rig.frame[:3, 3]) @ rig.frame[:3, :3]
    np.testing.assert_allclose(heads, body.joints_rest(betas), atol=1e-5)
    assert np.abs(heads - rig.heads).max() > 0.01


def test_new_body_stands_on_its_location_facing_minus_y(scene):
    body = scene.bodies.embedded()
    betas = np.array([3, 0, -2, 0, 0, 0, 0, 0, 0, 0], dtype=float)
    rig = scene.build.build_body(bpy.context, body, location=(1, 2, 0.5), betas=betas)
    vertices = world_vertices(rig.mesh)
    assert vertices[:, 2].min() == pytest.approx(0.5, abs=1e-4)
    assert np.ptp(vertices[:, 2]) > 1.4
    toes = body.J_regressor @ body.v_template
    assert toes[10, 2] > toes[7, 2]  # canonical +Z is the front ...
    evaluated = rig.armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
    heads = {n: evaluated.matrix_world @ evaluated.pose.bones[n].head for n in ("left_foot", "left_ankle", "left_hip")}
    assert heads["left_foot"].y < heads["left_ankle"].y  # ... and becomes -Y, with the left side at +X
    assert heads["left_hip"].x > 1


def test_clearing_the_transform_of_a_body_leaves_it_standing(scene):
    rig = scene.build.build_body(bpy.context, scene.bodies.embedded(), location=(2, 1, 0))
    assert rig.armature.matrix_world == Matrix.Translation((2, 1, 0))
    before = world_vertices(rig.mesh)
    rig.armature.select_set(True)
    for clear in (bpy.ops.object.rotation_clear, bpy.ops.object.scale_clear, bpy.ops.object.location_clear):
        clear()
    bpy.context.view_layer.update()
    np.testing.assert_allclose(world_vertices(rig.mesh), before - (2, 1, 0), atol=1e-6)


def laid_into_the_canonical_frame(rig):
    """The rig as older files hold it: bones and vertices Y up, and the object turns them upright."""
    back = Matrix(rig.frame.tolist()).inverted()
    rig.mesh.data.transform(back, shape_keys=True)
    rig.armature.data.transform(back)
    rig.armature.matrix_world = rig.armature.matrix_world @ Matrix(rig.frame.tolist())
    del rig.armature.data["maquette_body_frame"]
    bpy.context.view_layer.update()


def test_bodies_of_older_files_lie_in_the_canonical_frame_and_work_as_before(scene):
    body = small_body(scene)
    old, new = (scene.build.build_body(bpy.context, body, location=(1, 0, 0)) for _ in range(2))
    laid_into_the_canonical_frame(old)
    assert np.degrees(old.armature.rotation_euler.x) == pytest.approx(90)
    np.testing.assert_allclose(world_vertices(old.mesh), world_vertices(new.mesh), atol=1e-5)
    old = scene.rig.load_rig(old.mesh)
    check(scene, old, body, *random_pose(np.random.default_rng(8)))
    # The keys of the one fit the other.
    new.armature.animation_data.action = old.armature.animation_data.action
    if hasattr(new.armature.animation_data, "action_slot"):
        new.armature.animation_data.action_slot = old.armature.animation_data.action_slot
    for key, was in zip(new.shape_keys, old.shape_keys, strict=True):
        key.value = was.value
    bpy.context.scene.frame_set(bpy.context.scene.frame_current)
    np.testing.assert_allclose(world_vertices(new.mesh), world_vertices(old.mesh), atol=TOLERANCE)


def test_shape_survives_undo_and_saving(scene, tmp_path):
    body = small_body(scene)
    bpy.ops.ed.undo_push(message="before")
    rig = scene.build.build_body(bpy.context, body)
    name = rig.mesh.name
    bpy.ops.ed.undo_push(message="built")
    rig.shape_keys[0].value = 2.0
    bpy.ops.ed.undo_push(message="shaped")
    bpy.context.view_layer.update()
    shaped = world_vertices(rig.mesh)
    bpy.ops.ed.undo()
    mesh = bpy.data.objects[name]
    assert np.abs(world_vertices(mesh) - shaped).max() > 1e-3
    bpy.ops.ed.redo()
    np.testing.assert_allclose(world_vertices(bpy.data.objects[name]), shaped, atol=1e-6)

    path = str(tmp_path / "body.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    bpy.ops.wm.open_mainfile(filepath=path)
    mesh = bpy.data.objects[name]
    np.testing.assert_allclose(world_vertices(mesh), shaped, atol=1e-6)
    check(scene, scene.rig.load_rig(mesh), body, *random_pose(np.random.default_rng(5)))


def test_drivers_need_no_trusted_python(scene):
    rig = scene.build.build_body(bpy.context, small_body(scene))
    curves = list(rig.armature.animation_data.drivers) + list(rig.mesh.data.shape_keys.animation_data.drivers)
    assert len(curves) > 300
    for curve in curves:
        assert curve.driver.is_simple_expression and curve.driver.is_valid
        assert not len(curve.keyframe_points) and not len(curve.modifiers)


def test_duplicated_body_has_its_own_shape(scene):
    body = small_body(scene)
    rig = scene.build.build_body(bpy.context, body)
    for obj in (rig.mesh, rig.armature):
        obj.select_set(True)
    bpy.context.view_layer.objects.active = rig.armature
    bpy.ops.object.duplicate()
    copy = scene.rig.find_body(bpy.context.view_layer.objects.active)
    assert copy is not None and copy != rig.mesh
    before = world_vertices(rig.mesh)
    check(scene, scene.rig.load_rig(copy), body, *random_pose(np.random.default_rng(6)))
    np.testing.assert_allclose(world_vertices(rig.mesh), before, atol=1e-6)


def test_renamed_bones_and_objects_are_still_found(scene):
    body = small_body(scene)
    rig = scene.build.build_body(bpy.context, body)
    rig.armature.pose.bones["left_knee"].name = "Knie.L"
    rig.mesh.name, rig.armature.name = "Anna", "Anna Skelett"
    again = scene.rig.load_rig(rig.mesh)
    assert again.bones[4] == "Knie.L"
    check(scene, again, body, *random_pose(np.random.default_rng(7)))


def test_lost_joints_are_named(scene):
    rig = scene.build.build_body(bpy.context, small_body(scene))
    bpy.ops.object.mode_set(mode="EDIT")
    bones = rig.armature.data.edit_bones
    bones.remove(bones["right_hand"])
    bones.remove(bones["left_knee"])
    bpy.ops.object.mode_set(mode="OBJECT")
    with pytest.raises(scene.rig.RigError, match="lost joints"):
        scene.rig.load_rig(rig.mesh)
    rig.mesh.modifiers.clear()
    assert not scene.rig.is_body(rig.mesh)
    with pytest.raises(scene.rig.RigError, match="no armature"):
        scene.rig.load_rig(rig.mesh)


def test_stretched_bones_are_told_by_the_reading(scene):
    rig = scene.build.build_body(bpy.context, small_body(scene))
    rig.armature.pose.bones["left_shoulder"].scale = (1.5, 1.5, 1.5)
    depsgraph = bpy.context.evaluated_depsgraph_get()
    assert scene.channels.read_body_pose(rig.mesh, depsgraph).error > 0.05


def test_failing_build_leaves_nothing_behind(scene, monkeypatch):
    cube = bpy.data.objects.new("Cube", bpy.data.meshes.new("Cube"))
    bpy.context.scene.collection.objects.link(cube)
    bpy.context.view_layer.objects.active = cube
    monkeypatch.setattr(scene.drivers, "drive_joints", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        scene.build.build_body(bpy.context, small_body(scene))
    assert [obj.name for obj in bpy.data.objects] == ["Cube"]
    assert not len(bpy.data.armatures) and [mesh.name for mesh in bpy.data.meshes] == ["Cube"]
    assert bpy.context.view_layer.objects.active == cube


def test_each_new_body_wears_another_palette_and_colours_can_be_changed(scene):
    body = scene.bodies.embedded()
    first, second = (scene.build.build_body(bpy.context, body) for _ in range(2))

    def shown(mesh, region):
        regions = np.empty(len(mesh.data.vertices), dtype=np.int32)
        mesh.data.attributes["region"].data.foreach_get("value", regions)
        corners = np.empty(len(mesh.data.loops), dtype=np.int32)
        mesh.data.loops.foreach_get("vertex_index", corners)
        colors = np.empty(len(corners) * 4, dtype=np.float32)
        mesh.data.color_attributes["Paint"].data.foreach_get("color_srgb", colors)
        of_region = colors.reshape(-1, 4)[regions[corners] == scene.paint.REGIONS.index(region), :3]
        assert len(of_region) > 100 and np.ptp(of_region, axis=0).max() == 0
        return of_region[0]

    assert np.abs(shown(first.mesh, "shirt") - shown(second.mesh, "shirt")).max() > 0.1
    skin = shown(first.mesh, "skin")
    first.mesh.maquette.color_shirt = (0.2, 0.4, 0.6)
    np.testing.assert_allclose(shown(first.mesh, "shirt"), (0.2, 0.4, 0.6), atol=1 / 255)
    np.testing.assert_array_equal(shown(first.mesh, "skin"), skin)


def test_a_solid_view_shows_the_colours_of_the_reference(scene):
    rig = scene.build.build_body(bpy.context, scene.bodies.embedded())
    bpy.ops.object.select_all(action="DESELECT")
    rig.mesh.select_set(True)
    bpy.ops.object.duplicate()
    copy = bpy.context.selected_objects[0]
    rig.mesh.maquette.color_shirt = (0.2, 0.4, 0.6)
    for mesh in (rig.mesh, copy):
        data = mesh.data
        painted = np.empty((len(data.loops), 4), dtype=np.float32)
        data.color_attributes["Paint"].data.foreach_get("color", painted.ravel())
        faces = np.empty(len(data.polygons), dtype=np.int32)
        data.polygons.foreach_get("material_index", faces)
        plain = np.array([material.diffuse_color[:3] for material in data.materials])
        # But for faces across a border both show the same, and nobody else's colours have changed.
        apart = np.abs(painted.reshape(len(faces), -1, 4)[..., :3].mean(axis=1) - plain[faces]).max(axis=1)
        assert len(plain) == 6 and (apart < 0.01).mean() > 0.95


def test_a_body_without_regions_is_painted_by_its_joints(scene):
    body = replace(scene.bodies.embedded(), regions=None, region_names=())
    guessed = scene.paint.body_regions(body)
    known = scene.paint.body_regions(scene.bodies.embedded())
    feet = known == scene.paint.REGIONS.index("shoes")
    assert set(np.unique(guessed)) >= {scene.paint.REGIONS.index(r) for r in ("skin", "hair", "shirt", "trousers")}
    assert (guessed[feet] == scene.paint.REGIONS.index("shoes")).mean() > 0.7


@pytest.mark.parametrize("row", range(3))
@pytest.mark.parametrize("column", range(3))
def test_rotation_element_expression(scene, row, column):
    rng = np.random.default_rng(row * 3 + column)
    rest, turn = scene.rotations.axis_angle_to_matrix(rng.normal(0, 1, (2, 3)))
    local = rest.T @ turn @ rest
    w, x, y, z = scene.rotations.matrix_to_quat(local)
    expression = scene.drivers.rotation_element(rest, row, column)
    value = eval(expression, {"w": w, "x": x, "y": y, "z": z})
    assert value == pytest.approx((turn - np.eye(3))[row, column], abs=1e-7)


@pytest.mark.parametrize("layout", ["smpl", "smplh", "smplx"])
def test_bodies_of_the_animators_own_files(scene, addon, tmp_path, layout):
    spec = importlib.util.spec_from_file_location("bodies_files", Path(__file__).parents[2] / "bodies" / "conftest.py")
    files = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(files)
    path = files.write_body(tmp_path / f"{layout}_mine.npz", files.make_arrays(layout))
    assert bpy.ops.maquette.add_body(filepath=str(path), name="Mine") == {"FINISHED"}
    mesh = bpy.data.objects["Mine"]
    assert scene.rig.body_source(mesh) == str(path) and mesh.maquette.body == f"{layout}_mine"
    rig = scene.rig.load_rig(mesh)
    body = scene.bodies.load_body(path)
    assert rig.bones == body.joint_names and len(rig.shape_keys) == 10
    check(scene, rig, body, *random_pose(np.random.default_rng(8), len(body.joint_names)))
    bpy.context.view_layer.objects.active = mesh
    poses = np.random.default_rng(9).normal(0, 0.2, (6, len(body.joint_names) * 3))
    np.savez(tmp_path / "clip.npz", poses=poses, trans=np.zeros((6, 3)), mocap_framerate=24.0)
    assert bpy.ops.maquette.import_motion(filepath=str(tmp_path / "clip.npz")) == {"FINISHED"}
    assert mesh.parent.animation_data.action is not None and len(bpy.data.armatures) == 1
