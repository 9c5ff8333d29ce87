"""References: the mesh at their moment, several of one character, and pictures that are of no use."""

from __future__ import annotations

import math

import bpy
import numpy as np
import pytest

from ..builders import add_box, add_camera, add_performer, aim, module, small_scene
from .test_geometry import world
from .test_media import decode


@pytest.fixture
def dancer(addon):
    """Bends over three frames while the camera goes half around it."""
    scene = small_scene(frames=3)
    mesh = add_performer(frames=(1, 3))
    mesh.maquette.reference_source = "RENDER"
    camera = add_camera()
    for frame, angle in ((1, 0.0), (2, math.pi / 2), (3, math.pi)):
        aim(camera, (6 * math.sin(angle), -6 * math.cos(angle), 1), (0, 0, 1))
        camera.keyframe_insert("location", frame=frame)
        camera.keyframe_insert("rotation_euler", frame=frame)
    scene.maquette.points = 256
    return mesh


@pytest.fixture
def capture(addon):
    usual = module(addon, "scene.capture.wants").Wants(keypoints=False, meshes_required=False)
    capture = module(addon, "scene.capture.shot").capture_shot
    return lambda wants=usual, **more: capture(bpy.context, wants=wants, **more)


@pytest.fixture
def shots(addon):
    return module(addon, "backend.shot")


def further(obj, name, frame, source="RENDER"):
    entry = obj.maquette.references.add()
    entry.name, entry.frame, entry.source = name, frame, source
    return entry


