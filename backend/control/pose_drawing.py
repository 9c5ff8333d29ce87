"""Pose maps as DWPose draws them, by the very OpenCV calls of its public drawing code (no torch here).

Shape letters: K the 128 keypoints of ``KEYPOINT_NAMES``, H W image.

A ``PoseStyle`` says how large lines are and what a keypoint's confidence does to them; limbs, colours and the order of
drawing are the same in all.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass

import cv2
import numpy as np

from ..shot import BODY_KEYPOINTS, FACE_KEYPOINTS, LEFT_HAND_KEYPOINTS, RIGHT_HAND_KEYPOINTS

THRESHOLD = 0.3
"""Body keypoints of less confidence, and limbs that end in them, are not drawn."""

_LIMB_HALF_WIDTH = 4
_DISC_RADIUS = 4
_FACE_RADIUS = 3
_HAND_THICKNESS = 2
_LIMB_DIM = (np.arange(256) * 0.6).astype(np.uint8)
"""What becomes of each value of a limb's colour."""
_MARGIN = 0.01
"""Pixels of the canvas; hand and face points at or left of, or above it, do not exist."""


@dataclass(frozen=True)
class PoseStyle:
    """How poses are painted.

    Attributes:
        canvas: pixels of the shorter side of the canvas, which is then reduced with plain bilinear sampling; 0 paints
            at the picture's own size.
        unit: pixels of the picture's shorter side at which lines are as wide as DWPose draws them; they grow with the
            picture. 0 keeps them as they are.
        thin: lines of a pixel for each 200 of the picture's shorter side, less one, and hands half as wide.
        weighted: colours are dimmed by the confidence; else what is drawn is drawn fully.
        swapped: red and blue are exchanged.
        parts: which of ``body``, ``hands``, ``face`` and ``feet``.
    """

    canvas: int = 0
    unit: int = 0
    thin: bool = False
    weighted: bool = False
    swapped: bool = False
    parts: tuple[str, ...] = ("body", "hands", "face")

    def widths(self, width: int, height: int) -> _Widths:
        """Of the lines in a picture of ``width`` x ``height``."""
        if self.thin:
            line = max(1, min(width, height) // 200 - 1)
            return _Widths(line, line, line, max(1, line // 2), max(1, line // 2))
        scale = min(width, height) / self.unit if self.unit else 1.0
        sizes = (_LIMB_HALF_WIDTH, _DISC_RADIUS, _FACE_RADIUS, _HAND_THICKNESS, _DISC_RADIUS)
        return _Widths(*(max(1, round(size * scale)) for size in sizes))


@dataclass(frozen=True)
class _Widths:
    """Pixels: half width of a limb, radius of a keypoint of the body and of the face, thickness of a finger, radius of
    a keypoint of a hand."""

    limb: int
    disc: int
    face: int
    hand: int
    hand_disc: int


DWPOSE = PoseStyle(unit=512)
"""As DWPose's preprocessors draw at their usual 512 pixels."""

MIMICMOTION = PoseStyle(canvas=2160, weighted=True, swapped=True)
"""As MimicMotion was trained on them: thin and dimmed by confidence. Its weights know the exchanged palette."""

ANIMATE = PoseStyle(thin=True, parts=("body", "hands", "feet"))
"""As Wan-Animate was trained on them, by its authors' own drawing of DWPose's body and hands."""

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
"""Of body keypoint i and, but for the last, of limb i."""

FEET: tuple[tuple[int, tuple[int, int, int], tuple[int, int, int]], ...] = (
    (13, (255, 0, 85), (200, 200, 0)),
    (10, (200, 200, 0), (100, 100, 0)),
)
"""Of the left and the right foot: the ankle's body keypoint, and the colours of its limb and of the toes."""

HAND_EDGES: tuple[tuple[int, int], ...] = tuple(
    (0 if joint == 0 else 4 * finger + joint, 4 * finger + joint + 1) for finger in range(5) for joint in range(4)
)
"""Wrist to tip of each finger."""


def draw_pose(
    points: np.ndarray, confidence: np.ndarray, width: int, height: int, style: PoseStyle = DWPOSE
) -> np.ndarray:
    """The pose map of one person; see ``draw_poses``. Points (K,2), confidence (K,)."""
    return draw_poses(points[None], confidence[None], width, height, style)


def draw_poses(
    points: np.ndarray,
    confidence: np.ndarray,
    width: int,
    height: int,
    style: PoseStyle = DWPOSE,
    toes: np.ndarray | None = None,
) -> np.ndarray:
    """One pose map of several people, each over those before.

    Args:
        points: (P,K,2) fractions of the picture's width and height, x right, y down.
        confidence: (P,K) from 0 to 1 in use; larger values saturate.
        width, height: of the map in pixels.
        toes: (P,2,2) of each left and right foot, as ``points``; NaN where they are not known.

    Returns:
        (H,W,3) uint8 RGB.
    """
    scale = style.canvas / min(width, height) if style.canvas else 1.0
    canvas = np.zeros((int(height * scale), int(width * scale), 3), np.uint8)
    points = np.asarray(points, np.float64) * (canvas.shape[1], canvas.shape[0])
    confidence = np.asarray(confidence, np.float64)
    if not style.weighted:
        confidence = (confidence > THRESHOLD).astype(np.float64)
    widths = style.widths(width, height)
    for person, (spots, sure) in enumerate(zip(points, confidence, strict=True)):
        if "feet" in style.parts and toes is not None:
            _draw_feet(canvas, spots, sure, toes[person] * (canvas.shape[1], canvas.shape[0]), widths)
        if "body" in style.parts:
            _draw_body(canvas, spots[BODY_KEYPOINTS], sure[BODY_KEYPOINTS], widths)
        if "hands" in style.parts:
            for hand in (LEFT_HAND_KEYPOINTS, RIGHT_HAND_KEYPOINTS):
                _draw_hand(canvas, spots[hand], sure[hand], widths)
        if "face" in style.parts:
            _draw_face(canvas, spots[FACE_KEYPOINTS], sure[FACE_KEYPOINTS], widths)
    canvas = cv2.resize(canvas, (width, height)) if style.canvas else canvas
    return cv2.cvtColor(canvas, cv2.COLOR_BGR2RGB) if style.swapped else canvas


def _draw_feet(
    canvas: np.ndarray, points: np.ndarray, confidence: np.ndarray, toes: np.ndarray, widths: _Widths
) -> None:
    """Limbs from the ankles that are drawn to their toes (2,2)."""
    for toe, (ankle, limb, disc) in zip(toes, FEET, strict=True):
        if confidence[ankle] >= THRESHOLD and np.isfinite(toe).all():
            _draw_limb(canvas, points[ankle], toe, widths.limb, [int(_LIMB_DIM[channel]) for channel in limb])
            _disc(canvas, toe, widths.disc, list(disc))


def _draw_limb(canvas: np.ndarray, start: np.ndarray, end: np.ndarray, width: int, colour: list[int]) -> None:
    (ax, ay), (bx, by) = start, end
    half_length = int(math.hypot(ax - bx, ay - by) / 2)
    angle = int(math.degrees(math.atan2(ay - by, ax - bx)))
    middle = (int((ax + bx) / 2), int((ay + by) / 2))
    polygon = np.array(cv2.ellipse2Poly(middle, (half_length, width), angle, 0, 360, 1))
    cv2.fillConvexPoly(canvas, polygon, colour)


def _draw_body(canvas: np.ndarray, points: np.ndarray, confidence: np.ndarray, widths: _Widths) -> None:
    """Dim limbs with discs over them. Points (18,2) in pixels of the canvas."""
    # A limb is left out below the threshold, a point at or below it: at exactly the threshold a limb ends in the
    # last point instead, as in the pictures that MimicMotion was trained on.
    index = np.where(confidence > THRESHOLD, np.arange(len(points)), len(points) - 1)
    for (a, b), colour in zip(LIMBS, COLOURS, strict=False):
        if confidence[a] < THRESHOLD or confidence[b] < THRESHOLD:
            continue
        strength = confidence[a] * confidence[b]
        dim = [int(_LIMB_DIM[min(int(channel * strength), 255)]) for channel in colour]
        _draw_limb(canvas, points[index[a]], points[index[b]], widths.limb, dim)
    for point, colour, c in zip(points, COLOURS, confidence, strict=True):
        if c > THRESHOLD:
            _disc(canvas, point, widths.disc, [int(channel * c) for channel in colour])


def _draw_hand(canvas: np.ndarray, points: np.ndarray, confidence: np.ndarray, widths: _Widths) -> None:
    """Edges in the colours of the rainbow, then discs. Points (21,2) in pixels of the canvas."""
    for i, (a, b) in enumerate(HAND_EDGES):
        if (points[[a, b]].astype(int) > _MARGIN).all():
            strength = int(confidence[a] * confidence[b] * 255)
            colour = [channel * strength for channel in colorsys.hsv_to_rgb(i / len(HAND_EDGES), 1.0, 1.0)]
            cv2.line(canvas, _pixel(points[a]), _pixel(points[b]), colour, thickness=widths.hand)
    for point, c in zip(points, confidence, strict=True):
        if (point.astype(int) > _MARGIN).all():
            _disc(canvas, point, widths.hand_disc, [0, 0, int(c * 255)])


def _draw_face(canvas: np.ndarray, points: np.ndarray, confidence: np.ndarray, widths: _Widths) -> None:
    """White discs. Points (68,2) in pixels of the canvas."""
    for point, c in zip(points, confidence, strict=True):
        if (point.astype(int) > _MARGIN).all():
            _disc(canvas, point, widths.face, [int(c * 255)] * 3)


def _pixel(point: np.ndarray) -> tuple[int, int]:
    return int(point[0]), int(point[1])


def _disc(canvas: np.ndarray, point: np.ndarray, radius: int, colour: list[int]) -> None:
    cv2.circle(canvas, _pixel(point), radius, colour, thickness=-1)
