from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.shot import cameras

COORDINATE = st.floats(-3, 3)


def test_the_middle_of_the_view_lies_in_the_middle_of_the_image():
    viewmat = cameras.look_at(np.array([3.0, -4.0, 2.0]), np.array([0.0, 0.5, 1.0]))
    K = cameras.intrinsics(35, 36, 24, "AUTO", 0, 0, 640, 360)
    uv, depth = cameras.project(np.array([[0.0, 0.5, 1.0]]), viewmat, K)
    assert uv[0] == pytest.approx((320, 180))
    assert depth[0] == pytest.approx(np.linalg.norm((3, -4.5, 1)))


def test_up_in_the_world_is_up_in_the_image_and_right_is_right():
    viewmat = cameras.look_at(np.array([0.0, -5.0, 0.0]), np.zeros(3))
    K = cameras.intrinsics(50, 36, 24, "AUTO", 0, 0, 100, 100)
    uv, _ = cameras.project(np.array([[0.0, 0, 1], [1.0, 0, 0]]), viewmat, K)
    assert uv[0, 1] < 50 and uv[1, 0] > 50


def test_the_frame_edge_is_half_the_sensor_away():
    # 36 mm sensor, 50 mm lens: at 50 units of depth the frame is 36 units wide.
    K = cameras.intrinsics(50, 36, 24, "AUTO", 0, 0, 1920, 1080)
    uv, _ = cameras.project(np.array([[-18.0, 0, 50], [18.0, 0, 50]]), np.eye(4), K)
    assert uv[:, 0] == pytest.approx((0, 1920))


def test_portrait_auto_fits_the_sensor_width_to_the_height():
    K = cameras.intrinsics(50, 36, 24, "AUTO", 0, 0, 1080, 1920)
    assert K[0, 0] == pytest.approx(50 / 36 * 1920)
    assert cameras.intrinsics(50, 36, 24, "VERTICAL", 0, 0, 1080, 1920)[0, 0] == pytest.approx(50 / 24 * 1920)
    assert cameras.intrinsics(50, 36, 24, "HORIZONTAL", 0, 0, 1080, 1920)[0, 0] == pytest.approx(50 / 36 * 1080)


def test_a_point_behind_the_camera_has_no_pixel():
    uv, depth = cameras.project(np.array([[0.0, 0, -1]]), np.eye(4), np.eye(3))
    assert np.isnan(uv).all() and depth[0] == -1


def test_a_lens_of_zero_is_refused_by_name():
    with pytest.raises(ValueError, match="lens"):
        cameras.intrinsics(0, 36, 24, "AUTO", 0, 0, 10, 10)


@given(st.tuples(COORDINATE, COORDINATE, COORDINATE), st.floats(-3, 3), st.floats(-3, 3))
def test_blenders_matrix_and_look_at_agree(eye, yaw, pitch):
    """A matrix_world built as Blender builds it projects like the matching OpenCV camera."""
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    rotation = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    world = np.eye(4)
    world[:3, :3], world[:3, 3] = rotation * 2.5, eye
    viewmat = cameras.viewmat_from_matrix_world(world)
    assert np.allclose(viewmat[:3, :3] @ viewmat[:3, :3].T, np.eye(3))
    assert np.allclose(cameras.camera_centers(viewmat), eye)
    ahead = np.asarray(eye) - rotation[:, 2] * 2
    assert np.allclose(cameras.to_camera(ahead[None], viewmat), [[0, 0, 2]], atol=1e-9)
    above = ahead + rotation[:, 1]
    assert cameras.to_camera(above[None], viewmat)[0, 1] == pytest.approx(-1)


@given(st.integers(0, 10_000))
def test_ndc_matches_projection_and_stays_between_its_planes(seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1, 1, (3, 20, 3))
    viewmats = np.stack([cameras.look_at(rng.normal(size=3) + (0, -6, 0), np.zeros(3)) for _ in range(3)])
    Ks = np.repeat(cameras.intrinsics(40, 36, 24, "AUTO", 0.1, -0.2, 200, 100)[None], 3, axis=0)
    near, far = cameras.depth_planes(points, viewmats)
    ndc = cameras.to_ndc(points, viewmats, Ks, 200, 100, near, far)
    uv, depth = cameras.project(points, viewmats, Ks)
    assert np.allclose((ndc[..., 0] + 1) * 100, uv[..., 0]) and np.allclose((ndc[..., 1] + 1) * 50, uv[..., 1])
    assert (np.abs(ndc[..., 2]) <= 1).all() and near < depth.min() and far > depth.max()
    order = np.argsort(depth.ravel())
    assert (np.diff(ndc[..., 2].ravel()[order]) >= -1e-12).all()


def test_ndc_z_is_minus_one_at_near_and_one_at_far():
    points = np.array([[0.0, 0, 2], [0, 0, 9]])
    assert cameras.to_ndc(points, np.eye(4), np.eye(3), 1, 1, 2, 9)[:, 2] == pytest.approx((-1, 1))


def test_plucker_rays_pass_through_the_points_of_their_pixels():
    viewmats = cameras.look_at(np.array([1.0, -4, 2]), np.zeros(3))[None]
    Ks = cameras.intrinsics(30, 36, 24, "AUTO", 0, 0, 16, 12)[None]
    image = cameras.plucker(viewmats, Ks, 12, 16)
    assert image.shape == (1, 6, 12, 16)
    # A point on the ray of pixel (column 10, row 3), 5 m away.
    eye, direction = cameras.camera_centers(viewmats)[0], image[0, 3:, 3, 10]
    point = eye + 5 * direction
    uv, _ = cameras.project(point[None], viewmats[0], Ks[0])
    assert uv[0] == pytest.approx((10.5, 3.5), abs=1e-4)
    assert np.cross(point, direction) == pytest.approx(image[0, :3, 3, 10], abs=1e-5)


def test_scaled_intrinsics_project_to_scaled_pixels():
    K = cameras.intrinsics(30, 36, 24, "AUTO", 0.2, 0.1, 640, 480)
    point = np.array([[0.3, -0.2, 4.0]])
    uv, _ = cameras.project(point, np.eye(4), K)
    half, _ = cameras.project(point, np.eye(4), cameras.scale_intrinsics(K, 0.5, 0.25))
    assert half[0] == pytest.approx(uv[0] * (0.5, 0.25))
