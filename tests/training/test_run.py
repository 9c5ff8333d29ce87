"""The whole chain at toy size: shots, VAE, encoding, DiT, export; and training sees what the engine sees."""

from __future__ import annotations

import functools
import itertools
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from maquette.backend.catalogue.models import model_spec
from maquette.backend.cli import main
from maquette.backend.models.isa.build import new_vae
from maquette.backend.models.isa.transformer import ISATransformer3DModel
from maquette.backend.models.isa.vae import AutoencoderKLISA
from maquette.backend.training import data as data_module
from maquette.backend.training import strength as strength_module
from maquette.backend.training.checkpoint import read_checkpoint
from maquette.backend.training.config import StartConfig
from maquette.backend.training.data import HELD_OUT, DataConfig, make_shard, shard_seeds
from maquette.backend.training.dit import (
    DiTLossConfig,
    Kind,
    Latents,
    sample_latents,
)
from maquette.backend.training.loop import Loop
from maquette.backend.training.run import RunConfig, TrainingError, TrainingRun, claim, export, train, trained_vae
from maquette.backend.training.schedule import LoopConfig, step_generator
from maquette.backend.training.vae import Films, VAELossConfig, start_from_components, to_model
from maquette.backend.worlds.sample import make_sample
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SMALL_VAE = {
    "block_out_channels": [16, 16],
    "spatial_resample": [True],
    "temporal_resample": [False],
    "temporal_patch_size": 4,
    "norm_num_groups": 8,
}
TINY = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 16}


@pytest.fixture(scope="module", autouse=True)
def small_shards() -> Iterator[None]:
    """Few shots in a shard and in the search for a strength, where every export has the same ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_module, "SHARD", 2)
        patch.setattr(strength_module, "SHOTS", 2)
        for name in ("make_sample", "carry_sample"):
            patch.setattr(strength_module, name, functools.cache(getattr(strength_module, name)))
        yield


LOOP = LoopConfig(steps=2, batch=2, lr=1e-4, warmup=1)
TOY = RunConfig(
    model="isa-nano",
    data=DataConfig(frames=5, size=64, points=32, shards=2, pair_shards=1),
    long_data=DataConfig(frames=9, size=64, points=32, shards=1, pair_shards=0),
    vae=replace(LOOP, steps=1, batch=1),
    vae_loss=VAELossConfig(frames=(5,)),
    dit=replace(LOOP, steps=1),
    dit_loss=DiTLossConfig(pair_share=0.5, long_share=0.5),
)
# Small networks, with a second loop of the VAE on long clips.
SMALL = replace(
    TOY,
    overrides={"vae": SMALL_VAE, "transformer": TINY},
    vae=replace(LOOP, batch=1),
    dit=LOOP,
    vae_long=replace(LOOP, batch=1),
    vae_long_loss=VAELossConfig(frames=(9,)),
)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with its shots alone, which small networks share with nano."""
    run = TrainingRun(SMALL, tmp_path_factory.mktemp("drawn") / "run", workers=1)
    assert train(run, ("data",))
    return run.folder


