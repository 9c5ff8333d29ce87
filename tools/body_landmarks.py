"""Where the embedded body's face and hands carry the keypoints of backend/shot/keypoints.py.

The face is a table of vertices of MakeHuman's base mesh (hm08, whose numbering is fixed), chosen on pictures of the
mean shape so that they sit where annotators of the iBUG 68 points put them (Sagonas et al., "300 faces in-the-wild
challenge", 2013): the jaw from ear to chin, the crest of the brows, the nose's bridge and lower edge, the corners and
lids of the eyes, and the outer and inner edge of the lips. Only the person's left half and the middle are named; the
right half mirrors it.

The joints of the fingers lie inside; they are weighted means of the skin around, as the body's joints are.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

COUNT, WIDTH = 128, 8
"""Keypoints, and vertices that one of them may hang on."""

NOSE, EYES, EARS = 0, {"left": 15, "right": 14}, {"left": 17, "right": 16}
HANDS = {"left": 18, "right": 39}
FACE = 60

# iBUG number of the person's left half or of the middle to vertices whose mean it is.
LEFT_FACE: dict[int, tuple[int, ...]] = {
    8: (5225,), 9: (11831,), 10: (7618,), 11: (10366,), 12: (7596,), 13: (7613,), 14: (12356,), 15: (12332,),
    16: (12366,),
    22: (6984,), 23: (6983, 6980), 24: (6979,), 25: (6981, 6982), 26: (6987,),
    27: (132,), 28: (131,), 29: (201,), 30: (5054,),
    33: (317,), 34: (7093,), 35: (7080,),
    42: (6850,), 43: (6838,), 44: (6784,), 45: (6805,), 46: (6825,), 47: (6831,),
    51: (466,), 52: (7219,), 53: (7207,), 54: (7185,), 55: (7130,), 56: (7241,), 57: (492,),
    62: (474,), 63: (7228,), 64: (7190,), 65: (7242,), 66: (493,),
}  # fmt: skip

# The person's right half of each group, in the order of the left half above.
MIRRORED: dict[int, int] = {
    **{16 - i: i for i in range(8)},
    26: 17, 25: 18, 24: 19, 23: 20, 22: 21,
    35: 31, 34: 32,
    42: 39, 43: 38, 44: 37, 45: 36, 46: 41, 47: 40,
    52: 50, 53: 49, 54: 48, 55: 59, 56: 58,
    63: 61, 64: 60, 65: 67,
}  # fmt: skip

LEFT_PUPIL = (14598, 14625, 14661, 14634)
"""The eyeball's vertices around its pupil."""

_AROUND = 160
"""Skin vertices that the joint of a finger may hang on."""


def landmarks(
    shapes: np.ndarray, new: np.ndarray, mirror: np.ndarray, fingers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (128,8) int32 and weights (128,8) float32 of the keypoints; weights are 0 where there is none.

    The keypoints that a rig's joints give (shoulders to ankles, wrists) are left out.

    Args:
        shapes: (n,V,3) the population.
        new: number of each base vertex in the body, -1 where it was dropped.
        mirror: (V,) mirror image of each of the body's vertices.
        fingers: (n,20,3) joints and tips of the left hand, thumb to little finger, from the root to the tip.
    """
    vertices = np.zeros((COUNT, WIDTH), np.int32)
    weights = np.zeros((COUNT, WIDTH), np.float32)

    def put(keypoint: int, points: np.ndarray, shares: np.ndarray | None = None) -> None:
        vertices[keypoint, : len(points)] = points
        weights[keypoint, : len(points)] = 1 / len(points) if shares is None else shares

    for number, points in LEFT_FACE.items():
        found = new[list(points)]
        if (found < 0).any():
            raise ValueError(f"face point {number} hangs on vertices that the body does not keep: {points}")
        put(FACE + number, found)
        if number in MIRRORED:
            put(FACE + MIRRORED[number], mirror[found])

    mean = shapes.mean(0)
    put(NOSE, new[list(LEFT_FACE[30])])
    pupil = new[list(LEFT_PUPIL)]
    # The ridge of the ear a little below the eyes, which is seen from the front, the side and behind.
    off = mean - mean[pupil].mean(0)
    ear = np.flatnonzero((np.abs(off[:, 1] + 0.02) < 0.009) & (np.abs(off[:, 2] + 0.085) < 0.012) & (off[:, 0] > 0))
    ridge = ear[[mean[ear, 0].argmax()]]
    for parts, point in ((EYES, pupil), (EARS, ridge)):
        put(parts["left"], point)
        put(parts["right"], mirror[point])

    for joint in range(fingers.shape[1]):
        points, shares = _follow(shapes, fingers[:, joint])
        put(HANDS["left"] + 1 + joint, points, shares)
        put(HANDS["right"] + 1 + joint, mirror[points], shares)
    return vertices, weights


def _follow(shapes: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most WIDTH vertices and their weights whose weighted mean follows places (n,3) through shapes (n,V,3).

    Non-negative least squares over the nearest skin, solved again over the vertices that weigh most.
    """
    near = np.argsort(np.linalg.norm(shapes.mean(0) - places.mean(0), axis=1), kind="stable")[:_AROUND]
    for _ in range(2):
        rows = shapes[::6, near].transpose(0, 2, 1).reshape(-1, len(near)) - places[::6].reshape(-1, 1)
        solved, _ = nnls(np.concatenate([rows, np.full((1, len(near)), 100.0)]), np.append(np.zeros(len(rows)), 100.0))
        kept = np.sort(np.argsort(-solved, kind="stable")[:WIDTH])
        kept = kept[solved[kept] > 1e-4]
        near, solved = near[kept], solved[kept]
    return near, solved / solved.sum()
