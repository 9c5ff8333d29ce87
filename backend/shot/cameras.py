"""Cameras: intrinsics, projection, rays and the NDC space in which points and pixels meet.

Shape letters: T frames, N points, H W image. ``...`` stands for any leading shape.

World is Blender's (right-handed, Z up, metres). Cameras are OpenCV's (x right, y down, z forward). ``K`` is in
pixels of the output image, pixel centres lie at +0.5 (the left edge of the image is u = 0).

NDC is x right, y **down**, both in [-1, 1] over the image, and z in [-1, 1] with the near plane at -1.
"""

from __future__ import annotations

import numpy as np

_BLENDER_TO_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
"""Blender's camera looks along -Z with +Y up; OpenCV's looks along +Z with +Y down."""

_MIN_NEAR = 1e-2
_PLANE_MARGIN = 0.05


def intrinsics(
    lens: float,
    sensor_width: float,
    sensor_height: float,
    sensor_fit: str,
    shift_x: float,
    shift_y: float,
    width: int,
    height: int,
    pixel_aspect_x: float = 1.0,
    pixel_aspect_y: float = 1.0,
) -> np.ndarray:
    """Intrinsic matrix of a Blender perspective camera.

    Args:
        lens: focal length in millimetres.
        sensor_width, sensor_height: in millimetres. AUTO always reads the width, even in portrait.
        sensor_fit: ``AUTO``, ``HORIZONTAL`` or ``VERTICAL``.
        shift_x, shift_y: Blender's lens shift, in units of the fitted side.
        width, height: output image in pixels, after the resolution percentage.
        pixel_aspect_x, pixel_aspect_y: shape of a pixel.

    Returns:
        (3,3) float64, pixels.
    """
    if lens <= 0:
        raise ValueError(f"lens: {lens} mm cannot project; set a focal length above 0")
    aspect = pixel_aspect_y / pixel_aspect_x
    horizontal = sensor_fit == "HORIZONTAL" or (
        sensor_fit == "AUTO" and pixel_aspect_x * width >= pixel_aspect_y * height
    )
    sensor = sensor_height if sensor_fit == "VERTICAL" else sensor_width
    fitted = width if horizontal else aspect * height
    focal = lens * fitted / sensor
    return np.array(
        [
            [focal, 0.0, width / 2 - shift_x * fitted],
            [0.0, focal / aspect, height / 2 + shift_y * fitted / aspect],
            [0.0, 0.0, 1.0],
        ]
    )


def viewmat_from_matrix_world(matrix_world: np.ndarray) -> np.ndarray:
    """World-to-camera matrix of a Blender camera.

    Args:
        matrix_world: (...,4,4) camera to world; scale is ignored, as Blender ignores it when rendering.

    Returns:
        (...,4,4) float64, world to OpenCV camera.
    """
    m = np.array(matrix_world, dtype=np.float64)
    m[..., :3, :3] /= np.linalg.norm(m[..., :3, :3], axis=-2, keepdims=True)
    return _BLENDER_TO_OPENCV @ np.linalg.inv(m)


def look_at(eye: np.ndarray, target: np.ndarray, up: tuple[float, float, float] = (0.0, 0.0, 1.0)) -> np.ndarray:
    """World-to-camera matrix (4,4) float64 of a camera at ``eye`` that sees ``target`` (3,) in its middle.

    Looking straight along ``up`` is allowed: any roll will do then.
    """
    eye = np.asarray(eye, dtype=np.float64)
    forward = np.asarray(target, dtype=np.float64) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, up)
    if np.linalg.norm(right) < 1e-8:
        right = np.cross(forward, (0.0, 1.0, 0.0) if abs(forward[1]) < 0.9 else (1.0, 0.0, 0.0))
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    viewmat = np.eye(4)
    viewmat[:3, :3] = rotation
    viewmat[:3, 3] = -rotation @ eye
    return viewmat


def camera_centers(viewmats: np.ndarray) -> np.ndarray:
    """Camera positions (...,3) in world of ``viewmats`` (...,4,4)."""
    rotation = viewmats[..., :3, :3]
    return -np.einsum("...ji,...j->...i", rotation, viewmats[..., :3, 3])


