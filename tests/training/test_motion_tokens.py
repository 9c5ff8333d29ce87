"""Training the motion tokenizer: the loss falls, codes move and revive, runs resume, files become clips."""

from __future__ import annotations

import math
import pickle
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from maquette.backend.bodies import embedded
from maquette.backend.cli import main
from maquette.backend.models.mtvcrafter.tokenizer import MotionTokenizer
from maquette.backend.models.mtvcrafter.tokenizer_layers import Codebook
from maquette.backend.shot.framing import MotionStatistics, framing, read_statistics, trained_focal
from maquette.backend.training import motion_clips, motion_tokens
from maquette.backend.training.motion_clips import (
    MotionDataConfig,
    MotionDataError,
    Windows,
    gather,
    in_camera,
    made_up,
    split,
    statistics,
)
from maquette.backend.training.motion_tokens import (
    CodeAverages,
    TokenLossConfig,
    TokenRun,
    TokenRunConfig,
    new_training,
    read_token_config,
    reconstruction,
    train_tokens,
)
from maquette.backend.training.run import PRESETS
from maquette.backend.training.schedule import LoopConfig, step_generator

TINY = {"widths": [32, 32], "code_dim": 16, "codes": 32, "layers_per_block": 1}
DATA = MotionDataConfig(window=17, clips=10, frames=24, held_out=0.2)
LOOP = LoopConfig(steps=60, batch=4, lr=3e-3, warmup=5, betas=(0.9, 0.99), weight_decay=1e-4, decay=0.0, ema=0.0)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def config(**loop) -> TokenRunConfig:
    return TokenRunConfig(TINY, replace(LOOP, **loop), DATA)


def test_training_gives_held_out_motions_back_better(tmp_path: Path) -> None:
    run = TokenRun(replace(config(steps=90), data=replace(DATA, clips=30)), tmp_path)
    train, held_out = motion_tokens._clips(run)
    assert (len(train), len(held_out)) == (24, 6)
    untrained = new_training(run.config, train).eval()
    windows = Windows(train, DATA.window)
    loss = motion_tokens.TokenLoss(windows, run.config.loss, 8, torch.device("cpu"))
    before = loss(untrained, 0, step_generator(5, 0))[0].item()
    measured_before = reconstruction(untrained.tokenizer, held_out, DATA.window)
    done, tokenizer, measured = train_tokens(run)
    assert done and measured is not None
    trained = new_training(run.config, train).eval()
    state = torch.load(tmp_path / motion_tokens.CHECKPOINT, weights_only=True)
    trained.load_state_dict(state["modules"]["model"]["model"])
    after = loss(trained, 0, step_generator(5, 0))[0].item()
    assert after < 0.6 * before
    assert measured.joint_mm < 0.8 * measured_before.joint_mm
    assert measured.joint_mm < 0.8 * measured.mean_mm
    assert measured.used > 3
    for key, value in tokenizer.state_dict().items():
        assert torch.equal(value, trained.tokenizer.state_dict()[key])


def test_a_stopped_run_ends_with_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    whole = TokenRun(config(steps=22, batch=1), tmp_path / "whole")
    assert train_tokens(whole)[0]
    part = TokenRun(config(steps=22, batch=1), tmp_path / "part")
    first = TokenRun(config(steps=11, batch=1), tmp_path / "part")
    assert train_tokens(first)[0]
    assert train_tokens(part)[0]
    a, b = (
        torch.load(r.folder / motion_tokens.CHECKPOINT, weights_only=True)["modules"]["model"]["model"]
        for r in (whole, part)
    )
    assert a.keys() == b.keys() and "averages.counts" in a
    for key, value in a.items():
        assert torch.equal(value, b[key]), key


