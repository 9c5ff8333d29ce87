"""The surfaces of characters and set as a shot carries them."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from ..builders import add_box, add_mesh, module

pytestmark = pytest.mark.usefixtures("addon")


def captured_meshes(addon, notices=None):
    wants = module(addon, "scene.capture.wants").Wants(keypoints=False, meshes=True, tracks=False)
    return module(addon, "scene.capture.shot").capture_shot(bpy.context, wants=wants, notices=notices).meshes


def captured(addon, notices=None):
    return {mesh.name: mesh for mesh in captured_meshes(addon, notices)}


def world(obj):
    """(V,3) of a mesh without modifiers."""
    matrix = np.array(obj.matrix_world)
    return np.array([v.co for v in obj.data.vertices]) @ matrix[:3, :3].T + matrix[:3, 3]


def areas(vertices, triangles):
    corners = vertices[triangles]
    return np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=-1) / 2


def test_a_character_moves_and_the_set_stands(addon, scene):
    box = add_box("Box", 0.5, (1.5, 0, 1))
    bpy.context.view_layer.update()
    meshes = captured(addon)
    assert list(meshes) == ["Dancer", "Box"]
    dancer, still = meshes["Dancer"], meshes["Box"]
    assert (dancer.character, still.character) == (0, -1)
    assert dancer.vertices.shape == (3, 480, 3) and still.vertices.shape == (1, 8, 3)
    assert dancer.vertices.dtype == np.float32 and dancer.triangles.dtype == np.int32
    assert np.abs(dancer.vertices[2] - dancer.vertices[0]).max() > 0.3
    np.testing.assert_allclose(still.vertices[0], world(box), atol=1e-6)
    assert len(still.triangles) == 12
    assert areas(still.vertices[0], still.triangles).sum() == pytest.approx(6 * 0.25)


def test_a_keyed_object_moves_rigidly(addon, scene):
    box = add_box("Box", 0.5, (1, 0, 1))
    for frame, x, turn in ((1, 1.0, 0.0), (3, 1.5, 0.8)):
        box.location.x, box.rotation_euler.z = x, turn
        box.keyframe_insert("location", frame=frame)
        box.keyframe_insert("rotation_euler", frame=frame)
    found = captured(addon)["Box"].vertices
    assert found.shape == (3, 8, 3)
    for index in range(3):
        scene.frame_set(index + 1)
        np.testing.assert_allclose(found[index], world(box), atol=1e-5)


def test_what_a_character_wears_is_its_own(addon, scene):
    hat = add_box("Hat", 0.3, (0, 0, 2.1))
    hat.parent = scene.objects["Dancer Rig"]
    hat.parent_type, hat.parent_bone = "BONE", "high"
    bpy.context.view_layer.update()
    meshes = captured(addon)
    assert meshes["Hat"].character == 0 and meshes["Hat"].vertices.shape[0] == 3


def test_modifiers_and_other_surfaces_go_in_as_evaluated(addon, scene):
    box = add_box("Box", 0.5, (1, 0, 1))
    box.modifiers.new("Subdivision", "SUBSURF").levels = 2
    text = bpy.data.objects.new("Text", bpy.data.curves.new("Text", "FONT"))
    text.data.body, text.location, text.rotation_euler.x = "M", (-1.5, 0, 1), 1.5
    scene.collection.objects.link(text)
    bpy.context.view_layer.update()
    meshes = captured(addon)
    assert meshes["Box"].vertices.shape == (1, 98, 3)
    assert len(meshes["Text"].triangles) > 4


def test_each_kind_of_surface_goes_in_once(addon, scene):
    """Also where it moves, or stands in a collection that is placed."""
    bpy.ops.object.metaball_add(location=(1.2, 0, 1))
    bpy.ops.surface.primitive_nurbs_surface_sphere_add(location=(-1.2, 0, 1))
    text, group = bpy.data.objects.new("Text", bpy.data.curves.new("Text", "FONT")), bpy.data.collections.new("Group")
    text.data.body, text.rotation_euler.x = "M", 1.5
    group.objects.link(text)
    placed = bpy.data.objects.new("Placed", None)
    placed.instance_type, placed.instance_collection = "COLLECTION", group
    scene.collection.objects.link(placed)
    for frame, x in ((1, -1.0), (3, 0.5)):
        placed.location = (x, -1, 1)
        placed.keyframe_insert("location", frame=frame)
    bpy.context.view_layer.update()
    meshes = captured_meshes(addon)
    assert sorted(mesh.name for mesh in meshes) == ["Dancer", "Mball", "Placed", "SurfSphere"]
    (moving,) = (mesh for mesh in meshes if mesh.name == "Placed")
    np.testing.assert_allclose(np.ptp(moving.vertices.mean(axis=1)[:, 0]), 1.5, atol=1e-4)


def test_instances_go_in_each(addon, scene):
    group = bpy.data.collections.new("Group")
    group.objects.link(add_box("Part", 0.4, (0, 0, 0)))
    for x in (-1.5, 1.5):
        placed = bpy.data.objects.new("Placed", None)
        placed.instance_type, placed.instance_collection, placed.location = "COLLECTION", group, (x, 0, 1)
        scene.collection.objects.link(placed)
    scene.collection.objects.unlink(scene.objects["Part"])
    bpy.context.view_layer.update()
    meshes = captured(addon)
    centres = sorted(meshes[name].vertices[0].mean(axis=0)[0] for name in meshes if name.startswith("Placed"))
    assert centres == pytest.approx([-1.5, 1.5])


def test_what_the_camera_never_sees_is_left_out(addon, scene):
    add_box("Behind", 1, (0, -12, 1))
    add_box("Beside", 1, (40, 0, 1))
    off = add_box("Off", 1, (1, 0, 1))
    off.hide_render = True
    ghost = add_box("Ghost", 1, (1, 0, 1))
    ghost.visible_camera = False
    floor = add_mesh("Floor", [(-90, -90, 0), (90, -90, 0), (90, 90, 0), (-90, 90, 0)], [(0, 1, 2, 3)])
    bpy.context.view_layer.update()
    notices = []
    assert list(captured(addon, notices)) == ["Dancer", floor.name]
    assert not any("motion" in note for note in notices)


def test_what_changes_its_topology_or_goes_is_left_out_with_a_note(addon, scene):
    grows = add_box("Grows", 0.5, (1, 0, 1))
    build = grows.modifiers.new("Build", "BUILD")
    build.frame_start, build.frame_duration = 0, 4
    leaves = add_box("Leaves", 0.5, (-1, 0, 1))
    for frame, hidden in ((1, False), (2, True)):
        leaves.hide_render = hidden
        leaves.keyframe_insert("hide_render", frame=frame)
    comes = add_box("Comes", 0.5, (-1, 0, 2))
    for frame, hidden in ((1, True), (3, False)):
        comes.hide_render = hidden
        comes.keyframe_insert("hide_render", frame=frame)
    notices = []
    assert list(captured(addon, notices)) == ["Dancer"]
    assert any("'Grows' changes its topology" in note for note in notices)
    assert any("'Leaves' comes or goes" in note for note in notices)
    assert any("'Comes' comes or goes" in note for note in notices)


def test_a_set_that_is_too_heavy_keeps_what_is_largest_in_the_picture(addon, scene, monkeypatch):
    geometry = module(addon, "scene.capture.geometry")
    near = add_box("Near", 1, (1.5, 0, 1))
    add_box("Far", 1, (-5, 20, 1))
    bpy.context.view_layer.update()
    monkeypatch.setattr(geometry, "MAX_POSITIONS", 3 * 480 + 8)
    notices = []
    assert list(captured(addon, notices)) == ["Dancer", near.name]
    assert any("'Far'" in note and "largest in the picture" in note for note in notices)


def test_heavy_characters_are_refused(addon, scene, monkeypatch):
    geometry = module(addon, "scene.capture.geometry")
    monkeypatch.setattr(geometry, "MAX_POSITIONS", 3 * 480 - 1)
    with pytest.raises(module(addon, "backend.shot").ShotError, match="meshes: the characters have"):
        captured(addon)


def test_where_surfaces_are_optional_heavy_characters_go_without(addon, scene, monkeypatch):
    """The lighter one keeps its surface; what the other wears goes with its own."""
    small = add_box("Small", 0.5, (1.2, 0, 1))
    small.maquette.is_character, small.maquette.reference_source = True, "NONE"
    hat = add_box("Hat", 0.3, (0, 0, 2.1))
    hat.parent = bpy.data.objects["Dancer"].parent
    add_box("Box", 0.5, (-1.5, 0, 1))
    bpy.context.view_layer.update()
    monkeypatch.setattr(module(addon, "scene.capture.geometry"), "MAX_POSITIONS", 3 * 480 - 1)
    wants = module(addon, "scene.capture.wants").Wants(keypoints=False, meshes_required=False)
    notices = []
    shot = module(addon, "scene.capture.shot").capture_shot(bpy.context, wants=wants, notices=notices)
    assert [(mesh.name, mesh.character) for mesh in shot.meshes] == [("Small", 1), ("Box", -1)]
    assert any("'Dancer' is sent without its surface" in note for note in notices)


def test_a_shot_with_everything_can_be_saved(addon, scene, tmp_path):
    add_box("Box", 0.5, (1.5, 0, 1))
    shot_module = module(addon, "backend.shot")
    wants = module(addon, "scene.capture.wants").Wants()
    shot = module(addon, "scene.capture.shot").capture_shot(bpy.context, wants=wants)
    shot_module.save_shot(shot, tmp_path / "it.shot")
    back = shot_module.load_shot(tmp_path / "it.shot")
    assert [mesh.name for mesh in back.meshes] == ["Dancer", "Box"]
    np.testing.assert_array_equal(back.meshes[0].vertices, shot.meshes[0].vertices)


def test_a_render_reference_of_the_first_frame_lies_over_the_background(addon, scene):
    """The same camera, size and moment: models that start from a whole picture lay one over the other."""
    media = module(addon, "backend.shot")
    scene.maquette.background, scene.maquette.model = "SCENE", "nobody knows it"
    scene.render.resolution_x, scene.render.resolution_y = 96, 64
    dancer = scene.objects["Dancer"]
    dancer.maquette.reference_source, dancer.maquette.reference_frame = "RENDER", 1
    add_box("Box", 0.5, (1.5, 0, 1))
    bpy.context.view_layer.update()
    shot = module(addon, "scene.capture.shot").capture_shot(bpy.context)
    assert isinstance(shot, media.Shot)
    reference, behind = shot.characters[0].reference, shot.background.media[0]
    assert shot.background.kind == "still"
    assert _png_size(reference.image.data) == _png_size(behind.data) == (96, 64)
    np.testing.assert_array_equal(reference.viewmat, shot.clip.viewmats[0])
    np.testing.assert_allclose(reference.K, shot.clip.Ks[0], atol=1e-4)
    np.testing.assert_array_equal(reference.points, shot.characters[0].points[0])


def _png_size(data):
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
