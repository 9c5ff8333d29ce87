"""Which frames an edit outdates, found without evaluating any."""

from __future__ import annotations

import bpy
import pytest

from .builders import add_camera, module, small_scene

FRAMES = range(1, 21)


@pytest.fixture
def scene(addon):
    """A cube that slides from frame 1 to 20, keyed every fifth frame, and a camera."""
    scene = small_scene(frames=20)
    bpy.ops.mesh.primitive_cube_add()
    cube = bpy.context.object
    cube.name = "Slider"
    for frame in (1, 5, 10, 15, 20):
        cube.location.x = frame
        cube.keyframe_insert("location", frame=frame)
    bpy.ops.object.light_add(type="SUN")
    add_camera()
    return scene


class Watch:
    """A printer that hears of changes as the add-on's does."""

    def __init__(self, fingerprint, scene):
        self.printer, self.scene = fingerprint.Printer(), scene
        bpy.app.handlers.depsgraph_update_post.append(self.hear)
        self.taken = self.printer.read(scene).at(FRAMES)

    def hear(self, _scene, depsgraph):
        self.printer.changed([update.id for update in depsgraph.updates])

    def outdated(self):
        bpy.context.view_layer.update()
        same = self.taken.current(self.printer.read(self.scene))
        return [frame for frame, holds in zip(FRAMES, same, strict=True) if not holds]


@pytest.fixture
def watch(addon, scene):
    made = Watch(module(addon, "scene.fingerprint"), scene)
    yield made
    bpy.app.handlers.depsgraph_update_post.remove(made.hear)


def test_nothing_is_outdated_by_looking_at_other_frames(scene, watch):
    for frame in (7, 20, 1):
        scene.frame_set(frame)
        assert watch.outdated() == []


def test_a_key_outdates_the_frames_up_to_its_neighbours(scene, watch):
    cube = bpy.data.objects["Slider"]
    scene.frame_set(10)
    cube.location.z = 3
    cube.keyframe_insert("location", frame=10)
    assert watch.outdated() == list(range(6, 15))
    cube.location.z = 0
    cube.keyframe_insert("location", frame=10)
    assert watch.outdated() == [], "put back as it was"


def test_a_pose_that_is_not_keyed_changes_no_frame(watch):
    bpy.data.objects["Slider"].location.x = 9
    assert watch.outdated() == []


def _scale(scene):
    bpy.data.objects["Slider"].scale.x = 2


def _mesh(scene):
    mesh = bpy.data.objects["Slider"].data
    mesh.vertices[0].co.x += 0.5
    mesh.update()


def _colour(scene):
    mesh = bpy.data.objects["Slider"].data
    material = bpy.data.materials.new("Red")
    mesh.materials.append(material)


def _light(scene):
    bpy.data.objects["Sun"].data.energy = 3


def _lens(scene):
    scene.camera.data.lens = 85


def _looks(scene):
    bpy.data.objects["Slider"].maquette.reference_frame = 7


def _size(scene):
    scene.render.resolution_x = 77


def _gone(scene):
    bpy.data.objects.remove(bpy.data.objects["Slider"])


@pytest.mark.parametrize("change", [_scale, _mesh, _colour, _light, _lens, _looks, _size, _gone])
def test_what_does_not_move_outdates_all_frames(scene, watch, change):
    change(scene)
    assert watch.outdated() == list(FRAMES)


def test_only_the_datablocks_that_matter_count(addon, scene, watch):
    cube = bpy.data.objects["Slider"]
    found = watch.printer.read(scene)
    watch.taken = found.at(FRAMES, found.reach([cube]))
    _light(scene)
    assert watch.outdated() == []
    _scale(scene)
    assert watch.outdated() == list(FRAMES)
