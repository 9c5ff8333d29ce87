from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.bodies import embedded
from maquette.backend.raster.character_meshes import character_meshes, rigid

from .conftest import OTHER, sample, shot, with_person, with_reference


@given(st.integers(0, 10_000))
def test_a_rigid_motion_is_found(seed):
    g = torch.Generator().manual_seed(seed)
    points = torch.randn(3, 7, 3, generator=g)
    turn = torch.linalg.qr(torch.randn(3, 3, 3, generator=g))[0]
    turn = turn * torch.linalg.det(turn)[:, None, None]
    moved = points @ turn.transpose(1, 2) + torch.randn(3, 1, 3, generator=g)
    weight = torch.rand(3, 7, generator=g) + 0.1
    found, here, there = rigid(points, moved, weight / weight.sum(dim=1, keepdim=True))
    assert torch.allclose(found, turn, atol=1e-4)
    again = there[:, None] + (points - here[:, None]) @ found.transpose(1, 2)
    assert torch.allclose(again, moved, atol=1e-4)


def test_meshes_give_the_surface_and_the_moment():
    one, (mesh,) = sample(), character_meshes(shot())
    assert np.array_equal(mesh.vertices.numpy(), one.vertices[0])
    assert np.array_equal(mesh.moments[0].numpy(), one.ref_vertices[0])
    assert mesh.closed and not mesh.notes


def test_the_rest_pose_follows_from_the_points():
    (mesh,) = character_meshes(shot())
    one = sample()
    # The points lie on the surface, so that the nearest vertices at rest are near the points at rest.
    apart = torch.cdist(torch.as_tensor(one.rest_points[0]), mesh.rest).amin(dim=1)
    assert apart.median() < 0.02 and apart.max() < 0.08


def test_a_parametric_body_stands_in_for_its_mesh():
    one = sample()
    (mesh,) = character_meshes(shot(meshes=False))
    assert mesh.vertices.shape[1] == len(embedded().v_template)
    apart = torch.cdist(torch.as_tensor(one.points[0, 2]), mesh.vertices[2]).amin(dim=1)
    assert apart.max() < 0.05
    assert "without its mesh" in mesh.notes[0]


def test_the_moment_of_a_frame_of_the_film_is_exact_without_vertices():
    one = sample()
    (mesh,) = character_meshes(with_reference(shot(), vertices=None))
    assert np.abs(mesh.moments[0].numpy() - one.ref_vertices[0]).max() < 3e-3


def test_the_moment_of_another_pose_follows_the_points():
    one = sample(OTHER)
    (mesh,) = character_meshes(with_reference(shot(OTHER), vertices=None))
    error = np.linalg.norm(mesh.moments[0].numpy() - one.ref_vertices[0], axis=-1)
    assert np.median(error) < 0.02 and np.quantile(error, 0.95) < 0.08


def test_points_alone_become_discs_in_the_skin():
    one = sample()
    (mesh,) = character_meshes(shot(meshes=False, bodies=False))
    count = one.points.shape[2]
    assert mesh.vertices.shape == (5, 7 * count, 3) and len(mesh.faces) == 6 * count
    centres = mesh.vertices[:, ::7]
    assert np.abs(centres.numpy() - one.points[0]).max() < 1e-5
    apart = torch.cdist(mesh.vertices[1], torch.as_tensor(one.vertices[0, 1])).amin(dim=1)
    assert apart.quantile(0.9) < 0.09
    assert not mesh.closed and "from its 256 points" in mesh.notes[0]


def test_an_unknown_body_is_drawn_from_its_points():
    made = shot(meshes=False)
    body = replace(made.characters[0].body, body="../../etc/passwd")
    (mesh,) = character_meshes(with_person(made, body=body))
    assert "from its 256 points" in mesh.notes[0]
