"""Exact flow agrees with rays cast one by one, and carries a true render of frame 0 to a true render of frame i."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.backend.models.mofa.flow import camera_travels, exact_motion
from maquette.backend.models.mofa.splat import splat
from maquette.backend.raster.surfaces import Cloud, Surface, SurfaceSet
from maquette.backend.shot.cameras import look_at, project

from ...builders import BOX_TRIANGLES

HEIGHT, WIDTH = 48, 64
K = np.array([[80.0, 0, 32], [0, 80.0, 24], [0, 0, 1]])


def rotation(axis_angle: np.ndarray) -> np.ndarray:
    angle = np.linalg.norm(axis_angle)
    if angle < 1e-9:
        return np.eye(3)
    x, y, z = axis_angle / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def cameras(eyes: list[tuple[float, float, float]], targets: list[tuple[float, float, float]] | None = None):
    """viewmats (T,4,4) and Ks (T,3,3) of cameras at eyes that look at targets, or at the origin."""
    targets = targets or [(0.0, 0.0, 0.0)] * len(eyes)
    views = np.stack([look_at(np.array(e), np.array(t)) for e, t in zip(eyes, targets, strict=True)])
    return views.astype(np.float32), np.repeat(K[None], len(eyes), axis=0).astype(np.float32)


def box(half: float = 0.5) -> np.ndarray:
    return half * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)


def moving_box(moves: list[tuple[np.ndarray, np.ndarray]], half: float = 0.5) -> np.ndarray:
    """Vertices (T,8,3) of a box turned and shifted."""
    return np.stack([box(half) @ rotation(turn).T + shift for turn, shift in moves]).astype(np.float32)


def rays_of(view: np.ndarray, K: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Origin (3,) and directions (n,3) in the world of the rays through pixels (n,2) of a camera."""
    view, K = view.astype(float), K.astype(float)
    return -view[:3, :3].T @ view[:3, 3], np.c_[pixels, np.ones(len(pixels))] @ np.linalg.inv(K).T @ view[:3, :3]