def to_camera(points: np.ndarray, viewmat: np.ndarray) -> np.ndarray:
    """World points (...,N,3) in camera space (...,N,3), by ``viewmat`` (...,4,4)."""
    rotation, translation = viewmat[..., :3, :3], viewmat[..., :3, 3]
    return np.einsum("...ij,...nj->...ni", rotation, points) + translation[..., None, :]


def project(points: np.ndarray, viewmat: np.ndarray, K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project world points into the image.

    Args:
        points: (...,N,3) world.
        viewmat: (...,4,4) world to camera.
        K: (...,3,3) pixels.

    Returns:
        uv (...,N,2) in pixels and depth (...,N) in metres along the optical axis. Points at or behind the camera
        have depth <= 0 and uv NaN.
    """
    camera = to_camera(points, viewmat)
    depth = camera[..., 2]
    in_front = depth > 1e-9
    safe = np.where(in_front, depth, 1.0)[..., None]
    uv = np.einsum("...ij,...nj->...ni", K[..., :2, :2], camera[..., :2] / safe) + K[..., None, :2, 2]
    return np.where(in_front[..., None], uv, np.nan), depth


def depth_planes(points: np.ndarray, viewmats: np.ndarray) -> tuple[float, float]:
    """Near and far planes in metres that enclose all points in all frames, with a small margin.

    Planes fitted to the characters keep z spread over [-1, 1]; loose planes would squeeze it towards 1.

    Args:
        points: (...,N,3) world.
        viewmats: (...,4,4) world to camera.
    """
    depth = to_camera(points, viewmats)[..., 2]
    depth = depth[depth > _MIN_NEAR]
    if depth.size == 0:
        return 0.1, 10.0
    near, far = float(depth.min()), float(depth.max())
    margin = max(_PLANE_MARGIN * (far - near), 0.01)
    return max(near - margin, _MIN_NEAR), far + margin


def to_ndc(
    points: np.ndarray, viewmats: np.ndarray, Ks: np.ndarray, width: int, height: int, near: float, far: float
) -> np.ndarray:
    """Points in NDC, ``(x, y, z) / w`` of the model-view-projection matrix (ISA paper, Eq. 10).

    Args:
        points: (...,N,3) world.
        viewmats: (...,4,4); Ks: (...,3,3) pixels of a ``width`` x ``height`` image.
        near, far: planes in metres, see ``depth_planes``.

    Returns:
        (...,N,3): x right, y down, z from -1 at ``near`` to 1 at ``far``. Points closer than a tenth of ``near``
        are taken at that depth, so that nothing is infinite.
    """
    camera = to_camera(points, viewmats)
    depth = np.maximum(camera[..., 2], near / 10)
    uv = np.einsum("...ij,...nj->...ni", Ks[..., :2, :2], camera[..., :2] / depth[..., None]) + Ks[..., None, :2, 2]
    x = 2 * uv[..., 0] / width - 1
    y = 2 * uv[..., 1] / height - 1
    z = (far + near) / (far - near) - 2 * far * near / ((far - near) * depth)
    return np.stack([x, y, z], axis=-1)


def scale_intrinsics(Ks: np.ndarray, scale_x: float, scale_y: float) -> np.ndarray:
    """``Ks`` (...,3,3) for the same picture resized by the given factors."""
    return Ks * np.array([[scale_x], [scale_y], [1.0]])


def plucker(viewmats: np.ndarray, Ks: np.ndarray, height: int, width: int) -> np.ndarray:
    """Plucker image of each camera (ISA paper, Eq. 22): moment ``o x d`` and unit direction ``d`` in world.

    Args:
        viewmats: (T,4,4); Ks: (T,3,3) pixels of the ``width`` x ``height`` image.

    Returns:
        (T,6,H,W) float32; rays go through pixel centres.
    """
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    pixels = np.stack([u, v, np.ones_like(u)], axis=-1).reshape(-1, 3)
    rays = np.einsum("tij,pj->tpi", np.linalg.inv(np.asarray(Ks, dtype=np.float64)), pixels)
    directions = np.einsum("tji,tpj->tpi", np.asarray(viewmats, dtype=np.float64)[:, :3, :3], rays)
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    origins = camera_centers(np.asarray(viewmats, dtype=np.float64))[:, None, :]
    image = np.concatenate([np.cross(origins, directions), directions], axis=-1)
    return image.reshape(-1, height, width, 6).transpose(0, 3, 1, 2).astype(np.float32)
