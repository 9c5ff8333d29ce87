"""Spots on surfaces: spread, area, the same skin in every frame, and meshes that cannot be sampled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.backend.bodies import BodyError, embedded, farthest_first, sample_surface


def _grid(width: float = 1.0, height: float = 1.0, cells: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """A flat rectangle."""
    x, y = np.meshgrid(np.linspace(0, width, cells + 1), np.linspace(0, height, cells + 1))
    vertices = np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], axis=1)
    first = (np.arange(cells)[:, None] * (cells + 1) + np.arange(cells)).ravel()
    faces = np.concatenate([first[:, None] + [0, 1, cells + 2], first[:, None] + [0, cells + 2, cells + 1]])
    return vertices, faces


def _nearest(points: np.ndarray) -> np.ndarray:
    distance = np.linalg.norm(points[:, None].astype(np.float64) - points[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    return distance.min(1)


def test_spots_lie_on_their_triangles() -> None:
    body = embedded()
    samples = sample_surface(body.v_template, body.faces, 300)
    assert len(samples) == 300
    assert samples.triangles.dtype == np.int32 and samples.barycentric.dtype == np.float32
    assert (samples.barycentric >= 0).all() and np.allclose(samples.barycentric.sum(1), 1, atol=1e-6)
    points = samples.apply(body.v_template, body.faces)
    normals = samples.normals(body.v_template, body.faces)
    corner = body.v_template[body.faces[samples.triangles]]
    assert np.abs(np.einsum("nx,nx->n", points - corner[:, 0], normals)).max() < 1e-6
    assert np.allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)


def test_same_seed_same_spots() -> None:
    vertices, faces = _grid()
    a, b, c = (sample_surface(vertices, faces, 50, seed=s) for s in (3, 3, 4))
    assert np.array_equal(a.triangles, b.triangles) and np.array_equal(a.barycentric, b.barycentric)
    assert not np.array_equal(a.barycentric, c.barycentric)


@pytest.mark.parametrize("n", [64, 256, 1024])
def test_evenly_spread_and_so_is_every_prefix(n: int) -> None:
    body = embedded()
    area = 1.74
    samples = sample_surface(body.v_template, body.faces, n)
    for count in {n, n // 2, n // 3, 32}:
        points = samples.prefix(count).apply(body.v_template, body.faces)
        # Spots drawn at random come within 0.1 of the spacing of a hexagonal lattice; a lattice has 1.07.
        assert _nearest(points).min() > 0.6 * np.sqrt(area / count)


def test_spread_subset_of_points_in_any_order() -> None:
    body = embedded()
    picked = farthest_first(body.v_template, 128)
    assert len(np.unique(picked)) == 128
    assert _nearest(body.v_template[picked]).min() > 0.6 * np.sqrt(1.74 / 128)
    same = np.zeros((5, 3))
    assert sorted(farthest_first(same, 5)) == list(range(5))  # never twice, even where all coincide
    for n in (0, 6):
        with pytest.raises(BodyError, match="points"):
            farthest_first(same, n)


def test_density_follows_area() -> None:
    body = embedded()
    corner = body.v_template[body.faces]
    area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    samples = sample_surface(body.v_template, body.faces, 1024)
    part = np.select(  # legs, head and neck, arms, torso
        [np.isin(np.arange(24), p) for p in ((1, 2, 4, 5, 7, 8, 10, 11), (12, 15), range(16, 24))], [0, 1, 2], 3
    )
    owner = part[body.weights[body.faces].mean(1).argmax(1)]
    share = np.bincount(owner, area) / area.sum()
    got = np.bincount(owner[samples.triangles], minlength=4) / 1024
    assert np.abs(got / share - 1).max() < 0.15


@settings(max_examples=15)
@given(st.integers(1, 80), st.floats(0.01, 1000), st.floats(0.05, 20))
def test_any_number_on_any_rectangle(n: int, size: float, aspect: float) -> None:
    vertices, faces = _grid(size, size * aspect)
    points = sample_surface(vertices, faces, n).apply(vertices, faces)
    assert points.shape == (n, 3)
    assert (points[:, :2] >= -1e-6 * size).all() and (points[:, :2] <= np.array([1, aspect]) * size * (1 + 1e-6)).all()
    if n > 1:
        assert _nearest(points).min() > 0


def test_same_skin_in_every_frame() -> None:
    body = embedded()
    samples = sample_surface(body.v_template, body.faces, 40)
    rng = np.random.default_rng(0)
    poses = rng.normal(0, 0.3, (5, 24, 3))
    posed = body.pose(None, poses).vertices
    points = samples.apply(posed, body.faces)
    assert points.shape == (5, 40, 3) and points.dtype == np.float32
    corners = np.unique(body.faces[samples.triangles])
    some = body.pose(None, poses, subset=corners).vertices
    place = np.searchsorted(corners, body.faces[samples.triangles])
    again = np.einsum("nk,tnkx->tnx", samples.barycentric, some[:, place])
    assert np.allclose(points, again, atol=1e-5)
    assert samples.normals(posed, body.faces).shape == (5, 40, 3)
    assert samples.apply(posed[None], body.faces).shape == (1, 5, 40, 3)


def test_collapsed_triangles_get_no_spots_and_no_normals() -> None:
    vertices, faces = _grid()
    broken = np.concatenate([faces, [[0, 0, 5], [1, 1, 1]]])
    samples = sample_surface(vertices, broken, 100)
    assert samples.triangles.max() < len(faces)
    assert np.array_equal(samples.normals(np.zeros_like(vertices), broken), np.zeros((100, 3)))


@pytest.mark.parametrize(
    ("field", "vertices", "faces", "n"),
    [
        ("points", _grid()[0], _grid()[1], 0),
        ("vertices", np.zeros((0, 3)), _grid()[1], 5),
        ("vertices", np.zeros((4, 2)), _grid()[1], 5),
        ("vertices", np.full((49, 3), np.nan), _grid()[1], 5),
        ("faces", _grid()[0], np.zeros((0, 3), int), 5),
        ("faces", _grid()[0], np.array([[0, 1, 49]]), 5),
        ("faces", _grid()[0], np.array([[0, 1, -1]]), 5),
        ("faces", _grid()[0], np.array([[0.0, 1, 2]]), 5),
        ("faces", _grid()[0], np.array([[0, 0, 1], [2, 2, 2]]), 5),
        ("faces", np.zeros((49, 3)), _grid()[1], 5),
    ],
)
def test_meshes_that_cannot_be_sampled(field: str, vertices: np.ndarray, faces: np.ndarray, n: int) -> None:
    with pytest.raises(BodyError) as error:
        sample_surface(vertices, faces, n)
    assert error.value.field == field
