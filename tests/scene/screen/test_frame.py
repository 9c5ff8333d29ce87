"""Where the film lies in a view and which of its frames shows, held against Blender's own formulas."""

from __future__ import annotations

import math

import bpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.scene.screen.frame import (
    Rectangle,
    around,
    film_frame,
    frame_corners,
    frame_rectangle,
    is_drawn,
    moved,
    within,
    zoomed,
)


def camera_view(lens, shift, zoom, offset, picture, region):
    """The projection of a view through a camera, and the frame's rectangle, by the formulas of Blender's 3D view.

    The longer side of the region spans the sensor, times the zoom; the picture's longer side is the sensor's.
    """
    width, height = region
    factor = (math.sqrt(2) + zoom / 50) ** 2 / 2
    sensor = 36.0
    pixel = sensor / max(width, height) / factor / lens  # at unit depth
    size = np.array((width, height)) * pixel
    centre = np.array(shift) * sensor / lens + np.array(offset) * size
    low, high = centre - size / 2, centre + size / 2
    near, far = 0.1, 100.0
    left, bottom, right, top = *(low * near), *(high * near)
    window = np.array(
        [
            [2 * near / (right - left), 0, (right + left) / (right - left), 0],
            [0, 2 * near / (top - bottom), (top + bottom) / (top - bottom), 0],
            [0, 0, -(far + near) / (far - near), -2 * far * near / (far - near)],
            [0, 0, -1, 0],
        ]
    )
    size = np.array(picture) / max(picture) * sensor / lens
    middle = np.array(shift) * sensor / lens
    box = [(middle + sign * size / 2 - low) / (high - low) * (width, height) for sign in (-1, 1)]
    corners = [(*(middle + np.array(s) * size / 2), -1.0) for s in ((1, 1), (1, -1), (-1, -1), (-1, 1))]
    return window, np.array(corners), np.concatenate(box)


_SHARE = st.floats(-0.5, 0.5)


@settings(max_examples=40)
@given(
    lens=st.floats(8, 300),
    shift=st.tuples(_SHARE, _SHARE),
    zoom=st.floats(-30, 100),
    offset=st.tuples(_SHARE, _SHARE),
    picture=st.tuples(st.integers(16, 4000), st.integers(16, 4000)),
    region=st.tuples(st.integers(8, 4000), st.integers(8, 4000)),
)
def test_the_rectangle_follows_lens_shift_zoom_and_offset(lens, shift, zoom, offset, picture, region):
    window, corners, box = camera_view(lens, shift, zoom, offset, picture, region)
    found = frame_rectangle(window, frame_corners(corners), *region)
    assert found is not None
    assert (found.left, found.bottom, found.right, found.top) == pytest.approx(tuple(box), abs=1e-3, rel=1e-6)


@pytest.mark.parametrize("size", [(640, 360), (360, 640)])
@pytest.mark.parametrize("fit", ["AUTO", "HORIZONTAL", "VERTICAL"])
def test_a_render_fills_the_rectangle_exactly(addon, size, fit):
    """Blender's matrix of a render looks at nothing but the frame: the rectangle is then the whole picture."""
    scene = bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y = size
    lens = bpy.data.cameras.new("Lens")
    lens.sensor_fit, lens.shift_x, lens.shift_y, lens.lens = fit, 0.2, -0.1, 35
    camera = bpy.data.objects.new("Lens", lens)
    scene.collection.objects.link(camera)
    depsgraph = bpy.context.evaluated_depsgraph_get()
    window = np.array(camera.calc_matrix_camera(depsgraph, x=size[0], y=size[1]))
    found = frame_rectangle(window, frame_corners(np.array(lens.view_frame(scene=scene))), *size)
    assert (found.left, found.bottom, found.right, found.top) == pytest.approx((0, 0, *size), abs=1e-3)


def test_a_region_without_a_size_shows_nothing():
    window, corners, _ = camera_view(50, (0, 0), 0, (0, 0), (64, 36), (640, 480))
    assert frame_rectangle(window, frame_corners(corners), 0, 480) is None
    assert frame_rectangle(np.full((4, 4), np.nan), frame_corners(corners), 640, 480) is None
    assert frame_rectangle(window, -frame_corners(corners), 640, 480) is None  # behind the eye


@given(st.integers(-500, 500), st.integers(1, 8), st.integers(1, 300))
def test_a_film_of_every_nth_frame_shows_each_for_n_frames(start, step, frames):
    shown = [film_frame(start + i, start, 1 / step, frames) for i in range(-2, frames * step + 2)]
    assert shown == [None, None, *(i // step for i in range(frames * step)), None, None]


@given(st.floats(0.05, 8.0), st.integers(1, 300), st.integers(-100, 100))
def test_frames_of_another_rate_keep_their_order(rate, frames, start):
    shown = [film_frame(start + i, start, rate, frames) for i in range(math.ceil(frames / rate) + 2)]
    there = [index for index in shown if index is not None]
    assert there[0] == 0 and there == sorted(there) and shown[-1] is None
    assert max(there) <= frames - 1


def test_only_what_stands_before_everything_is_drawn_over():
    assert is_drawn("OVERLAY", "BEHIND") and is_drawn("PLANE", "FRONT")
    for mode, place in (("OFF", "FRONT"), ("BACKGROUND", "FRONT"), ("STRIP", "FRONT"), ("PLANE", "BEHIND")):
        assert not is_drawn(mode, place)


def test_a_picture_lies_within_its_frame_and_a_frame_about_its_picture() -> None:
    whole = Rectangle(10.0, 20.0, 210.0, 120.0)
    inner = within(whole, 60, 80)
    assert (inner.left, inner.right, inner.bottom, inner.top) == pytest.approx((72.5, 147.5, 20.0, 120.0))
    again = around(inner, 200, 100)
    assert (again.left, again.right, again.bottom, again.top) == pytest.approx((10.0, 210.0, 20.0, 120.0))
    larger = moved(zoomed(inner, 2.0, (72.5, 20.0)), 1.0, -2.0)
    assert (larger.left, larger.right, larger.bottom, larger.top) == pytest.approx((73.5, 223.5, 18.0, 218.0))
