"""A shot at another size or rate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.control.films import ControlFilms
from maquette.backend.control.fitting import fit_size, reframed, resampled
from maquette.backend.shot import ShotError, validate
from maquette.backend.shot.cameras import project

from .test_films import posed, shot


def test_sizes_are_snapped_and_told():
    assert fit_size(shot(), None, None, 2) == (128, 96, [])
    width, height, notes = fit_size(shot(), 850, 470, 16)
    assert (width, height) == (848, 464) and notes == ["Size 850x470 became 848x464: sides are multiples of 16"]
    with pytest.raises(ShotError, match="choose sides from 16 to 8192"):
        fit_size(shot(), 4, 480, 2)


@given(width=st.integers(16, 500), height=st.integers(16, 500))
def test_another_shape_is_cut_in_the_middle_and_never_squeezed(width, height):
    made, notes = reframed(shot(), width, height)
    points = shot().characters[0].points
    before, _ = project(points, shot().clip.viewmats, shot().clip.Ks)
    after, _ = project(points, made.clip.viewmats, made.clip.Ks)
    scale = max(width / 128, height / 96)
    np.testing.assert_allclose(after, (before - (64, 48)) * scale + (width / 2, height / 2), atol=0.02)
    cut = max(128 - width / scale, 96 - height / scale) / 2
    assert bool(notes) == (cut >= 0.5 and (width, height) != (128, 96))


def test_another_rate_lasts_as_long_and_shows_the_same_moments():
    made, notes = resampled(posed(), shot().clip.fps * 2)
    validate(made)
    assert made.clip.frames == 6 and "lasting 0.125 s" in notes[0]
    still, moving = ControlFilms(posed()), ControlFilms(made)
    for kind in ("masks", "normals", "pose"):
        np.testing.assert_array_equal(moving.picture(kind, 2), still.picture(kind, 1))
    middle = made.meshes[0].vertices[1]
    np.testing.assert_allclose(middle, shot().meshes[0].vertices[:2].mean(axis=0), atol=1e-6)
    np.testing.assert_array_equal(made.meshes[0].vertices[5], shot().meshes[0].vertices[2])
    turns = made.clip.viewmats[:, :3, :3].astype(float)
    np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), np.tile(np.eye(3), (6, 1, 1)), atol=1e-5)
    assert resampled(posed(), shot().clip.fps)[1] == []
    with pytest.raises(ShotError, match="fps: 0 frames per second; choose 1 to 240"):
        resampled(shot(), 0)


def test_a_length_that_no_number_of_frames_has_is_told():
    notes = resampled(shot(), 16)[1]
    assert "3 frames at 24 per second became 2 at 16, lasting 0.125 s" in notes[0]
    odd = resampled(replace(shot(), clip=replace(shot().clip, fps=25.0)), 16)[1]
    assert "instead of 0.120 s" in odd[0]
