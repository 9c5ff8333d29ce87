"""Bodies in clay: grey where a body is, the set elsewhere but for what is cast on it, and nothing left behind."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from ..builders import add_box, add_camera, add_mesh, add_performer, module, small_scene, snapshot
from .test_media import colour, decode
from .test_shot import differences


@pytest.fixture
def dancer(addon):
    scene = small_scene(frames=2)
    scene.maquette.background = "SCENE"
    mesh = add_performer(frames=(1, 2))
    mesh.maquette.reference_source = "NONE"
    colour(mesh, (0.8, 0.02, 0.02))
    add_camera((0, -6, 1.4), (0, 0, 1))
    floor = add_mesh("Floor", [(-9, -9, 0), (9, -9, 0), (9, 9, 0), (-9, 9, 0)], [(0, 1, 2, 3)])
    colour(floor, (0.1, 0.6, 0.1))
    return mesh


@pytest.fixture
def take(addon):
    """Capture with the clay, without keypoints."""
    wants = module(addon, "scene.capture.wants").Wants(keypoints=False)
    capture = module(addon, "scene.capture.shot").capture_shot
    return lambda **more: capture(bpy.context, wants=wants, **more)


def cycles(scene):
    scene.maquette.render_engine, scene.render.engine = "SCENE", "CYCLES"
    scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.device = 4, False, "CPU"
    scene.view_settings.view_transform = "Standard"
    scene.frame_end = 1


def sun(turn=(0.9, 0.5, 0.0)):
    light = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    light.data.energy, light.rotation_euler = 3.0, turn
    bpy.context.scene.collection.objects.link(light)
    return light


def masks(shot, size=(64, 96)):
    """Of the first frame: well inside the body, and well outside it."""
    vertices = shot.meshes[0].vertices[0]
    camera = vertices @ shot.clip.viewmats[0][:3, :3].T + shot.clip.viewmats[0][:3, 3]
    pixels = camera @ shot.clip.Ks[0].T
    low, high = (f(pixels[:, :2] / pixels[:, 2:], axis=0) for f in (np.min, np.max))
    v, u = np.mgrid[: size[0], : size[1]] + 0.5
    box = np.minimum(np.minimum(u - low[0], high[0] - u), np.minimum(v - low[1], high[1] - v))
    return box > 2, box < -1.5


def test_workbench_shows_a_grey_body_in_the_same_set(dancer, take, tmp_path):
    shot = take()
    assert shot.clay.surroundings and len(shot.clay.media) == 2 and shot.background.kind == "still"
    clay, behind = decode(shot.clay.media[0], tmp_path), decode(shot.background.media[0], tmp_path)
    inside, outside = masks(shot)
    assert inside.sum() > 100 and outside.sum() > 2000
    np.testing.assert_array_equal(clay[outside], behind[outside])
    body = clay[inside]
    assert np.ptp(body, axis=-1).max() < 8 and 20 < body.min() < body.max() < 200
    assert np.ptp(behind[inside], axis=-1).mean() > 15


@pytest.mark.parametrize("how", ["VERTEX", "TEXTURE"])
def test_workbench_greys_a_body_however_it_colours_the_set(dancer, take, tmp_path, how):
    """The body has its own vertex colours, texture and second material; clay has none of them."""
    plain = decode(take().clay.media[0], tmp_path)
    for obj in (bpy.data.objects["Floor"], dancer):
        paint = obj.data.color_attributes.new("Paint", "BYTE_COLOR", "CORNER")
        for place in paint.data:
            place.color = (0.7, 0.1, 0.7, 1)
        if how == "TEXTURE":
            obj.data.uv_layers.new(name="UV")
            material = obj.material_slots[0].material
            if material.node_tree is None:
                material.use_nodes = True
            node = material.node_tree.nodes.new("ShaderNodeTexImage")
            node.image = bpy.data.images.new("Purple", 4, 4)
            material.node_tree.nodes.active = node
    colour(dancer, (0.02, 0.02, 0.8))
    for polygon in list(dancer.data.polygons)[::2]:
        polygon.material_index = 1
    shot = take()
    clay, behind = decode(shot.clay.media[0], tmp_path), decode(shot.background.media[0], tmp_path)
    inside, outside = masks(shot)
    np.testing.assert_array_equal(clay[outside], behind[outside])
    assert np.abs(clay[inside] - plain[inside]).max() <= 2
    assert np.abs(clay[outside] - plain[outside]).mean() > 10


def test_a_body_casts_its_shadow_on_the_set(dancer, take, tmp_path):
    """Cycles: the background outside the body, darker where its shadow falls; on the body the light's own colour."""
    scene = bpy.context.scene
    cycles(scene)
    sun().data.color = (1.0, 0.5, 0.5)
    wall = add_mesh("Wall", [(-9, 3, -1), (9, 3, -1), (9, 3, 9), (-9, 3, 9)], [(0, 1, 2, 3)])
    shot = take()
    assert wall and len(shot.clay.media) == 1
    clay, behind = decode(shot.clay.media[0], tmp_path), decode(shot.background.media[0], tmp_path)
    inside, outside = masks(shot)
    change = np.where(outside, (clay - behind).mean(axis=-1), 0)
    assert (change < -30).sum() > 30 and (change > 15).mean() < 0.01
    assert (np.abs(change) <= 6).sum() > 0.6 * outside.sum()
    red, green, blue = clay[inside].mean(axis=0)
    assert red > green + 10 and red > blue + 10


