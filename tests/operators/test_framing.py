"""The lens that joint-driven models know, and how a shot is framed for them, by Blender's own projection."""

from __future__ import annotations

import importlib
import math
from types import ModuleType

import bpy
import pytest


def _angles(scene: bpy.types.Scene, camera: bpy.types.Object) -> tuple[float, float]:
    """Degrees over width and height of the picture, measured by Blender's own projection."""
    frame = camera.data.view_frame(scene=scene)
    depth = -frame[0].z
    wide = max(corner.x for corner in frame) - min(corner.x for corner in frame)
    tall = max(corner.y for corner in frame) - min(corner.y for corner in frame)
    return math.degrees(2 * math.atan(wide / 2 / depth)), math.degrees(2 * math.atan(tall / 2 / depth))


@pytest.fixture
def framed(addon: ModuleType) -> bpy.types.Scene:
    """A body that turns on the spot, and a still camera before it."""
    scene = bpy.context.scene
    bpy.ops.maquette.add_body()
    scene.frame_start, scene.frame_end = 1, 6
    scene.render.resolution_x, scene.render.resolution_y = 640, 480
    bpy.ops.object.camera_add(location=(0, -5, 1), rotation=(math.pi / 2, 0, 0))
    scene.camera = bpy.context.object
    return scene


@pytest.mark.parametrize("fit", ["AUTO", "HORIZONTAL", "VERTICAL"])
@pytest.mark.parametrize(("size", "pixel"), [((640, 480), 1.0), ((480, 640), 1.0), ((500, 500), 1.6)])
def test_the_larger_side_spans_55_degrees(framed, fit: str, size: tuple[int, int], pixel: float) -> None:
    lens = framed.camera.data
    lens.sensor_fit, lens.sensor_width, lens.sensor_height = fit, 30.0, 20.0
    framed.render.resolution_x, framed.render.resolution_y = size
    framed.render.pixel_aspect_x = pixel
    assert bpy.ops.maquette.frame_55() == {"FINISHED"}
    assert max(_angles(framed, framed.camera)) == pytest.approx(55.0, abs=0.01)


def test_keep_framing_moves_a_still_camera(framed) -> None:
    camera = framed.camera
    camera.data.lens = 80
    bpy.context.view_layer.update()
    before = _pelvis_size(framed)
    assert bpy.ops.maquette.frame_55(keep_framing=True) == {"FINISHED"}
    bpy.context.view_layer.update()
    assert _pelvis_size(framed) == pytest.approx(before, rel=1e-3)
    assert camera.location.x == pytest.approx(0, abs=1e-5) and -5 < camera.location.y < -1


def _pelvis_size(scene: bpy.types.Scene) -> float:
    """Pixels that a metre takes at the character's middle."""
    camera = scene.camera
    depth = -(camera.matrix_world.inverted() @ bpy.data.objects["Body"].matrix_world.translation).z
    return camera.data.lens / depth


def test_keep_framing_moves_every_key_of_a_move(framed) -> None:
    bpy.ops.maquette.add_camera_move(move="PUSH_IN")
    camera, sizes = framed.camera, []
    framed.frame_set(3)
    before = camera.location.copy()
    for frame in (1, 3, 6):
        framed.frame_set(frame)
        sizes.append(_pelvis_size(framed))
    # A preset keys the lens as well; where it does not zoom, its keys follow.
    assert bpy.ops.maquette.frame_55(keep_framing=True) == {"FINISHED"}
    for frame, size in zip((1, 3, 6), sizes, strict=True):
        framed.frame_set(frame)
        assert max(_angles(framed, camera)) == pytest.approx(55.0, abs=0.01)
        assert _pelvis_size(framed) == pytest.approx(size, rel=0.02)
    framed.frame_set(3)
    assert (camera.location - before).length > 0.1


def test_a_zoom_is_given_up_only_when_asked(framed) -> None:
    lens = framed.camera.data
    for frame, value in ((1, 30.0), (6, 60.0)):
        lens.lens = value
        lens.keyframe_insert("lens", frame=frame)
    with pytest.raises(RuntimeError, match="zooms from 30 to 60 mm; turn on Replace Zoom"):
        bpy.ops.maquette.frame_55()
    framed.frame_set(6)
    assert lens.lens == pytest.approx(60)
    assert bpy.ops.maquette.frame_55(replace_zoom=True) == {"FINISHED"}
    for frame in (1, 4, 6):
        framed.frame_set(frame)
        assert max(_angles(framed, framed.camera)) == pytest.approx(55.0, abs=0.01)


def _drive_lens(camera: bpy.types.Object) -> None:
    camera.data.driver_add("lens").driver.expression = "40"


def _drive_place(camera: bpy.types.Object) -> None:
    camera.driver_add("location", 1).driver.expression = "-4"


def _uneven_keys(camera: bpy.types.Object) -> None:
    camera.keyframe_insert("location", index=0, frame=1)


@pytest.mark.parametrize(
    ("change", "keep", "words"),
    [
        (_drive_lens, False, "is driven; delete the driver"),
        (_drive_place, True, "is driven; move it yourself"),
        (_uneven_keys, True, "not keyed on all three axes"),
        (lambda camera: camera.constraints.new("TRACK_TO"), True, "follows a parent or a constraint"),
        (lambda camera: setattr(camera.data, "type", "ORTHO"), False, "set its lens type to Perspective"),
    ],
)
def test_what_cannot_be_set_is_said_and_left(framed, change, keep: bool, words: str) -> None:
    change(framed.camera)
    bpy.context.view_layer.update()  # a driver drives from now on
    before = framed.camera.data.lens, framed.camera.location.copy()
    with pytest.raises(RuntimeError, match=words):
        bpy.ops.maquette.frame_55(keep_framing=keep)
    assert (framed.camera.data.lens, framed.camera.location.copy()) == before


def test_without_a_camera_there_is_nothing_to_set(framed) -> None:
    framed.camera = None
    assert not bpy.ops.maquette.frame_55.poll()


def test_check_framing(framed, addon: ModuleType) -> None:
    view = bpy.context.window_manager.maquette
    readiness = importlib.import_module(f"{addon.__name__}.scene.job.readiness")
    framed.camera.data.lens = 200
    assert bpy.ops.maquette.check_framing() == {"FINISHED"}
    said = [line.message for line in view.framing]
    assert any("the model knows 55" in line for line in said) and any("outside the picture" in line for line in said)
    assert all(line.level == "WARNING" for line in view.framing) and view.framed_scene == framed.name
    readiness.publish(now=True)
    assert not view.framing_old
    # A frame further on it is the same shot still; another lens makes it another.
    framed.frame_set(3)
    readiness.publish(now=True)
    assert not view.framing_old
    bpy.ops.maquette.frame_55()
    bpy.context.view_layer.update()
    readiness.publish(now=True)
    assert view.framing_old
    bpy.ops.maquette.check_framing()
    assert not view.framing_old and not any("the model knows 55" in line.message for line in view.framing)


def test_framing_needs_joints(framed) -> None:
    bpy.data.objects["Body"].maquette.is_character = False
    with pytest.raises(RuntimeError, match="the scene has none; add a body"):
        bpy.ops.maquette.check_framing()
    bpy.ops.mesh.primitive_cube_add()
    bpy.context.object.maquette.is_character = True
    with pytest.raises(RuntimeError, match="humanoid skeleton"):
        bpy.ops.maquette.check_framing()
