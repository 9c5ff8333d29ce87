"""The scene's camera as the Shot's matrices, exactly as Blender projects.

World is Blender's (Z up, metres). ``viewmat`` maps world to OpenCV camera (x right, y down, z forward); ``K`` is in
pixels of the output image, the left edge at u = 0. Borders and stereo are ignored: a shot is the whole picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np

from ...backend.shot import ShotError
from ...backend.shot.cameras import intrinsics, viewmat_from_matrix_world


@dataclass(frozen=True, eq=False)
class CameraView:
    """A camera at one frame.

    Attributes:
        name: of the camera object.
        viewmat: (4,4) float64, world to OpenCV camera.
        K: (3,3) float64, pixels.
        width, height: of the image in pixels.
        lens: focal length in millimetres, as the animator set it.
        clip_start, clip_end: metres along the optical axis between which the camera sees.
    """

    name: str
    viewmat: np.ndarray
    K: np.ndarray
    width: int
    height: int
    lens: float
    clip_start: float
    clip_end: float


def render_size(render: bpy.types.RenderSettings) -> tuple[int, int]:
    """Width and height of the output in pixels, rounded as Blender rounds."""
    percentage = render.resolution_percentage
    return (render.resolution_x * percentage // 100, render.resolution_y * percentage // 100)


def clip_fps(scene: bpy.types.Scene) -> float:
    """Frames of the shot per second: the scene's rate over its frame step."""
    return scene.render.fps / scene.render.fps_base / scene.frame_step


def read_camera(scene: bpy.types.Scene, depsgraph: bpy.types.Depsgraph) -> CameraView:
    """The scene's active camera as evaluated now: parents, constraints, animated lens and shift included.

    Raises:
        ShotError: no camera, one that is not perspective, or one without a usable place.
    """
    camera = scene.camera
    where = f"frame {scene.frame_current}"
    if camera is None:
        raise ShotError("camera", "the scene has none; add a camera and make it the scene's active camera")
    if camera.type != "CAMERA":
        raise ShotError("camera", f"'{camera.name}' is not a camera; make a camera the scene's active camera")
    evaluated = camera.evaluated_get(depsgraph)
    lens = evaluated.data
    if lens.type != "PERSP":
        kind = {"ORTHO": "orthographic", "PANO": "panoramic"}.get(lens.type, lens.type.lower())
        raise ShotError(
            "camera", f"'{camera.name}' is {kind} at {where}; set its lens type to Perspective, models see no other"
        )
    matrix = np.array(evaluated.matrix_world, dtype=np.float64)
    if not np.isfinite(matrix).all():
        raise ShotError(
            "camera", f"'{camera.name}' has no valid place at {where} (NaN); check its keys, drivers and constraints"
        )
    axes = matrix[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    if lengths.min() < 1e-12:
        raise ShotError("camera", f"'{camera.name}' is scaled to zero at {where}; reset its scale")
    unit = axes / lengths
    if np.linalg.det(unit) < 0:
        raise ShotError("camera", f"'{camera.name}' is mirrored at {where}; remove the negative scale")
    if np.abs(unit.T @ unit - np.eye(3)).max() > 1e-4:
        raise ShotError(
            "camera",
            f"'{camera.name}' is sheared at {where} by a parent that is scaled unevenly; apply the parent's scale",
        )
    render = scene.render
    width, height = render_size(render)
    K = intrinsics(
        lens.lens,
        lens.sensor_width,
        lens.sensor_height,
        lens.sensor_fit,
        lens.shift_x,
        lens.shift_y,
        width,
        height,
        render.pixel_aspect_x,
        render.pixel_aspect_y,
    )
    viewmat = viewmat_from_matrix_world(matrix)
    return CameraView(camera.name, viewmat, K, width, height, lens.lens, lens.clip_start, lens.clip_end)
