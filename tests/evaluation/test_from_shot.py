"""What a Shot's meshes say of every pixel agrees with the generator that made it, and with plane geometry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from maquette.backend.evaluation.from_shot import FilmError, as_sample, point_regions
from maquette.backend.evaluation.measures import MEASURES, measure
from maquette.backend.shot import Mesh
from maquette.backend.worlds.sample import make_sample, to_shot
from maquette.backend.worlds.truth import NOBODY


@pytest.fixture(scope="module", params=[(3, 1), (5, 2)], ids=["one", "two"])
def pair(request):
    """A synthetic sample and what is made of its shot, whose bodies are rebuilt from their parameters."""
    seed, characters = request.param
    sample = make_sample(seed, 4, 96, 128, characters, truth=True)
    return sample, as_sample(to_shot(sample, meshes=False), sample.video, sample.background, sample.mask)


def test_bodies_are_found_where_they_are(pair):
    sample, found = pair
    assert (sample.truth.character == found.truth.character).mean() > 0.995
    body = (sample.truth.character != NOBODY) & (found.truth.character != NOBODY)
    # At an outline a hair's breadth decides between near and far.
    assert np.quantile(np.abs(found.truth.depth[body] - sample.truth.depth[body]), 0.99) < 0.01
    assert (sample.truth.region == found.truth.region)[body].mean() > 0.97


def test_bodies_move_as_they_do(pair):
    sample, found = pair
    body = (sample.truth.character[:-1] != NOBODY) & sample.truth.flow_valid & found.truth.flow_valid
    assert body.sum() > 0.6 * (sample.truth.character[:-1] != NOBODY).sum()
    apart = np.linalg.norm(sample.truth.flow - found.truth.flow, axis=-1)[body]
    assert np.quantile(apart, 0.99) < 0.05


def test_points_have_the_regions_of_their_skin(pair):
    sample, found = pair
    assert (found.point_regions == sample.point_regions).mean() > 0.98


def test_the_measures_are_about_those_of_the_sample(pair):
    sample, found = pair
    film = np.clip(sample.video.astype(int) + 12, 0, 255).astype(np.uint8)
    ours, theirs = measure(film, found), measure(film, sample)
    for one in MEASURES:
        a, b = ours[one.name], theirs[one.name]
        # The synthetic floor is no mesh, so that its flow, and only that, is another.
        if one.name != "warp":
            assert np.isfinite(a) == np.isfinite(b)
            assert not np.isfinite(a) or a == pytest.approx(b, rel=0.05, abs=0.05), one.name


def test_the_floor_moves_as_a_plane_does():
    sample = next(s for s in (make_sample(seed, 4, 64, 64, 1) for seed in range(20)) if moves(s))
    corners = np.array([[-9, -9, 0], [9, -9, 0], [9, 9, 0], [-9, 9, 0]], np.float32)
    floor = Mesh("Floor", -1, corners[None], np.array([[0, 1, 2], [0, 2, 3]], np.int32))
    shot = replace(to_shot(sample), meshes=(floor,))
    truth = as_sample(shot, sample.video, sample.background, sample.mask).truth
    rows, columns = np.mgrid[0:64, 0:64] + 0.5
    pixels = np.stack([columns, rows, np.ones_like(rows)], axis=-1)
    compared = 0
    for t in range(3):
        R, shift = sample.viewmats[t, :3, :3].astype(float), sample.viewmats[t, :3, 3].astype(float)
        eye, rays = -R.T @ shift, pixels @ np.linalg.inv(sample.Ks[t].astype(float)).T @ R
        spots = eye + rays * (-eye[2] / rays[..., 2])[..., None]
        on = (truth.character[t] == NOBODY) & np.isfinite(truth.depth[t]) & truth.flow_valid[t]
        camera = spots @ sample.viewmats[t + 1, :3, :3].T.astype(float) + sample.viewmats[t + 1, :3, 3]
        target = camera @ sample.Ks[t + 1].T.astype(float)
        expected = target[..., :2] / target[..., 2:] - pixels[..., :2]
        np.testing.assert_allclose(truth.flow[t][on], expected[on], atol=0.02)
        compared += np.count_nonzero(on)
    assert compared > 100


def moves(sample) -> bool:
    """The camera looks down at a floor from above, and travels."""
    high = -(sample.viewmats[0, :3, :3].T @ sample.viewmats[0, :3, 3])[2] > 1
    return bool(high and np.abs(sample.viewmats - sample.viewmats[0]).max() > 0.01 and sample.viewmats[0, 2, 2] < -0.15)


def test_meshes_and_clay_come_back_as_they_went(pair):
    sample, rebuilt = pair
    found = as_sample(to_shot(sample), sample.video, sample.background, sample.mask)
    for name in ("vertices", "faces", "clay", "ref_vertices", "ref_clay"):
        np.testing.assert_array_equal(getattr(found, name), getattr(sample, name))
    assert (sample.truth.character == found.truth.character).mean() > 0.999
    assert not rebuilt.vertices.size and not rebuilt.ref_vertices.size
    dark = as_sample(to_shot(sample, light=False), sample.video, sample.background, sample.mask)
    assert not dark.clay.size and not dark.ref_clay.size and dark.vertices.size


def test_without_a_reference_there_are_no_looks_to_compare():
    sample = make_sample(1, 4, 48, 32, 1)
    shot = to_shot(sample)
    shot = replace(shot, characters=(replace(shot.characters[0], reference=None),))
    found = as_sample(shot, sample.video, sample.background, sample.mask)
    measured = measure(sample.video, found)
    assert np.isnan(measured["colour_ref"]) and np.isnan(measured["swapped_mean"]) and measured["colour"] == 0


def test_what_does_not_fit_is_said():
    sample = make_sample(1, 4, 48, 32, 1)
    shot = to_shot(sample)
    with pytest.raises(FilmError, match=r"background is \(3, 48, 48\)"):
        as_sample(shot, sample.video, sample.background[:3], sample.mask)
    stranger = to_shot(sample, meshes=False, bodies=False)
    assert not point_regions(stranger.characters[0]).any()
    with pytest.raises(FilmError, match="surface of body0 is not known"):
        as_sample(stranger, sample.video, sample.background, sample.mask)
