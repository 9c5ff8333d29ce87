"""Silhouette IoU and PSNR say what they claim, and cannot be talked into a high score."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.evaluation.silhouette import psnr, silhouette, silhouette_iou

FRAMES, SIZE = 3, 48


def scene(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A film of a red box over a smooth background: film, masks, background."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(60, 120, SIZE)[None, :, None, None]
    background = np.broadcast_to(ramp, (FRAMES, SIZE, SIZE, 3)).astype(np.uint8)
    masks = np.zeros((FRAMES, SIZE, SIZE), bool)
    for t in range(FRAMES):
        x, y = rng.integers(6, 20, 2)
        masks[t, y : y + 20, x : x + 12] = True
    film = background.copy()
    film[masks] = (220, 20, 20)
    return film, masks, background


def test_true_film_scores_high() -> None:
    film, masks, background = scene()
    assert silhouette_iou(film, masks, background) > 0.85


def test_unchanged_background_scores_zero() -> None:
    _, masks, background = scene()
    assert silhouette_iou(background, masks, background) == 0.0


def test_noise_scores_no_more_than_the_share_it_covers() -> None:
    _, masks, background = scene()
    noise = np.random.default_rng(1).integers(0, 256, background.shape, dtype=np.uint8)
    assert silhouette_iou(noise, masks, background) <= masks.mean() + 0.02


def test_flat_colour_scores_the_share_it_covers() -> None:
    _, masks, background = scene()
    assert silhouette_iou(np.full_like(background, 255), masks, background) == pytest.approx(masks.mean())


def test_figure_elsewhere_scores_low() -> None:
    film, masks, background = scene()
    assert silhouette_iou(film[:, ::-1, ::-1], masks, background[:, ::-1, ::-1]) < 0.6
    moved = np.roll(masks, 24, axis=2)
    elsewhere = background.copy()
    elsewhere[moved & ~masks] = (220, 20, 20)
    assert silhouette_iou(elsewhere, masks, background) < 0.2


def test_small_errors_of_the_background_do_not_count() -> None:
    film, masks, background = scene()
    shaken = np.clip(film.astype(int) + np.random.default_rng(2).integers(-15, 16, film.shape), 0, 255).astype(np.uint8)
    assert silhouette_iou(shaken, masks, background) > 0.8


def test_background_unknown_takes_the_border() -> None:
    _, masks, _ = scene()
    film = np.full((FRAMES, SIZE, SIZE, 3), 128, np.uint8)
    film[masks] = (20, 200, 20)
    assert silhouette_iou(film, masks, None) > 0.85
    assert not silhouette(np.full_like(film, 77), None).any()


@given(st.integers(1, 11))
def test_losing_rows_of_the_figure_lowers_the_score(rows: int) -> None:
    film, masks, background = scene()
    worse = film.copy()
    for t in range(FRAMES):
        top = int(np.nonzero(masks[t].any(axis=1))[0][0])
        worse[t, top : top + rows] = background[t, top : top + rows]
    assert silhouette_iou(worse, masks, background) < silhouette_iou(film, masks, background)


def test_shapes_must_agree() -> None:
    film, masks, background = scene()
    with pytest.raises(ValueError, match="generated"):
        silhouette_iou(film, masks[:2], background)
    with pytest.raises(ValueError, match="background"):
        silhouette_iou(film, masks, background[:, :8])
    with pytest.raises(ValueError, match="truth"):
        psnr(film, film[:1])


def test_nothing_to_compare_is_not_a_number() -> None:
    _, masks, background = scene()
    assert np.isnan(silhouette_iou(background, np.zeros_like(masks), background))


def test_psnr() -> None:
    film, masks, _ = scene()
    assert psnr(film, film) == 99.0
    worse = film.astype(int)
    worse[..., 0] += 10
    off = np.clip(worse, 0, 255).astype(np.uint8)
    assert psnr(off, film) == pytest.approx(10 * np.log10(255**2 / (100 / 3)), abs=0.1)
    assert psnr(off, film, masks) == pytest.approx(psnr(off, film), abs=0.2)
