"""Which points the camera sees: inside the image, in front, and nothing before them.

A point is hidden when the segment from the camera to it meets a surface that the camera sees, up to a small margin
before the point itself. That is what a ray cast to every point says; two ways that agree give it quickly:

- meshes that deform are projected and their few triangles near the points intersected (see occlusion.py). A ray tree
  would have to be rebuilt for every frame;
- large rigid meshes are asked through Blender's own ray tree, which it keeps as long as the mesh does not change.

Surfaces are two-sided, as Blender renders them. Particles, volumes and hair curves hide nothing.

Shape letters: R points of all characters, V vertices, F triangles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import bpy
import numpy as np

from ..camera.matrices import CameraView
from .mesh import MeshReading
from .occlusion import EPSILON, PointGrid, occluded
from .surfaces import MeshCache, TriMesh, move, shown

SELF_MARGIN = 3e-4
"""Of a character's height (0.5 mm for a grown-up): surfaces this close before a point are the point's own."""
WORN_MARGIN = 0.02
"""Of a character's height: clothes this close before the skin do not hide it, they are how it looks."""

RAY_TRIANGLES = 20_000
"""Rigid meshes with more triangles than this are asked through Blender's ray tree."""

NOBODY = -1
"""Owner of points that are on nobody's body."""


@dataclass(frozen=True, eq=False)
class VisibilityQuery:
    """The points to see at one frame, and how close before each a surface may be without hiding it.

    Attributes:
        points: (R,3) float64 world.
        owner: (R,) int, whose body each point is on, or ``NOBODY``.
        margin: (R,) metres, for surfaces that are neither of the next two.
        own: (R,) metres, for the owner's body.
        worn: (R,) metres, for what the owner wears.
        tell: (R,) bool, where it matters whether the own body or something else hides the point.
    """

    points: np.ndarray
    owner: np.ndarray
    margin: np.ndarray
    own: np.ndarray
    worn: np.ndarray
    tell: np.ndarray

    @classmethod
    def on_skin(cls, points: np.ndarray, height: np.ndarray | float, owner: np.ndarray | int) -> VisibilityQuery:
        """Points (R,3) on the skin of characters of some height (R,) in metres."""
        height, owner = np.broadcast_to(height, len(points)), np.broadcast_to(owner, len(points))
        close = SELF_MARGIN * height
        return cls(points, owner, close, close, WORN_MARGIN * height, np.zeros(len(points), dtype=bool))

    @classmethod
    def joined(cls, parts: Sequence[VisibilityQuery]) -> VisibilityQuery:
        """Several one after the other."""
        return cls(*(np.concatenate([getattr(part, entry.name) for part in parts]) for entry in fields(cls)))


@dataclass(frozen=True, eq=False)
class Sight:
    """What the camera sees of targets.

    Attributes:
        seen: (R,) bool.
        hidden: (R,) bool, outside the picture or behind something that is not the owner's; right only where the
            targets want to be told.
    """

    seen: np.ndarray
    hidden: np.ndarray


