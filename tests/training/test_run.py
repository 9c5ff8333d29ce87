"""The whole chain at toy size: shots, VAE, encoding, DiT, export; and training sees what the engine sees."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from maquette.backend.cli import main
from maquette.backend.models.isa.build import new_vae
from maquette.backend.models.isa.transformer import ISATransformer3DModel
from maquette.backend.models.isa.vae import AutoencoderKLISA
from maquette.backend.training import data as data_module
from maquette.backend.training.data import HELD_OUT, DataConfig, make_shard
from maquette.backend.training.dit import (
    DiTLossConfig,
    Latents,
    sample_latents,
)
from maquette.backend.training.loop import LoopConfig, step_generator
from maquette.backend.training.motion_tokens import is_token_run
from maquette.backend.training.run import PRESETS, Run, RunConfig, TrainingError, export, read_config, train
from maquette.backend.training.vae import Films, VAELossConfig, reconstruction_psnr, start_from_components

TINY = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 16}


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_module, "SHARD", 3)


@pytest.fixture
def toy(tmp_path: Path, small_shards: None) -> Run:
    loop = LoopConfig(steps=2, batch=2, lr=1e-4, warmup=1)
    config = RunConfig(
        model="isa-nano",
        data=DataConfig(frames=5, size=64, points=32, shards=2, pair_shards=1),
        long_data=DataConfig(frames=9, size=64, points=32, shards=1, pair_shards=0),
        vae=replace(loop, batch=1),
        vae_loss=VAELossConfig(frames=(5,)),
        dit=loop,
        dit_loss=DiTLossConfig(pair_share=0.5, long_share=0.5),
    )
    return Run(config, tmp_path / "run", workers=1)


def test_whole_chain(toy: Run, tmp_path: Path) -> None:
    assert train(toy, ("data", "vae", "dit"))
    vae = AutoencoderKLISA.from_pretrained(toy.folder / "vae", local_files_only=True)
    assert len(vae.config["latents_mean"]) == 16
    folder = export(toy, tmp_path / "weights")
    files = [*folder.rglob("*.safetensors")]
    assert len(files) == 2
    assert sum(file.stat().st_size for file in files) < 32e6
    model = ISATransformer3DModel.from_pretrained(folder / "transformer", local_files_only=True)
    latents = Latents(toy.latents())
    assert sorted(latents.groups) == [(1, 2), (1, 3), (2, 2)]
    clean, _, inputs = latents.batch((2, 2), 2, step_generator(0, 0), torch.device("cpu"))
    noise = torch.randn(clean.shape, generator=step_generator(0, 1))
    made = sample_latents(model.float().eval(), inputs, noise, steps=2, guidance=1.5)
    assert made.shape == clean.shape
    assert torch.isfinite(made).all()


def test_a_present_run_is_not_overwritten(toy: Run, capsys: pytest.CaptureFixture[str]) -> None:
    toy.folder.mkdir()
    (toy.folder / "dit.ckpt").write_bytes(b"precious")
    assert main(["train", "dit", "--folder", str(toy.folder), "--workers", "1"]) == 2
    assert "--resume" in capsys.readouterr().err
    assert (toy.folder / "dit.ckpt").read_bytes() == b"precious"


def test_dit_before_vae_is_refused(toy: Run) -> None:
    with pytest.raises(TrainingError, match="maquette train vae"):
        train(toy, ("dit",))


def test_shipped_config_reads() -> None:
    for path in PRESETS.glob("*.toml"):
        if not is_token_run(path):
            assert read_config(path).dit.steps > 0


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("x", "not a readable"),
        ('model="isa-nano"\n[vae]\nsteps=1\nbatch=1\nlr=1.0\n[dit]\nsteps=1\n', r"\[dit\] is incomplete"),
        ('model="isa-nano"\n[vae]\nstep=1\n', r"\[vae\] has no step"),
        ('model="a"\n[foo]\n', "foo"),
        ("", "model is missing"),
    ],
)
def test_bad_config_names_the_entry(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(TrainingError, match=named):
        read_config(path)


def test_shards_never_meet_the_held_out_seeds(tmp_path: Path, small_shards: None) -> None:
    config = DataConfig(frames=5, size=32, points=16, shards=1, pair_shards=1)
    one, two = (np.load(make_shard(tmp_path, config, i)) for i in range(2))
    assert one["points"].shape[1] == 1
    assert two["points"].shape[1] == 2
    assert not np.array_equal(one["viewmats"], two["viewmats"])
    # Seeds of shards grow from a multiple of ten million per frame count; the held-out ones lie far beyond.
    assert 97 * 10_000_000 + 2 * 10_000 * data_module.SHARD < HELD_OUT


def test_principal_components_alone_are_a_vae(toy: Run) -> None:
    train(toy, ("data",))
    torch.manual_seed(0)
    vae = new_vae(toy.spec).eval()
    films = Films(toy.shards())
    before, _ = reconstruction_psnr(vae, films.video[0])
    start_from_components(vae, films, samples=4000)
    after, rebuilt = reconstruction_psnr(vae, films.video[0])
    assert rebuilt.shape == films.video[0].shape
    assert after > max(before + 5, 20)
