"""A run's file: every entry that is wrong is named, and what it may be."""

from __future__ import annotations

from pathlib import Path

import pytest
from maquette.backend.models.isa.build import new_transformer
from maquette.backend.training.config import PRESETS, RunConfig, StartConfig, read_config
from maquette.backend.training.errors import TrainingError
from maquette.backend.training.head import is_head_run, read_head_config
from maquette.backend.training.motion_tokens import is_token_run, read_token_config

LOOPS = "[vae]\nsteps=1\nbatch=1\nlr=1.0\n[dit]\nsteps=2\nbatch=1\nlr=1\n"
RUN = 'model="isa-nano"\n' + LOOPS


def read(tmp_path: Path, text: str) -> RunConfig:
    path = tmp_path / "run.toml"
    path.write_text(text)
    return read_config(path)


def test_shipped_files_read() -> None:
    names = set()
    for path in PRESETS.glob("*.toml"):
        if is_token_run(path):
            assert read_token_config(path).loop.steps > 0
        elif is_head_run(path):
            assert read_head_config(path).loop.steps > 0
        else:
            names.add(path.stem)
            assert read_config(path).dit.steps > 0
    assert {"nano", "nano-gpu"} <= names


def test_the_gpu_run_goes_on_from_the_published_model() -> None:
    config = read_config(PRESETS / "nano-gpu.toml")
    assert config.model == "isa-nano" and not config.overrides
    assert config.start == StartConfig(vae=True, dit=True)
    assert config.vae_long is not None and min(config.vae_long_loss.frames) == config.long_data.frames


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("x", "not a readable"),
        ('model="isa-nano"\n[vae]\nsteps=1\nbatch=1\nlr=1.0\n[dit]\nsteps=1\n', r"\[dit\] is incomplete; .*batch, lr"),
        ('model="isa-nano"\n[vae]\nstep=1\n', r"\[vae\] has no step"),
        ('model="a"\n[foo]\n', "foo"),
        ("", "model is missing"),
        (RUN + 'optimizer="sgd"', r"\[dit\] optimizer = 'sgd' is not known; choose from adamw, muon"),
        (RUN + 'precision="half"', r"\[dit\] precision = 'half'"),
        (RUN + 'ema="0.9"', r"\[dit\] ema = '0.9' must be a number"),
        (RUN + "seed=1.5", r"\[dit\] seed = 1.5 must be a whole number"),
        (RUN + "betas=0.9", r"\[dit\] betas = 0.9 must be a list"),
        (RUN + "[data]\nframes=6", r"\[data\] frames = 6; give 1 \+ a multiple of 4"),
        (RUN + "[long_data]\nsize=60", r"\[long_data\] size = 60; give a multiple of 8"),
        (RUN + "[data]\npoints=0", r"run.toml: \[data\] points = 0: choose at least 1"),
        (RUN + "[data]\ntrio_shards=-1", r"\[data\] trio_shards = -1"),
        (RUN + "[vae_loss]\nkl=-1.0", r"run.toml: \[vae_loss\] kl = -1.0 must be 0 or more"),
        (RUN + "[vae_long_loss]\nkl=1.0", r"\[vae_long_loss\] without \[vae_long\]"),
        (RUN + "[vae_long]\nsteps=1", r"\[vae_long\] is incomplete"),
        ('start="new"\n' + RUN, r'start = .new. is no section; .* start = "published"'),
        ("dit=3\nmodel='isa-nano'\n[vae]\nsteps=1\nbatch=1\nlr=1.0\n", "dit = 3 is no section"),
        (RUN + '[start]\nvae=true\nimage_vae="x"', r"\[start\] has both"),
        (RUN + "[overrides.unet]\na=1", r"no \[overrides.unet\] is known; choose from vae, transformer"),
        (RUN + "[overrides.vae]\nwidth=1", r"\[overrides.vae\] has no width; choose from .*block_out_channels"),
        (RUN + "[overrides]\nvae=1", "overrides must be tables"),
        ('model="isa-nano"\n[dit]\nsteps=1\nbatch=1\nlr=1.0\n', r"\[vae\] is incomplete"),
    ],
)
def test_bad_entries_are_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(TrainingError, match=named):
        read(tmp_path, text)


def test_without_a_long_section_there_are_no_long_shots(tmp_path: Path) -> None:
    assert read(tmp_path, RUN).long_data.count == 0
    assert read(tmp_path, RUN + "[long_data]\nframes=17\nshards=2\npair_shards=1").long_data.count == 3


def test_overrides_change_the_networks_and_nothing_else(tmp_path: Path) -> None:
    plain = read(tmp_path, RUN)
    config = read(tmp_path, RUN + "[overrides.transformer]\nnum_layers=2\nmlp_ratio=1.0")
    assert new_transformer(config.spec).config["num_layers"] == 2
    assert (
        new_transformer(config.spec).config["num_attention_heads"]
        == plain.spec.components["transformer"]["num_attention_heads"]
    )
    assert config.spec.components["vae"] == plain.spec.components["vae"]
    assert plain.spec.components["transformer"]["num_layers"] != 2


def test_without_a_vae_section_the_published_one_is_kept(tmp_path: Path) -> None:
    config = read(tmp_path, RUN[: RUN.index("[vae]")] + RUN[RUN.index("[dit]") :] + "[start]\nvae=true")
    assert config.vae is None
    assert config.with_steps(7).dit.steps == 7


def test_steps_change_every_loop(tmp_path: Path) -> None:
    config = read(tmp_path, RUN + "[vae_long]\nsteps=5\nbatch=1\nlr=1.0").with_steps(7)
    assert config.vae is not None and config.vae_long is not None
    assert (config.vae.steps, config.vae_long.steps, config.dit.steps) == (7, 7, 7)
