"""Evaluated meshes as arrays, frame after frame.

Shape letters: V vertices, F triangles.
"""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np

from ...backend.shot import ShotError


class TopologyError(ShotError):
    """A character whose vertices do not stay the same through the shot.

    Attributes:
        object: the mesh object.
    """

    def __init__(self, obj: bpy.types.Object, message: str) -> None:
        super().__init__(f"characters.{obj.name}", message)
        self.object = obj


@dataclass(frozen=True, eq=False)
class Topology:
    """What must not change while a mesh moves.

    Attributes:
        vertices: number of vertices V.
        corners: (L,) int32 vertex of each face corner.
        triangles: (F,3) int32 vertices of each triangle.
        by_corner: (3,F) int64, the same corner by corner, in the form in which numpy gathers fastest.
    """

    vertices: int
    corners: np.ndarray
    triangles: np.ndarray
    by_corner: np.ndarray


def positions(mesh: bpy.types.Mesh) -> np.ndarray:
    """(V,3) float32 in the object's space."""
    flat = np.empty(len(mesh.vertices) * 3, dtype=np.float32)
    if flat.size:
        # Much faster than vertices.foreach_get, which converts value by value.
        mesh.attributes["position"].data.foreach_get("vector", flat)
    return flat.reshape(-1, 3)


def bounds(vertices: np.ndarray) -> np.ndarray:
    """Least and greatest coordinates (2,3) of vertices (V,3)."""
    rows = np.ascontiguousarray(vertices.T)  # Reducing long rows is many times faster than short ones.
    return np.stack([rows.min(axis=1), rows.max(axis=1)])


def corner_vertices(mesh: bpy.types.Mesh) -> np.ndarray:
    """(L,) int32 vertex of each face corner."""
    corners = np.empty(len(mesh.loops), dtype=np.int32)
    if corners.size:
        mesh.attributes[".corner_vert"].data.foreach_get("value", corners)
    return corners


def topology(mesh: bpy.types.Mesh) -> Topology:
    """Triangulate a mesh. Costs milliseconds: do it once."""
    mesh.calc_loop_triangles()
    triangles = np.empty(len(mesh.loop_triangles) * 3, dtype=np.int32)
    mesh.loop_triangles.foreach_get("vertices", triangles)
    triangles = triangles.reshape(-1, 3)
    by_corner = np.ascontiguousarray(triangles.T, dtype=np.int64)
    return Topology(len(mesh.vertices), corner_vertices(mesh), triangles, by_corner)


@dataclass(frozen=True, eq=False)
class MeshReading:
    """A mesh at one frame.

    Attributes:
        vertices: (V,3) float32 in the object's space.
        bounds: (2,3) float32, least and greatest of them.
        matrix: (4,4) float64, object to world.
        topology: of the mesh.
    """

    vertices: np.ndarray
    bounds: np.ndarray
    matrix: np.ndarray
    topology: Topology


class MeshReader:
    """Reads one object's evaluated mesh; its topology is fixed at the first reading."""

    def __init__(self, obj: bpy.types.Object) -> None:
        self.object = obj
        self.topology: Topology | None = None

    def read(self, depsgraph: bpy.types.Depsgraph) -> MeshReading:
        """The mesh at the frame that ``depsgraph`` has evaluated.

        Raises:
            TopologyError: another topology than at the first reading.
            ShotError: no faces, or NaN.
        """
        obj = self.object
        where = f"frame {depsgraph.scene.frame_current}"
        field = f"characters.{obj.name}"
        evaluated = obj.evaluated_get(depsgraph)
        # to_mesh rather than data: it also gives the real mesh where subdivision runs on the GPU.
        mesh = evaluated.to_mesh()
        try:
            if mesh is None or not len(mesh.polygons):
                raise ShotError(field, f"'{obj.name}' has no faces at {where}; a character needs a surface")
            vertices = positions(mesh)
            if self.topology is None:
                self.topology = topology(mesh)
            elif len(mesh.vertices) != self.topology.vertices or not np.array_equal(
                corner_vertices(mesh), self.topology.corners
            ):
                raise TopologyError(
                    obj,
                    f"'{obj.name}' changes its topology: {self.topology.vertices} vertices at first, "
                    f"{len(mesh.vertices)} at {where}. The same spots on the skin must exist in every frame: disable "
                    "animated Remesh, Decimate, Build, Mask or Boolean modifiers",
                )
        finally:
            evaluated.to_mesh_clear()
        matrix = np.array(evaluated.matrix_world, dtype=np.float64)
        reading = MeshReading(vertices, bounds(vertices), matrix, self.topology)
        if not np.isfinite(matrix).all() or not np.isfinite(reading.bounds).all():
            raise ShotError(
                field,
                f"'{obj.name}' has NaN in its transform or mesh at {where}; check its keys, drivers and modifiers",
            )
        return reading
