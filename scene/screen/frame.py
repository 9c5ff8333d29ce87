"""Where the film lies in a 3D view, and which of its frames shows there: plain arithmetic, without a window."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rectangle:
    """A part of a region, in pixels from its lower left corner; it may reach beyond the region."""

    left: float
    bottom: float
    right: float
    top: float


def frame_corners(view_frame: np.ndarray) -> np.ndarray:
    """Lower left and upper right corner (2,3) of a camera's frame, of the four (4,3) in the camera's space.

    The corners are those of ``bpy.types.Camera.view_frame``, which come in another order for turned pictures.
    """
    corners = np.asarray(view_frame, dtype=np.float64)
    return np.stack([corners.min(axis=0), corners.max(axis=0)])


def frame_rectangle(window: np.ndarray, corners: np.ndarray, width: int, height: int) -> Rectangle | None:
    """Where the camera's frame lies in a region that looks through the camera.

    The region's projection holds all that moves the frame about in it: the lens, its shift, zoom and offset of the
    camera view.

    Args:
        window: projection (4,4) from the camera's space (x right, y up, looking along -z) to the region's, -1 to 1.
        corners: see ``frame_corners``.
        width, height: of the region, in pixels.

    Returns:
        The rectangle; None where there is none, as in a region without a size.
    """
    points = np.column_stack([corners, np.ones(2)]) @ np.asarray(window, dtype=np.float64).T
    if (points[:, 3] <= 0).any():
        return None
    place = (points[:, :2] / points[:, 3:] + 1) / 2 * (width, height)
    (left, bottom), (right, top) = place
    if not (np.isfinite(place).all() and right - left > 0 and top - bottom > 0):
        return None
    return Rectangle(float(left), float(bottom), float(right), float(top))


def film_frame(frame: float, start: int, rate: float, frames: int) -> int | None:
    """Which frame of the film, from 0, shows at a frame of the scene; None before its first and after its last.

    Args:
        start: scene frame that shows the film's first frame.
        rate: film frames per scene frame.
        frames: of the film.
    """
    index = math.floor((frame - start) * rate + 1e-6)
    return index if 0 <= index < frames else None


def is_drawn(mode: str, place: str) -> bool:
    """Whether a way of showing results lays the film over the camera's frame.

    Of the plane this is so where it stands before everything: only so has it the film's colours in every shading.

    Args:
        mode: ``OFF``, ``OVERLAY``, ``BACKGROUND``, ``PLANE`` or ``STRIP``.
        place: where the plane stands, see ``plane_depths``.
    """
    return mode == "OVERLAY" or (mode == "PLANE" and place == "FRONT")


def within(frame: Rectangle, width: float, height: float) -> Rectangle:
    """The largest rectangle of a picture's shape in the middle of a frame: nothing of the picture is cut off."""
    return _fitted(frame, width, height, min)


def around(picture: Rectangle, width: float, height: float) -> Rectangle:
    """The smallest rectangle of a frame's shape about a picture."""
    return _fitted(picture, width, height, max)


def _fitted(into: Rectangle, width: float, height: float, chosen: Callable[[float, float], float]) -> Rectangle:
    """A rectangle of some shape about the middle of another, as large as its ``chosen`` side says."""
    scale = chosen((into.right - into.left) / width, (into.top - into.bottom) / height)
    x, y = (into.left + into.right) / 2, (into.bottom + into.top) / 2
    across, up = scale * width / 2, scale * height / 2
    return Rectangle(x - across, y - up, x + across, y + up)


def zoomed(frame: Rectangle, by: float, about: tuple[float, float]) -> Rectangle:
    """A rectangle enlarged while one spot of the region stays where it is."""
    (x, y) = about
    return Rectangle(
        x + (frame.left - x) * by, y + (frame.bottom - y) * by, x + (frame.right - x) * by, y + (frame.top - y) * by
    )


def moved(frame: Rectangle, x: float, y: float) -> Rectangle:
    """A rectangle elsewhere in the region."""
    return Rectangle(frame.left + x, frame.bottom + y, frame.right + x, frame.top + y)
