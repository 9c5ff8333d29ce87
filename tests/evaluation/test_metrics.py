"""Each measure rewards what it says and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.evaluation import metrics
from maquette.backend.evaluation.evaluate import MEASURES, measure, run_autoencoder, true_films
from maquette.backend.evaluation.report import Report, sheet
from maquette.backend.evaluation.sets import SetError, held_out, real_motions
from maquette.backend.training.data import HELD_OUT


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
            # Noise keeps mean colours, and may by chance fill holes of an outline.
            if np.isfinite(a) and np.isfinite(b) and one.name not in ("swapped", "colour", "iou"):
                assert a >= b if one.higher else a <= b + 1e-9, one.name


def test_repainting_the_body_is_an_identity_error_only(samples):
    sample = samples[0]
    film = sample.video.copy()
    film[sample.mask] = film[sample.mask][:, ::-1] // 2
    good, bad = measure(sample.video, sample), measure(film, sample)
    assert bad["colour"] > good["colour"] + 5
    assert not np.isfinite(good["psnr_background"]) or bad["psnr_background"] == good["psnr_background"]


def test_exchanged_looks_are_noticed(samples):
    red, blue = (np.full((6, 3), color, float) for color in ((50, 60, 40), (30, 20, -60)))
    assert metrics.identities_swapped([red, blue], [red, blue]) == 0
    assert metrics.identities_swapped([blue, red], [red, blue]) == 1
    assert np.isnan(metrics.identities_swapped([red, red], [red, red]))


def test_flicker_is_a_warp_error(samples):
    sample = samples[0]
    flicker = sample.video.astype(int)
    flicker[::2] += 20
    assert metrics.warp_error(np.clip(flicker, 0, 255).astype(np.uint8), sample.truth) > 10 + metrics.warp_error(
        sample.video, sample.truth
    )


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


def test_a_report_is_written_whole(samples, tmp_path):
    def halve(film):
        return np.repeat(np.repeat(film[:, ::2, ::2], 2, axis=1), 2, axis=2)

    truth, coarse = true_films(samples), run_autoencoder(halve, samples)
    made = run_autoencoder(lambda film: film[:, ::-1].copy(), samples)
    made = type(made)(4, 1.5, made.values, made.seconds, made.films)
    report = Report("isa-nano", "heldout", samples, "cpu", [made], truth, coarse, ["LPIPS: no network"])
    report.write(tmp_path / "report")
    data = report.as_json()
    assert data["runs"][0]["measures"]["psnr"]["mean"] < data["autoencoder"]["measures"]["psnr"]["mean"]
    assert len(data["runs"][0]["measures"]["iou"]["shots"]) == 4
    text = (tmp_path / "report" / "report.md").read_text()
    assert "| 4 | 1.5 |" in text and "LPIPS" in text and " nan" not in text
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "report.json", "report.md", "sheet.jpg", "autoencoder.jpg", "quality.png",
    }  # fmt: skip
    assert sheet(samples, made.films).shape[1] == 2 * 6 * 48


def test_a_folder_without_motion_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no motion")
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(SetError, match="no motion file can be read"):
            real_motions(folder, 1, 5, 32)
