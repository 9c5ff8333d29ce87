"""Spots that the animator picked to lead the motion: objects' origins, and vertices of evaluated meshes.

Shape letters: T frames, P tracks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import bpy
import numpy as np

from ...backend.shot import ShotError, Track
from ...backend.shot.validate import MAX_TRACKS
from .mesh import MeshReading, positions
from .visibility import NOBODY, WORN_MARGIN, VisibilityQuery

EMPTY_MARGIN = 0.03
"""Metres: an empty sits on a surface, or a little within; surfaces this close before it do not hide it."""
VERTEX_MARGIN = 1e-3
"""Metres: surfaces this close before a vertex are its own."""
_GROWN_UP = 1.7


@dataclass(eq=False)
class Spot:
    """One track while it is read.

    Attributes:
        name: unique.
        object: whose origin or vertex it is.
        vertex: index in the evaluated mesh, or -1 for the origin.
    """

    name: str
    object: bpy.types.Object
    vertex: int
    points_T: list[np.ndarray] = field(default_factory=list)
    visibility_T: list[bool] = field(default_factory=list)

    @property
    def origin(self) -> bool:
        """Whether it is the object's origin."""
        return self.vertex < 0

    def read(self, depsgraph: bpy.types.Depsgraph, readings: Mapping[bpy.types.Object, MeshReading]) -> np.ndarray:
        """(3,) float64 world, at the frame that ``depsgraph`` has evaluated.

        Args:
            readings: meshes that were read at this frame already.

        Raises:
            ShotError: the mesh has no such vertex, or the place is NaN.
        """
        evaluated = self.object.evaluated_get(depsgraph)
        matrix = np.array(evaluated.matrix_world, dtype=np.float64)
        point = matrix[:3, 3]
        if not self.origin:
            known = readings.get(self.object)
            vertices = known.vertices if known is not None else _vertices(evaluated)
            if self.vertex >= len(vertices):
                raise ShotError(
                    f"tracks.{self.name}",
                    f"'{self.object.name}' has {len(vertices)} vertices with its modifiers, so none of number "
                    f"{self.vertex} at frame {depsgraph.scene.frame_current}; pick another vertex",
                )
            point = matrix[:3, :3] @ vertices[self.vertex].astype(np.float64) + matrix[:3, 3]
        if not np.isfinite(point).all():
            raise ShotError(
                f"tracks.{self.name}",
                f"'{self.object.name}' has NaN in its transform or mesh at frame {depsgraph.scene.frame_current}; "
                "check its keys, drivers and modifiers",
            )
        return point

    def track(self) -> Track:
        """As a part of a Shot."""
        return Track(self.name, np.stack(self.points_T).astype(np.float32), np.array(self.visibility_T, dtype=bool))


def _vertices(evaluated: bpy.types.Object) -> np.ndarray:
    try:
        mesh = evaluated.to_mesh()
    except RuntimeError:
        return np.zeros((0, 3), dtype=np.float32)
    if mesh is None:
        return np.zeros((0, 3), dtype=np.float32)
    try:
        return positions(mesh)
    finally:
        evaluated.to_mesh_clear()


def find_spots(scene: bpy.types.Scene) -> list[Spot]:
    """The spots that the animator picked in a scene, in their order.

    Raises:
        ShotError: one without an object, or too many.
    """
    listed = getattr(scene.maquette, "tracks", ())
    if len(listed) > MAX_TRACKS:
        raise ShotError("tracks", f"the scene has {len(listed)}; at most {MAX_TRACKS} are possible, remove some")
    spots: list[Spot] = []
    taken: set[str] = set()
    for index, entry in enumerate(listed):
        if entry.object is None:
            raise ShotError(f"tracks.{entry.name or index}", "has no object any more; choose one, or remove the track")
        vertex = int(entry.vertex)
        wanted = entry.name or (entry.object.name if vertex < 0 else f"{entry.object.name} {vertex}")
        name, count = wanted, 1
        while name in taken:
            count += 1
            name = f"{wanted} {count}"
        taken.add(name)
        spots.append(Spot(name, entry.object, vertex))
    return spots


def bodies_of(spots: list[Spot], bodies: Mapping[bpy.types.Object, int]) -> dict[bpy.types.Object, int]:
    """Owners for the occluders: those of the characters, and one more for each other object with a spot on it."""
    found = dict(bodies)
    for spot in spots:
        found.setdefault(spot.object, max(found.values(), default=NOBODY) + 1)
    return found


def track_targets(
    spots: list[Spot], points: np.ndarray, owners: Mapping[bpy.types.Object, int], heights: Mapping[int, float]
) -> VisibilityQuery:
    """What to ask the occluders about spots at ``points`` (P,3).

    An object does not hide its own origin, which lies within it. ``heights`` are the characters', by owner.
    """
    origin = np.array([spot.origin for spot in spots])
    owner = np.array([owners[spot.object] for spot in spots])
    loose = np.array([spot.origin and spot.object.type == "EMPTY" for spot in spots])
    height = np.array([heights.get(int(number), _GROWN_UP) for number in owner])
    return VisibilityQuery(
        points,
        owner,
        np.where(loose, EMPTY_MARGIN, VERTEX_MARGIN),
        np.where(origin, np.inf, VERTEX_MARGIN),
        np.where(origin, np.inf, WORN_MARGIN * height),
        np.zeros(len(spots), dtype=bool),
    )
