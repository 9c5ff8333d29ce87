"""A shot is known from before exactly as long as nothing that shows in it has changed."""

from __future__ import annotations

import os

import bpy
import pytest

from ..builders import add_box, add_camera, add_performer, module, small_scene
from .test_media import colour


@pytest.fixture
def memory(addon):
    return module(addon, "scene.capture.memory")


@pytest.fixture
def scene(addon, tmp_path):
    """A performer, a keyed camera, a set with a texture from a file, a light and a world."""
    scene = small_scene(frames=3)
    scene.maquette.background = "SCENE"
    dancer = add_performer(frames=(1, 3))
    dancer.shape_key_add(name="Basis")
    dancer.shape_key_add(name="Smile")
    camera = add_camera()
    for frame in (1, 3):
        camera.location.x = 0.1 * frame
        camera.keyframe_insert("location", frame=frame, index=0)
    colour(add_box("Box", 1.0, (-1, 2, 0.5)), (0.02, 0.8, 0.02))
    image = bpy.data.images.new("Paint", 4, 4)
    image.filepath_raw, image.file_format = str(tmp_path / "paint.png"), "PNG"
    image.save()
    material = bpy.data.materials[0]
    if material.node_tree is None:
        material.use_nodes = True
    tree = material.node_tree
    node = tree.nodes.new("ShaderNodeTexImage")
    node.image = bpy.data.images.load(str(tmp_path / "paint.png"))
    bpy.data.images.remove(image)
    light = bpy.data.objects.new("Sun", bpy.data.lights.new("Sun", "SUN"))
    scene.collection.objects.link(light)
    scene.world = bpy.data.worlds.new("World")
    bpy.context.view_layer.update()
    return scene


def objects(name):
    return bpy.data.objects[name]


def bend(_):
    bone = objects("Dancer Rig").pose.bones["high"]
    bone.rotation_euler.x = 0.3
    bone.keyframe_insert("rotation_euler", frame=2)


def drive(_):
    objects("Box").driver_add("location", 2).driver.expression = "frame / 10"


def add_modifier(_):
    objects("Box").modifiers.new("Bevel", "BEVEL")


def touch_file(_):
    path = bpy.path.abspath(next(i for i in bpy.data.images if i.filepath).filepath)
    os.utime(path, ns=(1, 1))


def paint(_):
    image = next(i for i in bpy.data.images if i.filepath)
    image.pixels[0] = 0.123


def move_key(_):
    camera = objects("Camera")
    bag = camera.animation_data.action
    curves = bag.fcurves if hasattr(bag, "fcurves") else bag.layers[0].strips[0].channelbags[0].fcurves
    curves[0].keyframe_points[1].co.y += 0.2


def link_other(scene):
    data = bpy.data.meshes.new("New")
    data.from_pydata([(0, 0, 0), (1, 0, 0), (0, 0, 1)], [], [(0, 1, 2)])
    scene.collection.objects.link(bpy.data.objects.new("New", data))


def add_constraint(_):
    objects("Sun").constraints.new("TRACK_TO").target = objects("Box")


def cut(scene):
    scene.timeline_markers.new("cut", frame=2).camera = objects("Camera")


def weigh(_):
    objects("Dancer").vertex_groups[0].add([3], 0.25, "REPLACE")


