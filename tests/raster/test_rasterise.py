"""The rasteriser agrees with the project's cameras, with geometry and with occlusion."""

from __future__ import annotations

import numpy as np
import torch
from maquette.backend.raster.rasterise import draw_depth, project_torch, rasterise, vertex_normals
from maquette.backend.shot.cameras import look_at, project

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


def ray_cast(vertices: np.ndarray, faces: np.ndarray, viewmat: np.ndarray, near: float) -> np.ndarray:
    """Depth (SIZE,SIZE) of the nearest face along the ray of each pixel (Moeller and Trumbore), both sides."""
    corners = (vertices @ viewmat[:3, :3].T + viewmat[:3, 3])[faces].astype(np.float64)
    v, u = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones_like(u)], axis=-1)
    best = np.full((SIZE, SIZE), np.inf)
    for a, b, c in corners:
        e1, e2 = b - a, c - a
        p = np.cross(rays, e2)
        det = p @ e1
        with np.errstate(divide="ignore", invalid="ignore"):
            x = p @ -a / det
            q = np.cross(-a, e1)
            y = rays @ q / det
            t = e2 @ q / det
            hit = (x >= 0) & (y >= 0) & (x + y <= 1) & (t > near)
        best = np.where(hit & (t < best), t, best)
    return best


def test_every_pixel_as_a_ray_finds_it_even_around_the_camera() -> None:
    """Random triangles in front of, across and behind the camera's plane."""
    rng = np.random.default_rng(5)
    viewmat = camera((0.0, -2.0, 0.0))
    for scale in (0.7, 2.0, 10.0):
        vertices = (rng.uniform(-2, 2, (8, 1, 3)) + rng.normal(0, scale, (8, 3, 3))).reshape(-1, 3).astype(np.float32)
        faces = np.arange(24).reshape(8, 3)
        truth = ray_cast(vertices, faces, viewmat[0].numpy(), near=0.05)
        raster = rasterise(
            torch.tensor(vertices)[None], torch.tensor(faces), viewmat, torch.tensor(K)[None], SIZE, SIZE, cull=False
        )
        depth = raster.depth[0].numpy()
        same = np.isclose(depth, truth, rtol=1e-3) | (np.isinf(depth) & np.isinf(truth))
        assert np.isfinite(truth).mean() > 0.02
        # Edges, and the near plane itself, may fall to either side.
        assert same.mean() > 0.995, (scale, same.mean())
        place = raster.interpolate(torch.tensor(vertices)[None], torch.tensor(faces))
        screen = project_torch(place[None], viewmat, torch.tensor(K)[None])[0].numpy()
        centres = np.stack([raster.index % SIZE, raster.index // SIZE], axis=-1) + 0.5
        assert np.quantile(np.abs(screen[:, :2] - centres).max(axis=1), 0.99) < 0.02


def test_a_triangle_larger_than_any_square() -> None:
    quad = torch.tensor([[[-9.0, 0, -9], [9, 0, -9], [9, 0, 9], [-9, 0, 9]]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    raster = rasterise(quad, faces, camera((0, -2, 0)), torch.tensor(K)[None], 8, 2100)
    assert torch.isfinite(raster.depth[:, :, : (32 + 9 * 35)]).all()


def test_depth_alone_is_the_same_depth() -> None:
    vertices, faces = sphere()
    views = torch.cat([camera((0, -3, 0)), camera((1, -2, 0.5))])
    scene = vertices.expand(2, -1, -1), faces, views, torch.tensor(K)[None].expand(2, -1, -1), SIZE, SIZE
    torch.testing.assert_close(draw_depth(*scene), rasterise(*scene).depth)