class Occluders:
    """The surfaces of a stage, frame after frame."""

    def __init__(
        self,
        bodies: Mapping[bpy.types.Object, int],
        wardrobe: Mapping[bpy.types.Object, int],
        never: Callable[[bpy.types.Object], bool],
    ) -> None:
        """
        Args:
            bodies: whose body an object is, as the owners of targets.
            wardrobe: by whom an object is worn.
            never: tells of an object that it hides nothing.
        """
        self._bodies = bodies
        self._wardrobe = wardrobe
        self._never = never
        self._surfaces = MeshCache()
        self.force_rays: bool | None = None
        """Tests only: send everything (True) or nothing (False) to Blender's ray tree."""

    def look(
        self,
        depsgraph: bpy.types.Depsgraph,
        view: CameraView,
        targets: VisibilityQuery,
        characters: Mapping[bpy.types.Object, MeshReading],
    ) -> Sight:
        """What the camera sees of the targets at the frame that ``depsgraph`` has evaluated.

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
        sight = Sight(seen, ~seen)
        if not seen.any():
            return sight
        listed = np.flatnonzero(seen)
        near = _Frame(
            view, targets, camera, xy, sight, np.linalg.norm(camera, axis=1), listed, PointGrid(camera[listed])
        )
        for obj, reading in characters.items():
            self._hide(obj, obj, TriMesh.of_reading(reading), reading.matrix, near)
        for item in shown(depsgraph, self._never):
            if not near.open.any():
                break
            if item.instance or item.source not in characters:
                surface = self._surfaces.of(item.object)
                if surface is not None:
                    self._hide(item.source, item.object, surface, item.matrix, near)
        return sight

    def _hide(
        self, source: bpy.types.Object, obj: bpy.types.Object, surface: TriMesh, matrix: np.ndarray, frame: _Frame
    ) -> None:
        """Note what is hidden where a surface stands before a point."""
        view, targets, camera, sight = frame.view, frame.targets, frame.camera, frame.sight
        to_camera = view.viewmat @ matrix
        reached = _behind_box(move(surface.box, to_camera), camera[:, 2], frame.xy)
        reached &= frame.open
        if not reached.any():
            return
        margin, ours = targets.margin, np.zeros(len(reached), dtype=bool)
        for owners, closer in ((self._bodies, targets.own), (self._wardrobe, targets.worn)):
            owner = owners.get(source)
            if owner is not None:
                belongs = targets.owner == owner
                margin, ours = np.where(belongs, closer, margin), ours | belongs
        reached &= sight.seen | ~ours
        limit = np.where(reached, 1.0 - margin / frame.distance, 0.0)
        by_rays = surface.rigid and len(surface.topology.triangles) > RAY_TRIANGLES
        if self.force_rays is not None:
            by_rays = self.force_rays and obj.type == "MESH" and surface.rigid
        if by_rays:
            rays = np.flatnonzero(reached)
            hidden = rays[_cast(obj, matrix, view, targets.points[rays], camera[rays, 2], limit[rays])]
        else:
            rows = to_camera[:3, :3].astype(np.float32) @ surface.vertices.T + to_camera[:3, 3:].astype(np.float32)
            by_corner = surface.topology.by_corner
            hidden = frame.listed[occluded(rows, by_corner, frame.grid, limit[frame.listed], view.clip_start)]
        sight.seen[hidden] = False
        sight.hidden[hidden[~ours[hidden]]] = True


@dataclass(frozen=True, eq=False)
class _Frame:
    """The points at one frame.

    In camera space (R,3), as (x,y)/z (R,2), what is seen of them so far, and metres from the camera (R,); ``listed``
    are the indices of those in ``grid``.
    """

    view: CameraView
    targets: VisibilityQuery
    camera: np.ndarray
    xy: np.ndarray
    sight: Sight
    distance: np.ndarray
    listed: np.ndarray
    grid: PointGrid

    @property
    def open(self) -> np.ndarray:
        """(R,) bool: points whose state another surface may still change."""
        return self.sight.seen | (self.targets.tell & ~self.sight.hidden)


def _behind_box(box: np.ndarray, depth: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """(R,) bool: points at ``depth`` (R,) and ``xy`` (R,2) = (x,y)/z that a box (8,3) in camera space may hide."""
    reached = depth > box[:, 2].min()
    if box[:, 2].min() > EPSILON:
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
    start = move(eye + (points - eye) * near[:, None], inverse)
    along = move(points, inverse) - start
    reach = np.linalg.norm(along, axis=1) * (limit - near) / (1 - near)
    hidden = np.zeros(len(points), dtype=bool)
    for index in np.flatnonzero(reach > 0):
        hidden[index] = obj.ray_cast(start[index], along[index], distance=reach[index])[0]
    return hidden
