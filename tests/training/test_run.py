"""The whole chain at toy size: shots, VAE, encoding, DiT, export; and training sees what the engine sees."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from maquette.backend.cli import main
from maquette.backend.models.isa.build import new_scheduler, new_transformer, new_vae
from maquette.backend.models.isa.engine import ISAEngine
from maquette.backend.models.isa.inputs import ISAInputs
from maquette.backend.models.isa.pipeline import ISAPipeline
from maquette.backend.models.isa.transformer import ISATransformer3DModel
from maquette.backend.models.isa.vae import AutoencoderKLISA
from maquette.backend.models.registry import model_spec
from maquette.backend.training import data as data_module
from maquette.backend.training.data import FIELDS, HELD_OUT, DataConfig, make_shard
from maquette.backend.training.dit import (
    DiTLoss,
    DiTLossConfig,
    Latents,
    draw_times,
    encode_shard,
    sample_latents,
)
from maquette.backend.training.loop import LoopConfig, step_generator
from maquette.backend.training.motion_tokens import is_token_run
from maquette.backend.training.run import PRESETS, Run, RunConfig, TrainingError, export, read_config, train
from maquette.backend.training.synth import make_sample, to_shot
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


def test_training_sees_what_the_engine_sees(tmp_path: Path) -> None:
    spec = model_spec("isa-nano")
    torch.manual_seed(0)
    vae = new_vae(spec).eval()
    sample = make_sample(11, frames=5, size=128, n_points=128, characters=2)
    path = tmp_path / "one.npz"
    np.savez(path, **{name: getattr(sample, name)[None] for name in FIELDS})
    trained = encode_shard(vae, path, bf16=False)

    engine = ISAEngine(spec, device="cpu")
    engine.dtype = torch.float32
    engine._pipeline = ISAPipeline(vae=vae, transformer=new_transformer(spec, **TINY), scheduler=new_scheduler(spec))
    shot = to_shot(sample)
    with torch.no_grad():
        plan = engine.plan(shot)
        assert plan.model_size == (128, 128)
        used = engine.encode(shot, plan, lambda step, steps: None)
    for field in fields(ISAInputs):
        value = getattr(used, field.name)
        if value is None:
            assert field.name not in trained
            continue
        mine = trained[field.name]
        half = mine.dtype == torch.float16
        torch.testing.assert_close(
            mine.to(value.dtype), value, atol=4e-3 if half else 1e-5, rtol=2e-3 if half else 1e-5
        )


def test_cover_is_the_mask_at_latent_size(tmp_path: Path) -> None:
    spec = model_spec("isa-nano")
    sample = make_sample(12, frames=5, size=64, n_points=16, characters=1)
    path = tmp_path / "one.npz"
    np.savez(path, **{name: getattr(sample, name)[None] for name in FIELDS})
    cover = encode_shard(new_vae(spec).eval(), path, bf16=False)["cover"].float()[0]
    assert cover.shape == (2, 8, 8)
    assert float(cover[0].mean()) == pytest.approx(sample.mask[0].mean(), abs=2e-3)
    assert float(cover[1].mean()) == pytest.approx(sample.mask[1:].mean(), abs=2e-3)


def test_times_are_proper_and_lean_to_noise() -> None:
    times = draw_times(4000, DiTLossConfig(), step_generator(0, 0))
    assert float(times.min()) > 0
    assert float(times.max()) < 1
    assert 0.52 < float(times.mean()) < 0.7


def test_perfect_flow_has_no_loss(toy: Run) -> None:
    train(toy, ("data",))
    vae = new_vae(toy.spec).eval()
    folder = toy.folder / "latents"
    folder.mkdir()
    torch.save(encode_shard(vae, toy.shards()[0], bf16=False), folder / "a.pt")
    latents = Latents([folder / "a.pt"])
    config = DiTLossConfig(bf16=False, drop_conditions=False)

    class Oracle(ISATransformer3DModel):
        def forward(self, hidden_states, timestep, conditions, return_dict=False):  # type: ignore[override]
            clean, _, _ = latents.batch(latents.kind(0, config), 2, step_generator(3, 0), torch.device("cpu"))
            return ((hidden_states - clean) / (timestep / 1000).view(-1, 1, 1, 1, 1),)

    loss = DiTLoss(latents, config, 2, torch.device("cpu"))
    value, figures = loss(Oracle(**TINY), 0, step_generator(3, 0))
    assert float(value) < 1e-6
    assert figures["figure"] < 1e-6
    untrained, _ = loss(new_transformer(toy.spec, **TINY), 0, step_generator(3, 0))
    assert float(untrained.detach()) > 1e-2


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
