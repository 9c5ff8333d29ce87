"""The camera's matrices against Blender's own projection, and against a picture."""

from __future__ import annotations

import math

import bpy
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Matrix, Vector

from ..builders import add_camera, add_mesh, module, render_frame


@pytest.fixture
def camera_module(addon):
    return module(addon, "scene.camera.matrices")


def read(camera_module):
    bpy.context.view_layer.update()
    return camera_module.read_camera(bpy.context.scene, bpy.context.evaluated_depsgraph_get())


def pixels(view, points):
    camera = points @ view.viewmat[:3, :3].T + view.viewmat[:3, 3]
    image = camera @ view.K.T
    return image[:, :2] / image[:, 2:], camera[:, 2]


def randomise(rng, camera, render) -> None:
    lens = camera.data
    lens.lens = rng.uniform(12, 135)
    lens.sensor_width, lens.sensor_height = rng.uniform(12, 45, 2)
    lens.sensor_fit = str(rng.choice(["AUTO", "HORIZONTAL", "VERTICAL"]))
    lens.shift_x, lens.shift_y = rng.uniform(-0.5, 0.5, 2)
    render.resolution_x, render.resolution_y = (int(n) for n in rng.integers(64, 3841, 2))
    render.resolution_percentage = int(rng.choice([100, 50, 33, 75]))
    render.pixel_aspect_x, render.pixel_aspect_y = rng.choice([1.0, 1.0, 1.5, 2.0], 2)
    turn = Matrix.Rotation(rng.uniform(0, 2 * math.pi), 4, Vector(rng.normal(size=3)))
    scale = Matrix.Diagonal((*rng.uniform(0.3, 3, 3), 1))
    camera.matrix_world = Matrix.Translation(Vector(rng.uniform(-8, 8, 3))) @ turn @ scale


def test_200_random_cameras_match_blender(camera_module):
    """At most 0.01 px from calc_matrix_camera, which renders, and from world_to_camera_view, which add-ons use."""
    rng = np.random.default_rng(7)
    scene, camera = bpy.context.scene, add_camera()
    worst = [0.0, 0.0]
    for _ in range(200):
        randomise(rng, camera, scene.render)
        view = read(camera_module)
        local = np.column_stack([rng.uniform(-0.4, 0.4, (12, 2)), np.full(12, -1.0)]) * rng.uniform(2, 20, (12, 1))
        matrix = np.array(camera.matrix_world.normalized())
        points = local @ matrix[:3, :3].T + matrix[:3, 3]
        uv, depth = pixels(view, points)
        assert (depth > 0).all()

        size = np.array([view.width, view.height])
        projection = np.array(
            camera.calc_matrix_camera(
                bpy.context.evaluated_depsgraph_get(),
                x=view.width,
                y=view.height,
                scale_x=scene.render.pixel_aspect_x,
                scale_y=scene.render.pixel_aspect_y,
            )
        )
        clip = np.column_stack([local, np.ones(12)]) @ projection.T
        ndc = clip[:, :2] / clip[:, 3:]
        worst[0] = max(worst[0], np.abs((ndc * [0.5, -0.5] + 0.5) * size - uv).max())

        # view_frame does not know of the percentage's rounding: ask it at the size that is rendered.
        scene.render.resolution_x, scene.render.resolution_y = view.width, view.height
        scene.render.resolution_percentage = 100
        seen = np.array([world_to_camera_view(scene, camera, Vector(p)) for p in points])
        worst[1] = max(worst[1], np.abs(np.column_stack([seen[:, 0], 1 - seen[:, 1]]) * size - uv).max())
    print(f"worst of 200 cameras: {worst[0]:.5f} px and {worst[1]:.5f} px")
    assert max(worst) <= 0.01


