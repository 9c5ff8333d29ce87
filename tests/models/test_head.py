"""The head that corrects the carried film of dressed people."""

from __future__ import annotations

from dataclasses import fields, replace
from shutil import copy

import numpy as np
import pytest
import torch
from maquette.backend.catalogue.models import model_spec
from maquette.backend.models.isa import head as module
from maquette.backend.models.isa.build import new_head
from maquette.backend.models.isa.head import CarriedHead, correct, dressed, head_inputs, standing_out, working_size
from maquette.backend.models.registry import find_family
from maquette.backend.raster.carry import CarriedFilm, carry_shot
from maquette.backend.training.data import HELD_OUT
from maquette.backend.worlds.sample import Sample, make_sample, to_shot

from .conftest import make_shot as isa_shot


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """Dressed shots that no training draws, in which somebody is seen to wear something."""
    return [make_sample(HELD_OUT + 700_000_000 + seed, 5, 96, dressed=True) for seed in (1, 2)]


@pytest.fixture(scope="module")
def films(samples: list[Sample]) -> list[CarriedFilm]:
    found = [carry_shot(to_shot(sample), 96, 96) for sample in samples]
    assert all(dressed(film).any() for film in found)
    return found


def busy() -> CarriedHead:
    """A head that changes everything it may, the four pixels that share a place at half the size alike."""
    torch.manual_seed(0)
    head = CarriedHead(8).eval()
    for layer in (head.to_gain, head.to_change):
        torch.nn.init.normal_(layer.weight, std=0.02)
        torch.nn.init.constant_(layer.bias, 0.3)  # type: ignore[arg-type]
    head.to_change.weight.data = head.to_change.weight.data[::4].repeat_interleave(4, dim=0)
    return head


def corrected(head: CarriedHead, sample: Sample, film: CarriedFilm, frames: np.ndarray | None = None) -> np.ndarray:
    given = film.frames if frames is None else frames
    return correct(head, given, film, to_shot(sample), torch.device("cpu"), lambda: None)


def test_a_new_head_changes_nothing_and_a_busy_one_only_dressed_people_and_a_ring(samples, films) -> None:
    sample, film = samples[0], films[0]
    assert (corrected(CarriedHead(8), sample, film) == film.frames).all()
    made = corrected(busy(), sample, film)
    gate = head_inputs(film, torch.zeros(*film.frames.shape), None, [True])[1][:, 0].numpy()
    changed = (made != film.frames).any(axis=-1)
    assert changed[dressed(film)].mean() > 0.9
    assert not changed[gate == 0].any() and (gate == 0).mean() > 0.2


def test_bare_bodies_stay_as_they_are(samples, films) -> None:
    bare = replace(films[0], worn=np.zeros_like(films[0].worn))
    assert corrected(busy(), samples[0], bare) is bare.frames
    # Of two characters the bare one stays.
    halves = replace(films[0], character=films[0].character.copy())
    halves.character[:, :, :48][halves.character[:, :, :48] >= 0] = 1
    halves.worn[halves.character == 1] = 0
    gate = head_inputs(halves, torch.zeros(*films[0].frames.shape), None, [True])[1]
    assert not gate[..., : 48 - 8].any() and gate[..., 48:].any()


def test_a_long_film_in_parts_is_the_same(samples, films, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is common to the film is taken over all parts."""
    whole = corrected(busy(), samples[1], films[1])
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    parts = corrected(busy(), samples[1], films[1])
    assert np.abs(whole.astype(int) - parts).max() <= 1


def test_large_films_are_seen_small_and_corrected_large(samples, films) -> None:
    assert working_size(96, 96) == (96, 96) and working_size(512, 1024) == (128, 256)
    film = films[0]
    large = replace(film, **{f.name: _doubled(getattr(film, f.name)) for f in fields(film) if f.name != "notes"})
    plain = corrected(busy(), samples[0], film)
    made = corrected(busy(), samples[0], large)
    assert made.shape == large.frames.shape and (made != large.frames).any()
    small = made.reshape(5, 96, 2, 96, 2, 3).mean(axis=(2, 4))
    # The ring is as wide in pixels of the working size, which differs.
    within = dressed(film)
    change = np.abs(plain.astype(float) - film.frames)[within].mean()
    assert np.abs(small - plain)[within].mean() < 0.35 * change
    # The frames may be of another size than the carried film that the model works on.
    frames = _doubled(film.frames)
    assert (corrected(busy(), samples[0], film, frames) != frames).any()


def test_what_stands_out_goes_on_standing_out() -> None:
    generator = torch.Generator().manual_seed(1)
    carried, made, background = (torch.rand(2, 3, 16, 16, generator=generator) for _ in range(3))
    carried[:, :, :4] = background[:, :, :4]
    made = torch.where(torch.rand(2, 1, 16, 16, generator=generator) < 0.5, background + 0.02 * (made - 0.5), made)
    kept = standing_out(made, carried, background)
    before, after, then = ((film - background).abs().amax(dim=1) for film in (carried, made, kept))
    out = before > 28 / 255
    assert (then[out] > 28 / 255 - 1e-6).all() and (after[out] < 28 / 255).any()
    untouched = (after >= 30 / 255) | ~out
    assert (kept.transpose(0, 1)[:, untouched] == made.transpose(0, 1)[:, untouched]).all()
    assert torch.equal(standing_out(carried, carried, background), carried)


def _doubled(values: np.ndarray) -> np.ndarray:
    return values.repeat(2, axis=1).repeat(2, axis=2)


def test_a_model_has_a_head_where_there_are_weights(tmp_path) -> None:
    shipped = model_spec("isa-nano")
    spec = replace(shipped, folder=tmp_path)
    (tmp_path / "transformer").mkdir()
    copy(shipped.folder / "transformer" / "config.json", tmp_path / "transformer")
    assert "head" not in find_family(spec).networks(spec, isa_shot(), torch.float32)
    new_head(spec).save_pretrained(tmp_path / "head")
    assert isinstance(find_family(spec).networks(spec, isa_shot(), torch.float32)["head"].load(), CarriedHead)
