"""What renders is what is captured: modifiers, characters and walls that renders see otherwise than the viewport."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from ..builders import add_box, add_camera, small_scene, snapshot


@pytest.mark.parametrize(("viewport", "render"), [(False, True), (True, False), (False, False)])
def test_modifiers_are_as_the_render_has_them(capture, dancer, viewport: bool, render: bool) -> None:
    wanted = capture.capture_shot(bpy.context).characters[0].points
    modifier = next(m for m in dancer.modifiers if m.type == "ARMATURE")
    modifier.show_viewport, modifier.show_render = viewport, render
    bpy.context.view_layer.update()
    before, notices = snapshot(), []
    points = capture.capture_shot(bpy.context, notices=notices).characters[0].points
    assert snapshot() == before
    assert (np.abs(points - wanted).max() < 1e-4) == render
    assert any("as it renders" in note and modifier.name in note for note in notices) == (viewport != render)


def test_what_the_render_does_not_show_is_said(capture, dancer) -> None:
    wall = add_box("Wall", 0.5, (2.0, 0.0, 1.0))
    material = bpy.data.materials.new("Glass")
    material.use_nodes = True
    material.node_tree.nodes["Principled BSDF"].inputs["Alpha"].default_value = 0.0
    wall.data.materials.append(material)
    dancer.hide_render = True
    notices: list[str] = []
    capture.capture_shot(bpy.context, notices=notices)
    assert any("'Wall' renders wholly transparent" in note for note in notices)
    assert any("'Dancer' is a character but off in renders" in note for note in notices)


def test_things_beside_a_painted_body_keep_their_colours(addon, capture, tmp_path) -> None:
    """The Solid view shows their materials' colours, and so does the picture behind the characters."""
    scene = small_scene()
    bpy.ops.maquette.add_body()
    add_camera((0, -4, 0.9), (0, 0, 0.9))
    wall = add_box("Wall", 3.0, (0.0, 3.0, 1.0))
    red = bpy.data.materials.new("Red")
    red.diffuse_color = (1, 0, 0, 1)
    wall.data.materials.append(red)
    scene.maquette.background = "SCENE"
    (picture, *_) = capture.capture_shot(bpy.context).background.media
    path = tmp_path / "behind.png"
    path.write_bytes(picture.data)
    image = bpy.data.images.load(str(path))
    pixels = np.array(image.pixels).reshape(image.size[1], image.size[0], 4)
    red_of, green_of, blue_of = pixels[image.size[1] // 2, image.size[0] // 4, :3]
    assert red_of > 3 * max(green_of, blue_of)