@pytest.mark.parametrize(
    ("fit", "size", "percentage", "shift", "pixel"),
    [
        ("AUTO", (160, 120), 100, (0.0, 0.0), (1.0, 1.0)),
        ("AUTO", (91, 161), 100, (0.21, -0.13), (1.0, 1.0)),
        ("VERTICAL", (333, 247), 50, (-0.1, 0.17), (1.0, 1.0)),
        ("HORIZONTAL", (120, 160), 100, (0.1, 0.1), (1.5, 1.0)),
    ],
)
def test_a_rendered_ball_is_where_it_is_projected(camera_module, tmp_path, fit, size, percentage, shift, pixel):
    scene = bpy.context.scene
    camera = add_camera((2, -5, 2.5), (0.2, 0, 0.9))
    lens, render = camera.data, scene.render
    lens.lens, lens.sensor_fit, lens.shift_x, lens.shift_y = 40, fit, *shift
    render.resolution_x, render.resolution_y, render.resolution_percentage = *size, percentage
    render.pixel_aspect_x, render.pixel_aspect_y = pixel
    bpy.ops.mesh.primitive_uv_sphere_add(radius=0.08, location=(0.3, 0.1, 1.1), segments=24, ring_count=16)
    scene.display.render_aa = "16"
    scene.display.shading.light = "FLAT"
    scene.display.shading.color_type = "OBJECT"
    bpy.context.object.color = (1, 1, 1, 1)
    picture = render_frame(tmp_path / "ball.png", 1, "BLENDER_WORKBENCH").mean(axis=2)
    view = read(camera_module)
    assert picture.shape == (view.height, view.width)
    picture = picture - picture.min()
    v, u = np.indices(picture.shape) + 0.5
    centre = np.array([(u * picture).sum(), (v * picture).sum()]) / picture.sum()
    expected, _ = pixels(view, np.array([[0.3, 0.1, 1.1]]))
    np.testing.assert_allclose(centre, expected[0], atol=0.1)


def test_animated_lens_parent_and_constraint_are_read_where_they_are(addon, camera_module):
    scene, camera = bpy.context.scene, add_camera()
    carrier = bpy.data.objects.new("Carrier", None)
    scene.collection.objects.link(carrier)
    camera.parent = carrier
    target = bpy.data.objects.new("Target", None)
    scene.collection.objects.link(target)
    target.location = (3, 3, 3)
    follow = camera.constraints.new("TRACK_TO")
    follow.target = target
    for frame, lens, x in ((1, 35.0, 0.0), (11, 85.0, 4.0)):
        camera.data.lens = lens
        camera.data.keyframe_insert("lens", frame=frame)
        carrier.location.x = x
        carrier.keyframe_insert("location", frame=frame)
    scene.frame_set(6)
    view = read(camera_module)
    assert view.K[0, 0] == pytest.approx(camera.data.lens / 36 * 1920) and 40 < camera.data.lens < 80
    uv, _ = pixels(view, np.array([[3.0, 3.0, 3.0]]))
    np.testing.assert_allclose(uv[0], [960, 540], atol=1e-2)


def test_cameras_bound_to_markers_take_turns(addon):
    state = module(addon, "scene.stage")
    camera_module = module(addon, "scene.camera.matrices")
    scene = bpy.context.scene
    cameras = [add_camera((x, -5, 1), name=f"C{x}") for x in (0, 1)]
    for frame, camera in zip((1, 4), cameras, strict=True):
        scene.timeline_markers.new("m", frame=frame).camera = camera
    scene.frame_set(1)
    with state.scene_kept(scene, bpy.context.view_layer) as keeper:
        stage = state.open_stage(scene, bpy.context.view_layer, keeper.changes, list(scene.objects))
        names = [camera_module.read_camera(stage.scene, stage.at(frame)).name for frame in range(1, 7)]
    assert names == ["C0"] * 3 + ["C1"] * 3
    assert scene.camera.name == "C0"


def _shear(camera):
    parent = bpy.data.objects.new("Squash", None)
    bpy.context.scene.collection.objects.link(parent)
    parent.scale = (3, 1, 1)
    camera.parent = parent
    camera.rotation_euler = (1.2, 0, 0.7)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda c: setattr(c.data, "type", "ORTHO"), ("orthographic", "Perspective")),
        (lambda c: setattr(c.data, "type", "PANO"), ("panoramic", "Perspective")),
        (lambda c: setattr(c, "scale", (-1, 1, 1)), ("mirrored", "negative scale")),
        (lambda c: setattr(c, "scale", (0, 1, 1)), ("scaled to zero", "reset")),
        (lambda c: setattr(c, "location", (math.nan, 0, 0)), ("NaN", "check its keys")),
        (_shear, ("sheared", "apply the parent's scale")),
        (lambda c: setattr(bpy.context.scene, "camera", None), ("has none", "add a camera")),
        (lambda c: setattr(bpy.context.scene, "camera", add_mesh("Not", [(0, 0, 0)], [])), ("not a camera",)),
    ],
)
def test_what_cannot_be_a_camera_is_said(addon, camera_module, spoil, words):
    spoil(add_camera())
    error = module(addon, "backend.shot").ShotError
    with pytest.raises(error) as caught:
        read(camera_module)
    assert caught.value.field == "camera"
    for word in words:
        assert word in str(caught.value)
