"""The surfaces that a render shows at one frame, instances included.

Particles, volumes and hair curves are none.

Shape letters: V vertices, F triangles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import bpy
import numpy as np

from .mesh import MeshReading, Topology, bounds, corner_vertices, positions, topology


@dataclass(frozen=True, eq=False)
class TriMesh:
    """A triangulated surface in its object's space.

    Attributes:
        vertices: (V,3) float32.
        topology: one and the same object as long as it does not change.
        box: (8,3) corners of the bounding box.
        rigid: whether it never changes its shape.
    """

    vertices: np.ndarray
    topology: Topology
    box: np.ndarray
    rigid: bool

    @classmethod
    def of_reading(cls, reading: MeshReading) -> TriMesh:
        """The surface of a character that was read already."""
        return cls(reading.vertices, reading.topology, box_corners(reading.bounds), False)


@dataclass(frozen=True, eq=False)
class Shown:
    """Something with a surface that a render shows.

    Attributes:
        source: the scene's own object that it comes from.
        object: evaluated, from which the surface is made; valid, as ``key()``, until the next one is asked for.
        matrix: (4,4) float64, object to world.
        instance: whether ``source`` only places it, or becomes it (a text, a curve).
    """

    source: bpy.types.Object
    object: bpy.types.Object
    matrix: np.ndarray
    instance: bool
    _from: bpy.types.DepsgraphObjectInstance

    def key(self) -> tuple:
        """What tells it from everything else that is shown, in every frame."""
        if not self.instance:
            return (self.source.name_full,)
        return (self.source.name_full, self.object.original.name_full, *self._from.persistent_id)


def shown(depsgraph: bpy.types.Depsgraph, never: Callable[[bpy.types.Object], bool]) -> Iterator[Shown]:
    """What the camera may see at the evaluated frame; ``never`` tells of sources to leave out.

    Blender lists a text, curve, surface or metaball twice: as such, and as an instance of the mesh that it becomes.
    """
    for instance in depsgraph.object_instances:
        obj, placed = instance.object, instance.is_instance
        if obj.type != "MESH" or not instance.show_self:
            continue
        source = (instance.parent if placed else obj).original
        if never(source) or obj.hide_render or (placed and instance.parent.hide_render) or not obj.visible_camera:
            continue
        yield Shown(source, obj, np.array(instance.matrix_world, dtype=np.float64), placed, instance)


class MeshCache:
    """Evaluated meshes, from memory where they cannot have changed."""

    def __init__(self) -> None:
        self._rigid: dict[int, TriMesh] = {}
        self._topologies: dict[int, Topology] = {}

    def of(self, obj: bpy.types.Object) -> TriMesh | None:
        """The surface of an evaluated object; None when it has no faces."""
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
            obj.to_mesh_clear()
            return None
        name = original.as_pointer()
        known = self._topologies.get(name)
        if (
            known is None
            or known.vertices != len(mesh.vertices)
            or not np.array_equal(corner_vertices(mesh), known.corners)
        ):
            known = self._topologies[name] = topology(mesh)
        vertices = positions(mesh)
        obj.to_mesh_clear()
        surface = TriMesh(vertices, known, box_corners(bounds(vertices)), rigid)
        if rigid:
            self._rigid[key] = surface
        return surface


def move(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points (...,3) by ``matrix`` (4,4), in the points' precision."""
    return points @ matrix[:3, :3].T.astype(points.dtype) + matrix[:3, 3].astype(points.dtype)


def box_corners(ends: np.ndarray) -> np.ndarray:
    """The eight corners (8,3) of a box from its least and greatest coordinates (2,3)."""
    return np.stack([ends[[i, j, k], [0, 1, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