def intersect(origin: np.ndarray, rays: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nearest hits of rays (n,3) with triangles (F,3,3): distance in rays (n,), face or -1 (n,), barycentric (n,3)."""
    a, b, c = corners.astype(float).transpose(1, 0, 2)
    columns = np.broadcast_arrays((b - a)[None], (c - a)[None], -rays[:, None])
    matrix = np.stack(columns, axis=-1)
    along = np.abs(np.linalg.det(matrix)) < 1e-12
    matrix[along] = np.eye(3)
    x, y, t = np.moveaxis(np.linalg.solve(matrix, (origin - a)[None, ..., None])[..., 0], 2, 0)
    hit = ~along & (np.minimum(np.minimum(x, y), 1 - x - y) >= 0) & (t > 1e-6)
    distance = np.where(hit, t, np.inf)
    face = distance.argmin(axis=1)
    each = np.arange(len(rays))
    x, y = x[each, face], y[each, face]
    face[~hit.any(axis=1)] = -1
    return distance.min(axis=1), face, np.stack([1 - x - y, x, y], axis=-1)


def brute_force(
    surfaces: list[Surface], views: np.ndarray, Ks: np.ndarray, frame: int, pixels: list[tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flow (n,2), whether a surface is there (n,), and by how much of its distance the point lies behind what is in
    front of it at ``frame``, on its own ray and on four rays one pixel off (n,5): 0 where it is seen."""

    def all_corners(t: int) -> np.ndarray:
        parts = [s.vertices[t if len(s.vertices) > 1 else 0][s.triangles] for s in surfaces]
        return np.concatenate(parts).astype(float)

    start = np.array(pixels)[:, ::-1] + 0.5
    _, face, weights = intersect(*rays_of(views[0], Ks[0], start), all_corners(0))
    there = face >= 0
    points = np.einsum("nk,nkd->nd", weights, all_corners(frame)[face])
    uv, depth = project(points, views[frame].astype(float), Ks[frame].astype(float))
    behind = []
    for off in ((0, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
        front, _, _ = intersect(*rays_of(views[frame], Ks[frame], uv + off), all_corners(frame))
        behind.append(np.maximum(0, 1 - front / depth))
    return uv - start, there, np.stack(behind, axis=-1)


small = st.floats(-0.5, 0.5)
turns = st.tuples(small, small, small).map(np.array)
shifts = st.tuples(st.floats(-0.4, 0.4), st.floats(-0.4, 0.4), st.floats(-0.4, 0.4)).map(np.array)


@settings(max_examples=12)
@given(turn=turns, shift=shifts, eye=st.tuples(st.floats(-0.5, 0.5), st.floats(-4.0, -2.5), st.floats(0.2, 1.2)))
def test_flow_is_what_rays_find(turn: np.ndarray, shift: np.ndarray, eye: tuple[float, float, float]) -> None:
    """A box turns and moves before a wall, under a camera that moves and zooms."""
    wall = np.array([[[-3, 1.5, -3], [3, 1.5, -3], [3, 1.5, 3], [-3, 1.5, 3]]], np.float32)
    surfaces = [
        Surface(moving_box([(np.array([0.3, 0.2, 0.5]), np.zeros(3)), (turn, shift)]), BOX_TRIANGLES, 1),
        Surface(wall, np.array([[0, 1, 2], [0, 2, 3]]), 0),
    ]
    views, Ks = cameras([(0.0, -3.0, 0.8), eye])
    Ks[1, :2, :2] *= 1.1
    found = exact_motion(SurfaceSet(surfaces), views, Ks, HEIGHT, WIDTH)
    flow = found.motion.flow[0, 0].numpy()
    free = exact_motion(SurfaceSet(surfaces), views, Ks, HEIGHT, WIDTH, occlusion=False).motion.flow[0, 0].numpy()
    pixels = [(row, column) for row in range(1, HEIGHT, 6) for column in range(2, WIDTH, 6)]
    truth, there, behind = brute_force(surfaces, views, Ks, 1, pixels)
    index = tuple(np.array(pixels).T)
    assert there.any()
    np.testing.assert_allclose(free[:, *index].T[there], truth[there], atol=2e-2)
    hidden = np.isnan(flow[0][index])
    # Within a pixel of an edge either answer is right, as is a gap of a few millimetres.
    seen = there & (behind[:, 0] <= 1e-4) & (behind <= 0.02).all(axis=1)
    covered = there & (behind > 0.02).all(axis=1)
    assert not hidden[seen].any()
    inside = (pixels + np.array([0.5, 0.5]) + truth[:, ::-1] > 1).all(axis=1)
    inside &= (pixels + np.array([0.5, 0.5]) + truth[:, ::-1] < [HEIGHT - 1, WIDTH - 1]).all(axis=1)
    assert hidden[covered & inside].all()
    assert np.isfinite(flow[0][index])[~hidden].all()


def texture(rest: np.ndarray) -> np.ndarray:
    """Colour of a place on the surface at rest, smooth."""
    return 0.5 + 0.5 * np.sin(rest * np.array([5.0, 6.0, 7.0]) + np.array([0.0, 1.0, 2.0]))


def render(surfaces: list[Surface], rests: list[np.ndarray], view: np.ndarray, K: np.ndarray, frame: int) -> np.ndarray:
    """(H,W,3) by one ray a pixel; grey where nothing is."""
    corners = np.concatenate([s.vertices[frame if len(s.vertices) > 1 else 0][s.triangles] for s in surfaces])
    rest = np.concatenate([r[s.triangles] for r, s in zip(rests, surfaces, strict=True)])
    pixels = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), axis=-1).reshape(-1, 2) + 0.5
    _, face, weights = intersect(*rays_of(view, K, pixels), corners)
    colours = np.where(face[:, None] < 0, 0.5, texture(np.einsum("nk,nkd->nd", weights, rest[face])))
    return colours.reshape(HEIGHT, WIDTH, 3)


def test_warping_frame_0_gives_the_true_render() -> None:
    """A textured box turns before a textured wall; splatting the first render along the flow gives the second."""
    wall = np.array([[-3, 1.2, -3], [3, 1.2, -3], [3, 1.2, 3], [-3, 1.2, 3]])
    moves = [(np.array([0.2, 0.1, 0.5]), np.zeros(3)), (np.array([0.25, 0.3, 0.75]), np.array([0.35, -0.1, 0.1]))]
    surfaces = [
        Surface(moving_box(moves, 0.4), BOX_TRIANGLES, 1),
        Surface(wall[None].astype(np.float32), np.array([[0, 1, 2], [0, 2, 3]]), 0),
    ]
    rests = [box(0.4), wall * 0.3]
    views, Ks = cameras([(0.0, -3.0, 0.8), (0.15, -2.9, 0.7)])
    images = [render(surfaces, rests, views[t], Ks[t], t) for t in (0, 1)]
    first = torch.tensor(images[0], dtype=torch.float32).permute(2, 0, 1)[None]

    def error(occlusion: bool) -> tuple[float, float]:
        motion = exact_motion(SurfaceSet(surfaces), views, Ks, HEIGHT, WIDTH, occlusion=occlusion).motion
        warped, weight = splat(first, motion.flow[:, 0])
        full = (weight[0, 0] > 0.6).numpy()
        # The rim of a disocclusion mixes; what lies within is one surface.
        difference = np.abs(warped[0].permute(1, 2, 0).numpy() - images[1]).max(axis=-1)[full]
        return float(np.median(difference)), float(np.quantile(difference, 0.93))

    median, most = error(occlusion=True)
    assert median < 0.02
    assert most < 0.12
    # What is hidden blends into what hides it when it is not marked.
    assert error(occlusion=False)[1] > most
    unmoved = np.abs(images[0] - images[1]).max(axis=-1)
    assert np.median(unmoved) > 5 * median


def test_nothing_moves_when_nothing_moves() -> None:
    views, Ks = cameras([(0.0, -3.0, 0.8)] * 3)
    still = Surface(box()[None].astype(np.float32), BOX_TRIANGLES, 0)
    found = exact_motion(SurfaceSet([still]), views, Ks, HEIGHT, WIDTH)
    assert (found.motion.flow == 0).all()
    assert found.assumed_backdrop is None
    assert (exact_motion(SurfaceSet([]), views, Ks, HEIGHT, WIDTH).motion.flow == 0).all()


def test_a_turning_camera_moves_the_background_by_its_homography() -> None:
    views, Ks = cameras([(0.0, -3.0, 0.0)] * 2, [(0.0, 0.0, 0.0), (0.3, 0.0, 0.1)])
    flows = [exact_motion(SurfaceSet([]), views, Ks, HEIGHT, WIDTH, backdrop=d) for d in (1.0, 50.0)]
    assert flows[0].assumed_backdrop is None
    np.testing.assert_allclose(flows[0].motion.flow, flows[1].motion.flow, atol=2e-2)
    between = K @ views[1, :3, :3].astype(float) @ views[0, :3, :3].astype(float).T @ np.linalg.inv(K)
    target = between @ np.array([10.5, 20.5, 1.0])
    expected = target[:2] / target[2] - [10.5, 20.5]
    np.testing.assert_allclose(flows[0].motion.flow[0, 0, :, 20, 10], expected, atol=2e-2)


def test_a_travelling_camera_assumes_a_backdrop_where_there_is_no_set() -> None:
    views, Ks = cameras([(0.0, -3.0, 0.0), (0.3, -3.0, 0.0)], [(0.0, 0.0, 0.0), (0.3, 0.0, 0.0)])
    near = exact_motion(SurfaceSet([]), views, Ks, HEIGHT, WIDTH, backdrop=3.0)
    assert near.assumed_backdrop == 3.0
    np.testing.assert_allclose(near.motion.flow[0, 0, 0], -0.3 / 3.0 * 80, atol=1e-3)
    ground = np.array([[[-90, 20, -90], [90, 20, -90], [90, 20, 90], [-90, 20, 90]]], np.float32)
    whole = exact_motion(SurfaceSet([Surface(ground, np.array([[0, 1, 2], [0, 2, 3]]), 0)]), views, Ks, HEIGHT, WIDTH)
    assert whole.assumed_backdrop is None
    # Beside a set that reaches farther, what shows nothing lies beyond the set.
    half = Surface(np.minimum(ground, np.float32([0, 20, 90])), np.array([[0, 1, 2], [0, 2, 3]]), 0)
    beside = exact_motion(SurfaceSet([half]), views, Ks, HEIGHT, WIDTH, backdrop=3.0)
    assert beside.assumed_backdrop == pytest.approx(23.0, rel=1e-3)
    np.testing.assert_allclose(beside.motion.flow[0, 0, 0], -0.3 / 23 * 80, atol=1e-2)


def test_turned_away_and_behind_the_camera_are_marked() -> None:
    views, Ks = cameras([(0.0, -3.0, 0.0)] * 3)
    sheet = np.array([[-0.5, 0, -0.5], [0.5, 0, -0.5], [0.5, 0, 0.5], [-0.5, 0, 0.5]])
    turned = sheet @ rotation(np.array([0, 0, np.pi - 0.2])).T
    passed = sheet + [0, -5.0, 0]
    surface = Surface(np.stack([sheet, turned, passed]).astype(np.float32), np.array([[0, 1, 2], [0, 2, 3]]), 1)
    found = exact_motion(SurfaceSet([surface]), views, Ks, HEIGHT, WIDTH)
    mine = found.motion.labels[0] == 1
    assert mine.sum() > 300
    assert found.motion.flow[0, :, :, mine].isnan().all()
    assert found.seen[1].tolist() == [0.0, 0.0]
    free = exact_motion(SurfaceSet([surface]), views, Ks, HEIGHT, WIDTH, occlusion=False)
    assert free.motion.flow[0, 0][:, mine].isfinite().all()
    assert free.motion.flow[0, 1][:, mine].isnan().all()


def test_what_leaves_the_picture_keeps_its_flow() -> None:
    views, Ks = cameras([(0.0, -3.0, 0.0)] * 2)
    surface = Surface(moving_box([(np.zeros(3), np.zeros(3)), (np.zeros(3), np.array([3.0, 0, 0]))]), BOX_TRIANGLES, 1)
    found = exact_motion(SurfaceSet([surface]), views, Ks, HEIGHT, WIDTH)
    mine = found.motion.labels[0] == 1
    assert (found.motion.flow[0, 0, 0][mine] > 60).all()
    assert found.seen[1].tolist() == [0.0]


def test_points_stand_in_for_a_mesh() -> None:
    x, z = np.meshgrid(np.linspace(-0.48, 0.48, 20), np.linspace(-0.48, 0.48, 20))
    points = np.stack([x.ravel(), np.zeros(400), z.ravel()], axis=-1)
    moved = np.stack([points, points + [0.3, 0, 0]]).astype(np.float32)
    visibility = np.ones((2, 400), bool)
    visibility[1, points[:, 0] > 0.2] = False
    views, Ks = cameras([(0.0, -3.0, 0.0)] * 2)
    found = exact_motion(SurfaceSet([], [Cloud(moved, visibility, 1)]), views, Ks, HEIGHT, WIDTH)
    mine = (found.motion.labels[0] == 1).numpy()
    # A square of 1 m at 3 m: 26.7 pixels a side, and as much again as the points reach.
    assert 24**2 < mine.sum() < 31**2
    flow = found.motion.flow[0, 0].numpy()
    shown = mine & np.isfinite(flow[0])
    np.testing.assert_allclose(flow[0][shown], 8.0, atol=1e-2)
    np.testing.assert_allclose(flow[1][shown], 0.0, atol=1e-2)
    columns = np.nonzero(mine & ~shown)[1]
    assert len(columns) > 50
    assert columns.min() > 32 + 0.2 * 80 / 3 - 3
    assert (flow[0][~mine] == 0).all()


def test_progress_can_stop_the_work() -> None:
    views, Ks = cameras([(0.0, -3.0, 0.0)] * 4)
    told = []

    def stop(frame: int, frames: int) -> None:
        told.append((frame, frames))
        if frame == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exact_motion(SurfaceSet([]), views, Ks, HEIGHT, WIDTH, on_frame=stop)
    assert told == [(0, 3), (1, 3)]


def test_camera_travels_is_relative_to_distance() -> None:
    views, _ = cameras([(0.0, -3.0, 0.0), (0.001, -3.0, 0.0)])
    assert camera_travels(views, 3.0)
    assert not camera_travels(views, 300.0)