def own(shot, character=0):
    """(T,V,3) the character's meshes of the shot, one after another."""
    frames = shot.clip.frames
    parts = [np.repeat(m.vertices, frames // len(m.vertices), 0) for m in shot.meshes if m.character == character]
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("source", ["RENDER", "IMAGE"])
def test_a_reference_knows_the_meshes_at_its_moment(dancer, capture, shots, source):
    """The body, a bending coat and a hat that is turned, in the order of the shot, at the reference's own frame."""
    hat = add_box("Hat", 0.4, (0, 0, 2.2))
    hat.parent = dancer.parent
    hat.rotation_euler.z = 0.3
    coat = add_performer("Coat")
    coat.maquette.is_character = False
    coat.modifiers[0].object = dancer.parent
    coat.parent = None
    add_box("Set", 0.5, (2, 2, 1))
    other = add_box("Other", 0.5, (-1, 0, 1))
    other.maquette.is_character, other.maquette.reference_frame = True, 1
    bpy.context.view_layer.update()
    marks = dancer.maquette
    marks.reference_source, marks.reference_frame = source, 3
    marks.reference_image = bpy.data.images.new("Painted", 96, 64)
    shot = capture()
    assert {m.name for m in shot.meshes if m.character == 0} == {"Dancer", "Hat", "Coat"}
    reference = shot.characters[0].reference
    assert reference.vertices.dtype == np.float32
    np.testing.assert_allclose(reference.vertices, own(shot)[2], atol=1e-6)
    assert np.abs(reference.vertices - own(shot)[0]).max() > 0.3
    assert (reference.clay is None) == (source == "IMAGE")
    np.testing.assert_allclose(shot.characters[1].reference.vertices, world(other), atol=1e-6)
    shots.validate(shot)


def test_at_a_frame_outside_the_shot_too(dancer, capture):
    bpy.context.scene.frame_end = 2
    dancer.maquette.reference_frame = 3
    short = capture().characters[0].reference
    bpy.context.scene.frame_end = 3
    np.testing.assert_allclose(short.vertices, own(capture())[2], atol=1e-6)


def test_a_part_that_is_not_there_at_the_reference_leaves_it_unknown(dancer, capture):
    hat = add_box("Hat", 0.4, (0, 0, 2.2))
    hat.parent = dancer.parent
    for frame, hidden in ((1, False), (9, True)):
        hat.hide_render = hidden
        hat.keyframe_insert("hide_render", frame=frame)
    dancer.maquette.reference_frame = 9
    notices = []
    shot = capture(notices=notices)
    assert shot.characters[0].reference.vertices is None and len(shot.meshes) == 2
    assert any("what it wears is not the same at its reference frame 9" in note for note in notices)


def test_a_body_that_is_too_heavy_is_still_known_by_its_parameters(addon, capture, monkeypatch):
    small_scene(frames=2)
    bpy.ops.maquette.add_body()
    add_camera((0, -4, 1))
    body = next(o for o in bpy.context.scene.objects if o.type == "MESH")
    monkeypatch.setattr(module(addon, "scene.capture.geometry"), "MAX_POSITIONS", 1000)
    wants = module(addon, "scene.capture.wants").Wants(keypoints=False, meshes_required=False, clay=False)
    shot = capture(wants=wants)
    character = shot.characters[0]
    assert shot.meshes == () and character.body is not None
    np.testing.assert_allclose(character.reference.vertices, world(body), atol=1e-5)
    body.parent.pose.bones["spine2"].scale.y = 1.5  # As no body parameters can say.
    character = capture(wants=wants).characters[0]
    assert character.body is None and character.reference.vertices is None


def test_several_references_each_at_its_own_frame(dancer, capture, shots, tmp_path):
    """From the front, the side and behind; they come back from the file as they went in."""
    further(dancer, "Side", 2)
    further(dancer, "Back", 3)
    notices = []
    shot = capture(notices=notices)
    character = shot.characters[0]
    assert len(character.further_references) == 2 and not any("reference" in note for note in notices)
    for frame, reference in enumerate(character.references):
        np.testing.assert_array_equal(reference.viewmat, shot.clip.viewmats[frame])
        np.testing.assert_allclose(reference.vertices, own(shot)[frame], atol=1e-6)
        assert decode(reference.image, tmp_path).shape == decode(reference.clay, tmp_path).shape
    front, _, back = (reference.visibility for reference in character.references)
    assert (front & back).mean() < 0.1 < 0.8 < (front | back).mean()
    shots.save_shot(shot, tmp_path / "it.shot")
    again = shots.load_shot(tmp_path / "it.shot").characters[0]
    assert [r.image.data for r in again.references] == [r.image.data for r in character.references]
    assert [r.clay.data for r in again.references] == [r.clay.data for r in character.references]


def test_a_further_reference_that_adds_nothing_is_told(dancer, capture):
    further(dancer, "Again", 1)
    notices = []
    shot = capture(notices=notices)
    assert len(shot.characters[0].further_references) == 1
    assert any("reference 'Again' at frame 1 adds nothing" in note for note in notices)


def test_a_nearer_look_at_the_same_side_is_of_use(dancer, capture):
    camera = bpy.context.scene.camera
    aim(camera, (0, -3, 1.5), (0, 0, 1.5))
    for path in ("location", "rotation_euler"):
        camera.keyframe_insert(path, frame=8)
    further(dancer, "Face", 8)
    notices = []
    capture(notices=notices)
    assert not any("adds nothing" in note for note in notices)


def _away(dancer, frame):
    rig = dancer.parent
    for at, x in ((3, 0.0), (frame, 60.0)):
        rig.location.x = x
        rig.keyframe_insert("location", frame=at)


def test_a_further_render_without_the_character_is_left_out(dancer, capture):
    _away(dancer, 40)
    further(dancer, "Gone", 40)
    further(dancer, "Back", 3)
    notices = []
    shot = capture(notices=notices)
    assert len(shot.characters[0].further_references) == 1
    assert any("not in the picture at frame 40 of its reference 'Gone'" in note for note in notices)


def test_further_pictures_that_are_none_are_named(dancer, capture, shots):
    entry = further(dancer, "Back", 3, "IMAGE")
    with pytest.raises(
        shots.ShotError, match=r"Dancer\.further_references.*reference 'Back' has no picture"
    ):
        capture()
    entry.image = bpy.data.images.new("Painted", 96, 64)
    _away(dancer, 40)
    entry.frame = 40
    with pytest.raises(shots.ShotError, match="does not see 'Dancer' at frame 40 of its reference 'Back'"):
        capture()


def test_a_picture_that_leaves_the_character_out_is_told(dancer, capture):
    """The render is wide, the picture tall: what it holds is the render's middle, and the dancer is at its side."""
    dancer.parent.location.x = 2.0
    marks = dancer.maquette
    marks.reference_source, marks.reference_image = "IMAGE", bpy.data.images.new("Tall", 20, 200)
    notices = []
    shot = capture(notices=notices)
    assert shot.characters[0].reference is not None
    assert any("leaves out the part of the render where the camera sees it at frame 1" in note for note in notices)


def test_models_that_use_neither_surfaces_nor_clay_are_sent_none(addon, dancer, capture, shots, tmp_path):
    """A comparison captures once; each model's file holds what that one uses."""
    save, models = module(addon, "scene.job.shots").save, module(addon, "scene.job.models")
    further(dancer, "Back", 3)
    plain = models.Model("plain", "Plain", inputs={"reference": "required"})
    whole = models.Model("whole", "Whole", inputs={"reference": "optional", "meshes": "optional", "clay": "optional"})
    shot = capture()
    scene = bpy.context.scene
    scene.maquette.model = "whole"
    parts = save(shot, scene, [whole, plain], tmp_path / "take.shot")
    first, second = (shots.load_shot(part.shot) for part in parts)
    assert first.clay is not None and all(r.clay and r.vertices is not None for r in first.characters[0].references)
    assert second.clay is None and second.meshes == () and len(second.characters[0].references) == 2
    assert all(r.clay is None and r.vertices is None for r in second.characters[0].references)


def test_the_quality_goes_into_the_shot(dancer, capture):
    options = bpy.context.scene.maquette
    assert capture().settings.quality == "standard" and options.points == 256
    options.quality = "draft"
    assert capture().settings.quality == "draft"
