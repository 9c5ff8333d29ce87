"""The rasteriser agrees with the project's cameras, with geometry and with occlusion."""

from __future__ import annotations

import numpy as np
import torch
from maquette.backend.shot.cameras import look_at, project
from maquette.backend.training.render import project_torch, rasterise, vertex_normals

SIZE = 64
K = np.array([[70.0, 0, 32], [0, 70.0, 32], [0, 0, 1]], np.float32)


def sphere(radius: float = 0.5, centre: tuple[float, float, float] = (0, 0, 0)) -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices (1,V,3) and outward faces (F,3) of a sphere."""
    import trimesh

    mesh = trimesh.creation.icosphere(subdivisions=3, radius=radius)
    vertices = torch.tensor(mesh.vertices + np.array(centre), dtype=torch.float32)
    return vertices[None], torch.tensor(mesh.faces, dtype=torch.int64)


def camera(eye: tuple[float, float, float]) -> torch.Tensor:
    return torch.tensor(look_at(np.array(eye), np.zeros(3)), dtype=torch.float32)[None]


def test_projection_is_that_of_the_shot() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(0, 0.4, (1, 50, 3)).astype(np.float32)
    viewmat = camera((1.0, -2.0, 0.7))
    uv, depth = project(points, viewmat.numpy(), K[None])
    mine = project_torch(torch.tensor(points), viewmat, torch.tensor(K)[None]).numpy()
    np.testing.assert_allclose(mine[..., :2], uv, atol=1e-3)
    np.testing.assert_allclose(mine[..., 2], depth, atol=1e-5)


def test_sphere_covers_its_disc() -> None:
    vertices, faces = sphere()
    raster = rasterise(vertices, faces, camera((0, -3, 0)), torch.tensor(K)[None], SIZE, SIZE)
    covered = torch.isfinite(raster.depth[0]).numpy()
    v, u = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    radius = 70 * 0.5 / np.sqrt(3**2 - 0.5**2)
    disc = np.hypot(u - 32, v - 32) < radius
    assert np.count_nonzero(covered ^ disc) < 0.04 * disc.sum()
    # No holes: every row's covered pixels are one run.
    for row in covered:
        assert np.count_nonzero(np.diff(row.astype(int)) == 1) <= 1
    assert abs(float(raster.depth[0, 32, 32]) - 2.5) < 0.01


def test_the_nearer_surface_wins() -> None:
    near, faces = sphere(0.3, (0, -1, 0))
    far, _ = sphere(0.6, (0, 1, 0))
    for first, second, offset in ((near, far, 0), (far, near, near.shape[1])):
        both = torch.cat([first, second], dim=1)
        all_faces = torch.cat([faces, faces + first.shape[1]])
        raster = rasterise(both, all_faces, camera((0, -3, 0)), torch.tensor(K)[None], SIZE, SIZE)
        owner = torch.cat([torch.zeros(first.shape[1]), torch.ones(second.shape[1])])[:, None]
        image = torch.full((SIZE * SIZE,), -1.0)
        image[raster.index] = raster.interpolate(owner, all_faces)[:, 0]
        middle = float(image.view(SIZE, SIZE)[32, 32])
        assert round(middle) == (0 if offset == 0 else 1)


def test_triangles_of_every_size_and_off_the_picture() -> None:
    # One big quad in front, partly outside; its pixels are all covered whatever bucket its triangles fall into.
    for half in (0.02, 0.3, 3.0, 30.0):
        quad = torch.tensor([[[-half, 0, -half], [half, 0, -half], [half, 0, half], [-half, 0, half]]])
        faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
        raster = rasterise(quad, faces, camera((0, -2, 0)), torch.tensor(K)[None], SIZE, SIZE)
        expected = min(2 * half * 35, SIZE) ** 2
        assert abs(len(raster.index) - expected) <= max(4 * np.sqrt(expected) + 1, 4)
        # Seen from behind it is not there.
        behind = rasterise(quad, faces.flip(1), camera((0, -2, 0)), torch.tensor(K)[None], SIZE, SIZE)
        assert len(behind.index) == 0


def test_normals_point_outwards() -> None:
    vertices, faces = sphere()
    normals = vertex_normals(vertices, faces)
    torch.testing.assert_close(normals, torch.nn.functional.normalize(vertices, dim=-1), atol=0.02, rtol=0)