@pytest.fixture(scope="module")
def finished(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingRun:
    """A run of small networks that is done; nobody writes in it."""
    run = TrainingRun(SMALL, tmp_path_factory.mktemp("finished") / "run", workers=1)
    with_shots(run, drawn)
    assert train(run, ("vae", "dit"))
    return run


def with_shots(run: TrainingRun, drawn: Path) -> TrainingRun:
    """The run with the shots that another one drew."""
    run.folder.mkdir()
    shutil.copytree(drawn / "data", run.folder / "data")
    return run


@pytest.fixture
def toy(tmp_path: Path) -> TrainingRun:
    return TrainingRun(TOY, tmp_path / "run", workers=1)


@pytest.fixture
def tiny(tmp_path: Path) -> TrainingRun:
    return TrainingRun(SMALL, tmp_path / "run", workers=1)


@pytest.fixture
def trained(finished: TrainingRun, tmp_path: Path) -> TrainingRun:
    """A copy of the run that is done."""
    shutil.copytree(finished.folder, tmp_path / "run")
    return replace(finished, folder=tmp_path / "run")


def test_whole_chain(toy: TrainingRun, drawn: Path, tmp_path: Path) -> None:
    assert train(with_shots(toy, drawn), ("data", "vae", "dit"))
    vae = AutoencoderKLISA.from_pretrained(toy.folder / "vae", local_files_only=True)
    assert len(vae.config["latents_mean"]) == 16
    folder = export(toy, tmp_path / "weights")
    files = [*folder.rglob("*.safetensors")]
    assert len(files) == 2
    assert sum(file.stat().st_size for file in files) < 32e6
    model = ISATransformer3DModel.from_pretrained(folder / "transformer", local_files_only=True)
    latents = Latents(toy.latents())
    assert sorted(latents.groups) == [(1, 2, 8, 8), (1, 3, 8, 8), (2, 2, 8, 8)]
    clean, _, inputs, *_ = latents.batch(Kind(2, 2, 8, 8), 2, step_generator(0, 0), torch.device("cpu"))
    noise = torch.randn(clean.shape, generator=step_generator(0, 1))
    made = sample_latents(model.float().eval(), inputs, noise, steps=2, guidance=1.5)
    assert made.shape == clean.shape
    assert torch.isfinite(made).all()


def test_a_present_run_is_not_overwritten(toy: TrainingRun, capsys: pytest.CaptureFixture[str]) -> None:
    toy.folder.mkdir()
    (toy.folder / "dit.ckpt").write_bytes(b"precious")
    assert main(["train", "dit", "--folder", str(toy.folder), "--workers", "1"]) == 2
    assert "--resume" in capsys.readouterr().err
    assert (toy.folder / "dit.ckpt").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nano", "--device", "cuda:77"], "--device cuda:77: this machine has"),
        (["nano", "--workers", "0"], "--workers 0: give at least 1"),
        (["nano", "--steps", "0"], "--steps 0: give at least 1"),
        (["nano", "--minutes", "-1"], "--minutes -1.0: give at least 0"),
        (["nano", "--data", "."], "--data belongs to 'train 4dmot'"),
        (["4dmot", "--workers", "2"], "trains in one process"),
    ],
)
def test_options_that_cannot_be_are_named(
    arguments: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *arguments, "--folder", str(tmp_path)]) == 2
    assert named in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


_TOY = """
model = "isa-nano"
data = { frames = 5, size = 64, points = 32, shards = 1, pair_shards = 0 }
long_data = { frames = 9, size = 64, points = 32, shards = 0, pair_shards = 0 }
vae = { steps = 9, batch = 1, lr = 1e-4 }
vae_loss = { frames = [5] }
dit = { steps = 9, batch = 1, lr = 1e-4 }
[overrides.vae]
block_out_channels = [16, 16]
spatial_resample = [true]
temporal_resample = [false]
temporal_patch_size = 4
norm_num_groups = 8
[overrides]
transformer = { num_layers = 1, num_attention_heads = 2, attention_head_dim = 16 }
"""


def test_the_command_stops_goes_on_and_exports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "toy.toml").write_text(_TOY)
    command = ["train", "nano", "--config", str(tmp_path / "toy.toml"), "--folder", str(tmp_path / "run")]
    command += ["--workers", "1", "--device", "cpu", "--steps", "1"]
    assert main(command) == 2
    assert "[overrides] makes other networks than isa-nano's; add --export-to" in capsys.readouterr().err
    command += ["--export-to", str(tmp_path / "weights")]
    assert main([*command, "--minutes", "0"]) == 0
    assert "stopped before the last step; the same command with --resume goes on" in capsys.readouterr().err
    assert not (tmp_path / "weights").exists()
    assert main([*command, "--resume"]) == 0
    assert f"weights written to {tmp_path / 'weights'}" in capsys.readouterr().out
    assert len([*(tmp_path / "weights").rglob("*.safetensors")]) == 2
    assert read_checkpoint(tmp_path / "run" / "dit.ckpt")["step"] == 1


def test_dit_before_vae_is_refused(toy: TrainingRun) -> None:
    with pytest.raises(TrainingError, match="maquette train vae"):
        train(toy, ("dit",))


def networks(run: TrainingRun, folder: Path) -> dict[str, torch.Tensor]:
    """All weights that a run exports."""
    export(run, folder)
    return {
        f"{part}.{name}": value
        for part in ("vae", "transformer")
        for name, value in load_file(folder / part / "diffusion_pytorch_model.safetensors").items()
    }


