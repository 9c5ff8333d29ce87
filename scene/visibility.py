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
from .capture_mesh import Topology, corner_vertices, positions, topology

SELF_MARGIN = 3e-4
"""Of a character's height (0.5 mm for a grown-up): surfaces this close before a point are the point's own."""
WORN_MARGIN = 0.02
"""Of a character's height: clothes this close before the skin do not hide it, they are how it looks."""

RAY_TRIANGLES = 20_000
"""Rigid meshes with more triangles than this are asked through Blender's ray tree."""

_CELLS = 192
_CELL_PAD = 0.02
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
        always: set[bpy.types.Object],
        never: Callable[[bpy.types.Object], bool],
    ) -> None:
        """
        Args:
            wardrobe: what each object is worn by, as index of the character.
            always: objects that hide others even when they do not show in renders: the characters.
            never: tells of an object that it hides nothing.
        """
        self._wardrobe = wardrobe
        self._always = always
        self._never = never
        self._rigid: dict[int, _Surface] = {}
        self._topologies: dict[int, Topology] = {}
        self.force_rays: bool | None = None
        """Tests only: send everything (True) or nothing (False) to Blender's ray tree."""

    def visible(self, depsgraph: bpy.types.Depsgraph, view: CameraView, targets: Targets) -> np.ndarray:
        """(R,) bool for the frame that ``depsgraph`` has evaluated."""
        camera = targets.points @ view.viewmat[:3, :3].T + view.viewmat[:3, 3]
        depth = camera[:, 2]
        seen = (depth > view.clip_start) & (depth < view.clip_end)
        xy = camera[:, :2] / np.where(seen, depth, 1.0)[:, None]
        u = xy[:, 0] * view.K[0, 0] + view.K[0, 2]
        v = xy[:, 1] * view.K[1, 1] + view.K[1, 2]
        seen &= (u >= 0) & (u <= view.width) & (v >= 0) & (v <= view.height)
        for instance in depsgraph.object_instances:
            if not seen.any():
                break
            if self._hides(instance):
                self._hide(instance, view, targets, camera, xy, seen)
        return seen

    def _hides(self, instance: bpy.types.DepsgraphObjectInstance) -> bool:
        obj = instance.object
        if obj.type not in _SURFACES or not instance.show_self:
            return False
        source = _source(instance)
        if source in self._always:
            return True
        by_parent = instance.is_instance and instance.parent.hide_render
        return not (self._never(source) or obj.hide_render or by_parent or not obj.visible_camera)

    def _hide(
        self,
        instance: bpy.types.DepsgraphObjectInstance,
        view: CameraView,
        targets: Targets,
        camera: np.ndarray,
        xy: np.ndarray,
        seen: np.ndarray,
    ) -> None:
        """Clear ``seen`` (R,) where this instance stands before a point."""
        obj = instance.object
        surface = self._surface(obj)
        if surface is None:
            return
        matrix = np.array(instance.matrix_world, dtype=np.float64)
        to_camera = view.viewmat @ matrix
        candidates = np.flatnonzero(seen & _behind_box(_move(surface.box, to_camera), camera[:, 2], xy))
        if not len(candidates):
            return
        share = np.full(len(candidates), SELF_MARGIN)
        wearer = self._wardrobe.get(_source(instance))
        if wearer is not None:
            share[targets.owner[candidates] == wearer] = WORN_MARGIN
        limit = 1.0 - share * targets.height[candidates] / np.linalg.norm(camera[candidates], axis=1)
        by_rays = surface.rigid and len(surface.triangles) > RAY_TRIANGLES
        if self.force_rays is not None:
            by_rays = self.force_rays and obj.type == "MESH"
        if by_rays:
            hidden = _cast(obj, matrix, view, targets.points[candidates], camera[candidates, 2], limit)
        else:
            hidden = occluded(
                _move(surface.vertices, to_camera), surface.triangles, camera[candidates], limit, view.clip_start
            )
        seen[candidates[hidden]] = False

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
        surface = _Surface(vertices, known.triangles, _box(vertices), rigid)
        if rigid:
            self._rigid[key] = surface
        return surface


@dataclass(frozen=True, eq=False)
class _Surface:
    """Vertices (V,3) float32 in object space, triangles (F,3), corners (8,3) of the bounding box."""

    vertices: np.ndarray
    triangles: np.ndarray
    box: np.ndarray
    rigid: bool


def _source(instance: bpy.types.DepsgraphObjectInstance) -> bpy.types.Object:
    """The scene's own object that an instance comes from."""
    return (instance.parent if instance.is_instance else instance.object).original


