"""Faces for MOFA-Video's landmark adapter: line drawings of 68 landmarks, and the region where that adapter rules.

Shape letters: T frames, H W picture. Landmarks are iBUG's 68: jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, lips
48-67.
"""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from ...shot import Character, KeypointState
from ...shot.keypoints import FACE_KEYPOINTS
from .view import View

CANVAS = 320
"""Side of the square that faces are drawn on, whatever the picture's size and aspect."""

_THICKNESS = 2

_LINES: tuple[tuple[tuple[int, ...], tuple[int, int, int]], ...] = (
    (tuple(range(17)), (10, 200, 10)),
    ((42, 43, 44, 45, 46, 47, 42), (180, 200, 10)),
    ((22, 23, 24, 25, 26), (180, 220, 10)),
    ((36, 37, 38, 39, 40, 41, 36), (10, 200, 180)),
    ((17, 18, 19, 20, 21), (10, 220, 180)),
    ((27, 28, 29, 30), (10, 200, 250)),
    ((31, 32, 33, 34, 35), (250, 200, 10)),
    ((54, 55, 56, 57), (10, 180, 20)),
    ((48, 59, 58, 57), (20, 10, 180)),
    ((64, 65, 66), (100, 100, 30)),
    ((60, 67, 66), (100, 150, 50)),
    ((51, 52, 53, 54), (20, 80, 100)),
    ((51, 50, 49, 48), (80, 100, 20)),
    ((62, 63, 64), (120, 100, 200)),
    ((62, 61, 60), (150, 120, 100)),
)
"""Landmarks joined by a line, and its colour as the adapter was trained with: jaw, left eye and brow, right eye and
brow, bridge and base of the nose, outer and inner lips. Later lines cover earlier ones."""

_SEEN = 1 / 3
"""Share of a face's landmarks that must be in view for it to be drawn, all of it: as a detector finds a face and then
guesses what is turned away, and finds none in the back of a head."""

_CROWN = 0.6
"""The crown lies this many times the distance from chin to brows above the brows."""
_RIM = 0.12
"""The head's region is widened by this share of its size, for hair and ears."""


def project_face(character: Character, view: View) -> tuple[np.ndarray, np.ndarray]:
    """A character's face in the picture.

    Returns:
        (S,68,2) pixels, and (S,) bool: whether the face is in view.
    """
    assert character.keypoints is not None
    state = character.keypoints.state[view.frames, FACE_KEYPOINTS]
    uv, depth = view.project(character.keypoints.points[:, FACE_KEYPOINTS])
    whole = (state != KeypointState.ABSENT).all(axis=1) & (depth > 0.01).all(axis=1)
    shown = whole & ((state == KeypointState.VISIBLE).mean(axis=1) >= _SEEN)
    return np.where(whole[:, None, None], uv, 0.0), shown


def draw_faces(faces: list[tuple[np.ndarray, np.ndarray]], width: int, height: int) -> np.ndarray:
    """Line drawings of all faces (T,H,W,3) float32 in [0, 1], RGB on black.

    Points are scaled to a square canvas, cut to whole pixels, joined, and the canvas is stretched to the picture.

    Args:
        faces: of each the landmarks (T,68,2) in pixels of the picture, and whether it is in view (T,).
    """
    frames = len(faces[0][0])
    drawings = np.empty((frames, height, width, 3), np.float32)
    for frame in range(frames):
        canvas = np.zeros((CANVAS, CANVAS, 3), np.float32)
        for points, shown in faces:
            if not shown[frame]:
                continue
            # Far outside, lines are cut anyway; OpenCV takes 16 bits of whole pixels.
            scaled = np.clip(points[frame] / (width, height) * CANVAS, -3e4, 3e4).astype(int)
            for indices, colour in _LINES:
                for a, b in pairwise(indices):
                    cv2.line(canvas, scaled[a].tolist(), scaled[b].tolist(), colour, thickness=_THICKNESS)
        drawings[frame] = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_LINEAR) / 255
    return drawings


def head_masks(faces: list[tuple[np.ndarray, np.ndarray]], width: int, height: int) -> np.ndarray:
    """Where heads are: (T,H,W) float32, 1 inside, 0 outside; nothing where a face is not in view.

    The hull of the landmarks and of a crown above the brows, widened for hair and ears.

    Args:
        faces: as ``draw_faces`` takes them.
    """
    frames = len(faces[0][0])
    masks = np.zeros((frames, height, width), np.float32)
    for points, shown in faces:
        for frame in np.nonzero(shown)[0]:
            face = points[frame]
            brows = face[17:27]
            up = brows.mean(axis=0) - face[8]
            hull = np.concatenate([face, brows + _CROWN * up, face[[0, 16]] + 0.3 * up])
            hull = cv2.convexHull(np.clip(hull, -3e4, 3e4).astype(np.int32))
            mask = np.zeros((height, width), np.uint8)
            cv2.fillConvexPoly(mask, hull, 1)
            size = max(1, round(_RIM * float(np.ptp(hull[:, 0], axis=0).max())))
            rim = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * size + 1, 2 * size + 1))
            masks[frame] = np.maximum(masks[frame], cv2.dilate(mask, rim))
    return masks
