"""The ablation at toy size: equal budgets, resuming, measuring, and a report that tells whatever came out."""

from __future__ import annotations

import functools
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from maquette.backend.ablation import measure as ablation_measure
from maquette.backend.ablation import train as ablation_module
from maquette.backend.ablation.config import (
    ABLATIONS,
    CARRIED_ALONE,
    GIVEN,
    SETS,
    Ablation,
    AblationConfig,
    MeasureConfig,
    Trial,
    read_ablation,
)
from maquette.backend.ablation.measure import AblationResults, TrialResult, ablate, forward_gflop
from maquette.backend.ablation.network import FROM_CARRIED, FROM_NOISE, VARIANTS, parameter_count, variant_network
from maquette.backend.ablation.report import ABOUT, PAIRS, AblationReport, judge, paired, psnr_by_place
from maquette.backend.ablation.train import Validation, read_curve, train_variant, trained_variant
from maquette.backend.cli import main
from maquette.backend.evaluation.evaluate import EvaluationRun
from maquette.backend.evaluation.measures import MEASURES
from maquette.backend.training import data as data_module
from maquette.backend.training.data import DataConfig
from maquette.backend.training.dit import DiTLossConfig
from maquette.backend.training.encode import unpack
from maquette.backend.training.errors import TrainingError
from maquette.backend.training.schedule import LoopConfig
from maquette.backend.training.vae import VAELossConfig

from .test_network import conditions

LOOP = LoopConfig(steps=3, batch=2, lr=1e-3, warmup=1, precision="no")
CONFIG = AblationConfig(
    model="isa-nano",
    data=DataConfig(frames=5, size=32, points=16, shards=1, pair_shards=1, maps=True),
    dit=LOOP,
    dit_loss=DiTLossConfig(pair_share=0.5, least_points=8),
    measure=MeasureConfig(shots=4, steps=2, validate_every=2),
    transformer={
        "patch_size": 1,
        "num_layers": 1,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "reference_grid": 2,
    },
    vae=replace(LOOP, steps=2, batch=1),
    vae_model={
        "block_out_channels": (16, 16),
        "spatial_resample": (True,),
        "temporal_resample": (False,),
        "temporal_patch_size": 4,
    },
    vae_loss=VAELossConfig(frames=(5,), image_decoding=0.5),
    vae_dit=True,
)


@pytest.fixture(scope="module", autouse=True)
def shots_drawn_once() -> Iterator[None]:
    """Every ablation of this module has the same held-out shots, which are slow to draw."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablation_measure, "held_out", functools.cache(ablation_measure.held_out))
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ablation, AblationResults]:
    """A whole toy ablation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_module, "SHARD", 2)
        run = Ablation(CONFIG, tmp_path_factory.mktemp("ablation") / "run")
        return run, ablate(run)


def copied(run: Ablation, folder: Path, **changes) -> Ablation:
    """The same ablation's files in another folder."""
    shutil.copytree(run.folder, folder)
    return replace(run, folder=folder, **changes)


