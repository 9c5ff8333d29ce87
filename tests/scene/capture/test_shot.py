"""The scene as a Shot."""

from __future__ import annotations

import math

import bpy
import numpy as np
import pytest

from ..builders import (
    add_armature,
    add_box,
    add_camera,
    add_mesh,
    aim,
    cylinder,
    module,
    small_scene,
    snapshot,
)


def test_a_shot_holds_the_scene(capture, dancer):
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end, scene.frame_step = 2, 9, 3
    scene.render.fps, scene.render.fps_base = 30, 1.001
    scene.maquette.prompt, scene.maquette.seed, scene.maquette.steps = "a dance", 11, 7
    notices = []
    shot = capture.capture_shot(bpy.context, notices=notices)
    assert (shot.clip.frames, shot.clip.width, shot.clip.height) == (3, 96, 64)
    assert shot.clip.fps == pytest.approx(30 / 1.001 / 3)
    character = shot.characters[0]
    assert character.points.shape == (3, 64, 3) and character.rest_points.shape == (64, 3)
    assert character.name == "Dancer" and character.joints is None and character.body is None
    assert (shot.prompt, shot.settings.seed, shot.settings.steps, shot.settings.guidance) == ("a dance", 11, 7, None)
    assert shot.background.kind == "none" and shot.clay.surroundings is False
    assert notices == [
        "'Dancer' has no reference: it is drawn in clay grey. Set its Looks > Reference to Render or Picture"
    ]


def test_points_stay_on_the_same_skin(capture, dancer):
    """Those on the unmoved lower half stay; the upper ones turn with the bone, at a fixed distance from it."""
    shot = capture.capture_shot(bpy.context)
    character = shot.characters[0]
    rest_height = character.rest_points[:, 1] - character.rest_points[:, 1].min()
    low, high = rest_height < 0.4, rest_height > 1.6
    assert low.sum() > 5 and high.sum() > 5
    assert np.abs(character.points[:, low] - character.points[0, low]).max() < 1e-5
    reach = np.linalg.norm(character.points[:, high] - [0, 0, 1], axis=-1)
    assert np.ptp(reach, axis=0).max() < 1e-4
    assert np.abs(character.points[-1, high] - character.points[0, high]).max() > 0.3


def test_rest_points_are_canonical_whatever_way_the_rig_came_in(capture, dancer):
    """Y up, facing +Z, centred: upright, keyed away, scaled, or imported lying with Y up."""
    plain = capture.capture_shot(bpy.context).characters[0]
    assert np.abs(plain.rest_points.mean(axis=0)).max() < 1e-5
    assert np.ptp(plain.rest_points, axis=0)[1] > 1.8
    rig = dancer.parent
    rig.rotation_euler = (0, 0, 2.1)
    rig.location = (0.1, 0.2, 0.05)
    turned = capture.capture_shot(bpy.context).characters[0]
    np.testing.assert_allclose(turned.rest_points, plain.rest_points, atol=1e-5)
    rig.scale = (0.5, 0.5, 0.5)
    half = capture.capture_shot(bpy.context).characters[0]
    np.testing.assert_allclose(half.rest_points, 0.5 * plain.rest_points, atol=1e-5)


def test_the_embedded_body_is_captured_as_its_model_says(addon, capture):
    """Points, joints, rest points and parameters against the body model, posed from the parameters alone."""
    small_scene(frames=3)
    assert bpy.ops.maquette.add_body(betas=[1.5, -1, 0.5, 0, 0, 0, 0, 0, 0, 0]) == {"FINISHED"}
    mesh = next(o for o in bpy.context.scene.objects if o.type == "MESH")
    mesh.maquette.reference_source = "NONE"
    rig = mesh.parent
    rig.location, rig.rotation_euler.z = (0.3, 0.1, 0.0), 0.4
    for frame, angle in ((1, 0.2), (3, 0.9)):
        for name in ("left_shoulder", "right_knee", "pelvis"):
            bone = rig.pose.bones[name]
            bone.rotation_mode = "XYZ"
            bone.rotation_euler = (angle, -0.3 * angle, 0.5)
            bone.keyframe_insert("rotation_euler", frame=frame)
    add_camera((0, -5, 1))
    character = capture.capture_shot(bpy.context).characters[0]
    bodies = module(addon, "backend.bodies")
    body = bodies.load_body(character.body.body)
    betas = character.body.betas
    posed = body.pose(betas, character.body.poses, character.body.trans)
    np.testing.assert_allclose(character.joints, posed.joints[:, :24], atol=2e-4)
    shaped = body.shaped(betas) - body.joints_rest(betas)[0]
    # Every rest point lies on the model's rest surface, every point on the posed one, and both on the same triangle.
    trimesh = pytest.importorskip("trimesh")
    some = slice(None, None, 8)
    chosen = []
    for vertices, points in ((shaped, character.rest_points[some]), (posed.vertices[2], character.points[2, some])):
        surface = trimesh.Trimesh(vertices, body.faces, process=False)
        _, distance, triangle = trimesh.proximity.closest_point_naive(surface, points)
        assert np.abs(distance).max() < 5e-4
        chosen.append(triangle)
    assert (chosen[0] == chosen[1]).mean() > 0.8


