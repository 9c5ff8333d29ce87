"""Tiles of long sequences, and sampling in them."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.models.family import Cancelled
from maquette.backend.models.mimicmotion.fusion import fused_sampling, repeat_noise
from maquette.backend.models.mimicmotion.tiles import TILINGS, sequence_tiles


@given(st.integers(2, 400), st.integers(2, 90), st.integers(0, 89), st.sampled_from(TILINGS))
def test_tiles_hold_every_frame_and_begin_with_the_reference(frames, window, overlap, tiling):
    tiles = sequence_tiles(frames, window, overlap, tiling)
    assert set().union(*tiles) == set(range(frames))
    for tile in tiles:
        assert tile[0] == 0 and len(tile) == min(window, frames)
        assert tile[1:] == list(range(tile[1], tile[1] + len(tile) - 1))


def test_published_tiles():
    assert [(t[1], t[-1]) for t in sequence_tiles(16, 8, 2)] == [(1, 7), (7, 13), (9, 15)]
    assert [(t[1], t[-1]) for t in sequence_tiles(139, 72, 6)] == [(1, 71), (67, 137), (68, 138)]


def test_a_sequence_shorter_than_the_window_is_one_tile():
    assert sequence_tiles(7, 8, 2) == [list(range(7))]


@given(st.integers(73, 400))
def test_even_tiles_are_no_more_and_do_not_crowd_at_the_end(frames):
    even, published = sequence_tiles(frames, 72, 6, "even"), sequence_tiles(frames, 72, 6)
    assert len(even) <= len(published)
    strides = [b[1] - a[1] for a, b in pairwise(even)]
    assert max(strides, default=1) - min(strides, default=1) <= 1


def scheduler() -> EulerDiscreteScheduler:
    return EulerDiscreteScheduler(
        prediction_type="v_prediction",
        use_karras_sigmas=True,
        timestep_type="continuous",
        sigma_min=0.002,
        sigma_max=700,
    )


def test_noise_repeats_with_the_tile():
    noise = torch.randn(4, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    repeated = repeat_noise(noise, 10)
    assert (
        torch.equal(repeated[:4], noise) and torch.equal(repeated[4:8], noise) and torch.equal(repeated[8:], noise[:2])
    )


def test_without_guidance_the_unconditional_branch_is_left_out():
    calls: list[bool] = []

    def predict(x, timestep, frames, conditional):
        calls.append(conditional)
        return x

    noise = torch.ones(5, 1, 2, 2)
    fused_sampling(predict, scheduler(), noise, [[0, 1, 2, 3, 4]], 3, 1.0)
    assert calls == [True] * 3
    calls.clear()
    fused_sampling(predict, scheduler(), noise, [[0, 1, 2], [0, 3, 4]], 1, 2.0)
    assert sorted(calls) == [False, False, True, True]


def test_tiling_changes_nothing_for_a_model_that_sees_single_frames():
    def predict(x, timestep, frames, conditional):
        return torch.sin(x) * (2 if conditional else 1)

    noise = torch.randn(20, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    whole = fused_sampling(predict, scheduler(), noise, [list(range(20))], 4, 2.0)
    tiled = fused_sampling(predict, scheduler(), noise, sequence_tiles(20, 8, 2), 4, 2.0)
    torch.testing.assert_close(tiled, whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("after", [0, 1, 2, 5])
def test_stops_between_evaluations(after):
    calls = []

    def predict(x, timestep, frames, conditional):
        calls.append(conditional)
        return x

    def check():
        if len(calls) >= after:
            raise Cancelled

    with pytest.raises(Cancelled):
        fused_sampling(predict, scheduler(), torch.ones(9, 1, 2, 2), sequence_tiles(9, 4, 1), 3, 2.0, check=check)
    assert len(calls) == after
