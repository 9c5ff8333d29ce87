"""The dressed world: the same every time, clothes in the film alone, and nothing torn, thrown or left behind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from maquette.backend.raster.rasterise import vertex_normals
from maquette.backend.shot import validate
from maquette.backend.worlds import sample as sample_module
from maquette.backend.worlds.actors import Actor, pose_actor, surface_samples, the_puppet
from maquette.backend.worlds.dressed import dress, put_on
from maquette.backend.worlds.motions import random_motion
from maquette.backend.worlds.sample import Sample, make_sample, to_shot

BARE = ("points", "rest_points", "joints", "vertices", "viewmats", "Ks", "betas", "poses", "trans")
SEEN = ("clay", "background", "visibility")
SEED, FPS = 5, 24.0


def made(seed: int = SEED, **more) -> Sample:
    return make_sample(seed, 3, 48, 32, dressed=True, **more)


@pytest.fixture(scope="module")
def one() -> Sample:
    return made(truth=True)


def test_same_seed_same_film(one):
    again = made()
    for name in ("video", "mask", "ref_image", *BARE, *SEEN):
        np.testing.assert_array_equal(getattr(again, name), getattr(one, name))


def test_conditions_are_the_bare_bodys(one, monkeypatch):
    bare = make_sample(SEED, 3, 48, 32)
    for name in BARE:
        np.testing.assert_array_equal(getattr(one, name), getattr(bare, name))
    monkeypatch.setattr(sample_module, "put_on", lambda outfit, *rest: put_on(None, *rest))
    naked = made()
    for name in SEEN:
        np.testing.assert_array_equal(getattr(one, name), getattr(naked, name))
    assert (one.video != naked.video).any() and (one.ref_image != naked.ref_image).any()
    assert one.mask.sum() > 1.1 * naked.mask.sum()


def test_the_truth_includes_the_clothes(one):
    assert one.truth is not None
    assert ((one.truth.character >= 0) == one.mask).mean() > 0.97
    assert np.isfinite(one.truth.flow).all()
    validate(to_shot(one))


def test_furniture_that_hides_is_part_of_the_shot():
    shot = next(s for s in (made(seed) for seed in range(8)) if s.furniture is not None)
    assert shot.furniture is not None and [mesh.character for mesh in to_shot(shot).meshes][-1] == -1
    bodies = shot.vertices.reshape(-1, 3)
    low, high = shot.furniture.vertices.min(axis=0), shot.furniture.vertices.max(axis=0)
    assert np.isfinite(low).all() and low[2] > -1e-6 and high[2] < 4
    assert torch.cdist(torch.tensor(shot.furniture.vertices), torch.tensor(bodies)).min() > 0.1


@pytest.mark.parametrize("seed", range(6))
def test_clothes_stay_with_the_body(seed):
    rng = np.random.default_rng(seed)
    puppet = the_puppet()
    colours = np.full((len(puppet.v_template), 3), 0.5, np.float32)
    actor = Actor(rng.normal(0, 0.9, puppet.shapedirs.shape[-1]).astype(np.float32), colours, surface_samples(16, 0))
    outfit = dress(rng, actor)
    posed = pose_actor(actor, *random_motion(rng, 12, FPS), 0.0, torch.device("cpu"))
    worn = put_on(outfit, actor, posed, FPS)
    if outfit is None:
        return
    count = posed.vertices.shape[1]
    own = worn.vertices[:, count:]
    assert torch.isfinite(worn.vertices).all() and torch.isfinite(worn.normals).all()
    assert np.isfinite(worn.colours).all() and worn.faces.max() < worn.vertices.shape[1]
    away = torch.cdist(own, posed.vertices[:, ::5]).amin(dim=2)
    assert away.max() < 0.75
    # No faster than the body but by what swings.
    body, cloth = ((part[1:] - part[:-1]).norm(dim=-1).amax(dim=1) for part in (posed.vertices, own))
    assert (cloth <= body + 5.2 / FPS).all()
    if outfit.columns is not None:
        first, second = (own[:, outfit.columns.index[:, k]] for k in (slice(1, None), slice(0, -1)))
        length = (first - second).norm(dim=-1)
        assert (length.mean(dim=0) - length[0]).abs().max() < 0.1
    still = posed.vertices[:1].expand(12, -1, -1)
    rest = outfit.pose(
        posed.transforms[:1].expand(12, -1, -1),
        torch.as_tensor(posed.trans[:1], dtype=torch.float32).expand(12, 3),
        still,
        vertex_normals(still, puppet.faces),
        FPS,
    )
    assert (rest[-1] - rest[-2]).norm(dim=-1).max() < (rest[1] - rest[0]).norm(dim=-1).max() + 0.02


def test_clothes_go_where_the_body_is_put():
    """The same motion at another place: the same clothes there."""
    rng = np.random.default_rng(1)
    puppet = the_puppet()
    colours = np.full((len(puppet.v_template), 3), 0.5, np.float32)
    actor = Actor(np.zeros(puppet.shapedirs.shape[-1], np.float32), colours, surface_samples(16, 0))
    outfit = next(o for o in (dress(rng, actor) for _ in range(9)) if o is not None and o.columns is not None)
    posed = pose_actor(actor, *random_motion(rng, 4, FPS), 0.0, torch.device("cpu"))
    here = put_on(outfit, actor, posed, FPS).vertices
    there = put_on(outfit, actor, posed.moved(np.array([1.0, -2.0, 0.0], np.float32)), FPS).vertices
    np.testing.assert_allclose(there - torch.tensor([1.0, -2.0, 0.0]), here, atol=2e-3)


def test_the_shortest_bodies_are_dressed_too():
    """Hair is looked for at heights that a short body's head does not reach."""
    betas = np.array([-2.5, -2.5, -2.5, *[0.0] * 7], np.float32)
    puppet = the_puppet()
    shaped, joints = puppet.shaped(torch.as_tensor(betas))
    assert float((shaped - joints[0])[:, 1].max()) < 0.62
    actor = Actor(betas, np.full((len(shaped), 3), 120.0, np.float32), surface_samples(16, 0))
    outfits = [dress(np.random.default_rng(seed), actor) for seed in range(6)]
    assert all(outfit is None or np.isfinite(outfit.rest).all() for outfit in outfits)
    assert any(outfit is not None for outfit in outfits)