def _rig(names, parents, heads, rotation=(0.0, 0.0, 0.0), scale=1.0):
    tails = [np.asarray(head) + (0, 0.05 / scale, 0) for head in heads]
    above = ["" if parent < 0 else names[parent] for parent in parents]
    armature = add_armature("Imported", zip(names, heads, tails, above, strict=True))
    armature.rotation_euler, armature.scale = rotation, (scale,) * 3
    return armature


def test_a_mixamo_rig_gives_smpl_joints_and_a_canonical_rest(addon, capture):
    """Imported as importers leave it: lying, in centimetres, keyed to walk away and turn."""
    bodies = module(addon, "backend.bodies")
    names = module(addon, "backend.shot").SMPL_JOINT_NAMES
    parents = module(addon, "backend.shot").SMPL_PARENTS
    rig = module(addon, "backend.catalogue.rig")
    reader = module(addon, "backend.catalogue.reader")
    scheme = {n: names[0] for n, names in reader.find_preset(rig.Scheme, "mixamo").joints.items()}
    body = bodies.embedded()
    heads = body.joints_rest(np.zeros(10, np.float32))
    title = {
        n: (scheme.get(n) or {"spine1": "Spine", "spine2": "Spine1", "spine3": "Spine2", "neck": "Neck"}[n])
        for n in names
    }
    mixamo = [f"mixamorig:{t}" for t in title.values()]
    small_scene(frames=2)
    rig = _rig(mixamo, parents, heads * 100, rotation=(math.pi / 2, 0, 0), scale=0.01)
    mesh = add_mesh("Hero", body.v_template * 100, body.faces)
    mesh.parent = rig
    mesh.modifiers.new("Armature", "ARMATURE").object = rig
    for index, name in enumerate(mixamo):
        group = mesh.vertex_groups.new(name=name)
        chosen = np.flatnonzero(np.asarray(body.weights).argmax(axis=1) == index)
        group.add(chosen.tolist(), 1.0, "REPLACE")
    rig.rotation_euler = (math.pi / 2, 0, 1.0)
    rig.location = (0, 0, 1)
    mesh.maquette.is_character, mesh.maquette.reference_source = True, "NONE"
    add_camera((0, -5, 1))
    bpy.context.view_layer.update()
    character = capture.capture_shot(bpy.context).characters[0]
    world = np.array(rig.matrix_world)
    expected = heads * 100 @ world[:3, :3].T + world[:3, 3]
    np.testing.assert_allclose(character.joints[0], expected, atol=1e-3)
    trimesh = pytest.importorskip("trimesh")
    surface = trimesh.Trimesh(body.v_template - heads[0], body.faces, process=False)
    assert np.abs(trimesh.proximity.closest_point_naive(surface, character.rest_points[::8])[1]).max() < 1e-3


def test_unknown_bones_give_no_joints_and_missing_ones_are_placed(addon):
    joints = module(addon, "scene.rig.joints")
    assert joints.joint_reader(_rig(["Root", "Tail"], [-1, 0], [(0, 0, 0), (0, 0, 1)])) is None
    names = list(module(addon, "backend.shot").SMPL_JOINT_NAMES)
    heads = module(addon, "backend.bodies").embedded().joints_rest(np.zeros(10, np.float32))
    parents = module(addon, "backend.shot").SMPL_PARENTS
    fewer = [n for n in names if n not in ("left_hand", "right_hand")]
    rig = _rig(fewer, [parents[names.index(n)] for n in fewer], heads[[names.index(n) for n in fewer]])
    bpy.context.view_layer.update()
    reader = joints.joint_reader(rig)
    found = reader.read(bpy.context.evaluated_depsgraph_get())
    np.testing.assert_allclose(found[:22], heads[:22], atol=1e-5)
    assert np.linalg.norm(found[22] - heads[22]) < 0.06


