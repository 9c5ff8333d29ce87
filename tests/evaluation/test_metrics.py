"""Each measure rewards what it says and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.evaluation import metrics
from maquette.backend.evaluation.measures import MEASURES, measure
from maquette.backend.evaluation.sets import SetError, held_out, real_motions
from maquette.backend.models.windows import joins
from maquette.backend.training.data import HELD_OUT
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure


@pytest.fixture(scope="module")
def samples():
    return held_out(4, frames=5, size=48, points=64)


def test_the_set_has_fixed_new_seeds_and_pairs(samples):
    assert [sample.seed for sample in samples] == [HELD_OUT + i for i in range(4)]
    assert [len(sample.points) for sample in samples] == [1, 1, 1, 2]
    again = held_out(1, frames=5, size=48, points=64)[0]
    assert np.array_equal(again.video, samples[0].video)


def test_noise_is_worse_than_the_true_film(samples):
    rng = np.random.default_rng(0)
    for sample in samples:
        best = measure(sample.video, sample)
        noise = np.clip(sample.video + rng.normal(0, 30, sample.video.shape), 0, 255).astype(np.uint8)
        worse = measure(noise, sample)
        for one in MEASURES:
            a, b = best[one.name], worse[one.name]
            # Noise keeps mean colours, may by chance fill holes of an outline, and drowns what moves.
            kept = ("swapped", "swapped_mean", "colour_ref", "iou", "iou_share", "judder")
            if np.isfinite(a) and np.isfinite(b) and one.name not in kept:
                assert a >= b if one.higher else a <= b + 1e-9, one.name


def test_repainting_the_body_is_an_identity_error_only(samples):
    sample = samples[0]
    film = sample.video.copy()
    film[sample.mask] = film[sample.mask][:, ::-1] // 2
    good, bad = measure(sample.video, sample), measure(film, sample)
    assert bad["colour"] > 5 and good["colour"] == 0 and bad["colour_ref"] > good["colour_ref"] + 5
    assert not np.isfinite(good["psnr_background"]) or bad["psnr_background"] == good["psnr_background"]


def test_exchanged_looks_are_noticed(samples):
    red, blue = (np.full((6, 3), color, float) for color in ((50, 60, 40), (30, 20, -60)))
    assert metrics.identities_swapped([red, blue], [red, blue]) == 0
    assert metrics.identities_swapped([blue, red], [red, blue]) == 1
    assert np.isnan(metrics.identities_swapped([red, red], [red, red]))


@given(st.permutations(range(3)), st.integers(0, 2**16))
def test_of_three_any_exchange_is_noticed(given_out, seed):
    rng = np.random.default_rng(seed)
    looks = [np.full((6, 3), colour, float) for colour in ((50, 60, 40), (30, 20, -60), (80, -50, 50))]
    film = [looks[k] + rng.normal(0, 4, (6, 3)) for k in given_out]
    assert metrics.identities_swapped(film, looks) == float(list(given_out) != [0, 1, 2])


def test_who_hardly_shows_or_looks_alike_decides_nothing():
    red, blue, green = (np.full((6, 3), colour, float) for colour in ((50, 60, 40), (30, 20, -60), (80, -50, 50)))
    hidden = np.full((6, 3), np.nan)
    assert metrics.identities_swapped([blue, red, hidden], [red, blue, green]) == 1
    assert metrics.identities_swapped([red, blue, hidden], [red, blue, green]) == 0
    assert np.isnan(metrics.identities_swapped([red, hidden, hidden], [red, blue, green]))
    # Two in red may be exchanged without anybody noticing; the one in blue may not.
    assert metrics.identities_swapped([red + 2, red, blue], [red, red + 2, blue]) == 0
    assert metrics.identities_swapped([blue, red, red + 2], [red, red + 2, blue]) == 1


def test_psnr_and_ssim_are_those_of_torchmetrics(samples):
    film = np.clip(samples[0].video.astype(int) + 9, 0, 255).astype(np.uint8)
    found = measure(film, samples[0])
    a, b = (torch.from_numpy(each).permute(0, 3, 1, 2).double() for each in (film, samples[0].video))
    assert found["psnr"] == pytest.approx(float(peak_signal_noise_ratio(a, b, data_range=255.0)), abs=1e-4)
    expected = float(structural_similarity_index_measure(a, b, data_range=255.0))
    assert found["ssim"] == pytest.approx(expected, abs=1e-4)


def test_flicker_is_a_warp_error(samples):
    sample = samples[0]
    flicker = sample.video.astype(int)
    flicker[::2] += 20
    assert metrics.warp_error(np.clip(flicker, 0, 255).astype(np.uint8), sample.truth) > 10 + metrics.warp_error(
        sample.video, sample.truth
    )


def test_a_seam_between_windows_is_told_from_change_elsewhere(samples):
    sample, across = samples[0], joins([(0, 3), (2, 5)], 5)
    assert across == [range(1, 2), range(2, 3)]
    brighter = sample.video.astype(int)
    brighter[3:] += 25
    jumping = np.clip(brighter, 0, 255).astype(np.uint8)
    smooth, seamed = (measure(film, sample, across=across)["window_seam"] for film in (sample.video, jumping))
    assert smooth < 2 and seamed > 3 * smooth
    # Flicker that is everywhere is no seam.
    flicker = np.clip(sample.video + 25 * (np.arange(5) % 2)[:, None, None, None], 0, 255).astype(np.uint8)
    assert measure(flicker, sample, across=across)["window_seam"] < 1.5
    assert np.isnan(measure(jumping, sample)["window_seam"])


def moving(frames: int = 17, step: int = 2, jump: int = 0) -> np.ndarray:
    """A striped film that shifts by ``step`` pixels a frame, and by ``jump`` more where a latent frame ends."""
    ramp = (40 * (1 + np.sin(np.arange(64) * 0.2))).astype(np.uint8)
    shifts = np.cumsum([step + jump * (t % 4 == 1) for t in range(frames)])
    return np.stack([np.broadcast_to(np.roll(ramp, k)[None, :, None], (8, 64, 3)) for k in shifts])


def test_jumps_where_latent_frames_end_are_judder():
    truth = moving()
    assert metrics.judder(truth, truth) == pytest.approx(1)
    assert metrics.judder(moving(step=3), truth) == pytest.approx(1, abs=0.02)
    assert metrics.judder(moving(jump=2), truth) == pytest.approx(2, abs=0.1)
    # What jumps in the truth may jump.
    assert metrics.judder(moving(jump=2), moving(jump=2)) == pytest.approx(1)
    # A latent frame whose pictures are all alike changes at its borders alone.
    held = truth[[0, *(1 + 4 * ((t - 1) // 4) for t in range(1, 17))]]
    assert metrics.judder(held, truth) > 10
    still = np.repeat(truth[:1], 17, axis=0)
    assert np.isnan(metrics.judder(truth, still)) and np.isnan(metrics.judder(truth[:2], truth[:2]))


def test_a_body_nearer_to_anothers_mean_colour_is_noticed():
    red, blue, green = (np.array(colour, float) for colour in ((50, 60, 40), (30, 20, -60), (80, -50, 50)))
    worn = np.stack([red, blue, green])
    assert metrics.nearer_another(worn + 2, worn, worn) == 0
    assert metrics.nearer_another(np.stack([blue, red, green]), worn, worn) == pytest.approx(2 / 3)
    # Where the true film itself is nearer to another's reference the measure says nothing.
    assert metrics.nearer_another(worn, np.stack([blue, blue, green]), worn) == 0
    assert np.isnan(metrics.nearer_another(worn[:2], worn[[1, 0]], worn[:2]))
    alike = np.stack([red, red + 1])
    assert np.isnan(metrics.nearer_another(alike[::-1], alike, alike))
    hidden = np.stack([blue, np.full(3, np.nan), green])
    assert metrics.nearer_another(hidden, worn, worn) == 0.5
    assert np.isnan(metrics.nearer_another(worn[:1], worn[:1], worn[:1]))


@given(st.integers(0, 3))
def test_a_bad_place_in_the_latent_frame_is_a_seam(place):
    truth = np.full((17, 8, 8, 3), 100, np.uint8)
    film = truth + np.uint8(2)
    film[1 + place :: 4] += 10
    even = metrics.seam_error(truth + np.uint8(2), truth)
    assert even == pytest.approx(0) and metrics.seam_error(film, truth) > 3
    assert metrics.place_errors(film, truth).argmax() == place


def test_lab_knows_white_black_and_red():
    lab = metrics.to_lab(np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0]], np.uint8))
    assert lab[0] == pytest.approx([100, 0, 0], abs=0.02) and lab[1] == pytest.approx([0, 0, 0], abs=1e-6)
    assert lab[2] == pytest.approx([53.24, 80.09, 67.2], abs=0.05)


def test_the_interval_holds_the_mean_and_narrows():
    rng = np.random.default_rng(1)
    few, many = rng.normal(5, 1, 10), rng.normal(5, 1, 1000)
    mean, low, high = metrics.bootstrap(few)
    assert low < mean < high
    _, low_many, high_many = metrics.bootstrap(many)
    assert high_many - low_many < (high - low) / 3
    assert all(np.isnan(metrics.bootstrap(np.array([np.nan]))))


def test_a_folder_without_motion_is_refused(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("no motion")
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(SetError, match="no motion file can be read"):
            real_motions(folder, 1, 5, 32)
    assert "not evaluated: notes.txt: " in capsys.readouterr().err
