"""Which points a mesh hides from the camera, on arrays alone.

The mesh is projected, triangles whose bounding boxes hold no point are dropped with a summed-area table (Crow 1984),
and only the rest are intersected (Moeller and Trumbore 1997).

Shape letters: R points, V vertices, F triangles, P pairs of a point and a triangle.
"""

from __future__ import annotations

import itertools

import numpy as np

EPSILON = 1e-6
"""Metres before the camera; what is nearer is taken to be behind it."""

_CELLS = 256
_ROUNDING = 0.02
_EDGE = 1e-7


class PointGrid:
    """Points of one frame, sorted so that the few triangles that may hide them are found fast.

    Works with (x,y)/z rather than pixels; cells divide the square around all points.
    """

    def __init__(self, points: np.ndarray) -> None:
        """
        Args:
            points: (R,3) float64, camera space, in front of the camera.
        """
        self.points = points
        self.xy = points[:, :2] / points[:, 2:]
        self.low = self.xy.min(axis=0)
        self.size = max(float((self.xy.max(axis=0) - self.low).max()), 1e-9) / _CELLS
        self.pad = 1e-6 * (1 + np.abs(self.xy).max())
        self.order = np.argsort(self.xy[:, 0], kind="stable")
        self.ordered = self.xy[self.order, 0]
        # One cell around for what lies outside. Vertices come in single precision: a point within rounding of its
        # cell's edge fills the next cell as well.
        filled = np.zeros((_CELLS + 2, _CELLS + 2), dtype=np.int32)
        place = (self.xy - self.low) / self.size
        slack = _ROUNDING + self.pad / self.size
        for dx in (-slack, slack):
            for dy in (-slack, slack):
                cells = np.clip(np.floor(place + (dx, dy)), -1, _CELLS).astype(np.int64) + 1
                filled[cells[:, 1], cells[:, 0]] = 1
        table = np.zeros((_CELLS + 3, _CELLS + 3), dtype=np.int32)
        table[1:, 1:] = filled.cumsum(axis=0).cumsum(axis=1)
        self.table = table.ravel()

    def near_points(self, projected: np.ndarray, behind: np.ndarray | None, by_corner: np.ndarray) -> np.ndarray:
        """Indices of triangles whose bounding boxes share a cell with a point; a few more, never one less.

        Args:
            projected: (2,V) float32, x/z and y/z.
            behind: (V,) bool, vertices that are not before the camera; None when all are.
            by_corner: (3,F).
        """
        spans = []
        for row, start in zip(projected, self.low, strict=True):
            place = (row - np.float32(start)) * np.float32(1 / self.size) + np.float32(1)
            cells = np.clip(place, 0, _CELLS + 1).astype(np.int16)
            a, b, c = (np.take(cells, corner) for corner in by_corner)
            spans.append((np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c) + np.int16(1)))
        (left, right), (top, bottom) = spans
        width = _CELLS + 3
        upper, lower = top.astype(np.int32) * width, bottom.astype(np.int32) * width
        table = self.table
        found = table[lower + right] - table[upper + right] > table[lower + left] - table[upper + left]
        if behind is not None:
            a, b, c = (np.take(behind, corner) for corner in by_corner)
            found = (found & ~(a | b | c)) | ((a | b | c) & ~(a & b & c))
        return np.flatnonzero(found)


def occluded(
    vertices: np.ndarray, by_corner: np.ndarray, grid: PointGrid, limit: np.ndarray, near: float
) -> np.ndarray:
    """Which points a mesh hides from the camera.

    Args:
        vertices: (3,V) float32, rows x, y, z in camera space (z forward).
        by_corner: (3,F) int, vertices of each triangle.
        grid: the points (R,3).
        limit: (R,) surfaces beyond this share of the way to a point do not hide it; 0 leaves the point out.
        near: metres; surfaces before this plane are not seen.

    Returns:
        (R,) bool.
    """
    points = grid.points
    hidden = np.zeros(len(points), dtype=bool)
    depth = vertices[2]
    behind = depth <= EPSILON
    crossed = bool(behind.any())
    if crossed and behind.all():
        return hidden
    projected = vertices[:2] / (np.where(behind, np.float32(1), depth) if crossed else depth)
    chosen = grid.near_points(projected, behind if crossed else None, by_corner)
    if not len(chosen):
        return hidden

    a, b, c = (np.take(corner, chosen) for corner in by_corner)
    low, high = (
        [pick(pick(row[a], row[b]), row[c]) for row in (*projected, depth)] for pick in (np.minimum, np.maximum)
    )
    nearest = low.pop()
    if crossed:
        part = behind[a] | behind[b] | behind[c]
        for least, most in zip(low, high, strict=False):
            least[part], most[part] = -np.inf, np.inf

    first = np.searchsorted(grid.ordered, low[0] - grid.pad, side="left")
    counts = np.searchsorted(grid.ordered, high[0] + grid.pad, side="right") - first
    reach = points[:, 2] * limit
    ends = np.cumsum(counts)
    for begin, end in _chunks(ends):
        taken = np.repeat(np.arange(begin, end), counts[begin:end])
        base = ends[begin - 1] if begin else 0
        point = grid.order[np.arange(len(taken)) + (first - ends + counts)[taken] + base]
        v = grid.xy[point, 1]
        inside = (v >= low[1][taken] - grid.pad) & (v <= high[1][taken] + grid.pad) & (nearest[taken] < reach[point])
        taken, point = taken[inside], point[inside]
        if not len(point):
            continue
        first_corner, second_corner, third_corner = (vertices[:, k[taken]].astype(np.float64) for k in (a, b, c))
        share = _intersect(first_corner, second_corner, third_corner, points[point].T)
        hit = (share < limit[point]) & (share * points[point, 2] > near)
        hidden[point[hit]] = True
    return hidden


def _chunks(ends: np.ndarray, most: int = 2_000_000) -> list[tuple[int, int]]:
    """Runs of triangles with at most about ``most`` pairs together, from running totals of pairs."""
    cuts = [0]
    while cuts[-1] < len(ends):
        done = ends[cuts[-1] - 1] if cuts[-1] else 0
        cuts.append(max(int(np.searchsorted(ends, done + most, side="right")), cuts[-1] + 1))
    return list(itertools.pairwise(cuts))


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross product of (3,P) rows; numpy's own is slow on short lists."""
    return np.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _intersect(a: np.ndarray, b: np.ndarray, c: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Where the way from the camera (the origin) to a point meets a triangle.

    Args:
        a, b, c: (3,P) float64 corners; points: (3,P).

    Returns:
        (P,) share of the way; inf for a miss.
    """
    first, second = b - a, c - a
    normal = _cross(points, second)
    determinant = _dot(first, normal)
    parallel = np.abs(determinant) < 1e-18
    scale = 1.0 / np.where(parallel, 1.0, determinant)
    u = -_dot(a, normal) * scale
    across = _cross(first, a)
    v = _dot(points, across) * scale
    share = _dot(second, across) * scale
    missed = parallel | (u < -_EDGE) | (v < -_EDGE) | (u + v > 1 + _EDGE) | (share <= 0)
    return np.where(missed, np.inf, share)
