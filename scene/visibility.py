"""Which surface points the camera sees: inside the image, in front, and nothing before them.

A point is hidden when the segment from the camera to it meets a surface that the camera sees, up to a small margin
before the point itself. That is what a ray cast to every point says; two ways that agree give it quickly:

- meshes that deform are projected, triangles whose bounding boxes hold no point are dropped with a summed-area table
  (Crow 1984), and only the rest are intersected (Moeller and Trumbore 1997). A ray tree would have to be rebuilt for
  every frame;
- large rigid meshes are asked through Blender's own ray tree, which it keeps as long as the mesh does not change.

Surfaces are two-sided, as Blender renders them. Particles, volumes and hair curves hide nothing.

Shape letters: R points of all characters, V vertices, F triangles.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import bpy
import numpy as np

from .camera import CameraView
from .capture_mesh import MeshReading, Topology, bounds, corner_vertices, positions, topology

SELF_MARGIN = 3e-4
"""Of a character's height (0.5 mm for a grown-up): surfaces this close before a point are the point's own."""
WORN_MARGIN = 0.02
"""Of a character's height: clothes this close before the skin do not hide it, they are how it looks."""

RAY_TRIANGLES = 20_000
"""Rigid meshes with more triangles than this are asked through Blender's ray tree."""

_CELLS = 256
_ROUNDING = 0.02
_EPSILON = 1e-6
_EDGE = 1e-7
_SURFACES = ("MESH", "CURVE", "SURFACE", "META", "FONT")


@dataclass(frozen=True, eq=False)
class Targets:
    """The points to see at one frame, and how close a surface may be before each.

    Attributes:
        points: (R,3) float64 world.
        height: (R,) metres, of each point's character.
        owner: (R,) index of each point's character.
    """

    points: np.ndarray
    height: np.ndarray
    owner: np.ndarray


class Occluders:
    """The surfaces of a stage, frame after frame."""

    def __init__(
        self,
        wardrobe: dict[bpy.types.Object, int],
        never: Callable[[bpy.types.Object], bool],
    ) -> None:
        """
        Args:
            wardrobe: what each object is worn by, as index of the character.
            never: tells of an object that it hides nothing.
        """
        self._wardrobe = wardrobe
        self._never = never
        self._rigid: dict[int, _Surface] = {}
        self._topologies: dict[int, Topology] = {}
        self.force_rays: bool | None = None
        """Tests only: send everything (True) or nothing (False) to Blender's ray tree."""

    def visible(
        self,
        depsgraph: bpy.types.Depsgraph,
        view: CameraView,
        targets: Targets,
        characters: dict[bpy.types.Object, MeshReading],
    ) -> np.ndarray:
        """(R,) bool for the frame that ``depsgraph`` has evaluated.

        Args:
            characters: what was read of them already; they hide others even when they do not show in renders.
        """
        camera = targets.points @ view.viewmat[:3, :3].T + view.viewmat[:3, 3]
        depth = camera[:, 2]
        seen = (depth > view.clip_start) & (depth < view.clip_end)
        xy = camera[:, :2] / np.where(seen, depth, 1.0)[:, None]
        u = xy[:, 0] * view.K[0, 0] + view.K[0, 2]
        v = xy[:, 1] * view.K[1, 1] + view.K[1, 2]
        seen &= (u >= 0) & (u <= view.width) & (v >= 0) & (v <= view.height)
        if not seen.any():
            return seen
        near = _Frame(
            view,
            targets,
            camera,
            xy,
            seen,
            np.linalg.norm(camera, axis=1),
            np.flatnonzero(seen),
            PointGrid(camera[seen]),
        )
        for obj, reading in characters.items():
            self._hide(obj, obj, _of_reading(reading), reading.matrix, near)
        for instance in depsgraph.object_instances:
            if not seen.any():
                break
            source = _source(instance)
            if self._hides(instance, source) and (instance.is_instance or source not in characters):
                surface = self._surface(instance.object)
                if surface is not None:
                    self._hide(
                        source, instance.object, surface, np.array(instance.matrix_world, dtype=np.float64), near
                    )
        return seen

    def _hides(self, instance: bpy.types.DepsgraphObjectInstance, source: bpy.types.Object) -> bool:
        obj = instance.object
        if obj.type not in _SURFACES or not instance.show_self or self._never(source):
            return False
        return not (obj.hide_render or (instance.is_instance and instance.parent.hide_render) or not obj.visible_camera)

    def _hide(
        self, source: bpy.types.Object, obj: bpy.types.Object, surface: _Surface, matrix: np.ndarray, frame: _Frame
    ) -> None:
        """Clear what is seen where a surface stands before a point."""
        view, targets, camera = frame.view, frame.targets, frame.camera
        to_camera = view.viewmat @ matrix
        reached = _behind_box(_move(surface.box, to_camera), camera[:, 2], frame.xy)
        reached &= frame.seen
        if not reached.any():
            return
        share = np.full(len(reached), SELF_MARGIN)
        wearer = self._wardrobe.get(source)
        if wearer is not None:
            share[targets.owner == wearer] = WORN_MARGIN
        limit = np.where(reached, 1.0 - share * targets.height / frame.distance, 0.0)
        by_rays = surface.rigid and surface.by_corner.shape[1] > RAY_TRIANGLES
        if self.force_rays is not None:
            by_rays = self.force_rays and obj.type == "MESH" and surface.rigid
        if by_rays:
            rays = np.flatnonzero(reached)
            hidden = _cast(obj, matrix, view, targets.points[rays], camera[rays, 2], limit[rays])
            frame.seen[rays[hidden]] = False
        else:
            rows = to_camera[:3, :3].astype(np.float32) @ surface.vertices.T + to_camera[:3, 3:].astype(np.float32)
            hidden = occluded(rows, surface.by_corner, frame.grid, limit[frame.listed], view.clip_start)
            frame.seen[frame.listed[hidden]] = False

    def _surface(self, obj: bpy.types.Object) -> _Surface | None:
        """The evaluated surface of an object or instance, from memory when it cannot have changed."""
        original, data = obj.original, obj.data
        rigid = (
            obj.type == "MESH"
            and not original.modifiers
            and data.original == original.data
            and original.data.shape_keys is None
            and original.data.animation_data is None
            and original.mode == "OBJECT"
        )
        key = original.data.as_pointer() if rigid else 0
        if rigid and key in self._rigid:
            return self._rigid[key]
        try:
            mesh = obj.to_mesh()
        except RuntimeError:  # Nothing to see, such as an empty text.
            return None
        if mesh is None or not len(mesh.polygons):
            return None
        name = original.as_pointer()
        known = self._topologies.get(name)
        if known is None or not np.array_equal(corner_vertices(mesh), known.corners):
            known = self._topologies[name] = topology(mesh)
        vertices = positions(mesh)
        obj.to_mesh_clear()
        surface = _Surface(vertices, known.by_corner, _box(bounds(vertices)), rigid)
        if rigid:
            self._rigid[key] = surface
        return surface


