"""The truth of every pixel agrees with the film and with the cameras."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from maquette.backend.bodies import embedded
from maquette.backend.shot.cameras import project
from maquette.backend.worlds import sample as sample_module
from maquette.backend.worlds.puppet import make_puppet
from maquette.backend.worlds.sample import Sample, make_sample
from maquette.backend.worlds.truth import NOBODY


@pytest.fixture(scope="module", params=[(3, 1), (5, 2), (11, 3)], ids=lambda p: f"seed{p[0]}")
def sample(request) -> Sample:
    seed, characters = request.param
    return make_sample(seed, frames=4, size=128, n_points=64, characters=characters, truth=True, maps=True)


def test_who_shows_is_what_the_mask_covers(sample):
    assert (((sample.truth.character != NOBODY) == sample.mask).mean()) > 0.985
    assert set(np.unique(sample.truth.character)) == set(range(-1, len(sample.points)))


def test_visible_points_lie_at_the_depth_of_their_pixel(sample):
    gaps = []
    for c in range(len(sample.points)):
        uv, depth = project(sample.points[c], sample.viewmats, sample.Ks)
        frame, point = np.nonzero(sample.visibility[c])
        column, row = np.floor(uv[frame, point]).astype(int).T
        # At an outline the pixel's centre may show what is behind.
        around = np.pad(sample.truth.character, ((0, 0), (1, 1), (1, 1)), mode="edge")
        within = np.all([around[frame, row + i, column + j] == c for i in range(3) for j in range(3)], axis=0)
        gaps.append(np.abs(sample.truth.depth[frame, row, column] - depth[frame, point])[within])
    gap = np.concatenate(gaps)
    assert len(gap) > 30 and (gap < 0.05).mean() > 0.9 and np.median(gap) < 0.01


def test_the_flow_takes_the_next_frame_back_to_this_one(sample):
    truth, frames = sample.truth, len(sample.video)
    height, width = sample.mask.shape[1:]
    v, u = np.mgrid[0:height, 0:width] + 0.5
    target = (np.stack([u, v], axis=-1) + truth.flow) / [width / 2, height / 2] - 1
    film = torch.from_numpy(sample.video).permute(0, 3, 1, 2).float()
    warped = F.grid_sample(film[1:], torch.from_numpy(target).float(), align_corners=False, padding_mode="border")
    error = (warped - film[:-1]).abs().mean(1).numpy()
    still = (film[1:] - film[:-1]).abs().mean(1).numpy()
    assert truth.flow.shape == (frames - 1, height, width, 2)
    assert truth.flow_valid.mean() > 0.75
    moving = truth.flow_valid & (still > 4)
    assert np.median(error[moving]) < 0.4 * np.median(still[moving])


def test_points_of_the_body_move_as_the_flow_says(sample):
    uv, _ = project(sample.points[0], sample.viewmats, sample.Ks)
    seen = sample.visibility[0][:-1] & sample.visibility[0][1:]
    frame, point = np.nonzero(seen)
    column, row = np.floor(uv[frame, point]).astype(int).T
    mine = (sample.truth.character[frame, row, column] == 0) & sample.truth.flow_valid[frame, row, column]
    flow = sample.truth.flow[frame, row, column][mine]
    moved = (uv[frame + 1, point] - uv[frame, point])[mine]
    assert np.median(np.linalg.norm(flow - moved, axis=-1)) < 0.15


def test_maps_show_bodies_alone(sample):
    shown = sample.truth.character != NOBODY
    assert sample.normals.dtype == sample.canonical.dtype == np.uint8
    assert (sample.normals.any(axis=-1) == sample.canonical.any(axis=-1)).all()
    assert (sample.normals.any(axis=-1) == shown).mean() > 0.999


def test_normals_have_length_one_and_face_the_camera(sample):
    normals = sample.normals[sample.normals.any(axis=-1)].astype(float) / 255 * 2 - 1
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=0.02)
    # Away from the camera is +Z; smoothed normals of a face at the outline may turn a little too far.
    assert (normals[:, 2] < 0.2).mean() > 0.99 and normals[:, 2].mean() < -0.5


def test_canonical_coordinates_are_those_of_the_points_that_show(sample):
    puppet = make_puppet(embedded())
    template = puppet.v_template.numpy()
    for c in range(len(sample.points)):
        uv, _ = project(sample.points[c], sample.viewmats, sample.Ks)
        frame, point = np.nonzero(sample.visibility[c])
        column, row = np.floor(uv[frame, point]).astype(int).T
        mine = sample.truth.character[frame, row, column] == c
        found = sample.canonical[frame, row, column][mine] / 255 * 2.2 - 1.1
        # The rest points are shaped; at the template the same spot lies some centimetres off.
        gap = np.linalg.norm(found - sample.rest_points[c][point[mine]], axis=-1)
        assert np.median(gap) < 0.12
        nearest = np.linalg.norm(found[:50, None] - template[None], axis=-1).min(axis=1)
        assert np.median(nearest) < 0.012


def test_a_camera_behind_the_wall_sees_the_bodies_in_film_and_truth(monkeypatch):
    draw = sample_module.random_surroundings

    def before_the_camera(rng, azimuth):
        colours = np.array([[0.9, 0.1, 0.1], [0.1, 0.1, 0.9]])
        return replace(draw(rng, azimuth), wall=colours, wall_at=np.array([azimuth, 0.5]))

    monkeypatch.setattr(sample_module, "random_surroundings", before_the_camera)
    sample = make_sample(3, frames=2, size=64, n_points=16, characters=1, truth=True)
    assert sample.mask.mean() > 0.02
    assert ((sample.truth.character != NOBODY) == sample.mask).mean() > 0.98
