"""Looks tell front from back and left from right, faces have their parts, puppets keep enough of the face."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.backend.bodies import embedded
from maquette.backend.worlds.colours import random_colours
from maquette.backend.worlds.face import EYES, MOUTH, in_face, paint_face
from maquette.backend.worlds.patterns import contrasting, emblem, number, pattern
from maquette.backend.worlds.puppet import Puppet, make_puppet

seeds = st.integers(0, 2**32)


@pytest.fixture(scope="module")
def puppet() -> Puppet:
    return make_puppet(embedded())


def look(puppet: Puppet, seed: int) -> np.ndarray:
    rest = puppet.v_template.numpy()
    return random_colours(np.random.default_rng(seed), rest, puppet.regions, puppet.region_names)


def test_looks_are_colours_and_follow_from_the_seed(puppet):
    for seed in range(30):
        colours = look(puppet, seed)
        assert colours.shape == puppet.v_template.shape and colours.dtype == np.float32
        assert colours.min() >= 0 and colours.max() <= 1
        np.testing.assert_array_equal(colours, look(puppet, seed))
    assert not np.array_equal(look(puppet, 0), look(puppet, 1))


def test_front_and_back_differ_in_most_looks_and_left_and_right_in_some(puppet):
    rest = puppet.v_template.numpy()
    front, back = rest[:, 2] > 0.1, rest[:, 2] < 0.0
    torso = (rest[:, 1] > 0.06) & (rest[:, 1] < 0.4) & (abs(rest[:, 0]) < 0.15)
    left, right = rest[:, 0] > 0.02, rest[:, 0] < -0.02
    looks = [look(puppet, seed) for seed in range(100)]

    def apart(colours, one, other):
        return np.abs(colours[one].mean(axis=0) - colours[other].mean(axis=0)).sum() > 0.1

    assert np.mean([apart(colours, torso & front, torso & back) for colours in looks]) > 0.25
    assert np.mean([apart(colours, left, right) for colours in looks]) > 0.1
    head = (rest[:, 1] > 0.52) & (rest[:, 1] < 0.65)
    assert np.mean([apart(colours, head & front, head & (rest[:, 2] < 0.05)) for colours in looks]) > 0.6


def test_a_face_has_dark_brows_red_lips_and_light_eyes_with_an_iris(puppet):
    rest = puppet.v_template.numpy()
    eyes = puppet.regions == puppet.region_names.index("eyes")
    skin, hair = np.array([0.9, 0.7, 0.6]), np.array([0.1, 0.1, 0.1])
    x, y = abs(rest[:, 0]), rest[:, 1]
    for seed in range(20):
        colours = np.repeat(skin[None], len(rest), axis=0)
        paint_face(np.random.default_rng(seed), rest, colours, skin, hair, eyes)
        assert (colours[~in_face(rest) & ~eyes] == skin).all()
        brow = in_face(rest) & ~eyes & (abs(y - 0.6265) < 0.004) & (abs(x - 0.033) < 0.01)
        lips = in_face(rest) & (abs(y - MOUTH) < 0.006) & (x < 0.015)
        assert brow.sum() >= 2 and colours[brow].mean() < skin.mean() - 0.15
        assert lips.sum() >= 3 and (colours[lips, 0] - colours[lips, 1]).mean() > 0.25
        iris = eyes & (np.hypot(x - EYES[0], y - EYES[1]) < 0.0068)
        assert iris.sum() >= 2 and colours[iris].mean() < 0.5 and colours[eyes & ~iris].mean() > 0.8


def test_the_face_is_thinned_less_than_the_body(puppet):
    body = embedded()
    kept = in_face(puppet.v_template.numpy()).sum() / in_face(body.v_template).sum()
    assert kept > 1.2 * len(puppet.kept) / len(body.v_template) or kept > 0.45


@settings(max_examples=60, deadline=None)
@given(seeds, seeds)
def test_patterns_use_two_colours_at_most_and_mixtures_of_them(where, how):
    rest = np.random.default_rng(where).uniform(-0.5, 0.5, (200, 3))
    colours = pattern(np.random.default_rng(how), rest, np.array([0.2, 0.4, 0.6]))
    assert colours.shape == (200, 3) and colours.min() >= 0 and colours.max() <= 1
    # Two colours and what lies between them are a line.
    assert np.linalg.svd(colours - colours.mean(axis=0), compute_uv=False)[1] < 1e-6


@given(seeds, st.tuples(*[st.floats(0, 1)] * 3))
def test_contrasting_colours_stand_out(seed, colour):
    other = contrasting(np.random.default_rng(seed), np.array(colour))
    assert np.abs(other - colour).sum() > 0.6


def test_emblems_lie_on_the_chest_and_numbers_on_the_back(puppet):
    rest = puppet.v_template.numpy()
    for seed in range(20):
        chest, back = emblem(np.random.default_rng(seed), rest), number(np.random.default_rng(seed), rest)
        assert chest.any() and back.any() and not (chest & back).any()
        assert (rest[chest, 2] > 0.07).all() and (rest[back, 2] < 0.06).all()
