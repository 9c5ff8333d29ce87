"""Spots that the animator picked, and which parts of the scene a model wants."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from ..builders import add_box, add_mesh, module

pytestmark = pytest.mark.usefixtures("addon")


def pick(obj, vertex=-1, name=""):
    entry = bpy.context.scene.maquette.tracks.add()
    entry.object, entry.vertex, entry.name = obj, vertex, name
    return entry


def captured(addon, notices=None):
    wants = module(addon, "scene.capture.wants").Wants(keypoints=False, meshes=False, tracks=True)
    return module(addon, "scene.capture.shot").capture_shot(bpy.context, wants=wants, notices=notices).tracks


def empty(location, name="Spot"):
    obj = bpy.data.objects.new(name, None)
    obj.location = location
    bpy.context.scene.collection.objects.link(obj)
    bpy.context.view_layer.update()
    return obj


def test_an_empty_and_a_vertex_are_followed(addon, scene):
    spot = empty((1, 0, 1))
    for frame, x in ((1, 1.0), (3, 1.4)):
        spot.location.x = x
        spot.keyframe_insert("location", frame=frame)
    box = add_box("Box", 0.5, (-1, 0, 1))
    box.rotation_euler.z = 0.4
    pick(spot)
    pick(box, 2)
    tracks = captured(addon)
    assert [track.name for track in tracks] == ["Spot", "Box 2"]
    np.testing.assert_allclose(tracks[0].points[:, 0], [1, 1.2, 1.4], atol=1e-5)
    bpy.context.view_layer.update()
    corner = np.array(box.matrix_world @ box.data.vertices[2].co)
    np.testing.assert_allclose(tracks[1].points, [corner] * 3, atol=1e-5)
    assert tracks[0].visibility.all() and tracks[0].visibility.dtype == bool


def test_a_vertex_of_a_character_bends_with_it(addon, scene):
    mesh = scene.objects["Dancer"]
    top = int(np.argmax([v.co.z for v in mesh.data.vertices]))
    pick(mesh, top)
    (track,) = captured(addon)
    assert np.ptp(track.points, axis=0).max() > 0.3


def test_what_hides_a_track(addon, scene):
    """Its own object does not hide an origin; a wall does, and the own front hides a vertex at the back."""
    box = add_box("Box", 0.5, (1, 0, 1))
    places = np.array([v.co for v in box.data.vertices])
    # The corner that is farthest to the right, low and behind: the box is seen from the left and from its middle.
    back = int(np.argmax(places @ (1, 1, -0.1)))
    front = int(np.argmin(places[:, 1]))
    pick(box, -1, "origin")
    pick(box, back, "back")
    pick(box, front, "front")
    pick(empty((0, 0, 40)), -1, "outside")
    seen = {track.name: track.visibility.all() for track in captured(addon)}
    assert seen == {"origin": True, "back": False, "front": True, "outside": False}
    add_mesh("Wall", [(-3, -2, -1), (3, -2, -1), (3, -2, 4), (-3, -2, 4)], [(0, 1, 2, 3)])
    assert not any(track.visibility.any() for track in captured(addon))


def test_an_empty_just_under_the_skin_is_seen(addon, scene):
    pick(empty((0, -0.28, 0.3)))
    pick(empty((0, 0.28, 0.3)), -1, "behind")
    seen = {track.name: track.visibility.all() for track in captured(addon)}
    assert seen == {"Spot": True, "behind": False}


def test_an_object_that_does_not_render_carries_a_track_and_hides_nothing(addon, scene):
    """In a collection that is off in renders; the wall before it is not in the picture either."""
    group = bpy.data.collections.new("Off")
    scene.collection.children.link(group)
    group.hide_render = True
    wall = add_mesh("Wall", [(-3, -2, -1), (3, -2, -1), (3, -2, 4), (-3, -2, 4)], [(0, 1, 2, 3)])
    scene.collection.objects.unlink(wall)
    group.objects.link(wall)
    pick(wall, 0)
    pick(empty((1, 0, 1)))
    tracks = captured(addon)
    np.testing.assert_allclose(tracks[0].points[0], (-3, -2, -1), atol=1e-6)
    assert tracks[1].visibility.all()


def test_equal_names_are_told_apart(addon, scene):
    spot = empty((1, 0, 1))
    for _ in range(3):
        pick(spot, -1, "lead")
    assert [track.name for track in captured(addon)] == ["lead", "lead 2", "lead 3"]


def test_what_cannot_be_tracked_is_refused_by_name(addon, scene):
    error = module(addon, "backend.shot").ShotError
    box = add_box("Box", 0.5, (1, 0, 1))
    entry = pick(box, 8, "corner")
    with pytest.raises(error, match=r"tracks\.corner: 'Box' has 8 vertices.*pick another vertex"):
        captured(addon)
    entry.object = None
    with pytest.raises(error, match=r"tracks\.corner: has no object any more"):
        captured(addon)
    entry.object, entry.vertex = empty((1, 0, 1)), 0
    with pytest.raises(error, match="has 0 vertices"):
        captured(addon)


def test_models_say_what_they_want(addon, scene, tmp_path, monkeypatch):
    wants = module(addon, "scene.capture.wants")
    assert wants.preset_wants("nobody knows it") == wants.Wants(True, True, True, True, True)
    assert wants.preset_wants("isa-nano") == wants.Wants(False, True, False, True, meshes_required=False)
    assert wants.wants_of({"meshes": "required"}) == wants.Wants(False, True, False, False)
    inputs = '[inputs]\nkeypoints = "required"\nmeshes = "ignored"\ntracks = "optional"\n'
    head = "".join(f'{key} = "x"\n' for key in ("description", "license", "engine"))
    defaults = "[limits]\n[defaults]\nsteps = 1\nguidance = 1\nwidth = 64\nheight = 64\nframes = 1\n"
    (tmp_path / "mine.toml").write_text(head + inputs + defaults)
    (tmp_path / "broken.toml").write_text("[inputs\n")
    monkeypatch.setattr(module(addon, "backend.catalogue.models"), "PRESETS", tmp_path)
    assert wants.preset_wants("mine") == wants.Wants(True, False, True, False, False)
    assert wants.preset_wants("broken") == wants.Wants()
    assert wants.wants_of({"meshes": "optional"}, {"scale": 0.5}).options == {"scale": 0.5}


def test_only_what_is_wanted_is_captured(addon, scene):
    wants = module(addon, "scene.capture.wants").Wants
    capture = module(addon, "scene.capture.shot").capture_shot
    pick(empty((1, 0, 1)))
    scene.maquette.model = "mtvcrafter-7b"
    shot = capture(bpy.context)
    assert (shot.tracks, shot.meshes, shot.settings.options, shot.clay) == ((), (), {}, None)
    shot = capture(bpy.context, wants=wants(False, True, True, True, options={"scale": 0.5}))
    assert len(shot.tracks) == 1 and len(shot.meshes) == 1 and shot.settings.options == {"scale": 0.5}
    assert len(shot.clay.media) == 3