def test_codes_are_averages_of_the_latents_that_chose_them() -> None:
    book = Codebook(3, 2)
    averages = CodeAverages(3, 2, TokenLossConfig(mu=0.9, reset_every=20))
    generator = step_generator(0, 0)
    averages.start(book, torch.randn(5, 2, generator=generator), generator)
    codes = torch.tensor([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    book.codebook.copy_(codes)
    averages.sums.copy_(codes)
    z = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    assert averages.update(book, z, book.nearest(z), generator) == 0
    # Sums and counts decay by mu and take in (1 - mu) of the batch: (0.9 * 1 + 0.1 * 3) / (0.9 + 0.1 * 2).
    torch.testing.assert_close(book.codebook[0], torch.tensor([1.2 / 1.1, 0.0]))
    torch.testing.assert_close(book.codebook[1], torch.tensor([0.0, 1.2]))
    # A code that nothing chose stays where it is.
    torch.testing.assert_close(book.codebook[2], codes[2])


def test_dead_codes_start_again_from_the_batch_every_20_updates() -> None:
    book = Codebook(4, 3)
    averages = CodeAverages(4, 3, TokenLossConfig())
    generator = step_generator(0, 1)
    z = torch.randn(50, 3, generator=generator)
    averages.start(book, z, generator)
    far = torch.full((3,), 1000.0)
    book.codebook[3] = far
    averages.sums[3] = far
    for update in range(1, 21):
        reset = averages.update(book, z, book.nearest(z), generator)
        if update < 20:
            assert reset == 0
            torch.testing.assert_close(book.codebook[3], far)
    assert reset >= 1
    assert (book.codebook[3] - z).norm(dim=1).min() < 0.05
    assert float(averages.counts[3]) == 1.0


def test_an_update_with_infinite_latents_leaves_the_codes_alone() -> None:
    book = Codebook(2, 2)
    averages = CodeAverages(2, 2, TokenLossConfig())
    before = book.codebook.clone()
    assert (
        averages.update(book, torch.full((3, 2), math.inf), torch.zeros(3, dtype=torch.int64), step_generator(0, 0))
        == 0
    )
    assert torch.equal(book.codebook, before)
    assert int(averages.updates) == 0


def test_commitment_moves_the_encoder_and_never_the_codebook() -> None:
    clips = gather(DATA)
    model = new_training(config(), clips)
    loss = motion_tokens.TokenLoss(Windows(clips, 17), TokenLossConfig(commit=0.5), 4, torch.device("cpu"))
    value, figures = loss(model, 0, step_generator(0, 0))
    assert float(value.detach()) == pytest.approx(figures["l1"] + 0.5 * figures["commit"], rel=1e-5)
    value.backward()
    assert model.tokenizer.encoder.conv_in.weight.grad is not None
    assert not model.tokenizer.vq.codebook.requires_grad


def test_the_shipped_run_is_the_published_one_and_its_milestone_fires() -> None:
    run = read_token_config(PRESETS / "4dmot.toml")
    assert run.tokenizer == {"widths": [128, 512], "code_dim": 3072, "codes": 8192}
    loop = run.loop
    assert (loop.steps, loop.batch, loop.betas, loop.weight_decay) == (500_000, 32, (0.9, 0.99), 1e-4)
    assert (run.loss, run.data.window) == (TokenLossConfig(0.5, 0.99, 20), 49)
    assert loop.lr_at(0) == pytest.approx(2e-4 / 5000)
    assert loop.lr_at(4999) == loop.lr_at(299_999) == 2e-4
    assert loop.lr_at(300_000) == loop.lr_at(499_999) == pytest.approx(1e-5)
    assert read_token_config(PRESETS / "4dmot-small.toml").loop.steps > 0


def test_the_optimizer_takes_the_rates_of_the_schedule(tmp_path: Path) -> None:
    run = TokenRun(config(steps=4, warmup=1, milestones=(3,), gamma=0.05), tmp_path)
    train_tokens(run)
    players = torch.load(tmp_path / motion_tokens.CHECKPOINT, weights_only=True)["players"]
    groups = players["model"]["adamw"]["param_groups"]
    assert [group["lr"] for group in groups] == pytest.approx([3e-3 * 0.05] * len(groups))
    assert {tuple(group["betas"]) for group in groups} == {(0.9, 0.99)}


def test_made_up_motions_are_at_home_in_the_trained_camera() -> None:
    body = embedded()
    settings = MotionDataConfig(clips=40, frames=60, window=49)
    clips = [made_up(np.random.default_rng([7, i]), settings, body) for i in range(40)]
    assert all(in_camera(clip) for clip in clips[:5])
    pelvis = np.stack([clip[30, 0] for clip in clips])
    known = read_statistics()
    np.testing.assert_allclose(pelvis.mean(axis=0), known.mean[0], atol=0.6 * known.std[0].max())
    assert all(clip[..., 2].min() > 300 for clip in clips)
    # Most face the camera: their left is on the right of the picture.
    assert np.mean([clip[:, 16, 0].mean() > clip[:, 17, 0].mean() for clip in clips]) > 0.6
    focal = trained_focal(512, 512)
    K = np.array([[focal, 0, 256], [0, focal, 256], [0, 0, 1]])
    still = np.repeat(np.eye(4)[None], 60, 0), np.repeat(K[None], 60, 0)
    reports = [framing(clip / 1000.0, *still, 512, 512) for clip in clips]
    assert all(report.behind == 0 for report in reports)
    assert np.mean([report.outside for report in reports]) < 0.03


def test_windows_cover_every_start_and_never_cross_clips() -> None:
    clips = [
        np.full((20, 24, 3), i, np.float32) + np.arange(20, dtype=np.float32)[:, None, None] / 100 for i in range(3)
    ]
    windows = Windows(clips, 17)
    assert len(windows) == 12
    batch = windows.batch(400, step_generator(0, 0))
    assert batch.shape == (400, 17, 24, 3)
    starts = batch[:, 0, 0, 0]
    assert len({round(float(s), 2) for s in starts}) == 12
    torch.testing.assert_close(batch[:, -1, 0, 0] - starts, torch.full((400,), 0.16))


def test_held_out_clips_are_not_trained_on() -> None:
    clips = [np.full((17, 24, 3), i, np.float32) for i in range(20)]
    train, held_out = split(clips, replace(DATA, held_out=0.2))
    numbers = [int(clip[0, 0, 0]) for clip in (*train, *held_out)]
    assert len(held_out) == 4 and sorted(numbers) == list(range(20))
    assert split(clips[:1], DATA) == ([clips[0]], [])


def test_statistics_are_those_of_all_frames() -> None:
    generator = np.random.default_rng(0)
    clips = [generator.normal(500, 30, (n, 24, 3)).astype(np.float32) for n in (20, 50)]
    found = statistics(clips)
    joined = np.concatenate(clips)
    np.testing.assert_allclose(found.mean, joined.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(found.std, joined.std(axis=0), rtol=1e-3)
    assert (statistics([np.zeros((9, 24, 3), np.float32)]).std == 1).all()


def test_reconstruction_is_measured_in_millimetres(monkeypatch: pytest.MonkeyPatch) -> None:
    mean = read_statistics().mean
    tokenizer = MotionTokenizer(**TINY, mean_mm=mean.tolist(), std_mm=np.full((24, 3), 100.0).tolist())
    clip = np.repeat(mean[None], 20, 0) + np.array([30.0, 40.0, 0.0], np.float32)
    monkeypatch.setattr(tokenizer, "decode", lambda tokens: torch.zeros(1, 3, 17, 24))
    measured = reconstruction(tokenizer, [clip], 17)
    assert measured.joint_mm == measured.mean_mm == pytest.approx(50, abs=1e-2)
    assert measured.pose_mm == pytest.approx(0, abs=1e-2)
    assert measured.windows == 1
    with pytest.raises(MotionDataError, match="49 frames"):
        reconstruction(tokenizer, [clip], 49)


@pytest.fixture
def dances(tmp_path: Path) -> Path:
    """A folder as MTVCrafter keeps its data, a short clip, and a BVH that must be filmed."""
    folder = tmp_path / "dances"
    folder.mkdir()
    body = embedded()
    settings = MotionDataConfig(frames=30, window=17)
    clips = [made_up(np.random.default_rng(i), settings, body) for i in range(3)]
    np.save(folder / "one.npy", clips[0])
    np.save(folder / "short.npy", clips[1][:10])
    np.save(folder / "mean.npy", read_statistics().mean)
    (folder / "pair.pkl").write_bytes(pickle.dumps([{"pose": clip, "video_height": 512} for clip in clips[1:]]))
    return folder


def test_camera_space_files_are_taken_as_they_are(dances: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips = gather(MotionDataConfig(window=17, frames=17), dances)
    assert sorted(len(clip) for clip in clips) == [30, 30, 30]
    assert any(np.array_equal(clip, np.load(dances / "one.npy")) for clip in clips)
    said = capsys.readouterr().out
    assert "mean.npy" in said and "holds no motion" in said
    assert "1 of 4 clips are shorter than 17 frames" in said


def test_world_motions_are_filmed_from_several_sides(shared_data: Path) -> None:
    clips = motion_clips.read_clips(
        shared_data / "motion" / "freebvh.bvh", MotionDataConfig(views=3, window=17), embedded()
    )
    assert [clip.shape for clip in clips] == [(69, 24, 3)] * 3
    assert all(in_camera(clip) for clip in clips)
    assert not np.allclose(clips[0], clips[1])
    bones = [np.linalg.norm(clip[:, 4] - clip[:, 1], axis=-1) for clip in clips]
    np.testing.assert_allclose(bones[0], bones[1], rtol=1e-3)


def test_joints_of_a_world_are_not_taken_for_a_cameras() -> None:
    clip = made_up(np.random.default_rng(0), MotionDataConfig(frames=49), embedded())
    assert in_camera(clip)
    assert not in_camera(clip / 1000)
    assert not in_camera(clip * [1, -1, 1])
    assert not in_camera(clip * [1, 1, -1])
    assert not in_camera(clip[:, :22])


def test_command_line_trains_resumes_and_exports(
    dances: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text(
        "[tokenizer]\nwidths = [32, 32]\ncode_dim = 16\ncodes = 32\nlayers_per_block = 1\n"
        "[data]\nwindow = 17\nheld_out = 0.3\n[loop]\nsteps = 3\nbatch = 2\nlr = 1e-3\ndecay = 0.0\nema = 0.0\n"
    )
    folder, out = tmp_path / "run", tmp_path / "tokenizer"
    command = ["train", "4dmot", "--config", str(file), "--folder", str(folder), "--data", str(dances)]
    command += ["--device", "cpu", "--export-to", str(out)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "mm per joint" in said and str(out) in said
    model = MotionTokenizer.from_pretrained(out, local_files_only=True)
    assert isinstance(model.statistics, MotionStatistics)
    assert not np.array_equal(model.statistics.mean, read_statistics().mean)
    assert np.isfinite(model.motion_tokens(np.load(dances / "one.npy")).tokens).all()
    assert main(command) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("x", "not a readable"),
        ("[loop]\nsteps=1\nbatch=1\nlr=1.0\n", r"\[tokenizer\] is missing"),
        ("[tokenizer]\n[loop]\nsteps=1\nbatch=1\n", r"\[loop\] is incomplete"),
        ("[tokenizer]\n[loop]\nsteps=1\nbatch=1\nlr=1.0\n[data]\nwindow=45\n", "window: 45"),
        ("[tokenizer]\n[loop]\nsteps=1\nbatch=1\nlr=1.0\n[data]\nwindows=49\n", r"\[data\] has no windows"),
        ("[tokenizer]\n[other]\n", r"\[other\]"),
    ],
)
def test_bad_config_names_the_entry(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(MotionDataError, match=named):
        read_token_config(path)


def test_a_wrong_tokenizer_is_named() -> None:
    with pytest.raises(MotionDataError, match=r"\[tokenizer\].*width"):
        new_training(TokenRunConfig({"width": 3}, LOOP, DATA), [np.zeros((17, 24, 3), np.float32)])


def test_folders_without_motions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MotionDataError, match="no motion files"):
        gather(DATA, tmp_path)
    np.save(tmp_path / "a.npy", made_up(np.random.default_rng(0), replace(DATA, frames=17), embedded())[:9])
    with pytest.raises(MotionDataError, match="longer motions"):
        gather(DATA, tmp_path)
    (tmp_path / "b.bvh").write_text("HIERARCHY nothing")
    with pytest.raises(MotionDataError, match=r"b\.bvh"):
        gather(DATA, tmp_path)


def test_options_of_the_other_runs_do_not_mix(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", "nano", "--data", str(tmp_path), "--folder", str(tmp_path)]) == 2
    assert "4dmot" in capsys.readouterr().err
    assert main(["train", "4dmot", "--data", str(tmp_path / "none"), "--folder", str(tmp_path)]) == 2
    assert "--data" in capsys.readouterr().err


def test_every_preset_is_one_kind_of_run() -> None:
    kinds = {path.stem: motion_tokens.is_token_run(path) for path in PRESETS.glob("*.toml")}
    assert kinds["4dmot"] and kinds["4dmot-small"] and not kinds["nano"]
    for path in PRESETS.glob("*.toml"):
        assert ("model" in tomllib.loads(path.read_text("utf-8"))) != kinds[path.stem]