EDITS = {
    "a key": bend,
    "a key moved": move_key,
    "an object moved": lambda _: setattr(objects("Box"), "location", (0, 2, 1)),
    "a coordinate beside a keyed one": lambda _: setattr(objects("Camera").location, "z", 1.25),
    "a vertex": lambda _: setattr(objects("Box").data.vertices[0].co, "x", -0.9),
    "a weight": weigh,
    "a shape key's shape": lambda _: setattr(objects("Dancer").data.shape_keys.key_blocks[1].data[0].co, "x", 2.0),
    "a shape key's value": lambda _: setattr(objects("Dancer").data.shape_keys.key_blocks[1], "value", 0.5),
    "a driver": drive,
    "a constraint": add_constraint,
    "a modifier": add_modifier,
    "a modifier's value": lambda _: setattr(objects("Box").modifiers[0], "width", 0.2),
    "a material's colour": lambda _: setattr(bpy.data.materials[0], "diffuse_color", (1, 0, 0, 1)),
    "a node's value": lambda _: setattr(bpy.data.materials[0].node_tree.nodes[-1], "interpolation", "Closest"),
    "a picture's pixels": paint,
    "a picture's file": touch_file,
    "a light": lambda _: setattr(objects("Sun").data, "energy", 5.0),
    "the world": lambda scene: setattr(scene.world, "color", (0.2, 0.3, 0.4)),
    "a lens": lambda _: setattr(objects("Camera").data, "lens", 35.0),
    "something new": link_other,
    "something off in renders": lambda _: setattr(objects("Box"), "hide_render", True),
    "a cut": cut,
    "the frame range": lambda scene: setattr(scene, "frame_end", 4),
    "the frame step": lambda scene: setattr(scene, "frame_step", 2),
    "the rate": lambda scene: setattr(scene.render, "fps", 25),
    "the size": lambda scene: setattr(scene.render, "resolution_x", 100),
    "the view transform": lambda scene: setattr(scene.view_settings, "exposure", 1.0),
    "points": lambda scene: setattr(scene.maquette, "points", 65),
    "the background": lambda scene: setattr(scene.maquette, "background", "NONE"),
    "what renders": lambda scene: setattr(scene.maquette, "render_engine", "SCENE"),
    "looks": lambda _: setattr(objects("Dancer").maquette, "reference_frame", 2),
    "another character": lambda _: setattr(objects("Box").maquette, "is_character", True),
    "a custom property": lambda _: objects("Box").__setitem__("size", 2.0),
    "a collection": lambda scene: scene.collection.children.link(bpy.data.collections.new("More")),
    "another model's size": lambda scene: setattr(scene.maquette, "model", "mtvcrafter-17b"),
}


def key(addon, scene, wants):
    """The scene's key, of a fresh reading."""
    found = module(addon, "scene.fingerprint").Printer().read(scene)
    return module(addon, "scene.capture.memory").key_of(found, scene, wants)


def test_every_edit_is_seen(addon, memory, scene):
    wants = module(addon, "scene.capture.wants").Wants()
    before = key(addon, scene, wants)
    assert before is not None and key(addon, scene, wants) == before
    for words, edit in EDITS.items():
        edit(scene)
        bpy.context.view_layer.update()
        after = key(addon, scene, wants)
        assert after is not None, words
        assert after != before, words
        before = after
    assert key(addon, scene, module(addon, "scene.capture.wants").Wants(clay=False)) != before


def test_what_does_not_show_is_not(addon, memory, scene):
    """Settings of the model, and what the animator looks at."""
    wants = module(addon, "scene.capture.wants").Wants()
    before = key(addon, scene, wants)
    options = scene.maquette
    options.seed, options.prompt, options.steps, options.guidance, options.quality = 7, "a dance", 5, 2.0, "fine"
    for frame in (2, 3, 7):
        scene.frame_set(frame)
        assert key(addon, scene, wants) == before, frame
    for obj in scene.objects:
        obj.select_set(not obj.select_get())
    bpy.context.view_layer.objects.active = objects("Dancer Rig")
    bpy.ops.object.mode_set(mode="POSE")
    bpy.context.view_layer.update()
    assert key(addon, scene, wants) == before
    options.results.add()
    screen = add_box("Screen", 1.0, (0, 0, 0))
    screen["maquette_result"] = "film"
    bpy.context.view_layer.update()
    assert key(addon, scene, wants) == before


