"""The clips that the VAE sees: moved, retimed, mirrored, and the same again from the same generator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.backend.training.clips import RATES, Augmentation, Films, random_path, retime, to_model, translate


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shard(path: Path, frames: int, size: int = 16, count: int = 3) -> Path:
    """Films whose every frame says in its pixels which one it is."""
    rng = np.random.default_rng(frames)
    video = rng.integers(0, 200, (count, 1, size, size, 3)) + np.arange(frames)[None, :, None, None, None]
    background = np.full((count, frames, size, size, 3), 255)
    mask = np.zeros((count, frames, size, size), bool)
    mask[..., 12:14, 3:5] = True
    np.savez(path, video=video.astype(np.uint8), background=background.astype(np.uint8), mask=mask)
    return path


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Films:
    folder = tmp_path_factory.mktemp("shards")
    return Films([shard(folder / "short.npz", 5), shard(folder / "long.npz", 17)])


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    frames=st.sampled_from([1, 5, 9, 17]),
    motion=st.sampled_from([0.0, 0.5, 1.0]),
    reach=st.floats(0, 1),
    speed=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_batches(films: Films, seed: int, frames: int, motion: float, reach: float, speed: float) -> None:
    augmentation = Augmentation(motion, reach, speed)
    x = films.batch(2, frames, generator(seed), augmentation)
    assert x.shape == (2, 3, frames, 16, 16)
    assert x.dtype == torch.float32
    assert torch.isfinite(x).all()
    assert x.abs().max() <= 1
    assert torch.equal(x, films.batch(2, frames, generator(seed), augmentation))


def test_plain_clips_are_the_films_mirrored_or_reversed(films: Films) -> None:
    whole = {clip.tobytes() for shard in films.video for clip in shard}
    backgrounds, seen = 0, set()
    for seed in range(60):
        clip = films.batch(1, 17, generator(seed))[0].add(1).mul(127.5).round().byte().permute(1, 2, 3, 0).numpy()
        backgrounds += bool((clip == 255).all())
        ways = {(mirror, way): clip[::way, :, ::mirror].tobytes() for mirror in (1, -1) for way in (1, -1)}
        found = {way for way, content in ways.items() if content in whole}
        assert found or (clip == 255).all()
        seen |= found
    assert 1 <= backgrounds <= 15
    assert seen == {(1, 1), (1, -1), (-1, 1), (-1, -1)}


def test_augmentation_off_draws_no_random_numbers(films: Films) -> None:
    one, other = generator(4), generator(4)
    films.batch(3, 5, one)
    torch.rand(15, generator=other)
    assert torch.equal(torch.rand(4, generator=one), torch.rand(4, generator=other))


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), crop=st.sampled_from([4, 8, 16]), share=st.sampled_from([0.0, 0.5, 1.0]))
def test_crops_are_windows_of_the_films(films: Films, seed: int, crop: int, share: float) -> None:
    x = films.batch(1, 5, generator(seed), Augmentation(crop=crop, figure_crops=share))
    assert x.shape == (1, 3, 5, crop, crop)
    clip = x[0].add(1).mul(127.5).round().byte().permute(1, 2, 3, 0).numpy()[0]
    if (clip == 255).all():
        return
    # Each pixel of these films says where it is; the body's pixels are among them when the window is laid around it.
    window = np.lib.stride_tricks.sliding_window_view
    places = [
        (row, column)
        for shown in (clip, clip[:, ::-1])
        for shard in films.video
        for film in shard
        for row, column in np.argwhere(
            (window(film, (film.shape[0], crop, crop, 3))[0, ..., 0, :, :, :, :] == shown).all((-1, -2, -3)).any(-1)
        )
    ]
    assert places
    if share == 1.0:
        assert any(12 - crop < row <= 13 and 3 - crop < column <= 4 for row, column in places)


def test_crops_larger_than_the_films_are_refused(films: Films) -> None:
    with pytest.raises(ValueError, match="larger than the films"):
        films.batch(1, 5, generator(0), Augmentation(crop=24))


def test_clips_longer_than_all_films_are_refused(films: Films) -> None:
    assert films.longest == 17
    with pytest.raises(ValueError, match="longest film has 17 frames"):
        films.batch(1, 21, generator(0))


@given(seed=st.integers(0, 10_000), length=st.integers(1, 40), frames=st.integers(1, 33))
def test_retimed_clips_move_evenly(seed: int, length: int, frames: int) -> None:
    found = retime(length, frames, 1.0, generator(seed))
    assert found.shape == (frames,)
    assert found.min() >= 0
    assert found.max() < length
    if frames > 1 and length > 8:
        steps = np.abs(np.diff(found))
        # Away from where time turns back, steps differ by one at most: no rate stutters more than it must.
        assert steps.max() <= 3
        assert any(np.isin(steps, [int(rate), int(rate) + 1]).mean() > 0.5 for rate in RATES)


def test_rates_are_those_asked_for() -> None:
    speeds = set()
    for seed in range(200):
        found = retime(1000, 13, 1.0, generator(seed))
        speeds.add(round(float(found[12] - found[0]) / 12, 3))
    assert speeds == {round(rate, 3) for rate in RATES}
    kept = [retime(30, 9, 0.0, generator(seed)) for seed in range(40)]
    assert all((np.diff(indices) == 1).all() for indices in kept)
    assert len({int(indices[0]) for indices in kept}) > 10
    # A fast clip out of a short film turns back in time at its end.
    fast = [retime(9, 9, 1.0, generator(seed)).tolist() for seed in range(60)]
    assert [0, 2, 4, 6, 8, 6, 4, 2, 0] in fast


@given(seed=st.integers(0, 10_000), frames=st.integers(1, 97), reach=st.floats(0, 1))
def test_paths_are_smooth_and_bounded(seed: int, frames: int, reach: float) -> None:
    path = random_path(frames, reach, generator(seed))
    assert path.shape == (frames, 2)
    assert np.isfinite(path).all()
    assert (path[0] == 0).all()
    assert np.abs(path).max() <= reach + 1e-9
    if frames > 2:
        # Velocity: the fastest sine's. Acceleration: its, too.
        assert np.abs(np.diff(path, axis=0)).max() <= reach * np.pi * 0.12 + 1e-9
        assert np.abs(np.diff(path, n=2, axis=0)).max() <= reach * 2 * (np.pi * 0.12) ** 2 + 1e-9


def test_paths_go_in_all_directions() -> None:
    ends = np.stack([random_path(9, 0.2, generator(seed))[-1] for seed in range(60)])
    for down in (-1, 1):
        for right in (-1, 1):
            assert ((ends * (down, right)) > 0).all(axis=1).any()
    assert np.abs(ends).max() > 0.1


@given(rows=st.integers(-9, 9), columns=st.integers(-9, 9))
def test_whole_pixels_are_moved_exactly_and_nothing_wraps_around(rows: int, columns: int) -> None:
    still = np.random.default_rng(0).integers(0, 256, (1, 20, 24, 3), dtype=np.uint8)
    clip = np.repeat(still, 3, 0)
    moved = translate(clip, np.array([[0, 0], [rows, columns], [2 * rows, 2 * columns]]))
    assert moved.shape == clip.shape
    assert moved.dtype == np.uint8
    np.testing.assert_array_equal(moved[0], clip[0])
    # What a mirrored border holds: the picture, its edge pixels twice.
    border = np.pad(still[0], ((18, 18), (18, 18), (0, 0)), mode="symmetric")
    for frame, times in ((1, 1), (2, 2)):
        top, left = 18 - times * rows, 18 - times * columns
        np.testing.assert_array_equal(moved[frame], border[top : top + 20, left : left + 24])


def test_fractions_of_a_pixel_move_a_wave_by_as_much() -> None:
    x = np.arange(64) + 0.5
    path = np.array([[0.0, 0.0], [0.0, 0.4], [0.0, 2.7]])

    def wave(shift: float) -> np.ndarray:
        return np.broadcast_to(127.5 + 100 * np.sin((x - shift) * 0.4), (16, 64))

    clip = np.repeat(np.repeat(wave(0).round().astype(np.uint8)[None, :, :, None], 3, 0), 3, 3)
    moved = translate(clip, path)
    for frame, (_, shift) in enumerate(path):
        assert np.abs(moved[frame, :, 8:-8, 0] - wave(shift)[:, 8:-8]).max() < 2.5


def test_a_moved_clip_shows_its_film(films: Films) -> None:
    for seed in range(4, 40):
        plain = films.batch(1, 9, generator(seed))
        moved = films.batch(1, 9, generator(seed), Augmentation(structured_motion=1.0, reach=0.3))
        torch.testing.assert_close(moved[:, :, 0], plain[:, :, 0], atol=0.02, rtol=0)
        if plain.std() > 0 and (moved - plain).abs().max() > 0.1:
            return
    raise AssertionError("nothing moved")


def test_to_model_is_minus_one_to_one() -> None:
    frames = np.zeros((1, 1, 2, 2, 3), np.uint8)
    frames[..., 1] = 255
    assert to_model(frames)[0, :, 0, 0, 0].tolist() == [-1, 1, -1]
