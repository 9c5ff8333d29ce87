"""Cameras hold the bodies, move as their names say, and characters stand apart but hide each other now and then."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from maquette.backend.shot.cameras import look_at, project
from maquette.backend.worlds.camera import MOVES, random_camera
from maquette.backend.worlds.layout import stand_apart
from maquette.backend.worlds.sample import make_sample
from maquette.backend.worlds.surroundings import clear_of, draw_surroundings, random_surroundings

BODY = np.random.default_rng(0).uniform([-0.3, -0.2, 0], [0.3, 0.2, 1.75], (17, 400, 3))


def filmed(seed: int, **options) -> tuple[np.ndarray, np.ndarray]:
    return random_camera(np.random.default_rng(seed), BODY, 24.0, 128, 128, **options)


@pytest.mark.parametrize("move", MOVES)
def test_cameras_are_rigid_and_hold_the_body(move):
    for seed in range(12):
        viewmats, Ks = filmed(seed, move=move)
        turn = viewmats[:, :3, :3].astype(float)
        np.testing.assert_allclose(turn @ turn.swapaxes(1, 2), np.repeat(np.eye(3)[None], 17, 0), atol=1e-5)
        assert (np.linalg.det(turn) > 0.99).all() and (Ks[:, 0, 0] == Ks[:, 1, 1]).all()
        eye = -(turn.swapaxes(1, 2) @ viewmats[:, :3, 3:].astype(float))[..., 0]
        assert (eye[:, 2] > 0.1).all()
        uv, depth = project(BODY, viewmats, Ks)
        assert (((uv > 0) & (uv < 128)).all(axis=-1) & (depth > 0)).mean() > 0.4
        assert np.linalg.norm(np.diff(eye, axis=0), axis=1).max() < 0.6
        changes = np.ptp(Ks[:, 0, 0]) > 1e-3
        assert changes == (move in ("dolly_zoom", "random"))


def test_a_dolly_zoom_keeps_the_size_of_the_body():
    for seed in range(8):
        viewmats, Ks = filmed(seed, move="dolly_zoom")
        turn = viewmats[:, :3, :3].astype(float)
        eye = -(turn.swapaxes(1, 2) @ viewmats[:, :3, 3:].astype(float))[..., 0]
        away = np.linalg.norm(eye - BODY.mean(axis=(0, 1)), axis=1)
        ratio = Ks[:, 0, 0] / away
        assert np.ptp(away) > 0.05 * away.mean() or np.ptp(Ks[:, 0, 0]) < 0.1 * Ks[0, 0, 0]
        assert np.ptp(ratio) < 0.25 * ratio.mean()


@pytest.mark.parametrize("count", [2, 3])
def test_crowds_fit_the_picture(count):
    bodies = np.concatenate([BODY + [0.8 * c, 0.5 * c, 0] for c in range(count)], axis=1)
    inside = []
    for seed in range(20):
        viewmats, Ks = random_camera(np.random.default_rng(seed), bodies, 24.0, 128, 128, crowd=True, move="static")
        uv, _ = project(bodies, viewmats, Ks)
        inside.append(((uv > 0) & (uv < 128)).all(axis=-1).mean())
    assert np.mean(inside) > 0.93 and min(inside) > 0.7


@pytest.mark.parametrize("crowd", [False, True])
@pytest.mark.parametrize(("width", "height"), [(224, 128), (128, 224), (176, 128)])
def test_bodies_fill_pictures_of_any_aspect(width, height, crowd):
    bodies = np.concatenate([BODY, BODY + [0.8, 0.5, 0]], axis=1) if crowd else BODY
    filled, inside = [], []
    for seed in range(30):
        viewmats, Ks = random_camera(
            np.random.default_rng(seed), bodies, 24.0, width, height, crowd=crowd, move="static"
        )
        uv, _ = project(bodies, viewmats, Ks)
        inside.append(((uv > 0) & (uv < (width, height))).all(axis=-1).mean())
        filled.append((np.ptp(uv, axis=(0, 1)) / (width, height)).max())
        assert (Ks[:, :2, 2] == (width / 2, height / 2)).all()
    assert np.median(filled) > 0.75 and np.mean(inside) > (0.93 if crowd else 0.75)


def test_bodies_stand_apart_around_the_origin():
    bodies = [torch.as_tensor(BODY, dtype=torch.float32) for _ in range(3)]
    for seed in range(10):
        places = stand_apart(np.random.default_rng(seed), bodies, 0.3)
        assert places.shape == (3, 3) and (places[:, 2] == 0).all()
        assert np.abs(places.mean(axis=0)).max() < 0.4
        for i, j in ((0, 1), (0, 2), (1, 2)):
            one, other = (bodies[k][::4, ::16] + torch.as_tensor(places[k]) for k in (i, j))
            assert float(torch.cdist(one, other).min()) >= 0.0999


@pytest.mark.parametrize("count", [2, 3])
def test_characters_hide_each_other_now_and_then_and_all_show(count):
    hidden, shown = [], []
    for seed in range(6):
        sample = make_sample(seed, frames=2, size=64, n_points=64, characters=count, truth=True)
        assert sample.truth is not None
        together = (sample.truth.character[0] >= 0).sum()
        alone = [make_mask(sample, c) for c in range(count)]
        hidden.append(sum(alone) - together)
        shown.append(all((sample.truth.character == c).any() for c in range(count)))
    assert (np.array(hidden) > 15).any() and np.mean(shown) > 0.8


def make_mask(sample, c: int) -> int:
    """Pixels that a character's convex outline would cover without the others: from its own points alone."""
    from scipy.spatial import ConvexHull

    uv, _ = project(sample.points[c, :1], sample.viewmats[:1], sample.Ks[:1])
    return int(0.75 * ConvexHull(np.clip(uv[0], 0, 64)).volume)


def test_walls_stand_clear_of_the_bodies():
    rng = np.random.default_rng(1)
    walls = [place for place in (random_surroundings(rng, 0.4) for _ in range(60)) if place.wall is not None]
    assert len(walls) > 3
    for place in walls:
        angle, distance = clear_of(place, BODY * 3).wall_at
        assert (BODY[..., 0] * 3 * np.cos(angle) + BODY[..., 1] * 3 * np.sin(angle)).max() <= distance - 0.149


def test_a_shadow_darkens_the_floor_only():
    rng = np.random.default_rng(2)
    eyes = [np.array([4.0, 0.03 * t, 2.5]) for t in range(17)]
    viewmats = torch.tensor(np.stack([look_at(eye, np.array([0, 0, 0.4])) for eye in eyes]), dtype=torch.float32)
    Ks = torch.tensor([[40.0, 0, 16], [0, 40, 16], [0, 0, 1]]).repeat(17, 1, 1)
    filled = np.random.default_rng(4).uniform([-0.3, -0.2, 0], [0.3, 0.2, 1.75], (17, 8000, 3))
    bodies = torch.as_tensor(filled, dtype=torch.float32)
    darkened = 0
    for _ in range(40):
        place = random_surroundings(rng, 0.0)
        empty, scene = draw_surroundings(place, viewmats, Ks, 32, 32, bodies)
        assert (scene <= empty + 1e-6).all()
        if place.floor is None or place.shadow == 0:
            assert scene is empty
        else:
            darkened += int(bool((scene < empty - 0.02).any()))
    assert darkened > 2
