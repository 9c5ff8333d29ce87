"""Fixed spots on a surface: the same (triangle, barycentric) pair is the same spot on the skin in every frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .types import BodyError

# Candidates drawn for each spot kept. More spread the spots more evenly; fewer keep their density closer to the area.
_OVERSAMPLING = 8


@dataclass(frozen=True, eq=False)
class SurfaceSamples:
    """Spots on a mesh.

    The order is farthest point first: any prefix ``[:k]`` is itself evenly spread, so whoever needs fewer spots takes
    the first ones.

    Attributes:
        triangles: (N,) int32, index into the mesh's triangles.
        barycentric: (N,3) float32, weights of the triangle's corners, adding up to one.
    """

    triangles: np.ndarray
    barycentric: np.ndarray

    def __len__(self) -> int:
        return len(self.triangles)

    def prefix(self, count: int) -> SurfaceSamples:
        """The first ``count`` spots, evenly spread as all are."""
        return SurfaceSamples(self.triangles[:count], self.barycentric[:count])

    def apply(self, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """Where the spots are (...,N,3) float32, on vertices (...,V,3) of faces (F,3)."""
        corners = np.asarray(faces)[self.triangles]
        vertices = np.asarray(vertices)
        # Corner by corner, so that no (...,N,3,3) is made.
        points = sum(self.barycentric[:, k, None] * vertices[..., corners[:, k], :] for k in range(3))
        return np.asarray(points, np.float32)

    def normals(self, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """Unit normals of the spots' triangles (...,N,3) float32; zero where a triangle has collapsed."""
        corners = np.asarray(faces)[self.triangles]
        vertices = np.asarray(vertices)
        first = vertices[..., corners[:, 0], :]
        normal = np.cross(vertices[..., corners[:, 1], :] - first, vertices[..., corners[:, 2], :] - first)
        length = np.linalg.norm(normal, axis=-1, keepdims=True)
        return np.asarray(np.divide(normal, length, out=np.zeros_like(normal), where=length > 0), np.float32)


def sample_surface(vertices: np.ndarray, faces: np.ndarray, n: int, seed: int = 0) -> SurfaceSamples:
    """Choose n spots on a mesh, area-weighted and evenly spread.

    Spots drawn uniformly over the area are thinned to the n that lie farthest apart (Gonzalez, "Clustering to minimize
    the maximum intercluster distance", 1985).

    Args:
        vertices: (V,3) in one pose; only that pose decides where the spots lie.
        faces: (F,3) indices.
        n: how many spots.
        seed: the same seed gives the same spots.

    Raises:
        BodyError: a mesh without area, with indices or coordinates that are not valid, or n below one.
    """
    import trimesh

    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces)
    if n < 1:
        raise BodyError("points", f"{n} points were asked for; at least one is needed")
    if vertices.ndim != 2 or vertices.shape[1] != 3 or not len(vertices):
        raise BodyError("vertices", f"has the shape {vertices.shape}; (V, 3) is needed")
    if faces.ndim != 2 or faces.shape[1] != 3 or not len(faces) or faces.dtype.kind not in "iu":
        raise BodyError("faces", f"has the shape {faces.shape}; the mesh needs triangles (F, 3)")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise BodyError("faces", f"name vertices that do not exist; there are {len(vertices)}")
    if not np.isfinite(vertices).all():
        raise BodyError("vertices", "holds a coordinate that is not finite")
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    extent = float(np.ptp(vertices, axis=0).max())
    if not mesh.area > 1e-12 * extent * extent or extent == 0:
        raise BodyError("faces", "the mesh has no area to put points on; check its scale and its faces")
    count = _OVERSAMPLING * n
    points, triangles = trimesh.sample.sample_surface(mesh, count, seed=seed)[:2]
    kept = farthest_first(np.asarray(points), n)
    chosen = np.asarray(triangles)[kept]
    barycentric = trimesh.triangles.points_to_barycentric(vertices[faces[chosen]], np.asarray(points)[kept])
    barycentric = np.clip(np.nan_to_num(barycentric), 0, 1)
    barycentric /= np.maximum(barycentric.sum(1, keepdims=True), 1e-12)
    return SurfaceSamples(chosen.astype(np.int32), barycentric.astype(np.float32))


def farthest_first(points: np.ndarray, n: int) -> np.ndarray:
    """Pick n evenly spread points out of many, whatever order those are in.

    Args:
        points: (M,3).
        n: how many; at most M.

    Returns:
        (n,) int64 indices: first the point farthest from the centre, then each time the farthest from those picked.
    """
    if not 1 <= n <= len(points):
        raise BodyError("points", f"{n} points were asked for out of {len(points)}")
    points = np.ascontiguousarray(points - points.mean(0), np.float32)
    norm = (points * points).sum(1)
    chosen = np.empty(n, np.int64)
    chosen[0] = int(norm.argmax())
    distance = np.full(len(points), np.inf, np.float32)
    for i in range(1, n):
        last = points[chosen[i - 1]]
        np.minimum(distance, norm - 2 * (points @ last) + last @ last, out=distance)
        distance[chosen[i - 1]] = -1  # never twice, even where spots coincide
        chosen[i] = int(distance.argmax())
    return chosen
