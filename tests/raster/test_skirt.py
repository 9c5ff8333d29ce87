"""Cloth around both legs is found where pictures show it and nowhere else, keeps girth and length, and is carried."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.backend.raster import carry as carry_module
from maquette.backend.raster import garb as garb_module
from maquette.backend.raster.carry import CarriedFilm, carry_shot
from maquette.backend.raster.rasterise import rasterise
from maquette.backend.raster.skirt import (
    GAP,
    STEP,
    Legs,
    Skirt,
    along,
    cloth_faces,
    cut,
    directions,
    draped,
    hang,
    has_legs,
    outline,
)
from maquette.backend.raster.skirt_fit import NONE, Sighting, find_skirt, parts, shown_by
from maquette.backend.worlds.actors import the_puppet
from maquette.backend.worlds.sample import make_sample, to_shot
from torch import Tensor

from .conftest import iou

DRESSED = 1_250_000_116
"""Someone in a skirt, whose reference shows it."""
SKIRT = Skirt(torch.linspace(0.2, 0.32, 20), 0.56)
SIZE = 160
ROWS = 19


def body(left: float = 0.0, right: float = 0.0, apart: float = 8.0) -> tuple[Tensor, Tensor, Tensor]:
    """A body that stands in the world (V,3), at rest (V,3), and its faces; thighs lifted and turned out by degrees."""
    puppet = the_puppet()
    rest, joints = puppet.shaped(torch.zeros(puppet.shapedirs.shape[-1]))
    turns = torch.eye(3).repeat(1, len(joints), 1, 1)
    turns[0, 0] = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    for joint, lift, side in ((1, left, 1.0), (2, right, -1.0)):
        a, b = np.radians([-lift, side * apart])
        over = torch.tensor([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]).float()
        out = torch.tensor([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]]).float()
        turns[0, joint] = out @ over
    posed, _ = puppet.pose(torch.zeros(puppet.shapedirs.shape[-1]), turns, torch.tensor([[0.3, 0.2, 1.0]]))
    return posed[0], rest - joints[0], puppet.faces


def sighted(worn: Skirt | None = None, wider: int = 0, sure: bool = True) -> tuple[Sighting, Tensor]:
    """A picture of a body from ahead that wears a skirt, or whose outline is some pixels wider than its skin."""
    vertices, rest, faces = body(apart=12.0)
    view = torch.eye(4)
    view[:3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    view[:3, 3] = -view[:3, :3] @ torch.tensor([0.3, -2.8, 1.0])
    lens = torch.tensor([[180.0, 0, SIZE / 2], [0, 180.0, SIZE / 2], [0, 0, 1]])
    raster = rasterise(vertices[None], faces, view[None], lens[None], SIZE, SIZE, cull=False)
    part = torch.zeros(SIZE * SIZE, dtype=torch.int64)
    part[raster.index] = parts(rest, faces)[raster.face]
    part = part.view(SIZE, SIZE)
    person = torch.nn.functional.max_pool2d((part != NONE).float()[None], 2 * wider + 1, 1, wider)[0] > 0
    picture = torch.full((SIZE, SIZE, 3), 90.0)
    found = Sighting(vertices, picture, person, part, view, lens, 3 / 180, sure)
    if worn is not None:
        found.person.logical_or_(shown_by(worn, found, rest))
    return found, rest


def test_a_skirt_is_found_as_wide_and_as_long_as_it_is():
    sighting, rest = sighted(SKIRT)
    found = find_skirt([sighting], rest)
    assert found is not None
    assert found.length == pytest.approx(SKIRT.length, abs=0.05)
    depths = slice(4, 15)
    assert (found.girth[depths] / SKIRT.girth[depths] - 1).abs().max() < 0.08


def test_legs_that_show_before_a_cape_wear_no_skirt():
    sighting, rest = sighted(SKIRT)
    sighting.picture[sighting.part != NONE] = torch.tensor([200.0, 40.0, 30.0])
    assert find_skirt([sighting], rest) is None


@pytest.mark.parametrize("sure", [True, False])
@pytest.mark.parametrize("wider", [0, 2, 3])
def test_bare_legs_and_trousers_are_no_skirt(wider, sure):
    """Up to 5 cm off the skin, with the set showing between the legs."""
    sighting, rest = sighted(wider=wider, sure=sure)
    assert find_skirt([sighting], rest) is None


def test_one_picture_that_shows_the_set_between_the_legs_outweighs_another():
    (worn, rest), (bare, _) = sighted(SKIRT), sighted()
    assert find_skirt([worn, worn], rest) is not None
    assert find_skirt([worn, bare, bare, bare], rest) is None


def test_what_has_no_legs_wears_no_skirt():
    assert not has_legs(torch.rand(200, 3) + torch.tensor([0.0, 1.0, 0.0]))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), girth=st.floats(0.05, 0.6))
def test_cloth_keeps_its_girth_unless_legs_are_wider(seed, girth):
    generator = torch.Generator().manual_seed(seed)
    angles = directions(torch.device("cpu"))
    spots = torch.rand(1, 3, 6, 2, generator=generator) - 0.5
    support = (spots @ angles.T).amax(dim=2)
    own = draped(Legs(torch.zeros(1, 3), torch.eye(3)[None], support), torch.zeros(3))
    wide = draped(Legs(torch.zeros(1, 3), torch.eye(3)[None], support), torch.full((3,), girth))
    assert (wide >= support + GAP - 1e-6).all()
    torch.testing.assert_close(wide.mean(dim=-1), own.mean(dim=-1).clamp(min=girth), atol=1e-3, rtol=0)
    # The outline of a support lies within it, and touches it where the support is that of a hull.
    assert (outline(wide) <= wide + 1e-6).all()


@pytest.mark.parametrize("pose", [(0, 0, 8), (0, 0, 35), (35, -25, 3), (85, 85, 6)])
def test_cloth_hangs_around_both_legs(pose):
    vertices, rest, _ = body(*pose)
    spots = hang(SKIRT, vertices[None], rest)
    assert spots.shape == (1, ROWS * 40, 3) and spots.isfinite().all()
    assert spots[..., 2].min() >= vertices[:, 2].min()
    assert cloth_faces(rest.device).max() == spots.shape[1] - 1
    # Every thigh lies within: as far along each direction as the cloth or less.
    legs = cut(vertices[None], rest, 12, -0.35)
    wide = draped(legs, SKIRT.girth[:12])
    assert (wide >= legs.support).all()
    rows = spots.view(ROWS, 40, 3)[1:]
    length = (rows[1:] - rows[:-1]).norm(dim=-1).sum(dim=0)
    assert length.max() <= SKIRT.length * 1.001
    # What would hang through the floor lies on it.
    off_floor = rows[-1, :, 2] > vertices[:, 2].min() + 0.01
    assert (length[off_floor] > 0.9 * SKIRT.length).all()


def test_columns_are_measured_along_the_cloth():
    straight = along(torch.full((1, 5, 40), 0.2))
    torch.testing.assert_close(straight[0, :, 0], STEP * torch.arange(5.0))


@pytest.fixture(scope="module")
def carried() -> tuple[CarriedFilm, CarriedFilm, object]:
    """A film with its skirt, the same on each leg alone, and the sample."""
    one = make_sample(DRESSED, 9, 96, 64, 1, truth=True, dressed=True)
    with pytest.MonkeyPatch.context() as patch:
        made = carry_shot(to_shot(one), 96, 96)
        patch.setattr(garb_module, "find_skirt", lambda *_: None)
        return made, carry_shot(to_shot(one), 96, 96), one


def test_a_skirt_is_carried(carried):
    made, split, one = carried
    assert iou(made.frames, one) > iou(split.frames, one) + 0.02
    cloth = np.isclose(made.worn, garb_module._CLOTH, atol=1e-4)
    assert cloth.any() and (made.character[cloth] == 0).all() and (made.known[cloth] > 0.5).mean() > 0.3
    assert np.isfinite(made.depth[cloth]).all()


def test_some_frames_of_a_skirt_are_those_of_the_whole_film(carried):
    made, _, one = carried
    some = carry_shot(to_shot(one), 96, 96, only=range(8, 9))
    for field in fields(made):
        if field.name != "notes":
            np.testing.assert_array_equal(getattr(some, field.name), getattr(made, field.name)[8:9])


def test_a_skirt_hangs_on_points_alone(carried):
    """Discs are drawn from both sides: no lining."""
    _, _, one = carried
    film = carry_shot(to_shot(one, meshes=False, bodies=False), 96, 96)
    assert film.frames.shape == one.video.shape and carry_module.NOBODY in film.character
