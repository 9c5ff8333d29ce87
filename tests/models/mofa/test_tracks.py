"""Spots that are followed: which ones, how they reach CMP, and what becomes of its guess."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from maquette.backend.models.mofa.plan import PictureFit
from maquette.backend.models.mofa.splat import PixelMotion
from maquette.backend.models.mofa.tracks import (
    POINTS_PER_CHARACTER,
    Spots,
    add_guess,
    beyond,
    character_spots,
    picked_spots,
    propagate,
    propagate_apart,
    with_anchors,
)
from maquette.backend.models.mofa.view import model_view
from maquette.backend.shot.cameras import project

from ...builders import make_shot
from .shots import track

FIT = PictureFit((96, 64), (96, 64), (96, 64))
PICTURE = torch.zeros(1, 3, 64, 96)


class Echo:
    """In place of CMP: every pixel moves as the mean of the known spots does; keeps what it was given."""

    def __init__(self) -> None:
        self.calls: list[tuple[torch.Tensor, torch.Tensor, bool]] = []

    def propagate(self, picture, points, moved, parity=True):
        self.calls.append((points, moved, parity))
        mean = moved.nanmean(dim=1)
        return mean[None, :, :, None, None].expand(1, len(moved), 2, *picture.shape[-2:])


def test_tracks_that_frame_0_shows_are_followed() -> None:
    shot = make_shot(4, width=96, height=64)
    middle = np.array([0.0, 0.0, 0.9])
    shot = replace(
        shot,
        tracks=(
            track(shot, middle, np.array([0.1, 0, 0]), "Flag"),
            track(shot, middle, np.array([0.1, 0, 0]), "Hidden", visible=False),
            track(shot, middle + (50, 0, 0), np.zeros(3), "Outside"),
            track(shot, middle + (0, -40, 0), np.zeros(3), "Behind"),
        ),
    )
    spots = picked_spots(shot, model_view(shot, FIT, 6))
    assert spots.names == ("Flag",)
    uv = [project(shot.tracks[0].points[t, None], shot.clip.viewmats[t], shot.clip.Ks[t])[0][0] for t in range(4)]
    np.testing.assert_allclose(spots.start[0], uv[0], atol=1e-3)
    np.testing.assert_allclose(spots.moved[:, 0], np.array(uv[1:]) - uv[0], atol=1e-3)
    assert len(picked_spots(replace(shot, tracks=()), model_view(shot, FIT, 6))) == 0


def test_characters_lend_points_that_are_seen() -> None:
    shot = make_shot(3, points=200, characters=2, width=96, height=64)
    spots = character_spots(shot, model_view(shot, FIT, 4))
    assert 1.2 * POINTS_PER_CHARACTER < len(spots) <= 2 * POINTS_PER_CHARACTER
    seen = np.concatenate(
        [project(c.points[0, c.visibility[0]], shot.clip.viewmats[0], shot.clip.Ks[0])[0] for c in shot.characters]
    )
    gap = np.linalg.norm(spots.start[:, None] - seen[None], axis=-1).min(axis=1)
    assert gap.max() < 1e-3


def test_cmp_is_asked_frame_by_frame() -> None:
    spots = Spots(np.array([[10.0, 20.0], [30.0, 5.0]]), np.array([[[1.0, 2], [3, 4]], [[5, 6], [np.nan, np.nan]]]))
    cmp, told = Echo(), []
    flow = propagate(cmp, PICTURE, spots, True, lambda i, n: told.append((i, n)))
    assert flow.shape == (1, 2, 2, 64, 96)
    assert flow[0, :, :, 0, 0].tolist() == [[2.0, 3.0], [5.0, 6.0]]
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert [call[2] for call in cmp.calls] == [True, True]


def test_a_motion_mask_keeps_inside_and_outside_apart() -> None:
    brush = torch.zeros(64, 96, dtype=torch.bool)
    brush[:, :40] = True
    spots = Spots(np.array([[10.0, 20.0], [80.0, 20.0]]), np.array([[[4.0, 2.0], [-6.0, 1.0]]]))
    flow = propagate_apart(Echo(), PICTURE, spots, brush, False)
    assert (flow[0, 0, :, :, :40] == torch.tensor([4.0, 2.0])[:, None, None]).all()
    assert (flow[0, 0, :, :, 40:] == torch.tensor([-6.0, 1.0])[:, None, None]).all()
    # Where a component is 0 inside, what is outside counts, as published.
    spots = Spots(spots.start, np.array([[[4.0, 0.0], [-6.0, 1.0]]]))
    flow = propagate_apart(Echo(), PICTURE, spots, brush, False)
    assert (flow[0, 0, 0] == -6).all()
    only = Spots(spots.start[1:], spots.moved[:, 1:])
    assert (propagate_apart(Echo(), PICTURE, only, brush, False)[0, 0, 0] == -6).all()


def known_motion() -> PixelMotion:
    """Two frames: body 1 at the left moves right by 3 pixels, body 2 in the middle is hidden in the second, the rest
    stays."""
    labels = torch.zeros(1, 64, 96, dtype=torch.int64)
    labels[..., :30], labels[..., 40:60] = 1, 2
    flow = torch.zeros(1, 2, 2, 64, 96)
    flow[:, :, 0, :, :30] = 3.0
    flow[:, 1, :, :, 40:60] = torch.nan
    return PixelMotion(flow, torch.ones(1, 2, 64, 96), labels)


def test_only_what_the_geometry_does_not_say_counts() -> None:
    motion = known_motion()
    start = np.array([[10.5, 8.5], [20.5, 8.5], [50.5, 8.5], [80.5, 8.5]])
    moved = np.array([[[3.0, 0], [3, 5], [2, 2], [0.2, 0]], [[3, 0], [3, 6], [2, 2], [0.3, 0]]])
    extra = beyond(Spots(start, moved, ("on", "beyond", "hidden", "still")), motion)
    assert extra.names == ("beyond", "hidden")
    np.testing.assert_allclose(extra.moved, [[[0, 5], [2, 2]], [[0, 6], [np.nan, np.nan]]])


def test_bodies_without_a_spot_stay_with_their_geometry() -> None:
    motion = known_motion()
    spots = Spots(np.array([[80.5, 8.5]]), np.array([[[0.0, 5.0]], [[0.0, 6.0]]]), ("Flag",))
    led, free = with_anchors(spots, motion)
    assert led.names == ("Flag",)
    assert len(led) > 20
    assert (led.moved[:, 1:] == 0).all()
    column, row = np.floor(led.start[1:]).astype(int).T
    assert motion.labels is not None
    assert set(motion.labels[0].numpy()[row, column].tolist()) == {1, 2}
    assert np.linalg.norm(led.start[1:] - led.start[0], axis=-1).min() > 3
    guess = torch.full((1, 2, 2, 64, 96), 7.0)
    moved = add_guess(motion, guess, free).flow
    assert (moved[0, :, 0, :, :30] == 3).all()
    assert (moved[0, :, 0, :, 60:] == 7).all()
    assert moved[0, 1, 0, :, 40:60].isnan().all()
    # A spot on a body frees that body.
    _, free = with_anchors(Spots(np.array([[10.5, 8.5]]), spots.moved), motion)
    assert (add_guess(motion, guess, free).flow[0, :, 0, :, :30] == 10).all()
    assert (add_guess(motion, guess, free).flow[0, 0, 0, :, 40:60] == 0).all()