def test_a_run_in_pieces_is_a_run(finished: TrainingRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = ("data", "vae", "dit")
    assert (finished.folder / "vae_long.ckpt").exists()
    pieces = replace(finished, folder=tmp_path / "pieces")
    (tmp_path / "pieces").mkdir()
    (tmp_path / "pieces" / "data").symlink_to(finished.folder / "data")

    def one_step(loop: Loop, until: float | None) -> bool:
        return loop.step > first.setdefault(loop, loop.step)

    monkeypatch.setattr(Loop, "_agree", one_step)
    count = 0
    first: dict[Loop, int] = {}
    while not train(pieces, stages):
        first.clear()
        count += 1
    assert count == 3  # two steps a loop: one stop in each of the three
    whole, part = networks(finished, tmp_path / "a"), networks(pieces, tmp_path / "b")
    assert whole.keys() == part.keys()
    for name, value in whole.items():
        assert torch.equal(value, part[name]), name
    pictures = {}
    for name in ("vae", "vae_long", "dit"):
        events = EventAccumulator(str(finished.folder / "logs" / name))
        events.Reload()
        pictures[name] = events.Tags()["images"]
    assert pictures == {
        "vae": ["clip above rebuilt"],
        "vae_long": ["clip above rebuilt"],
        "dit": ["true above made, 1 character(s)", "true above made, 2 character(s)"],
    }


def test_the_long_loop_begins_with_the_averages_of_the_first(
    tiny: TrainingRun, drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_shots(tiny, drawn)
    seen = {}

    def look(loop: Loop, *_: object) -> bool:
        seen[loop.checkpoint.stem] = {name: p.detach().clone() for name, p in loop.model.named_parameters()}
        if loop.checkpoint.stem == "vae_long":
            assert all(torch.equal(loop.ema.weights[n], p) for n, p in seen["vae_long"].items())
            return False
        return run(loop, *_)

    run = Loop.run
    monkeypatch.setattr(Loop, "run", look)
    assert not train(tiny, ("vae",))
    averages = read_checkpoint(tiny.folder / "vae.ckpt")["ema"]
    assert averages.keys() == seen["vae_long"].keys()
    assert all(torch.equal(averages[name], value) for name, value in seen["vae_long"].items())
    assert not all(torch.equal(averages[name], value) for name, value in seen["vae"].items())
    assert not (tiny.folder / "vae").exists()


def test_training_goes_on_from_published_weights(
    finished: TrainingRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = networks(finished, tmp_path / "published")
    # Statistics that no other shots would give: the published transformer knows its latents by these.
    written = tmp_path / "published" / "vae" / "config.json"
    written.write_text(json.dumps({**json.loads(written.read_text()), "latents_std": [1.25]}))
    spec = replace(model_spec("isa-nano"), folder=tmp_path / "published")
    monkeypatch.setattr("maquette.backend.training.config.model_spec", lambda _: spec)
    started = {}

    def look(loop: Loop, *_: object) -> bool:
        started.update({f"{loop.checkpoint.stem}.{n}": p.detach().clone() for n, p in loop.model.named_parameters()})
        assert all(torch.equal(loop.ema.weights[n], p) for n, p in loop.model.named_parameters())
        return False

    start = StartConfig(vae=True, dit=True)
    again = replace(finished, folder=tmp_path / "again", config=replace(finished.config, start=start))
    for name in ("again", "trained"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data").symlink_to(finished.folder / "data")
    # A VAE that goes on keeps its statistics for the transformer that goes on with it.
    trained = replace(again, folder=tmp_path / "trained")
    assert train(trained, ("vae",))
    assert trained_vae(trained, "cpu").config["latents_std"] == [1.25]

    monkeypatch.setattr(Loop, "run", look)
    assert not train(again, ("vae",))
    # Without a loop of its own the VAE stays as it is published.
    kept = replace(again, config=replace(again.config, vae=None, vae_long=None))
    assert train(kept, ("vae",))
    assert not train(kept, ("dit",))
    for name, value in started.items():
        part, _, key = name.partition(".")
        wanted = published[f"{'vae' if part == 'vae' else 'transformer'}.{key}"]
        torch.testing.assert_close(value, wanted.float(), rtol=0, atol=0)
    vae = AutoencoderKLISA.from_pretrained(tmp_path / "again" / "vae", local_files_only=True)
    assert all(torch.equal(p, published[f"vae.{n}"].float()) for n, p in vae.named_parameters())
    assert vae.config["latents_std"] == [1.25]
    assert vae.config["latents_mean"] == json.loads(written.read_text())["latents_mean"]


def test_no_shot_is_begun_when_the_time_is_up(tiny: TrainingRun) -> None:
    assert not train(replace(tiny, until=time.time() - 1), ("data",))
    assert not tiny.shards() + tiny.long_shards()


def test_a_run_of_minutes_learns_from_the_shots_that_it_has(
    tiny: TrainingRun, drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with more time later goes on with all of them."""
    with_shots(tiny, drawn)
    made = tiny.shards()
    for path in made[1:]:
        path.rename(tiny.folder / path.name)
    with np.load(made[0]) as file:
        np.savez(made[0].with_name(f"{made[0].stem}_first1.npz"), **{name: file[name][:1] for name in file.files})
    made[0].unlink()
    late = replace(tiny, until=time.time() + 3600)
    with monkeypatch.context() as patch:
        patch.setattr(data_module, "time_is_up", lambda until: until is not None)
        assert train(late, ("data",)) and train(tiny, ("vae",))
        assert [path.stem for path in tiny.shards()] == [f"{made[0].stem}_first1"]
        assert train(tiny, ("dit",))
    for path in made[1:]:
        (tiny.folder / path.name).rename(path)
    assert train(tiny, ("data",)) and tiny.shards() == made
    assert train(replace(tiny, config=tiny.config.with_steps(3)), ("dit",))
    assert sorted((tiny.folder / "latents").glob("*.pt")) == sorted(tiny.latents())


def test_nothing_is_trained_without_shots(tiny: TrainingRun) -> None:
    with pytest.raises(TrainingError, match="holds no shots; make them first"):
        train(tiny, ("vae",))


@pytest.fixture
def begun(tiny: TrainingRun) -> TrainingRun:
    """A run with checkpoints, empty ones, of the VAE's first loop and of the DiT."""
    claim(tiny)
    for name in ("vae", "dit"):
        (tiny.folder / f"{name}.ckpt").touch()
    return tiny


def changed(run: TrainingRun, section: str, **entries: object) -> TrainingRun:
    """The run with other entries in a section of its file."""
    return replace(run, config=replace(run.config, **{section: replace(getattr(run.config, section), **entries)}))


@pytest.mark.parametrize(
    ("section", "entries", "named"),
    [
        ("dit", {"batch": 3}, r"dit\.batch \(2 there, 3 here\)"),
        ("vae", {"seed": 1}, r"vae\.seed \(0 there, 1 here\)"),
        ("dit_loss", {"pair_share": 0.25}, r"dit_loss\.pair_share \(0\.5 there, 0\.25 here\)"),
        ("data", {"shards": 3}, r"data\.shards \(2 there, 3 here\)"),
        ("start", {"vae": True}, r"start\.vae \(False there, True here\)"),
    ],
)
def test_a_run_goes_on_with_what_it_was_begun_with(begun: TrainingRun, section: str, entries: dict, named: str) -> None:
    before = (begun.folder / "run.json").read_text()
    with pytest.raises(TrainingError, match=f"{named}; name another --folder or give the old values"):
        train(changed(begun, section, **entries))
    assert (begun.folder / "run.json").read_text() == before


def test_other_networks_are_refused(begun: TrainingRun) -> None:
    overrides = {"vae": SMALL_VAE, "transformer": {**TINY, "num_layers": 2}}
    with pytest.raises(TrainingError, match=r"overrides\.transformer\.num_layers \(1 there, 2 here\)"):
        claim(replace(begun, config=replace(begun.config, overrides=overrides)))


def test_a_run_may_be_made_longer_or_calmer(begun: TrainingRun) -> None:
    claim(changed(begun, "dit", steps=90, lr=1e-5, decay=0.9, save_minutes=1.0))
    # A loop that has not begun is held to nothing.
    claim(changed(begun, "vae_long", batch=7, seed=3))
    (begun.folder / "vae_long.ckpt").touch()
    with pytest.raises(TrainingError, match=r"vae_long\.batch \(7 there, 1 here\)"):
        claim(begun)


def test_workers_are_held_by_loops_that_are_under_way(begun: TrainingRun) -> None:
    more = replace(begun, workers=2)
    claim(more, ("data",))
    with pytest.raises(TrainingError, match=r"workers of dit \(1 there, 2 here\)"):
        claim(more, ("dit",))
    with pytest.raises(TrainingError, match=r"workers of vae \(1 there, 2 here\)"):
        claim(more, ("vae",))
    (begun.folder / "dit.ckpt").unlink()
    begun.vae_folder.mkdir()
    claim(more)
    (begun.folder / "dit.ckpt").touch()
    with pytest.raises(TrainingError, match=r"workers of dit \(2 there, 1 here\)"):
        claim(begun)


def test_a_run_without_its_mark_is_refused(begun: TrainingRun) -> None:
    (begun.folder / "run.json").unlink()
    with pytest.raises(TrainingError, match="run.json is missing"):
        claim(begun)


def test_shots_of_another_generator_are_refused(
    tiny: TrainingRun, drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim(with_shots(tiny, drawn))

    def otherwise(*arguments: object, **named: object) -> object:
        sample = make_sample(*arguments, **named)  # type: ignore[arg-type]
        return replace(sample, video=np.where(sample.video > 4, sample.video - 4, 0).astype(np.uint8))

    monkeypatch.setattr(data_module, "make_sample", otherwise)
    data_module.fingerprint.cache_clear()
    try:
        with pytest.raises(TrainingError, match="another version of the generator drew"):
            train(tiny, ("vae",))
        gone = tiny.shards()[0]
        gone.unlink()
        with pytest.raises(TrainingError, match="another version of the generator drew"):
            data_module.make_data(tiny.folder / "data", tiny.config.data)
    finally:
        data_module.fingerprint.cache_clear()
    assert not gone.exists()


def test_latents_of_another_vae_are_refused(trained: TrainingRun) -> None:
    (trained.folder / "dit.ckpt").unlink()
    file = trained.vae_folder / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    name = min(weights)
    save_file({**weights, name: weights[name] + 1}, file, {"format": "pt"})
    with pytest.raises(TrainingError, match="holds latents of another VAE"):
        train(trained, ("dit",))
    shutil.rmtree(trained.folder / "latents")
    assert train(trained, ("dit",))


def test_an_export_that_is_stopped_never_mixes_networks(
    finished: TrainingRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, parts = tmp_path / "weights", ("vae", "transformer")
    target.mkdir()
    (target / "README.md").write_text("card")

    class Stop(Exception):
        pass

    for stop in itertools.count():
        for part in parts:
            shutil.rmtree(target / part, ignore_errors=True)
            (target / part).mkdir()
            (target / part / "old").touch()
        moves = iter(range(stop))

        def rename(path: Path, to: Path, moves=moves) -> None:
            if next(moves, None) is None:
                raise Stop
            os.rename(path, to)

        monkeypatch.setattr(Path, "rename", rename)
        try:
            export(finished, target)
            break
        except Stop:
            there = [(target / part / "old").exists() for part in parts if (target / part).exists()]
            assert len(set(there)) <= 1, stop
    assert stop == 4
    assert sorted(path.name for path in target.iterdir()) == ["README.md", "transformer", "vae"]
    assert not [*target.rglob("old")]


def test_published_weights_that_do_not_fit_are_named(tiny: TrainingRun, drawn: Path) -> None:
    with_shots(tiny, drawn)
    run = replace(tiny, config=replace(tiny.config, start=StartConfig(vae=True)))
    with pytest.raises(TrainingError, match=r"\[start\] vae = true: .*isa-nano holds no weights that fit this run"):
        train(run, ("vae",))


def test_overridden_networks_never_replace_published_ones(tiny: TrainingRun) -> None:
    with pytest.raises(TrainingError, match="--export-to"):
        export(tiny)


def test_shards_never_meet_the_held_out_seeds(tmp_path: Path) -> None:
    config = DataConfig(frames=5, size=32, points=16, shards=1, pair_shards=1)
    one, two = (np.load(make_shard(tmp_path, config, i)) for i in range(2))
    assert one["points"].shape[1] == 1
    assert two["points"].shape[1] == 2
    assert not np.array_equal(one["viewmats"], two["viewmats"])
    seeds = {*shard_seeds(5, 1, 0), *shard_seeds(5, 2, 0)}
    held_out = [make_sample(HELD_OUT + i, 5, 32, 16) for i in range(2)]
    assert max(seeds) < HELD_OUT
    assert not any(np.array_equal(view, sample.viewmats) for view in one["viewmats"] for sample in held_out)


def test_principal_components_alone_are_a_vae(toy: TrainingRun, drawn: Path) -> None:
    with_shots(toy, drawn)
    torch.manual_seed(0)
    vae = new_vae(toy.spec).eval()
    films = Films(toy.shards())
    x = to_model(films.video[0])

    def psnr() -> float:
        with torch.no_grad():
            return float(10 * torch.log10(4 / (vae(x)[0] - x).square().mean()))

    before = psnr()
    start_from_components(vae, films, samples=4000)
    after = psnr()
    assert after > max(before + 5, 20)