def test_modifiers_that_keep_the_topology_are_fine(capture, dancer):
    dancer.modifiers.new("Subdivision", "SUBSURF").levels = 1
    notices = []
    shape = capture.capture_shot(bpy.context, notices=notices).characters[0]
    assert np.ptp(shape.rest_points, axis=0)[1] > 1.8
    assert not any("without its modifiers" in note for note in notices)


def _build(dancer):
    build = dancer.modifiers.new("Build", "BUILD")
    build.frame_start, build.frame_duration = 1, 5
    bpy.context.scene.frame_start = 2
    return build


def test_a_changing_topology_is_refused_by_name_where_surfaces_are_required(addon, capture, dancer, error):
    _build(dancer)
    wants = module(addon, "scene.capture.wants").Wants(keypoints=False, meshes_required=True)
    with pytest.raises(error, match=r"characters\.Dancer.*changes its topology.*at frame 3"):
        capture.capture_shot(bpy.context, wants=wants)


def test_elsewhere_it_is_captured_without_the_modifiers_that_change_it(capture, dancer):
    """Static subdivision stays; what is switched off is as it was afterwards."""
    dancer.modifiers.new("Subdivision", "SUBSURF").levels = 1
    build = _build(dancer)
    notices, done = [], []
    shot = capture.capture_shot(bpy.context, notices=notices, on_progress=lambda *step: done.append(step))
    assert any("'Dancer' changes the number of its vertices" in n and "modifiers Build" in n for n in notices)
    assert shot.meshes[0].vertices.shape[0] == 4 and shot.meshes[0].vertices.shape[1] > 3 * 480
    assert shot.characters[0].points.shape == (4, 64, 3)
    assert build.show_viewport and build.show_render
    assert done[-1] == (8, 8)


def test_levels_that_are_keyed_are_left_out_too(capture, dancer):
    smooth = dancer.modifiers.new("Smooth", "SUBSURF")
    for frame, levels in ((1, 0), (3, 1)):
        smooth.levels = levels
        smooth.keyframe_insert("levels", frame=frame)
    notices = []
    shot = capture.capture_shot(bpy.context, notices=notices)
    assert shot.meshes[0].vertices.shape == (5, 480, 3) and any("modifiers Smooth" in n for n in notices)


def test_a_character_behind_the_camera_is_told(capture, dancer):
    rig = dancer.parent
    for frame, y in ((3, 0.0), (4, -20.0)):
        rig.location.y = y
        rig.keyframe_insert("location", frame=frame)
    notices = []
    capture.capture_shot(bpy.context, notices=notices)
    assert "'Dancer' is behind the camera in 2 frames from 4 on: it does not show there" in notices


def _inside(mesh):
    aim(bpy.context.scene.camera, (0, 0, 0.4), (1, 0, 0.4))


def _empty(mesh):
    mesh.data.clear_geometry()


def _flat(mesh):
    mesh.parent.scale = (0, 0, 0)


def _lost(mesh):
    mesh.parent.location.x = math.nan


def _edited(mesh):
    bpy.context.view_layer.objects.active = mesh
    bpy.ops.object.mode_set(mode="EDIT")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda m: setattr(m.maquette, "is_character", False), ("characters: the scene has none", "mark a mesh")),
        (lambda m: (setattr(m, "hide_viewport", True), setattr(m, "hide_render", True)), ("switched off", "enable it")),
        (lambda m: setattr(bpy.context.scene, "camera", None), ("camera: the scene has none", "add a camera")),
        (lambda m: setattr(bpy.context.scene, "frame_end", 50_000), ("frames", "at most 20000", "shorten")),
        (lambda m: setattr(bpy.context.scene.render, "resolution_percentage", 1), ("resolution", "8x8")),
        (_inside, ("camera", "inside 'Dancer' at frame 1", "out of the body")),
        (lambda m: setattr(m.parent, "location", (0, -40, 0)), ("never in the picture", "aim the camera")),
        (_empty, ("no faces", "needs a surface")),
        (_flat, ("characters", "area", "scale")),
        (_lost, ("NaN", "check its keys")),
        (_edited, ("Edit Mode", "leave it")),
    ],
)
def test_what_cannot_be_captured_is_said(capture, dancer, error, spoil, words):
    spoil(dancer)
    bpy.context.view_layer.update()
    with pytest.raises(error) as caught:
        capture.capture_shot(bpy.context)
    for word in words:
        assert word in str(caught.value)
    assert [s.name for s in bpy.data.scenes] == ["Scene"]


