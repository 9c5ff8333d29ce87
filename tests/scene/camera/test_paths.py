"""Camera paths: framing, constant size, determinism, and a move in a new file. No Blender state needed."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.backend.catalogue.cameras import Move
from maquette.backend.catalogue.reader import find_preset, menu

SIZE = (640, 360)


@pytest.fixture(scope="module")
def paths():
    return importlib.import_module("maquette.scene.camera.paths")


@pytest.fixture(scope="module")
def cameras():
    return importlib.import_module("maquette.backend.shot.cameras")


def walker(seed=0, frames=48, speed=0.04):
    """Points of a figure 1.8 m tall that walks along x, per frame."""
    rng = np.random.default_rng(seed)
    shape = rng.uniform((-0.4, -0.3, 0), (0.4, 0.3, 1.8), (80, 3))
    return [shape + (speed * t, 0, 0) + 0.05 * rng.standard_normal((80, 3)) for t in range(frames)]


def intrinsics(cameras, size=SIZE, shift=0.0):
    return lambda lens: cameras.intrinsics(lens, 36, 24, "AUTO", shift, 0, *size)


def run(paths, cameras, move, points=None, size=SIZE, **options):
    points = points or walker()
    frames = np.arange(1, len(points) + 1, dtype=float)
    path = paths.make_path(move, frames, 24.0, frames, points, -np.pi / 2, intrinsics(cameras, size), size, **options)
    ks = np.array([intrinsics(cameras, size)(lens) for lens in path.lenses])
    uv = np.array([cameras.project(p, v, k)[0] for p, v, k in zip(points, path.viewmats, ks, strict=True)])
    return path, uv / np.array(size), ks


def every_move():
    moves = menu(Move)
    assert {m.id for m in moves} >= {"orbit", "dolly", "crane", "push_in", "dolly_zoom", "handheld", "static"}
    return moves


@pytest.mark.parametrize("size", [(640, 360), (360, 640), (512, 512)])
def test_every_move_keeps_the_character_inside_and_large(paths, cameras, size):
    for move in every_move():
        _, uv, _ = run(paths, cameras, move, size=size)
        assert uv.min() > paths.MARGIN - 1e-3 and uv.max() < 1 - paths.MARGIN + 1e-3, move.id
        # At the tightest moment the character reaches from margin to margin, as near as the aim is at its middle.
        # A camera that stands shows all the ground, so there the whole walk does.
        spans = np.ptp(uv if move.follow else uv.reshape(1, -1, 2), axis=1).max(axis=1)
        assert spans.max() > 0.75, (move.id, spans.max())


@settings(max_examples=15)
@given(seed=st.integers(0, 1000), speed=st.floats(-0.3, 0.3), amount=st.floats(0, 2))
def test_framing_holds_for_any_character(paths, cameras, seed, speed, amount):
    points = walker(seed, 20, speed)
    for move in every_move():
        _, uv, _ = run(paths, cameras, move, points, amount=amount, seed=seed)
        assert np.isfinite(uv).all()
        assert uv.min() > paths.MARGIN - 1e-3 and uv.max() < 1 - paths.MARGIN + 1e-3, move.id


def test_dolly_zoom_keeps_the_size(paths, cameras):
    move = find_preset(Move, "dolly_zoom")
    still = [walker(frames=1)[0]] * 30
    path, _, ks = run(paths, cameras, move, still)
    middle = (still[0].min(axis=0) + still[0].max(axis=0)) / 2
    heights = []
    for viewmat, k in zip(path.viewmats, ks, strict=True):
        up = viewmat[1, :3]
        uv, _ = cameras.project(np.array([middle - 0.9 * up, middle + 0.9 * up]), viewmat, k)
        heights.append(np.linalg.norm(uv[1] - uv[0]))
    assert np.ptp(heights) < 1e-6 * np.mean(heights)
    assert path.lenses.max() / path.lenses.min() > 2


def test_orbit_turns_by_its_angle_at_constant_distance(paths, cameras):
    move = find_preset(Move, "orbit")
    still = [walker(frames=1)[0]] * 10
    path, _, _ = run(paths, cameras, move, still)
    middle = (still[0].min(axis=0) + still[0].max(axis=0)) / 2
    eyes = cameras.camera_centers(path.viewmats) - middle
    np.testing.assert_allclose(np.linalg.norm(eyes, axis=1), path.distance, rtol=1e-6)
    angles = np.degrees(np.unwrap(np.arctan2(eyes[:, 1], eyes[:, 0])))
    assert angles[-1] - angles[0] == pytest.approx(90, abs=1e-6)
    assert angles.mean() == pytest.approx(-90, abs=1e-6)
    path, _, _ = run(paths, cameras, move, still, amount=4.0)
    eyes = cameras.camera_centers(path.viewmats) - middle
    angles = np.degrees(np.unwrap(np.arctan2(eyes[:, 1], eyes[:, 0])))
    assert angles[-1] - angles[0] == pytest.approx(360, abs=1e-6)


def test_static_does_not_move(paths, cameras):
    move = find_preset(Move, "static")
    path, _, _ = run(paths, cameras, move)
    assert np.ptp(path.viewmats, axis=0).max() == 0 and np.ptp(path.lenses) == 0


def test_push_in_ends_closest_and_distance_scales(paths, cameras):
    move = find_preset(Move, "push_in")
    path, uv, _ = run(paths, cameras, move, [walker(frames=1)[0]] * 10)
    assert np.ptp(uv[-1, :, 1]) > 1.5 * np.ptp(uv[0, :, 1])
    further, _, _ = run(paths, cameras, move, [walker(frames=1)[0]] * 10, distance=2.0)
    assert further.distance == pytest.approx(2 * path.distance)


def test_handheld_is_decided_by_its_seed_and_independent_of_rate(paths, cameras):
    move = find_preset(Move, "handheld")
    first, _, _ = run(paths, cameras, move, seed=3)
    again, _, _ = run(paths, cameras, move, seed=3)
    other, _, _ = run(paths, cameras, move, seed=4)
    np.testing.assert_array_equal(first.viewmats, again.viewmats)
    assert np.abs(first.viewmats - other.viewmats).max() > 1e-3
    seconds = np.arange(100) / 24
    np.testing.assert_allclose(paths.noise(5, seconds, 1.6, 6)[:, ::2], paths.noise(5, seconds[::2], 1.6, 6))
    long = paths.noise(5, np.arange(20_000) / 24, 1.6, 6)
    np.testing.assert_allclose(long.std(axis=1), 1, atol=0.1)
    still, _, _ = run(paths, cameras, move, [walker(frames=1)[0]] * 20, amount=0.0)
    assert np.ptp(still.viewmats, axis=0).max() < 1e-9


def test_angle_turns_the_move_about_the_character(paths, cameras):
    move = find_preset(Move, "static")
    points = walker()
    frames = np.arange(1, len(points) + 1, dtype=float)
    path = paths.make_path(move, frames, 24.0, frames, points, 0.0, intrinsics(cameras), SIZE)
    eye = cameras.camera_centers(path.viewmats)[0]
    assert eye[0] > 3 and abs(eye[1]) < 0.1


def test_a_single_frame_is_enough(paths, cameras):
    for move in every_move():
        _, uv, _ = run(paths, cameras, move, walker(frames=1))
        assert uv.min() > 0 and uv.max() < 1


def test_a_shift_that_hides_the_character_is_said(paths, cameras):
    points = walker(frames=3)
    frames = np.arange(3.0)
    move = every_move()[0]
    with pytest.raises(paths.MoveError, match="shift"):
        paths.make_path(move, frames, 24, frames, points, 0, intrinsics(cameras, shift=2.0), SIZE)


def test_a_new_file_is_a_new_move(paths, cameras, tmp_path):
    (tmp_path / "arc.toml").write_text("[path]\nazimuth = [0, 30, 0]\nelevation = [0, 20]\n")
    (move,) = menu(Move, tmp_path)
    assert (move.id, move.label) == ("arc", "Arc")
    _, uv, _ = run(paths, cameras, move)
    assert uv.min() > 0 and uv.max() < 1
