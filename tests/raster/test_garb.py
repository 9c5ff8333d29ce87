"""What references show beyond the captured body is carried along; bare bodies stay as they are."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from maquette.backend.media import encode_png
from maquette.backend.raster import carry as carry_module
from maquette.backend.raster import garb as garb_module
from maquette.backend.raster.carry import carry_shot
from maquette.backend.raster.character_meshes import character_meshes
from maquette.backend.raster.garb import clothe, find_person
from maquette.backend.raster.rasterise import rasterise
from maquette.backend.worlds.sample import make_sample, to_shot

from .conftest import figure_psnr, iou, shot

DRESSED = 1_250_000_001
RIM = 14


def disc(radius: float, size: int = 80) -> np.ndarray:
    return np.hypot(*(np.mgrid[:size, :size] - size / 2 + 0.5)) < radius


def pictures() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A body that wears a wider thing in its own colours, before noise; the same picture's clay; and the body."""
    rng = np.random.default_rng(0)
    set_ = (rng.integers(0, 60, (80, 80, 3)) + [20, 60, 150]).astype(np.uint8)
    body, worn = disc(16), disc(16 + 9)
    picture, clay = set_.copy(), set_.copy()
    picture[worn] = (rng.integers(0, 40, (worn.sum(), 3)) + [190, 90, 20]).astype(np.uint8)
    clay[body] = 128
    return picture, clay, body


@pytest.mark.parametrize("lit", [True, False])
def test_the_person_is_found(lit):
    picture, clay, body = pictures()
    rgba = np.dstack([picture, np.full(body.shape, 255, np.uint8)])
    found = find_person(rgba, clay if lit else None, body, RIM)
    worn = disc(25)
    assert (found & worn).sum() / (found | worn).sum() > 0.93
    bare = np.where(body[..., None], picture, clay)
    rgba = np.dstack([bare, np.full(body.shape, 255, np.uint8)])
    assert (find_person(rgba, clay if lit else None, body, RIM) != body).mean() < 0.01


def test_a_cut_out_picture_shows_the_person_by_its_alpha():
    picture, _, body = pictures()
    alpha = np.where(disc(25), 255, 0).astype(np.uint8)
    np.testing.assert_array_equal(find_person(np.dstack([picture, alpha]), None, body, RIM), disc(25))


def test_a_background_in_the_bodys_colours_is_no_clothing():
    _, _, body = pictures()
    flat = np.where(body[..., None], [200, 90, 20], [60, 60, 60]).astype(np.uint8)
    flat[:, 45:] = [200, 90, 20]
    rgba = np.dstack([flat, np.full(body.shape, 255, np.uint8)])
    assert (find_person(rgba, None, body, RIM) & ~body).sum() < 0.1 * body.sum()


@pytest.mark.parametrize("lit", [True, False])
def test_a_bare_body_stays_as_it_is(lit):
    one = shot()
    character = one.characters[0]
    assert character.reference is not None
    if not lit:
        character = replace(character, reference=replace(character.reference, clay=None))
    mesh = character_meshes(one)[0]
    grown, garb = clothe(mesh, character.references, "characters[0]")
    assert grown is mesh and garb is None


@pytest.mark.parametrize(("share", "metres", "worn"), [(0.05, 0.03, False), (0.05, 0.045, True), (0.3, 0.025, True)])
def test_an_outline_that_is_found_too_far_out_is_no_clothing(monkeypatch, share, metres, worn):
    """A few spots must stand far off, as hair does, or many a little, as a jumper does."""
    bare = shot()
    (mesh,) = character_meshes(bare, torch.device("cpu"))
    seen = garb_module._stands_off

    def found(*arguments):
        _, tells, most = seen(*arguments)
        spots = torch.nonzero(tells)[:, 0]
        off = torch.zeros_like(most)
        off[spots[: int(share * len(spots))]] = metres
        return off, tells, torch.full_like(most, 0.1)

    monkeypatch.setattr(garb_module, "_stands_off", found)
    _, garb = clothe(mesh, bare.characters[0].references, "characters[0]")
    assert (garb is not None) == worn


def test_hair_and_clothes_are_carried(monkeypatch):
    one = make_sample(DRESSED, 2, 96, 64, 1, truth=True, dressed=True)
    grown = carry_shot(to_shot(one), 96, 96)
    monkeypatch.setattr(carry_module, "clothe", lambda mesh, *rest: (mesh, None))
    bare = carry_shot(to_shot(one), 96, 96)
    assert iou(grown.frames, one) > iou(bare.frames, one) + 0.02
    assert figure_psnr(grown.frames, one) > figure_psnr(bare.frames, one) + 0.3


def test_a_hand_before_a_coat_wears_no_coat(monkeypatch):
    bare = shot()
    (mesh,) = character_meshes(bare, torch.device("cpu"))
    monkeypatch.setattr(
        garb_module,
        "_stands_off",
        lambda mesh, *_: tuple(torch.full((len(mesh.rest),), value) for value in (0.1, True, 0.1)),
    )
    _, garb = clothe(mesh, bare.characters[0].references, "characters[0]")
    assert garb is not None
    hands = mesh.rest[:, 0].abs() > 0.85 * mesh.rest[:, 0].abs().max()
    assert garb.worn[: len(hands)][hands].max() < 0.021 and garb.worn[: len(hands)][~hands].median() > 0.09


def test_a_grown_body_fills_the_outline_of_its_picture():
    one = shot()
    mesh, character = character_meshes(one)[0], one.characters[0]
    assert character.reference is not None
    reference = replace(character.reference, clay=None)
    size = (128, 128)
    lens = torch.tensor(reference.K).clone()
    lens[:2] *= size[0] / one.clip.width

    def outline(vertices: torch.Tensor) -> np.ndarray:
        drawn = rasterise(vertices[None], mesh.faces, torch.tensor(reference.viewmat)[None], lens[None], *size)
        return torch.isfinite(drawn.depth[0]).numpy()

    bare = outline(mesh.moments[0])
    wide = cv2.dilate(bare.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    picture = np.dstack([np.full((*size, 3), 90, np.uint8), np.where(wide, 255, 0).astype(np.uint8)])
    reference = replace(reference, image=encode_png(picture), K=lens.numpy())
    grown, garb = clothe(mesh, (reference,), "characters[0]")
    assert garb is not None
    filled = outline(grown.moments[0])
    assert (filled & wide).sum() / (filled | wide).sum() > (bare & wide).sum() / wide.sum() + 0.05
    assert (filled & ~wide).sum() < 0.06 * wide.sum()
    # As far off the skin in every frame.
    away = (grown.vertices - mesh.vertices).norm(dim=-1)
    assert ((away - away[:1]).abs() < 1e-4).float().mean() > 0.99
