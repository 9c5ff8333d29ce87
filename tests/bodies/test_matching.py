"""Pose and camera from pinned spots."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.backend.bodies import BodyError, load_body
from maquette.backend.bodies.figure import SPOTS, Figure, Match
from maquette.backend.bodies.match_solver import Solver
from maquette.backend.bodies.matching import first_guess, joints_of, match_pins, spots_of
from maquette.backend.bodies.rotations import axis_angle_to_matrix, matrix_to_axis_angle

WIDTH, HEIGHT = 600, 800
TEN = [name for name in SPOTS if not name.endswith(("elbow", "knee", "hand", "toes"))]
NAMES = list(SPOTS)


@pytest.fixture(scope="module")
def figure() -> Figure:
    return Figure.of(load_body("maquette_neutral"), 10)


def shown(figure: Figure, seed: int, yaw: float = 0.0) -> Match:
    """The body as some picture shows it."""
    rng = np.random.default_rng(seed)
    guess = first_guess(figure, np.zeros(10), WIDTH, HEIGHT)
    turns = axis_angle_to_matrix(guess.poses)
    joints = [figure.names.index(f"{side}_{part}") for side in ("left", "right") for part in ("shoulder", "hip")]
    turns[joints] = turns[joints] @ axis_angle_to_matrix(rng.normal(0, 0.35, (4, 3)))
    turns[0] = turns[0] @ axis_angle_to_matrix(np.array([0, yaw, 0]))
    return replace(guess, poses=matrix_to_axis_angle(turns), trans=guess.trans + (0.1, 0.05, 0.6), focal=1.6)


def pins_of(figure: Figure, match: Match, names=TEN, noise: float = 0.0) -> dict[str, tuple[float, float]]:
    spots = spots_of(figure, match, WIDTH, HEIGHT)
    spots = spots + np.random.default_rng(1).normal(0, noise, spots.shape)
    return {name: tuple(spots[NAMES.index(name)]) for name in names}


@pytest.mark.parametrize("yaw", [-0.7, np.pi])
def test_ten_pins_tell_where_the_joints_are(figure: Figure, yaw: float) -> None:
    truth = shown(figure, 5, yaw)
    found = match_pins(
        figure, pins_of(figure, truth, noise=4.0), WIDTH, HEIGHT, first_guess(figure, np.zeros(10), WIDTH, HEIGHT)
    )
    seen, joints = joints_of(figure, found), joints_of(figure, truth)
    pixels = [HEIGHT * one.focal * at[:, :2] / at[:, 2:] for one, at in ((found, seen), (truth, joints))]
    apart = np.linalg.norm(pixels[0] - pixels[1], axis=1)
    assert np.median(apart) < 0.02 * truth.focal * HEIGHT * figure.height / joints[0, 2]
    assert 0 < found.error < 12 and not found.trouble
    assert set(found.errors) == set(TEN)


def test_without_pins_the_body_stands_upright_and_fills_the_picture(figure: Figure) -> None:
    guess = first_guess(figure, np.zeros(10), WIDTH, HEIGHT)
    spots = dict(zip(SPOTS, spots_of(figure, guess, WIDTH, HEIGHT), strict=True))
    assert 0 < spots["head"][1] < spots["left_hip"][1] < spots["left_ankle"][1] < HEIGHT
    assert spots["left_ankle"][1] - spots["head"][1] > 0.6 * HEIGHT
    assert spots["left_shoulder"][0] > WIDTH / 2 > spots["right_shoulder"][0], "it faces the camera"
    boxed = first_guess(figure, np.zeros(10), WIDTH, HEIGHT, (400, 300, 500, 700))
    y = spots_of(figure, boxed, WIDTH, HEIGHT)[:, 1]
    assert 300 < y.min() < 350 and 650 < y.max() < 715
    assert match_pins(figure, {}, WIDTH, HEIGHT, boxed).trans is boxed.trans


def test_one_pin_moves_the_body_and_bends_it_little(figure: Figure) -> None:
    start = first_guess(figure, np.zeros(10), WIDTH, HEIGHT)
    moved = match_pins(figure, {"head": (150.0, 130.0)}, WIDTH, HEIGHT, start, live=True)
    assert moved.error < 8
    turned = axis_angle_to_matrix(start.poses).transpose(0, 2, 1) @ axis_angle_to_matrix(moved.poses)
    assert np.linalg.norm(matrix_to_axis_angle(turned), axis=1).max() < 0.3


def test_a_pin_out_of_reach_is_a_poor_fit(figure: Figure) -> None:
    truth = shown(figure, 2)
    pins = pins_of(figure, truth)
    pins["left_ankle"] = (5.0, 5.0)
    found = match_pins(figure, pins, WIDTH, HEIGHT, truth)
    assert "Left Ankle is" in found.trouble


def test_legs_that_are_mixed_up_are_told_though_they_fit(figure: Figure) -> None:
    truth = first_guess(figure, np.zeros(10), WIDTH, HEIGHT)
    pins = pins_of(figure, truth, [name for name in NAMES if not name.endswith(("hand", "toes"))])
    assert not match_pins(figure, pins, WIDTH, HEIGHT, truth).strained
    for part in ("hip", "knee", "ankle"):
        pins[f"left_{part}"], pins[f"right_{part}"] = pins[f"right_{part}"], pins[f"left_{part}"]
    found = match_pins(figure, pins, WIDTH, HEIGHT, truth)
    assert not found.astray and "an unlikely pose, most of all Spine" in found.trouble


def test_the_shape_is_looked_for_where_that_is_wanted(figure: Figure) -> None:
    truth = replace(shown(figure, 4), betas=np.array([2.0, -1.0] + [0.0] * 8))
    pins = pins_of(figure, truth, NAMES)
    start = first_guess(figure, np.zeros(10), WIDTH, HEIGHT)
    plain = match_pins(figure, pins, WIDTH, HEIGHT, start)
    shaped = match_pins(figure, pins, WIDTH, HEIGHT, start, shape=np.zeros(10))
    assert not plain.betas.any() and shaped.betas.any()
    assert shaped.error < plain.error


@settings(max_examples=4, deadline=None)
@given(st.floats(0.3, 4.0), st.integers(0, 1000))
def test_the_size_of_the_picture_does_not_matter(scale: float, seed: int) -> None:
    body = Figure.of(load_body("maquette_neutral"), 10)
    pins = pins_of(body, shown(body, seed))
    start = first_guess(body, np.zeros(10), WIDTH, HEIGHT)
    first = match_pins(body, pins, WIDTH, HEIGHT, start, live=True)
    larger = {name: (x * scale, y * scale) for name, (x, y) in pins.items()}
    second = match_pins(body, larger, WIDTH * scale, HEIGHT * scale, start, live=True)  # type: ignore[arg-type]
    np.testing.assert_allclose(second.poses, first.poses, atol=1e-5)
    assert second.error == pytest.approx(scale * first.error, rel=1e-3, abs=1e-6)


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 10_000))
def test_derivatives_are_those_of_the_cost(seed: int) -> None:
    body = Figure.of(load_body("maquette_neutral"), 10)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(NAMES, 6, replace=False)
    solver = Solver(body, {name: rng.normal(0, 0.2, 2) for name in chosen}, np.zeros(10), 1000, True)
    state = solver.state_of(shown(body, seed, 0.4))
    state.betas += rng.normal(0, 0.5, 10)
    noise = np.array([0.01])
    _, gradient, _ = solver.linear(state, noise)
    for unknown in rng.choice(gradient.shape[1], 8, replace=False):
        step = np.zeros(gradient.shape)
        step[0, unknown] = 1e-5
        high, low = (solver.linear(solver.moved(state, sign * step), noise)[0][0] for sign in (1, -1))
        assert (high - low) / 4e-5 == pytest.approx(gradient[0, unknown], rel=1e-3, abs=1e-2)


def test_pins_that_cannot_be_are_told(figure: Figure) -> None:
    start = first_guess(figure, np.zeros(10), WIDTH, HEIGHT)
    with pytest.raises(BodyError, match="no body has a 'tail'; pins can be head"):
        match_pins(figure, {"tail": (1.0, 2.0)}, WIDTH, HEIGHT, start)
    with pytest.raises(BodyError, match="'head' lies nowhere"):
        match_pins(figure, {"head": (float("nan"), 2.0)}, WIDTH, HEIGHT, start)
