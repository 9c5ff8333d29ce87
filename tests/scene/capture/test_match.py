"""Pictures that were matched: the reference's own pose and camera, whatever the shot's are."""

from __future__ import annotations

from types import ModuleType

import bpy
import numpy as np
import pytest

from ..builders import add_box, add_camera, module, small_scene, snapshot
from .test_media import decode

WIDTH, HEIGHT = 240, 320


@pytest.fixture
def body(addon: ModuleType) -> bpy.types.Object:
    """A body that walks away, turned and of another size, before a moving camera of another shape than its picture."""
    scene = small_scene(frames=3)
    add_camera((0, -8, 1))
    bpy.ops.maquette.add_body()
    rig = bpy.context.active_object
    rig.location, rig.scale = (0.3, 0.2, 0), (1.2, 1.2, 1.2)
    rig.rotation_euler.rotate_axis("Y", 0.4)
    bones = rig.pose.bones
    for frame, turn in ((1, 0.0), (3, 0.6)):
        bones["pelvis"].location.z = turn
        bones["pelvis"].keyframe_insert("location", frame=frame)
        bones["left_knee"].rotation_quaternion = (np.cos(turn), np.sin(turn), 0, 0)
        bones["left_knee"].keyframe_insert("rotation_quaternion", frame=frame)
    bones["head"].rotation_mode = "XYZ"
    bones["head"].rotation_euler.x = 0.2
    scene.frame_set(2)
    bones["pelvis"].location.x = 0.1  # Not keyed: the animator's own, to be left.
    bones["left_elbow"].rotation_quaternion = (0.9, 0.1, 0.3, 0)
    bpy.context.view_layer.update()
    mesh = next(child for child in rig.children if child.type == "MESH")
    mesh.maquette.reference_source = "IMAGE"
    image = bpy.data.images.new("Painted", WIDTH, HEIGHT)
    image.pixels.foreach_set(np.ones(WIDTH * HEIGHT * 4, dtype=np.float32))
    mesh.maquette.reference_image = image
    scene.maquette.points = 64
    return mesh


@pytest.fixture
def matching(addon: ModuleType) -> ModuleType:
    return module(addon, "backend.bodies.matching")


def pose(addon: ModuleType, matching: ModuleType, mesh: bpy.types.Object):
    """A match of some pose and shape, and the pixels (V,2) where the picture shows the body's vertices."""
    model = module(addon, "backend.bodies").load_body(mesh.maquette.body)
    figure = matching.Figure.of(model, 10)
    betas = np.zeros(10)
    betas[:2] = 0.6, -0.4
    guess = matching.first_guess(figure, betas, WIDTH, HEIGHT)
    poses = guess.poses + np.random.default_rng(3).normal(0, 0.2, guess.poses.shape)
    match = matching.Match(poses, guess.trans, betas, guess.focal, {"head": 2.0}, guess.tall)
    vertices = model.pose(betas, poses[None], match.trans[None]).vertices[0]
    pixels = vertices @ match.K(WIDTH, HEIGHT).T
    return match, pixels[:, :2] / pixels[:, 2:]


def test_a_matched_picture_shows_the_body_in_its_own_pose(addon, matching, body, tmp_path) -> None:
    kept = module(addon, "scene.capture.match")
    match, pixels = pose(addon, matching, body)
    add_box("Hat", 0.1, (0, 0, 3)).parent = body.parent
    bpy.context.view_layer.update()
    kept.keep(body.maquette.reference_match, body.maquette.reference_image, {"head": (120.0, 32.0)}, match)
    before = snapshot()
    wants = module(addon, "scene.capture.wants").Wants(keypoints=True, meshes_required=False)
    notices: list[str] = []
    shot = module(addon, "scene.capture.shot").capture_shot(bpy.context, wants=wants, notices=notices)
    assert snapshot() == before
    reference = shot.characters[0].reference
    camera = reference.vertices[: len(pixels)] @ reference.viewmat[:3, :3].T + reference.viewmat[:3, 3]
    seen = camera @ reference.K.T
    np.testing.assert_allclose(seen[:, :2] / seen[:, 2:], pixels, atol=0.05)
    assert reference.visibility.sum() > 10
    assert not any("lie centred" in notice for notice in notices)
    # Cut out: the middle of the body is there, the corners are not.
    alpha = decode(reference.image, tmp_path, 4)[..., 3]
    assert alpha[0, 0] == 0 and alpha[-1, -1] == 0
    inside = pixels[((pixels > 1) & (pixels < (WIDTH - 1, HEIGHT - 1))).all(axis=1)].astype(int)
    assert (alpha[inside[:, 1], inside[:, 0]] >= 128).mean() > 0.95
    assert 0.15 < (alpha > 0).mean() < 0.7


def test_a_draft_takes_the_matched_pose(addon, matching, body) -> None:
    kept = module(addon, "scene.capture.match")
    match, pixels = pose(addon, matching, body)
    kept.keep(body.maquette.reference_match, body.maquette.reference_image, {}, match)
    before = snapshot()
    steps = module(addon, "scene.screen.carry").take_looks(
        bpy.context.scene, [], module(addon, "scene.capture.pace").Pace()
    )
    try:
        while True:
            next(steps)
    except StopIteration as end:
        (dress,) = end.value
    assert snapshot() == before
    places = dress.pictures[0].places * (WIDTH, HEIGHT)
    np.testing.assert_allclose(places[:, 0], pixels[:, 0], atol=0.05)
    np.testing.assert_allclose(HEIGHT - places[:, 1], pixels[:, 1], atol=0.05)
    assert dress.pictures[0].share.max() > 0.9


def test_a_match_is_of_one_picture_and_one_body(addon, matching, body) -> None:
    kept = module(addon, "scene.capture.match")
    match, _ = pose(addon, matching, body)
    marks = body.maquette.reference_match
    kept.keep(marks, body.maquette.reference_image, {"nose": (24.0, 80.0)}, match)
    image = body.maquette.reference_image
    found = kept.match_of(marks, image)
    np.testing.assert_allclose(found.poses, match.poses)
    assert found.errors == match.errors and found.focal == match.focal
    assert kept.pins_of(marks, image) == {"nose": pytest.approx((24.0, 80.0), abs=1e-3)}
    assert kept.match_of(marks, bpy.data.images.new("Other", 8, 8)) is None
    marks.solution = marks.solution[:-9]
    assert kept.match_of(marks, image) is None
    error = module(addon, "backend.shot").ShotError
    with pytest.raises(error, match="match it again"):
        kept.body_of(add_box("Box", 1, (0, 0, 0)), match, "field")
    kept.forget(marks)
    assert kept.match_of(marks, image) is None and not marks.pins


def test_another_match_is_another_shot(addon, matching, body) -> None:
    """For the memory of what was captured, and for drafts."""
    kept, fingerprint = module(addon, "scene.capture.match"), module(addon, "scene.fingerprint")
    marks = body.maquette
    scene = bpy.context.scene

    def states():
        found = fingerprint.Printer().read(scene)
        return found.whole(), found.still

    match, _ = pose(addon, matching, body)
    found = [states()]
    for change in (
        lambda: kept.keep(marks.reference_match, marks.reference_image, {}, match),
        lambda: setattr(marks.reference_match, "margin", 0.1),
        lambda: kept.forget(marks.reference_match),
    ):
        change()
        found.append(states())
        assert found[-1][0] != found[-2][0] and found[-1][1] != found[-2][1]