def _move(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points (...,3) by ``matrix`` (4,4), in the points' precision."""
    return points @ matrix[:3, :3].T.astype(points.dtype) + matrix[:3, 3].astype(points.dtype)


def _box(vertices: np.ndarray) -> np.ndarray:
    ends = np.stack([vertices.min(axis=0), vertices.max(axis=0)])
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


def occluded(
    vertices: np.ndarray, triangles: np.ndarray, points: np.ndarray, limit: np.ndarray, near: float
) -> np.ndarray:
    """Which points a mesh hides from the camera.

    Args:
        vertices: (V,3) float32, camera space (z forward).
        triangles: (F,3) int.
        points: (R,3) float64, camera space, in front of the camera.
        limit: (R,) in (0,1); surfaces beyond this share of the way to the point do not hide it.
        near: metres; surfaces before this plane are not seen.

    Returns:
        (R,) bool.
    """
    hidden = np.zeros(len(points), dtype=bool)
    xy = points[:, :2] / points[:, 2:]
    depth = vertices[:, 2]
    front = depth > _EPSILON
    if not front.any():
        return hidden
    projected = vertices[:, :2] / np.where(front, depth, 1.0)[:, None]
    chosen = _over_points(projected, front, triangles, xy)
    if not len(chosen):
        return hidden

    corners = triangles[chosen]
    spread = projected[corners]
    low, high = spread.min(axis=1), spread.max(axis=1)
    pad = 1e-6 * (1 + np.abs(spread).max(axis=(1, 2)))[:, None]
    low, high = low - pad, high + pad
    crossing = ~front[corners].all(axis=1)
    low[crossing], high[crossing] = -np.inf, np.inf
    nearest = depth[corners].min(axis=1)

    order = np.argsort(xy[:, 0], kind="stable")
    first = np.searchsorted(xy[order, 0], low[:, 0], side="left")
    counts = np.searchsorted(xy[order, 0], high[:, 0], side="right") - first
    ends = np.cumsum(counts)
    for begin, end in _chunks(ends):
        taken = np.repeat(np.arange(begin, end), counts[begin:end])
        offsets = np.arange(len(taken)) - np.repeat(ends[begin:end] - counts[begin:end], counts[begin:end])
        offsets += ends[begin - 1] if begin else 0
        point = order[first[taken] + offsets]
        inside = (xy[point, 1] >= low[taken, 1]) & (xy[point, 1] <= high[taken, 1])
        inside &= nearest[taken] < points[point, 2] * limit[point]
        taken, point = taken[inside], point[inside]
        share = _intersect(vertices[corners[taken]].astype(np.float64), points[point])
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


def _over_points(projected: np.ndarray, front: np.ndarray, triangles: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Indices of triangles whose bounding boxes share a cell with a point; conservative."""
    low, high = xy.min(axis=0), xy.max(axis=0)
    # Rounding of single precision must not push a vertex over a cell's edge that its triangle reaches.
    scale = _CELLS / np.maximum(high - low, 1e-9)
    cells = np.clip(np.floor((xy - low) * scale), 0, _CELLS - 1).astype(np.int64) + 1
    filled = np.zeros((_CELLS + 2, _CELLS + 2), dtype=np.int32)
    np.add.at(filled, (cells[:, 1], cells[:, 0]), 1)
    table = np.zeros((_CELLS + 3, _CELLS + 3), dtype=np.int32)
    table[1:, 1:] = filled.cumsum(axis=0).cumsum(axis=1)
    table = table.ravel()

    scaled = (projected - low.astype(np.float32)) * scale.astype(np.float32)
    least = np.clip(np.floor(scaled - _CELL_PAD), -1, _CELLS).astype(np.int16) + np.int16(1)
    most = np.clip(np.floor(scaled + _CELL_PAD), -1, _CELLS).astype(np.int16) + np.int16(1)
    if not front.all():
        behind = ~front
        least[behind], most[behind] = 0, _CELLS + 1
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]

    def reduce(values: np.ndarray, pick: np.ufunc) -> np.ndarray:
        return pick(pick(values[a], values[b]), values[c])

    left, right = reduce(least[:, 0], np.minimum), reduce(most[:, 0], np.maximum) + 1
    top, bottom = reduce(least[:, 1], np.minimum), reduce(most[:, 1], np.maximum) + 1
    width = _CELLS + 3
    upper, lower = top.astype(np.int32) * width, bottom.astype(np.int32) * width
    count = table[lower + right] - table[upper + right] - table[lower + left] + table[upper + left]
    found = count > 0
    if not front.all():
        # Behind vertices were given the whole grid's reach: drop what lies behind entirely.
        least_front = reduce(front, np.logical_or)
        reach = front.all() | least_front
        crossing = least_front & ~reduce(front, np.logical_and)
        found = (found & reach) | crossing
    return np.flatnonzero(found)


def _intersect(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(P,) share of the way from the camera to ``points`` (P,3) at which triangles (P,3,3) are met; inf for a miss."""
    origin = corners[:, 0]
    first, second = corners[:, 1] - origin, corners[:, 2] - origin
    normal = np.cross(points, second)
    determinant = np.einsum("pi,pi->p", first, normal)
    parallel = np.abs(determinant) < 1e-18
    scale = 1.0 / np.where(parallel, 1.0, determinant)
    u = -np.einsum("pi,pi->p", origin, normal) * scale
    across = np.cross(-origin, first)
    v = np.einsum("pi,pi->p", points, across) * scale
    share = np.einsum("pi,pi->p", second, across) * scale
    missed = parallel | (u < -_EDGE) | (v < -_EDGE) | (u + v > 1 + _EDGE) | (share <= 0)
    return np.where(missed, np.inf, share)
