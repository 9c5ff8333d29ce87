"""Synthetic shots are deterministic, consistent with their own cameras, and valid Shots."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from maquette.backend.bodies import embedded
from maquette.backend.bodies.rotations import axis_angle_to_matrix
from maquette.backend.evaluation.silhouette import silhouette_iou
from maquette.backend.shot import load_shot, save_shot, validate
from maquette.backend.shot.cameras import project
from maquette.backend.worlds import sample as sample_module
from maquette.backend.worlds.motions import random_motion
from maquette.backend.worlds.puppet import make_puppet
from maquette.backend.worlds.sample import Sample, make_sample, to_shot


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return [make_sample(seed, frames=5, size=64, n_points=64) for seed in range(4)] + [
        make_sample(7, frames=5, size=64, n_points=64, characters=2)
    ]


def test_same_seed_same_sample(samples: list[Sample]) -> None:
    again = make_sample(0, frames=5, size=64, n_points=64)
    for name in ("video", "background", "clay", "mask", "points", "viewmats", "ref_image", "ref_points", "visibility"):
        np.testing.assert_array_equal(getattr(again, name), getattr(samples[0], name))
    assert not np.array_equal(samples[0].video, samples[1].video)


def test_visible_points_lie_in_the_mask(samples: list[Sample]) -> None:
    for sample in samples:
        height, width = sample.mask.shape[1:]
        grown = np.zeros((len(sample.mask), height + 4, width + 4), bool)
        for i in range(5):
            for j in range(5):
                grown[:, i : i + height, j : j + width] |= sample.mask
        grown = grown[:, 2:-2, 2:-2]
        for c in range(len(sample.points)):
            uv, _ = project(sample.points[c], sample.viewmats, sample.Ks)
            frame, point = np.nonzero(sample.visibility[c])
            u, v = uv[frame, point].T
            assert ((u >= 0) & (u < width) & (v >= 0) & (v < height)).all()
            assert grown[frame, v.astype(int), u.astype(int)].mean() > 0.99


def test_some_points_are_hidden_and_some_seen(samples: list[Sample]) -> None:
    for sample in samples:
        share = sample.visibility.mean()
        assert 0.1 < share < 0.8


def test_outside_the_mask_is_background(samples: list[Sample]) -> None:
    for sample in samples:
        outside = ~sample.mask
        changed = np.abs(sample.video.astype(int) - sample.background).max(axis=-1)
        # Half-covered edge pixels and shadows differ; everything else is the same picture.
        assert np.median(changed[outside]) == 0
        assert 0.04 < sample.mask.mean() < 0.8


def test_true_film_has_a_high_silhouette_score(samples: list[Sample]) -> None:
    scores = [silhouette_iou(s.video, s.mask, s.background) for s in samples]
    assert np.median(scores) > 0.7
    assert all(silhouette_iou(s.background, s.mask, s.background) == 0 for s in samples)


def test_every_sample_is_a_valid_shot(samples: list[Sample], tmp_path) -> None:
    for sample in samples:
        shot = to_shot(sample)
        validate(shot)
    save_shot(shot, tmp_path / "two.shot")
    loaded = load_shot(tmp_path / "two.shot")
    np.testing.assert_array_equal(loaded.characters[1].points, samples[-1].points[1])


def test_a_square_is_the_same_by_either_name_and_with_more_references(samples: list[Sample]) -> None:
    again = make_sample(0, frames=5, size=(64, 64), n_points=64, references=3)
    for name in ("video", "clay", "points", "viewmats", "ref_image", "ref_clay", "ref_vertices"):
        np.testing.assert_array_equal(getattr(again, name), getattr(samples[0], name))
    assert [len(samples[0].references(0)), len(again.references(0))] == [1, 3]


@pytest.mark.parametrize("size", [(112, 64), (64, 112), (88, 64)])
def test_a_sample_has_its_own_width_and_height(size: tuple[int, int]) -> None:
    width, height = size
    sample = make_sample(3, frames=2, size=size, n_points=64, characters=2, truth=True, maps=True)
    assert sample.truth is not None and sample.normals is not None
    assert sample.video.shape == sample.clay.shape == sample.background.shape == (2, height, width, 3)
    assert sample.ref_image.shape == sample.ref_clay.shape == (2, height, width, 3)
    assert sample.truth.depth.shape == sample.normals.shape[:3] == (2, height, width)
    assert ((sample.truth.character >= 0) == sample.mask).mean() > 0.98


def test_clay_is_the_film_with_grey_bodies(samples: list[Sample]) -> None:
    for sample in samples:
        same = (sample.video == sample.clay).all(axis=-1)
        # Outside the bodies only mixed pixels of their outlines differ; shadows on the floor do not.
        assert same[~sample.mask].mean() > 0.95 and same[sample.mask].mean() < 0.05
        grey = sample.clay[sample.mask].astype(int)
        assert np.median(np.ptp(grey, axis=-1)) == 0 and 30 < grey.mean() < 150


def test_film_and_clay_are_lit_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    brown = np.array([0.5, 0.3, 0.1], np.float32)
    monkeypatch.setattr(sample_module, "random_colours", lambda rng, *rest: np.tile(brown, (len(rest[0]), 1)))
    plain = make_sample(1, frames=2, size=64, n_points=16, characters=1)
    for film, clay in ((plain.video, plain.clay), (plain.ref_image, plain.ref_clay)):
        grey = np.ptp(clay.astype(int), axis=-1) == 0
        shown = grey & (film != clay).any(axis=-1)
        assert shown.sum() > 100
        expected = clay[shown] / 0.5 * brown
        assert np.quantile(np.abs(film[shown] - expected), 0.9) < 1.5


def test_vertices_are_the_skin_that_the_points_lie_on(samples: list[Sample]) -> None:
    for sample in samples:
        assert sample.faces.dtype == np.int32 and sample.faces.max() == sample.vertices.shape[2] - 1
        for c in range(len(sample.points)):
            moments = (sample.ref_points[c], sample.ref_vertices[c]), (sample.points[c, 2], sample.vertices[c, 2])
            for spots, skin in moments:
                assert np.linalg.norm(spots[:, None] - skin[None], axis=-1).min(axis=1).max() < 0.03


def test_a_further_reference_shows_the_other_side() -> None:
    gained = []
    for seed in range(4):
        first, second = make_sample(seed, frames=2, size=64, n_points=128, characters=1, references=2).references(0)
        gained.append((first.visibility | second.visibility).sum() / first.visibility.sum())
    assert min(gained) > 1.3


def test_a_shot_holds_as_much_as_is_asked_for(samples: list[Sample]) -> None:
    sample = samples[-1]
    whole, dark = to_shot(sample), to_shot(sample, light=False)
    assert whole.clay is not None and whole.clay.surroundings and len(whole.clay.media) == 5
    assert [mesh.character for mesh in whole.meshes] == [0, 1]
    assert all(c.reference.clay is not None and c.reference.vertices is not None for c in whole.characters)
    assert dark.clay is None and dark.meshes and all(c.reference.clay is None for c in dark.characters)
    bodies, points = to_shot(sample, meshes=False), to_shot(sample, meshes=False, bodies=False)
    for shot in (bodies, points):
        validate(shot)
        assert not shot.meshes and all(c.reference.vertices is None for c in shot.characters)
    assert all(c.body is not None for c in bodies.characters) and all(c.body is None for c in points.characters)
    several = to_shot(make_sample(0, frames=1, size=32, n_points=16, references=3))
    validate(several)
    assert len(several.characters[0].references) == 3


def test_points_are_skin_of_the_posed_body(samples: list[Sample]) -> None:
    body = embedded()
    sample = samples[0]
    posed = body.pose(sample.betas[0], sample.poses[0], sample.trans[0])
    for t in (0, 4):
        gaps = np.linalg.norm(sample.points[0, t][:, None] - posed.vertices[t][None], axis=-1).min(axis=1)
        assert gaps.max() < 0.03
    np.testing.assert_allclose(posed.joints[:, :24], sample.joints[0], atol=1e-4)


def test_puppet_poses_as_the_body_does() -> None:
    body = embedded()
    puppet = make_puppet(body)
    rng = np.random.default_rng(3)
    poses, path = random_motion(rng, 3, 24.0)
    betas = rng.normal(0, 1, body.shapedirs.shape[-1]).astype(np.float32)
    vertices, joints = puppet.pose(
        torch.tensor(betas), torch.tensor(axis_angle_to_matrix(poses).astype(np.float32)), torch.tensor(path)
    )
    posed = body.pose(betas, poses, path)
    np.testing.assert_allclose(vertices.numpy(), posed.vertices[:, puppet.kept], atol=1e-4)
    np.testing.assert_allclose(joints.numpy(), posed.joints, atol=1e-4)
    assert puppet.v_template.shape[0] < 0.7 * body.v_template.shape[0]


def test_motions_are_smooth_and_upright() -> None:
    for seed in range(6):
        poses, path = random_motion(np.random.default_rng(seed), 17, 24.0)
        matrices = axis_angle_to_matrix(poses.astype(np.float64))
        step = matrices[1:] @ matrices[:-1].swapaxes(-1, -2)
        angle = np.arccos(np.clip((np.trace(step, axis1=-2, axis2=-1) - 1) / 2, -1, 1))
        assert np.degrees(angle).max() < 35
        assert (matrices[:, 0] @ np.array([0, 1, 0]))[:, 2].min() > 0.9
        assert path[:, 2].min() >= 0