def test_what_the_animator_may_want_to_know_is_said(capture, dancer):
    notices = []
    dancer.parent.animation_data_clear()
    bpy.context.scene.render.use_border = True
    wall = add_mesh("Wall", [(-3, -2, -1), (3, -2, -1), (3, -2, 4), (-3, -2, 4)], [(0, 1, 2, 3)])
    capture.capture_shot(bpy.context, notices=notices)
    assert [next((n for n in notices if w in n), None) is not None for w in ("border", "Nothing moves", "behind")] == [
        True
    ] * 3
    bpy.data.objects.remove(wall)
    notices.clear()
    bpy.context.scene.frame_end = 1
    shot = capture.capture_shot(bpy.context, notices=notices)
    assert shot.clip.frames == 1 and not any("Nothing moves" in n for n in notices)


def _furnish(dancer):
    """Unkeyed changes, a selection, a mode, hidden things, markers, another view layer."""
    scene = bpy.context.scene
    scene.maquette.background = "SCENE"
    scene.render.resolution_x = scene.render.resolution_y = 16
    dancer.maquette.reference_source = "RENDER"
    box = add_box("Box", 1.0, (1, 3, 1))
    bpy.context.view_layer.update()
    box.hide_viewport = True
    eye = add_box("Eye", 0.2, (2, 3, 1))
    material = bpy.data.materials.new("Paint")
    if material.node_tree is None:
        material.use_nodes = True
    material.node_tree.nodes["Principled BSDF"].inputs["Base Color"].default_value = (0.8, 0.1, 0.1, 1)
    box.data.materials.append(material)
    scene.world = bpy.data.worlds.new("World")
    scene.view_layers.new("Second")
    second = bpy.data.objects.new("C2", bpy.data.cameras.new("C2"))
    scene.collection.objects.link(second)
    aim(second, (1, -6, 1), (0, 0, 1))
    scene.timeline_markers.new("cut", frame=3).camera = second
    dancer.hide_render = True
    scene.frame_set(4, subframe=0.25)
    scene.camera = bpy.data.objects["Camera"]
    for obj in scene.objects:
        obj.select_set(obj == eye)
    eye.hide_set(True)
    rig = dancer.parent
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="POSE")
    rig.pose.bones["high"].rotation_euler.y = 0.7  # Keyed, but not this value.
    bpy.context.view_layer.update()


def differences(before, after):
    return {k: (before.get(k), after.get(k)) for k in before.keys() | after.keys() if before.get(k) != after.get(k)}


def test_the_scene_is_left_as_found(capture, dancer):
    _furnish(dancer)
    before = snapshot()
    assert before["mode"] == "POSE" and len(before) > 500
    shot = capture.capture_shot(bpy.context)
    assert shot.background.kind in ("still", "video")
    assert differences(before, snapshot()) == {}


@pytest.mark.parametrize("steps", [0, 4, 9, 16, 24])
def test_the_scene_is_left_as_found_when_it_stops_midway(capture, dancer, steps):
    _furnish(dancer)
    before = snapshot()
    count = 0

    def stop(done, total):
        nonlocal count
        assert 0 <= done <= total == 16
        count += 1
        if count > steps:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        capture.capture_shot(bpy.context, on_progress=stop)
    assert differences(before, snapshot()) == {}


def test_steps_can_be_left_at_any_time(capture, dancer):
    _furnish(dancer)
    before = snapshot()
    steps = capture.capture_steps(bpy.context.scene)
    try:
        assert next(steps) == (0, 16)
        assert len(bpy.data.scenes) > 1
    finally:
        steps.close()
    assert differences(before, snapshot()) == {}


def test_a_camera_in_a_box_is_no_camera_in_a_body(addon):
    winding = module(addon, "scene.capture.frames").winding_number
    vertices, faces = cylinder()
    mesh = add_mesh("Tube", vertices, faces)
    triangles = module(addon, "scene.capture.mesh").topology(mesh.data).triangles
    vertices = vertices.astype(np.float32)
    assert winding(vertices, triangles, np.array([0.1, 0.1, 1.0])) == pytest.approx(1, abs=1e-6)
    assert winding(vertices, triangles, np.array([0.5, 0, 1.0])) == pytest.approx(0, abs=1e-6)
    # A mesh with a hole still tells inside from outside.
    assert winding(vertices, triangles[:-20], np.array([0.1, 0.1, 0.6])) > 0.6