def test_everything_is_trained_and_measured(finished: tuple[Ablation, AblationResults]) -> None:
    run, outcomes = finished
    assert set(outcomes.dits) == {
        *(Trial(variant, 0) for variant in (CARRIED_ALONE, *VARIANTS)),
        Trial("isa", 0, "regularised"),
        Trial("isa", 0, "unregularised"),
    }
    assert set(outcomes.vaes) == {GIVEN, "regularised", "unregularised"}
    for outcome in [*outcomes.dits.values(), *outcomes.vaes.values()]:
        assert outcome.run.values["psnr"].shape == (8,)
        assert np.isfinite(outcome.run.values["psnr"]).all()
        assert {index // 4 for index in outcome.run.films} == {0, 1}
    assert [sample.dressed for sample in outcomes.samples] == [False] * 4 + [True] * 4
    for trial, outcome in outcomes.dits.items():
        if trial.variant == CARRIED_ALONE:
            assert not outcome.parameters and not outcome.curve
            continue
        assert [point["step"] for point in outcome.curve] == [0, 2, 3]
        assert torch.load(run.checkpoint(trial), weights_only=True)["step"] == CONFIG.dit.steps


def test_budgets_are_equal(finished: tuple[Ablation, AblationResults]) -> None:
    _, outcomes = finished
    for names in (FROM_NOISE, FROM_CARRIED):
        isa, no_ispe, control = (outcomes.dits[Trial(variant, 0)] for variant in names)
        assert no_ispe.parameters == isa.parameters
        assert control.parameters == pytest.approx(isa.parameters, rel=5e-3)
        assert no_ispe.gflop == isa.gflop > 0
        # 17 point tokens and 16 video tokens a latent frame.
        assert control.gflop == pytest.approx(isa.gflop, rel=0.15)


@pytest.mark.parametrize("preset", ["cpu", "gpu"])
def test_budgets_of_the_presets_are_equal(preset: str) -> None:
    config = read_ablation(ABLATIONS / f"{preset}.toml")
    run = Ablation(config, Path("nowhere"))
    size, frames, points = config.data.size // 8, 1 + config.data.frames // 4, config.data.points
    inputs = conditions(batch=1, points=points, size=size, frames=config.data.frames)
    latents = torch.zeros(1, 16, frames, size, size)
    isa, _, control = FROM_CARRIED
    models = {variant: variant_network(variant, run.transformer) for variant in (isa, control)}
    work = {variant: forward_gflop(model, latents, inputs) for variant, model in models.items()}
    assert parameter_count(models[control]) == pytest.approx(parameter_count(models[isa]), rel=2e-3)
    assert work[control] == pytest.approx(work[isa], rel=0.05)


def test_variants_see_the_same_shots_noise_and_times(
    finished: tuple[Ablation, AblationResults], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(finished[0], tmp_path / "run")
    seen: dict[str, list[torch.Tensor]] = {}
    kept: list[torch.Tensor] = []
    told: dict[float, list[tuple[torch.Tensor, torch.Tensor]]] = {0.0: [], 1.0: []}

    class Watched(ablation_module.DiTLoss):
        def draw(self, step, generator):
            batch, noise, times = super().draw(step, generator)
            kept.extend([batch.clean, batch.cover, noise])
            kept.extend([batch.inputs.point_mask, batch.inputs.reference_present])
            told[self.config.time_start].append((times, batch.inputs.carried_present))
            return batch, noise, times

    monkeypatch.setattr(ablation_module, "DiTLoss", Watched)
    for variant in VARIANTS:
        trial = Trial(variant, 0)
        run.checkpoint(trial).unlink()

        kept.clear()
        assert train_variant((run, trial))
        seen[variant] = list(kept)
    for variant in VARIANTS[1:]:
        assert len(seen[variant]) == len(seen["isa"]) == 5 * CONFIG.dit.steps
        assert all(torch.equal(a, b) for a, b in zip(seen[variant], seen["isa"], strict=True))
    # Corrections begin at the carried film always; the others never see it.
    assert all((times == 1).all() and there.all() for times, there in told[1.0])
    assert all((times < 1).all() and not there.any() for times, there in told[0.0])
    assert len(told[0.0]) == len(told[1.0]) == 3 * CONFIG.dit.steps
    times = [torch.cat([times for times, _ in told[0.0]][k :: CONFIG.dit.steps]) for k in range(CONFIG.dit.steps)]
    assert all(torch.equal(*each.view(3, -1)[k : k + 2]) for each in times for k in range(2))


def test_isa_and_no_ispe_start_from_the_same_weights() -> None:
    states = []
    for variant in ("isa", "no_ispe"):
        torch.manual_seed(0)
        states.append(variant_network(variant, Ablation(CONFIG, Path("nowhere")).transformer).state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_what_is_done_is_only_read(
    finished: tuple[Ablation, AblationResults], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(finished[0], tmp_path / "run")
    monkeypatch.setattr(data_module, "SHARD", 2)
    for name in ("trained_variant", "encode_shots"):
        monkeypatch.setattr(ablation_measure, name, lambda *_, **__: pytest.fail("done again"))
    again = ablate(run)
    assert set(again.dits) == set(finished[1].dits)
    for trial, outcome in again.dits.items():
        np.testing.assert_array_equal(outcome.run.values["psnr"], finished[1].dits[trial].run.values["psnr"])
        assert outcome.curve == finished[1].dits[trial].curve


def test_stopped_and_resumed_is_the_same(finished: tuple[Ablation, AblationResults], tmp_path: Path) -> None:
    trial = Trial("control", 0)
    run = copied(finished[0], tmp_path / "run")
    run.checkpoint(trial).unlink()
    run.curve(trial).unlink()
    short = replace(run, until=time.time() - 1)
    assert not train_variant((short, trial))
    assert train_variant((run, trial))
    assert read_curve(run.curve(trial))[-1]["dressed"] == finished[1].dits[trial].curve[-1]["dressed"]
    ours, theirs = (trained_variant(each, trial).state_dict() for each in (run, finished[0]))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_time_that_is_up_is_told(finished: tuple[Ablation, AblationResults], tmp_path: Path, monkeypatch) -> None:
    run = copied(finished[0], tmp_path / "run", until=time.time() - 1)
    monkeypatch.setattr(data_module, "SHARD", 2)
    (run.folder / "results" / "control-given-0.json").unlink()
    found = ablate(run)
    report = AblationReport(run, found)
    assert report.missing == ["control-given-0"]
    assert "control-given-0" in report.as_markdown()


def test_no_shot_is_begun_when_the_time_is_up(tmp_path: Path) -> None:
    run = Ablation(CONFIG, tmp_path / "run", until=time.time() - 1)
    report = AblationReport(run, ablate(run))
    assert report.missing
    assert not any(path.exists() for path in run.shards())


def test_a_stopped_loop_ends_the_ablation(
    finished: tuple[Ablation, AblationResults], tmp_path: Path, monkeypatch
) -> None:
    run = copied(finished[0], tmp_path / "run")
    monkeypatch.setattr(data_module, "SHARD", 2)
    for variant in ("isa", "control"):
        (run.folder / "results" / f"{variant}-given-0.json").unlink()
    begun = []
    monkeypatch.setattr(ablation_measure, "run_processes", lambda work, argument, count: bool(begun.append(argument)))
    report = AblationReport(run, ablate(run))
    assert len(begun) == 1
    assert report.missing == ["isa-given-0", "control-given-0"]


def test_a_folder_holds_one_configuration(finished: tuple[Ablation, AblationResults]) -> None:
    run, _ = finished
    with pytest.raises(TrainingError, match=r"another configuration: dit.steps \(3 there, 4 here\);"):
        ablate(replace(run, config=replace(CONFIG, dit=replace(LOOP, steps=4))))
    with pytest.raises(TrainingError, match=r"workers \(1 there, 2 here\)"):
        ablate(replace(run, workers=2))


def test_other_held_out_shots_are_refused(
    finished: tuple[Ablation, AblationResults], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(finished[0], tmp_path / "run")
    monkeypatch.setattr(data_module, "SHARD", 2)
    (run.folder / "heldout_8.sha256").write_text("0\n")
    with pytest.raises(TrainingError, match="held-out"):
        ablate(run)


def test_validation_is_the_loss_of_held_out_shots(finished: tuple[Ablation, AblationResults]) -> None:
    run, _ = finished
    held_out = run.held_out(GIVEN)
    for variant in ("isa", "isa_carried"):
        validation = Validation(held_out, CONFIG.loss(variant), torch.device("cpu"))
        assert sorted((group[0], len(group[1])) for group in validation.groups) == [
            ("dressed", 1),
            ("dressed", 3),
            ("heldout", 1),
            ("heldout", 3),
        ]
        times = torch.cat([group[3] for group in validation.groups]).sort().values
        if variant == "isa":
            torch.testing.assert_close(times, ((torch.arange(4) + 0.5) / 4).repeat_interleave(2))
        else:
            assert (times == 1).all()
            assert all(torch.equal(group[2], group[5].base()) for group in validation.groups)

        class Perfect(torch.nn.Module):
            def forward(self, x, timestep, inputs, return_dict=False, groups=tuple(validation.groups)):
                group = next(g for g in groups if g[5] is inputs)
                return (group[2] - group[1],)

        assert validation(Perfect(), {}) == {"heldout": 0.0, "dressed": 0.0}
        model = variant_network(variant, run.transformer)
        assert all(loss > 1e-3 for loss in validation(model, dict(model.named_parameters())).values())


def test_a_correction_that_gives_nothing_is_the_carried_film(
    finished: tuple[Ablation, AblationResults], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(finished[0], tmp_path / "run")
    trial = Trial("isa_carried", 0)
    (run.folder / "results" / f"{trial.key}.json").unlink()
    plain = variant_network("isa_carried", run.transformer).eval()
    monkeypatch.setattr(ablation_measure, "trained_variant", lambda run, trial: plain)
    found = ablation_measure._measured_variant(run, trial, finished[1].samples)
    alone = finished[1].dits[Trial(CARRIED_ALONE, 0)]
    assert all((film == alone.run.films[index]).all() for index, film in found.run.films.items())


def test_the_report_states_all_variants(finished: tuple[Ablation, AblationResults], tmp_path: Path) -> None:
    report = AblationReport(*finished)
    report.write(tmp_path)
    text = (tmp_path / "ablation.md").read_text("utf-8")
    for name in VARIANTS:
        assert f"| {name} | {ABOUT[name]} |" in text
    for part in ("regularised", "Order by psnr on `dressed`", "## On `heldout`", "What this does not say", "GFLOP"):
        assert part in text
    table = json.loads((tmp_path / "ablation.json").read_text("utf-8"))
    assert set(table["variants"]) == {CARRIED_ALONE, *VARIANTS}
    assert set(table["differences"]) == {f"{name} - {base}" for name, base in PAIRS}
    assert set(table["differences"]["isa_carried - carried"]) == set(SETS)
    assert set(table["on_vaes"]) == {"regularised", "unregularised"}
    assert len(table["vaes"]["regularised"]["psnr_by_place"]) == 4
    assert table["missing"] == []
    for name in ("ablation.jpg", "curves.png"):
        assert (tmp_path / name).stat().st_size > 1000


def made_up(psnr: dict[str, list[float]]) -> AblationReport:
    """A report on figures that nobody measured: only psnr differs."""
    # As many shots of the second set, on which nothing differs.
    psnr = {name: [*values, *[20.0] * len(values)] for name, values in psnr.items()}
    count = len(next(iter(psnr.values())))

    def outcome(values: list[float]) -> TrialResult:
        figures = {m.name: np.full(count, np.nan) for m in MEASURES}
        figures["psnr"] = np.array(values)
        return TrialResult(EvaluationRun(None, None, figures, np.zeros(count)), 10)

    samples: list = [None] * count
    outcomes = AblationResults(samples, {Trial(name, 0): outcome(values) for name, values in psnr.items()}, {})
    return AblationReport(Ablation(replace(CONFIG, vae=None), Path("nowhere")), outcomes)


def test_whatever_order_comes_out_is_told() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(20, 3, 30)
    noise = rng.normal(0, 0.1, (3, 30))
    report = made_up({"isa": list(base), "no_ispe": list(base + noise[0]), "control": list(base + 1 + noise[1])})
    assert judge(report.difference("control", "isa", "psnr", "heldout"), True) == "better"
    assert judge(report.difference("no_ispe", "isa", "psnr", "heldout"), True) == "undecided"
    assert report.difference("control", "isa", "psnr", "dressed") == (0, 0, 0)
    order = report.order("psnr", "heldout")
    assert order.index("`control`") < order.index("`isa`")
    first, second = sorted(("isa", "no_ispe"), key=lambda name: order.index(f"`{name}`"))
    assert order.endswith(f"these shots do not tell `{first}` from `{second}`.")
    worse = made_up({"isa": list(base), "no_ispe": list(base - 1 + noise[0]), "control": list(base - 2)})
    assert judge(worse.difference("no_ispe", "isa", "psnr", "heldout"), True) == "worse"
    told = worse.order("psnr", "heldout")
    assert told.index("`isa`") < told.index("`no_ispe`") and "do not tell" not in told


def test_paired_differences_see_what_means_hide() -> None:
    """Shots differ by 3 dB, the variants by 0.5 dB on each: unpaired intervals would overlap."""
    rng = np.random.default_rng(1)
    base = rng.normal(20, 3, 24)
    mean, low, high = paired(base + 0.5 + rng.normal(0, 0.1, 24), base)
    assert 0.4 < low < mean < high < 0.6
    gaps = base.copy()
    gaps[:4] = np.nan
    assert paired(gaps, base) == (0.0, 0.0, 0.0)
    assert judge((0.5, 0.1, 0.9), higher=False) == "worse"
    assert judge((float("nan"),) * 3, higher=True) == "undecided"


def test_psnr_by_place() -> None:
    places = np.array([[4.0, 1.0, 1.0, 1.0], [4.0, 3.0, 1.0, 1.0]])
    found = psnr_by_place(TrialResult(EvaluationRun(None, None, {}, np.zeros(2), places=places), 1))
    assert found == pytest.approx([10 * np.log10(255**2 / v) for v in (4.0, 2.0, 1.0, 1.0)])


def test_films_of_a_variant_come_from_its_own_conditions(finished: tuple[Ablation, AblationResults]) -> None:
    """The control variant's held-out shots have normal maps, and turning them changes its flow after training."""
    run, _ = finished
    shots = torch.load(run.held_out(GIVEN), weights_only=True)
    clean, _, inputs = unpack(shots[0])
    assert inputs.control_latents is not None and inputs.control_latents.abs().max() > 0
    model = trained_variant(run, Trial("control", 0))
    with torch.no_grad():
        a = model(clean, torch.tensor([900.0]), inputs).sample
        b = model(clean, torch.tensor([900.0]), replace(inputs, control_latents=inputs.control_latents.flip(4))).sample
        c = model(clean, torch.tensor([900.0]), replace(inputs, points=-inputs.points)).sample
    assert torch.equal(a, c)
    assert not torch.equal(a, b)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("x", "not a readable"),
        ("[dit]\nsteps=1\nbatch=1\nlr=1.0\n", "model is missing"),
        ('model="isa-nano"\nvariants=["isaac"]\n[dit]\nsteps=1\nbatch=1\nlr=1.0\n', "isaac"),
        ('model="isa-nano"\n[dit]\nstep=1\n', r"\[dit\] has no step"),
        ('model="isa-nano"\nfoo=1\n[dit]\nsteps=1\nbatch=1\nlr=1.0\n', "foo"),
        ('model="isa-nano"\nseeds=[]\n[dit]\nsteps=1\nbatch=1\nlr=1.0\n', "seeds"),
        ('model="isa-nano"\n[dit]\nsteps=1\nbatch=1\nlr=1.0\n[vae]\nsteps=1\nbatch=1\nlr=1.0\n', "image_decoding"),
        ('model="isa-nano"\n[dit]\nsteps=1\nbatch=1\nlr=1.0\n[measure]\nshots=0\n', "shots"),
        ('model="isa-nano"\ntransformer={heads=1}\n[dit]\nsteps=1\nbatch=1\nlr=1.0\n', r"\[transformer\] has no heads"),
        ('model="isa-nano"\nvae_model=1\n[dit]\nsteps=1\nbatch=1\nlr=1.0\n', r"write \[vae_model\]"),
        ('model="isa-nano"\n[data]\nframes=8\n[dit]\nsteps=1\nbatch=1\nlr=1.0\n', r"\[data\] frames = 8"),
    ],
)
def test_a_bad_file_names_the_entry(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(TrainingError, match=named):
        read_ablation(path)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ablate", "nothing"]) == 2
    assert "cpu, gpu" in capsys.readouterr().err
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    assert main(["ablate", "cpu", "--folder", str(folder)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert (folder / "config.json").read_text() == "{}"
