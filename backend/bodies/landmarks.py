"""Keypoints of face and hands on a body's skin, as weighted means of its vertices.

Shape letters: V vertices, F triangles, W vertices that a keypoint may hang on.

The embedded body's file names them itself. Files of the SMPL family do so in part: SMPL-X's hold the face (51 points in
iBUG's order from the brows on, and the jaw for every turn of the head), and for nose, eyes, ears and fingertips the
field agrees on vertices by number (smplx's ``vertex_ids``), because the meshes' numbering never changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..shot.keypoints import KEYPOINT_NAMES
from .types import BodyError

COUNT = len(KEYPOINT_NAMES)
MAX_WIDTH = 64
_NUMBER = {name: index for index, name in enumerate(KEYPOINT_NAMES)}

_SMPL_HEAD = {"nose": 332, "right_eye": 6260, "left_eye": 2800, "right_ear": 4071, "left_ear": 583}
_SMPLH_TIPS = {
    "right_hand_thumb_4": 6191, "right_hand_index_4": 5782, "right_hand_middle_4": 5905, "right_hand_ring_4": 6016,
    "right_hand_little_4": 6133, "left_hand_thumb_4": 2746, "left_hand_index_4": 2319, "left_hand_middle_4": 2445,
    "left_hand_ring_4": 2556, "left_hand_little_4": 2673,
}  # fmt: skip
_SMPLX_SPOTS = {
    "nose": 9120, "right_eye": 9929, "left_eye": 9448, "right_ear": 616, "left_ear": 6,
    "right_hand_thumb_4": 8079, "right_hand_index_4": 7669, "right_hand_middle_4": 7794, "right_hand_ring_4": 7905,
    "right_hand_little_4": 8022, "left_hand_thumb_4": 5361, "left_hand_index_4": 4933, "left_hand_middle_4": 5058,
    "left_hand_ring_4": 5169, "left_hand_little_4": 5286,
}  # fmt: skip
KNOWN: dict[tuple[str, int], dict[str, int]] = {
    ("smpl", 6890): _SMPL_HEAD,
    ("smplh", 6890): {**_SMPL_HEAD, **_SMPLH_TIPS},
    ("smplx", 10475): _SMPLX_SPOTS,
}
"""Vertices by number, for each family and its number of vertices."""

KEYS = (
    "landmarks",
    "landmark_weights",
    "lmk_faces_idx",
    "lmk_bary_coords",
    "dynamic_lmk_faces_idx",
    "dynamic_lmk_bary_coords",
)
"""What files may hold: ours, and SMPL-X's."""


@dataclass(frozen=True, eq=False)
class Landmarks:
    """The keypoints that hang on a body's skin. Read-only.

    Attributes:
        vertices: (128,W) int32.
        weights: (128,W) float32; a row adds up to one, or to zero where the skin has no such keypoint.
    """

    vertices: np.ndarray
    weights: np.ndarray

    def __post_init__(self) -> None:
        self.vertices.setflags(write=False)
        self.weights.setflags(write=False)

    @property
    def present(self) -> np.ndarray:
        """(128,) bool: which keypoints the skin has."""
        return self.weights.max(axis=1) > 0

    def apply(self, vertices: np.ndarray) -> np.ndarray:
        """The keypoints (...,128,3) float32 on vertices (...,V,3); 0 where there is none."""
        vertices = np.asarray(vertices)
        points = sum(self.weights[:, k, None] * vertices[..., self.vertices[:, k], :] for k in range(self.width))
        return np.asarray(points, np.float32)

    @property
    def width(self) -> int:
        """W."""
        return self.weights.shape[1]


def read_landmarks(arrays: Mapping[str, Any], family: str, faces: np.ndarray, vertices: int) -> Landmarks | None:
    """The keypoints that a body file tells of, or None.

    Args:
        arrays: the file's, of which ``KEYS`` are looked at.
        family: ``smpl``, ``smplh`` or ``smplx``.
        faces: (F,3).
        vertices: V.

    Raises:
        BodyError: naming an array of the wrong shape, or numbers outside the body.
    """
    if "landmarks" in arrays:
        hung = _whole("landmarks", arrays["landmarks"], vertices, "vertices")
        fits = hung.ndim == 2 and len(hung) == COUNT and hung.shape[1] <= MAX_WIDTH
        _need("landmarks", hung.shape, fits, (COUNT, "W"))
        weights = _real("landmark_weights", arrays.get("landmark_weights"))
        _need("landmark_weights", weights.shape, weights.shape == hung.shape, hung.shape)
        total = weights.sum(axis=1)
        if weights.min() < 0 or (np.minimum(np.abs(total), np.abs(total - 1)) > 1e-3).any():
            raise BodyError("landmark_weights", "must be positive, and add up to one or to zero for each keypoint")
        return Landmarks(hung, weights)
    known = KNOWN.get((family, vertices), {})
    if not known and "lmk_faces_idx" not in arrays:
        return None
    hung, weights = np.zeros((COUNT, 3), np.int32), np.zeros((COUNT, 3), np.float32)
    for name, vertex in known.items():
        hung[_NUMBER[name], 0], weights[_NUMBER[name], 0] = vertex, 1.0
    if "lmk_faces_idx" in arrays:
        first = _NUMBER["face_17"]
        triangles = _whole("lmk_faces_idx", arrays["lmk_faces_idx"], len(faces), "faces")
        _need("lmk_faces_idx", triangles.shape, triangles.shape == (51,), (51,))
        shares = _real("lmk_bary_coords", arrays.get("lmk_bary_coords"))
        _need("lmk_bary_coords", shares.shape, shares.shape == (51, 3), (51, 3))
        hung[first : first + 51], weights[first : first + 51] = faces[triangles], shares
    if "dynamic_lmk_faces_idx" in arrays:
        first = _NUMBER["face_0"]
        triangles = _whole("dynamic_lmk_faces_idx", arrays["dynamic_lmk_faces_idx"], len(faces), "faces")
        fits = triangles.ndim == 2 and triangles.shape[1] == 17
        _need("dynamic_lmk_faces_idx", triangles.shape, fits, ("any", 17))
        shares = _real("dynamic_lmk_bary_coords", arrays.get("dynamic_lmk_bary_coords"))
        _need("dynamic_lmk_bary_coords", shares.shape, shares.shape == (*triangles.shape, 3), (*triangles.shape, 3))
        # Row 0 is the jaw of a head that looks straight ahead: spots that stay on the skin when it turns.
        hung[first : first + 17], weights[first : first + 17] = faces[triangles[0]], shares[0]
    return Landmarks(hung, weights)


def _need(key: str, shape: tuple[int, ...], fits: bool, wanted: tuple) -> None:
    if not fits:
        raise BodyError(key, f"has the shape {shape}; {wanted} is needed")


def _real(key: str, array: Any) -> np.ndarray:
    if array is None:
        raise BodyError(key, "is missing")
    array = np.asarray(array)
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise BodyError(key, "must hold finite numbers")
    return np.ascontiguousarray(array, np.float32)


def _whole(key: str, array: Any, below: int, what: str) -> np.ndarray:
    array = np.asarray(array)
    if array.dtype.kind not in "fiu" or not array.size or (array != np.round(array)).any():
        raise BodyError(key, "must hold whole numbers")
    if array.min() < 0 or array.max() >= below:
        raise BodyError(key, f"names {what} that do not exist; there are {below}")
    return np.ascontiguousarray(array, np.int32)
