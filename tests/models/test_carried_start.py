"""Sampling that starts from the carried film, on its own; each family's is tested in its folder."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.models import carried_start as module
from maquette.backend.models.carried_start import CarriedPicture, carried_picture
from maquette.backend.raster.carry import NOBODY


def start_of(sure: np.ndarray, strength: float, group: int = 1):
    frames = 1 + (len(sure) - 1) // group
    looks = np.ones(len(sure), np.float32)
    picture = CarriedPicture(np.zeros((*sure.shape, 3), np.uint8), sure.astype(np.float32), looks, strength)
    return picture.start(torch.zeros(1, frames, 4, *(side // 2 for side in sure.shape[1:])), 2, group=group)


@given(st.floats(0.01, 1), st.integers(1, 40))
def test_less_known_spots_are_let_go_earlier_and_none_at_full_strength(strength, steps):
    sure = np.linspace(0, 1, 16).reshape(1, 2, 8).repeat(2, axis=1)
    start = start_of(sure, strength)
    x = torch.ones_like(start.latents)
    held = [start.hold(x, done, steps, lambda z: z) == 0 for done in range(steps + 1)]
    assert held[0].all()
    assert all((later <= earlier).all() for earlier, later in pairwise(held))
    for part in held:
        row = part[0, 0, 0].float()
        assert (row.diff(dim=-1) >= 0).all(), "what is surer is held as long at least"
    begin = start.begin(steps)
    assert held[begin].all() and (begin == steps or not held[begin + 1].all())
    assert bool(held[-1].all()) or strength < 1


def test_a_latent_spot_is_as_sure_as_its_least_sure_pixel_and_frame():
    sure = np.ones((5, 4, 4))
    sure[3, 0, 0] = 0
    part = start_of(sure, 0.5, group=4).part
    assert part.shape == (1, 2, 1, 2, 2)
    assert part[0, 1, 0, 0, 0] == pytest.approx(0.125) and part[0, 0].eq(0.5).all()
    assert part[0, 1, 0].eq(0.5).sum() == 3


@pytest.mark.parametrize(("drawn", "top", "left"), [(None, 4, 0), ((48, 24), 0, -8)])
@pytest.mark.parametrize("background", ["none", "video"])
def test_the_film_lies_in_the_middle_of_the_models_picture(monkeypatch, drawn, top, left, background):
    rng = np.random.default_rng(0)
    width, height = drawn or (32, 16)
    known = rng.random((2, height, width), np.float32)
    colours = rng.integers(0, 256, (2, height, width, 3), np.uint8)
    character = rng.integers(-1, 1, (2, height, width), np.int8)
    film = SimpleNamespace(maps=lambda *_, **__: [colours, known, character], notes=("Said",))
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(module, "Carrier", lambda shot, *size, **_: asked.append(size[:2]) or film)
    shot = SimpleNamespace(
        characters=(1,), clip=SimpleNamespace(width=64, height=32), background=SimpleNamespace(kind=background)
    )
    run: Any = SimpleNamespace(shot=shot, device="cpu", notes=[], options={"carried_start": 0.5}, check=lambda: None)
    picture = carried_picture(run, (32, 24), 3, drawn)
    assert picture is not None and asked == [(width, height)] and run.notes == ["Said"]
    within = slice(top, top + height), slice(0, 32)
    shown = slice(0, height), slice(-left, 32 - left)
    sure = np.where(character == NOBODY, background == "video", known)
    for t, source in enumerate((0, 1, 1)):
        assert (picture.frames[t][within] == colours[source][shown]).all()
        assert (picture.sure[t][within] == sure[source][shown]).all()
        assert picture.looks[t] == pytest.approx(known[source][character[source] != NOBODY].mean(), rel=1e-5)
    assert not picture.sure[:, :top].any() and not picture.sure[:, top + height :].any()
    assert (picture.frames[:, :top] == picture.frames[:, top : top + 1]).all()


def test_nothing_is_drawn_where_sampling_starts_from_noise():
    run: Any = SimpleNamespace(options={"carried_start": 0.0})
    assert carried_picture(run, (32, 24), 1) is None