def test_alone_the_bodies_stand_on_transparent_ground_under_the_scenes_lights(dancer, take, tmp_path):
    scene = bpy.context.scene
    cycles(scene)
    scene.maquette.background = "NONE"
    sun((1.2, 0.0, 0.0))
    front = take()
    bpy.data.objects["Sun"].rotation_euler = (-1.2, 0.0, 0.0)
    bpy.context.view_layer.update()
    back = take()
    inside, outside = masks(front)
    assert not front.clay.surroundings
    lit, unlit = (decode(shot.clay.media[0], tmp_path, 4) for shot in (front, back))
    assert (lit[inside, 3] > 250).all() and (lit[outside, 3] == 0).all()
    assert lit[inside, :3].mean() > unlit[inside, :3].mean() + 40


def test_a_still_shot_has_one_clay_picture(dancer, take):
    dancer.parent.animation_data_clear()
    assert len(take().clay.media) == 1


def test_what_is_worn_is_clay_and_hair_is_left_out(dancer, take, tmp_path):
    """A blue hat as an instance, a text on the chest, and hair curves."""
    rig = dancer.parent
    hat = add_box("Hat", 0.6, (0, 0, 2.2))
    colour(hat, (0.02, 0.02, 0.8))
    text = bpy.data.objects.new("Text", bpy.data.curves.new("Text", "FONT"))
    text.data.body = "ABC"
    text.location, text.rotation_euler = (-0.6, -0.4, 1.0), (1.5708, 0, 0)
    hair = bpy.data.objects.new("Hair", bpy.data.hair_curves.new("Hair"))
    empty = bpy.data.objects.new("Empty text", bpy.data.curves.new("Empty text", "FONT"))
    empty.data.body = ""
    for obj in (text, hair, empty):
        bpy.context.scene.collection.objects.link(obj)
    for obj in (hat, text, hair, empty):
        obj.parent = rig
    bpy.context.view_layer.update()
    shot = take()
    clay, behind = decode(shot.clay.media[0], tmp_path), decode(shot.background.media[0], tmp_path)
    changed = np.abs(clay - behind).max(axis=-1) > 8
    rows = np.flatnonzero(changed.any(axis=1))
    inside, _ = masks(shot)
    assert changed.sum() > inside.sum() and rows.min() < np.flatnonzero(inside.any(axis=1)).min() - 3
    assert not (clay[..., 2] > clay[..., 0] + 20).any()


def test_the_rendered_reference_comes_in_clay_too(dancer, take, tmp_path):
    """The same outline, and in the film the same grey at the same frame."""
    dancer.maquette.reference_source = "RENDER"
    shot = take()
    reference = shot.characters[0].reference
    picture, clay = (decode(media, tmp_path, 4) for media in (reference.image, reference.clay))
    np.testing.assert_array_equal(picture[..., 3], clay[..., 3])
    solid = clay[..., 3] == 255
    assert np.ptp(clay[solid, :3], axis=-1).max() < 8 and np.ptp(picture[solid, :3], axis=-1).mean() > 30
    inside, _ = masks(shot)
    film = decode(shot.clay.media[0], tmp_path)
    assert np.abs(clay[inside, :3] - film[inside]).max() <= 3


def test_a_linked_character_is_left_as_it_is(addon, take, tmp_path):
    """From a library, with a modifier; nothing of it may be changed, and it is clay all the same."""
    library = tmp_path / "body.blend"
    small_scene(frames=1).maquette.background = "SCENE"
    box = add_box("Linked", 1.0, (0, 0, 1))
    box.maquette.is_character = True
    colour(box, (0.8, 0.02, 0.02))
    box.modifiers.new("Subdivision", "SUBSURF")
    bpy.data.libraries.write(str(library), {box})
    bpy.data.objects.remove(box)
    with bpy.data.libraries.load(str(library), link=True) as (_, wanted):
        wanted.objects = ["Linked"]
    bpy.context.scene.collection.objects.link(wanted.objects[0])
    add_camera()
    bpy.context.view_layer.update()
    before = snapshot()
    shot = take()
    clay = decode(shot.clay.media[0], tmp_path)
    inside, _ = masks(shot)
    assert np.ptp(clay[28:36, 44:52], axis=-1).max() < 8 and inside.any()
    # Blender counts the library's material as used by this file from the first copy of the mesh on.
    found = {name: pair for name, pair in differences(before, snapshot()).items() if "is_library_indirect" not in name}
    assert found == {}


def test_models_that_use_no_clay_get_none(addon, dancer):
    capture, wants = module(addon, "scene.capture.shot"), module(addon, "scene.capture.wants")
    dancer.maquette.reference_source = "RENDER"
    seen = []
    shot = capture.capture_shot(
        bpy.context, wants=wants.Wants(False, True, False, clay=False), on_progress=lambda *step: seen.append(step)
    )
    assert shot.clay is None and shot.characters[0].reference.clay is None and seen[-1] == (5, 5)


@pytest.mark.parametrize("engine", ["WORKBENCH", "CYCLES"])
def test_the_scene_is_left_as_found(dancer, take, engine):
    if engine == "CYCLES":
        cycles(bpy.context.scene)
    dancer.hide_render = True
    dancer.maquette.reference_source = "RENDER"
    bpy.context.view_layer.update()
    before = snapshot()
    take()
    assert differences(before, snapshot()) == {}