@dataclass(frozen=True, eq=False)
class _Surface:
    """Vertices (V,3) float32 in object space, triangles (3,F) by corner, corners (8,3) of the bounding box."""

    vertices: np.ndarray
    by_corner: np.ndarray
    box: np.ndarray
    rigid: bool


@dataclass(frozen=True, eq=False)
class _Frame:
    """The points at one frame.

    In camera space (R,3), as (x,y)/z (R,2), whether they are still seen (R,), and metres from the camera (R,);
    ``listed`` are the indices of those in ``grid``.
    """

    view: CameraView
    targets: Targets
    camera: np.ndarray
    xy: np.ndarray
    seen: np.ndarray
    distance: np.ndarray
    listed: np.ndarray
    grid: PointGrid


def _of_reading(reading: MeshReading) -> _Surface:
    return _Surface(reading.vertices, reading.topology.by_corner, _box(reading.bounds), False)


def _source(instance: bpy.types.DepsgraphObjectInstance) -> bpy.types.Object:
    """The scene's own object that an instance comes from."""
    return (instance.parent if instance.is_instance else instance.object).original


def _move(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points (...,3) by ``matrix`` (4,4), in the points' precision."""
    return points @ matrix[:3, :3].T.astype(points.dtype) + matrix[:3, 3].astype(points.dtype)


def _box(ends: np.ndarray) -> np.ndarray:
    """The eight corners (8,3) of a box from its least and greatest coordinates (2,3)."""
    return np.stack([ends[[i, j, k], [0, 1, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)])


def _behind_box(box: np.ndarray, depth: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """(R,) bool: points at ``depth`` (R,) and ``xy`` (R,2) = (x,y)/z that a box (8,3) in camera space may hide."""
    reached = depth > box[:, 2].min()
    if box[:, 2].min() > _EPSILON:
        corners = box[:, :2] / box[:, 2:]
        pad = 1e-5 * (1 + np.abs(corners).max())
        reached &= ((xy >= corners.min(axis=0) - pad) & (xy <= corners.max(axis=0) + pad)).all(axis=1)
    return reached


def _cast(
    obj: bpy.types.Object,
    matrix: np.ndarray,
    view: CameraView,
    points: np.ndarray,
    depth: np.ndarray,
    limit: np.ndarray,
) -> np.ndarray:
    """(R,) bool: rays of Blender's own tree from the near plane to ``limit`` of the way to world ``points`` (R,3)."""
    rotation = view.viewmat[:3, :3]
    eye = -rotation.T @ view.viewmat[:3, 3]
    near = view.clip_start / depth
    inverse = np.linalg.inv(matrix)
    start = _move(eye + (points - eye) * near[:, None], inverse)
    along = _move(points, inverse) - start
    reach = np.linalg.norm(along, axis=1) * (limit - near) / (1 - near)
    hidden = np.zeros(len(points), dtype=bool)
    for index in np.flatnonzero(reach > 0):
        hidden[index] = obj.ray_cast(start[index], along[index], distance=reach[index])[0]
    return hidden


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
    behind = depth <= _EPSILON
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