@pytest.mark.parametrize("how", ["script", "listener", "simulation", "sequence", "edit mode"])
def test_in_doubt_nothing_is_known(addon, memory, scene, how):
    box = objects("Box")

    def listen(*_):
        pass

    if how == "script":
        box.driver_add("location", 0).driver.expression = "len(bpy.data.objects) * frame"
    elif how == "listener":
        bpy.app.handlers.frame_change_post.append(listen)
    elif how == "simulation":
        box.modifiers.new("Cloth", "CLOTH")
    elif how == "sequence":
        next(i for i in bpy.data.images if i.filepath).source = "SEQUENCE"
    else:
        bpy.context.view_layer.objects.active = box
        bpy.ops.object.mode_set(mode="EDIT")
    try:
        assert key(addon, scene, module(addon, "scene.capture.wants").Wants()) is None
    finally:
        if how == "listener":
            bpy.app.handlers.frame_change_post.remove(listen)


def take(addon, scene):
    """A shot by the way of a job, and the steps that it took."""
    capturing, pace = module(addon, "scene.job.capturing"), module(addon, "scene.capture.pace")
    wants = module(addon, "scene.capture.wants").Wants(keypoints=False)
    notices = []
    steps = capturing.captured(scene, wants, notices, pace.Pace())
    count = 0
    while True:
        try:
            next(steps)
            count += 1
        except StopIteration as end:
            return end.value, count, notices


def shown(shot):
    """What a shot shows, as plain values."""
    pictures = [*shot.background.media, *shot.clay.media, *(person.reference.image for person in shot.characters)]
    arrays = [shot.clip.viewmats, shot.clip.Ks]
    for person in shot.characters:
        arrays += [person.points, person.rest_points, person.visibility, person.reference.points]
    arrays += [mesh.vertices for mesh in shot.meshes]
    return [picture.data for picture in pictures], [array.tobytes() for array in arrays]


def test_another_seed_captures_nothing_and_an_edit_all(addon, memory, scene):
    memory.forget()
    first, count, notices = take(addon, scene)
    assert count > 6
    scene.maquette.seed, scene.maquette.prompt = 42, "a dance"
    scene.frame_set(2)
    again, count, told = take(addon, scene)
    assert count == 0 and told == notices and shown(first) == shown(again)
    assert (again.settings.seed, again.prompt, first.settings.seed) == (42, "a dance", 0)
    objects("Box").location.x = 1.0
    edited, count, _ = take(addon, scene)
    assert count > 6 and shown(first) != shown(edited)
    memory.forget()
    assert shown(edited) == shown(take(addon, scene)[0])


def test_pictures_that_hold_are_not_taken_again(addon, memory, scene, monkeypatch):
    render = module(addon, "scene.capture.render")
    taken, plain = [], render.render

    def watched(stage, folder, field):
        taken.append((field.rpartition(".")[2], stage.scene.frame_current))
        return plain(stage, folder, field)

    bone = objects("Dancer Rig").pose.bones["high"]
    for frame in (1, 2, 3):
        bone.keyframe_insert("rotation_euler", frame=frame)
    memory.forget()
    take(addon, scene)
    monkeypatch.setattr(render, "render", watched)
    bone.rotation_euler.x = 0.7
    bone.keyframe_insert("rotation_euler", frame=3)
    edited, _, _ = take(addon, scene)
    assert taken == [("clay", 3)], "the set, the looks at frame 1 and the other frames are as they were"
    memory.forget()
    assert shown(edited) == shown(take(addon, scene)[0])
    taken.clear()
    objects("Box").location.z += 0.2
    take(addon, scene)
    assert {field for field, _ in taken} == {"background", "clay"}, "the looks show no box"


def test_a_change_in_the_middle_is_not_kept(addon, memory, scene):
    capturing, pace = module(addon, "scene.job.capturing"), module(addon, "scene.capture.pace")
    memory.forget()
    steps = capturing.captured(scene, module(addon, "scene.capture.wants").Wants(), [], pace.Pace())
    next(steps)
    box = objects("Box")
    box.location.x += 1
    bpy.context.view_layer.update()
    next(steps)
    box.location.x -= 1
    for _ in steps:
        pass
    assert take(addon, scene)[1] > 0


def test_shapes_that_blender_tells_of_are_believed_changed(addon, memory, scene):
    take(addon, scene)
    objects("Box").data.update_tag()
    bpy.context.view_layer.update()
    assert take(addon, scene)[1] > 0
