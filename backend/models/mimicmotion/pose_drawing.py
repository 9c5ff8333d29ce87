"""Pose maps as MimicMotion was trained on them, drawn with the very OpenCV calls (no torch here).

Shape letters: K the 128 keypoints of ``KEYPOINT_NAMES``, H W image.

A map is drawn on a black canvas whose shorter side is 2160 px and then reduced with plain bilinear sampling. Colours
are named here as they are painted; the two outer channels are exchanged at the end, so that the finished map is *not*
in the usual palette of OpenPose. The weights know the exchanged one.
"""

from __future__ import annotations

import colorsys
import math

import cv2
import numpy as np

from ...shot import BODY_KEYPOINTS, FACE_KEYPOINTS, LEFT_HAND_KEYPOINTS, RIGHT_HAND_KEYPOINTS

CANVAS = 2160
"""Pixels of the canvas's shorter side."""

THRESHOLD = 0.3
"""Body keypoints of less confidence, and limbs that end in them, are not drawn."""

_LIMB_HALF_WIDTH = 4
_DISC_RADIUS = 4
_FACE_RADIUS = 3
_HAND_THICKNESS = 2
_LIMB_DIM = (np.arange(256) * 0.6).astype(np.uint8)
"""What becomes of each value of the canvas when the limbs are drawn."""
_MARGIN = 0.01
"""Pixels of the canvas; hand and face points at or left of, or above it, do not exist."""

LIMBS: tuple[tuple[int, int], ...] = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13),
    (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
"""Body keypoints that a limb joins; shoulders and ears are not joined."""

COLOURS: tuple[tuple[int, int, int], ...] = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0), (0, 255, 85),
    (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255), (170, 0, 255),
    (255, 0, 255), (255, 0, 170), (255, 0, 85),
)  # fmt: skip
"""Of body keypoint i and, but for the last, of limb i, before the exchange of channels."""

HAND_EDGES: tuple[tuple[int, int], ...] = tuple(
    (0 if joint == 0 else 4 * finger + joint, 4 * finger + joint + 1) for finger in range(5) for joint in range(4)
)
"""Wrist to tip of each finger."""


def draw_pose(points: np.ndarray, confidence: np.ndarray, width: int, height: int) -> np.ndarray:
    """One pose map.

    Args:
        points: (K,2) fractions of the picture's width and height, x right, y down.
        confidence: (K,) from 0 to 1 in use; larger values saturate.
        width, height: of the map in pixels.

    Returns:
        (H,W,3) uint8 RGB.
    """
    scale = CANVAS / min(width, height)
    canvas = np.zeros((int(height * scale), int(width * scale), 3), np.uint8)
    points = np.asarray(points, np.float64) * (canvas.shape[1], canvas.shape[0])
    confidence = np.asarray(confidence, np.float64)
    canvas = _draw_body(canvas, points[BODY_KEYPOINTS], confidence[BODY_KEYPOINTS])
    for hand in (LEFT_HAND_KEYPOINTS, RIGHT_HAND_KEYPOINTS):
        _draw_hand(canvas, points[hand], confidence[hand])
    _draw_face(canvas, points[FACE_KEYPOINTS], confidence[FACE_KEYPOINTS])
    return cv2.cvtColor(cv2.resize(canvas, (width, height)), cv2.COLOR_BGR2RGB)


def _draw_body(canvas: np.ndarray, points: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Limbs, dimmed, with discs over them. Points (18,2) in pixels of the canvas; returns a new canvas."""
    # A limb is left out below the threshold, a point at or below it: at exactly the threshold a limb ends in the
    # last point instead, as in the pictures that the model was trained on.
    index = np.where(confidence > THRESHOLD, np.arange(len(points)), len(points) - 1)
    for (a, b), colour in zip(LIMBS, COLOURS, strict=False):
        if confidence[a] < THRESHOLD or confidence[b] < THRESHOLD:
            continue
        (ax, ay), (bx, by) = points[index[a]], points[index[b]]
        half_length = int(math.hypot(ax - bx, ay - by) / 2)
        angle = int(math.degrees(math.atan2(ay - by, ax - bx)))
        middle = (int((ax + bx) / 2), int((ay + by) / 2))
        polygon = np.array(cv2.ellipse2Poly(middle, (half_length, _LIMB_HALF_WIDTH), angle, 0, 360, 1))
        strength = confidence[a] * confidence[b]
        cv2.fillConvexPoly(canvas, polygon, [int(channel * strength) for channel in colour])
    canvas = cv2.LUT(canvas, _LIMB_DIM)
    for point, colour, c in zip(points, COLOURS, confidence, strict=True):
        if c > THRESHOLD:
            _disc(canvas, point, _DISC_RADIUS, [int(channel * c) for channel in colour])
    return canvas


def _draw_hand(canvas: np.ndarray, points: np.ndarray, confidence: np.ndarray) -> None:
    """Edges in the colours of the rainbow, then discs. Points (21,2) in pixels of the canvas."""
    for i, (a, b) in enumerate(HAND_EDGES):
        if (points[[a, b]].astype(int) > _MARGIN).all():
            strength = int(confidence[a] * confidence[b] * 255)
            colour = [channel * strength for channel in colorsys.hsv_to_rgb(i / len(HAND_EDGES), 1.0, 1.0)]
            cv2.line(canvas, _pixel(points[a]), _pixel(points[b]), colour, thickness=_HAND_THICKNESS)
    for point, c in zip(points, confidence, strict=True):
        if (point.astype(int) > _MARGIN).all():
            _disc(canvas, point, _DISC_RADIUS, [0, 0, int(c * 255)])


def _draw_face(canvas: np.ndarray, points: np.ndarray, confidence: np.ndarray) -> None:
    """Grey discs. Points (68,2) in pixels of the canvas."""
    for point, c in zip(points, confidence, strict=True):
        if (point.astype(int) > _MARGIN).all():
            _disc(canvas, point, _FACE_RADIUS, [int(c * 255)] * 3)


def _pixel(point: np.ndarray) -> tuple[int, int]:
    return int(point[0]), int(point[1])


def _disc(canvas: np.ndarray, point: np.ndarray, radius: int, colour: list[int]) -> None:
    cv2.circle(canvas, _pixel(point), radius, colour, thickness=-1)
