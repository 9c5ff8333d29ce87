"""What the DiT's loss draws: times, characters, points, lengths, dropped conditions; and what it minimises."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.backend.catalogue.models import model_spec
from maquette.backend.models.isa.build import load_vae
from maquette.backend.models.isa.conditions import keep_points, point_subset, random_drops
from maquette.backend.models.isa.inputs import ISAInputs
from maquette.backend.models.isa.transformer import ISATransformer3DModel
from maquette.backend.models.isa.vae import AutoencoderKLISA
from maquette.backend.training.data import FIELDS, carry_sample
from maquette.backend.training.dit import (
    DiTLoss,
    DiTLossConfig,
    Kind,
    Latents,
    draw_point_counts,
    draw_times,
    pixel_loss,
    sample_latents,
)
from maquette.backend.training.encode import encode_shots
from maquette.backend.training.errors import TrainingError
from maquette.backend.training.schedule import step_generator
from maquette.backend.worlds.sample import make_sample

TINY = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 24, "patch_size": 1, "reference_grid": 2}
CPU = torch.device("cpu")
PLAIN = DiTLossConfig(
    drop_unconditional=0,
    drop_points=0,
    drop_reference=0,
    drop_camera=0,
    drop_background=0,
    drop_carried=0,
    fewer_points=0,
)


@cache
def the_vae() -> AutoencoderKLISA:
    """The embedded one: a new one's decoder gives next to nothing, whatever the latents."""
    return load_vae(model_spec("isa-nano")).requires_grad_(False)


def encode(path: Path, characters: int, frames: int, width: int = 64, seed: int = 20) -> Path:
    samples = [make_sample(seed + i, frames, (width, 64), 16, characters) for i in range(2)]
    shots = {name: np.stack([getattr(sample, name) for sample in samples]) for name in FIELDS}
    films = [carry_sample(sample) for sample in samples]
    shots |= {name: np.stack([film[name] for film in films]) for name in films[0]}
    torch.save(encode_shots(the_vae(), shots, bf16=False, pixels=True), path)
    return path


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Latents:
    """Shots with one, two and three characters, of 5 frames, and some with one of 9 and of another shape."""
    folder = tmp_path_factory.mktemp("latents")
    kinds = [(1, 5), (2, 5), (3, 5), (1, 9), (1, 5, 48)]
    return Latents([encode(folder / f"{'_'.join(map(str, kind))}.pt", *kind) for kind in kinds])


def test_times_are_proper_and_lean_to_noise() -> None:
    times = draw_times(4000, DiTLossConfig(), step_generator(0, 0))
    assert float(times.min()) > 0
    assert float(times.max()) < 1
    assert 0.52 < float(times.mean()) < 0.7


def test_sd3s_times() -> None:
    """Location 0 and scale 1, no even draws: the logit of t is a unit normal, as in diffusers' own sampling."""
    from diffusers.training_utils import compute_density_for_timestep_sampling

    config = DiTLossConfig(time_mean=0.0, time_std=1.0, time_uniform=0.0)
    logits = torch.logit(draw_times(20_000, config, step_generator(1, 0)))
    assert abs(float(logits.mean())) < 0.03
    assert float(logits.std()) == pytest.approx(1, abs=0.03)
    torch.manual_seed(0)
    theirs = compute_density_for_timestep_sampling("logit_normal", 20_000, 0.0, 1.0)
    quantiles = torch.linspace(0.05, 0.95, 19)
    torch.testing.assert_close(
        torch.sigmoid(logits).quantile(quantiles), theirs.quantile(quantiles), atol=0.015, rtol=0
    )


def test_even_times() -> None:
    times = draw_times(20_000, DiTLossConfig(time_uniform=1.0), step_generator(2, 0))
    quantiles = torch.linspace(0.1, 0.9, 9)
    torch.testing.assert_close(times.quantile(quantiles), quantiles, atol=0.02, rtol=0)


def test_shares_of_characters_and_lengths(latents: Latents) -> None:
    config = DiTLossConfig(pair_share=0.3, trio_share=0.2, long_share=0.5)
    kinds = [latents.kind(step, config) for step in range(2000)]
    shares = {count: sum(kind[0] == count for kind in kinds) / len(kinds) for count in (1, 2, 3)}
    assert shares[1] == pytest.approx(0.5, abs=0.04)
    assert shares[2] == pytest.approx(0.3, abs=0.04)
    assert shares[3] == pytest.approx(0.2, abs=0.04)
    long = [kind[1] for kind in kinds if kind[0] == 1]
    assert sum(length == 3 for length in long) / len(long) == pytest.approx(0.5, abs=0.06)


def test_shapes_come_in_proportion_to_their_shots(latents: Latents) -> None:
    kinds = [latents.kind(step, replace(PLAIN, long_share=0.0, pair_share=0.0)) for step in range(1000)]
    narrow = sum(kind == Kind(1, 2, 8, 6) for kind in kinds) / len(kinds)
    assert narrow == pytest.approx(0.5, abs=0.05)
    assert {kind for kind in kinds} == {Kind(1, 2, 8, 6), Kind(1, 2, 8, 8)}
    assert latents.batch(Kind(1, 2, 8, 6), 3, step_generator(0, 0), CPU).clean.shape == (3, 16, 2, 8, 6)


def test_a_share_that_the_data_lack_goes_to_fewer_characters(latents: Latents) -> None:
    fewer = Latents([])
    fewer.groups = {kind: group for kind, group in latents.groups.items() if kind.characters != 3}
    assert {fewer.kind(step, replace(PLAIN, trio_share=1.0, pair_share=0.0))[0] for step in range(20)} == {2}


def test_longer_shots_come_in_smaller_batches(latents: Latents) -> None:
    short = latents.batch(Kind(1, 2, 8, 8), 3, step_generator(0, 0), CPU).clean
    long, _, inputs, *_ = latents.batch(Kind(1, 3, 8, 8), 3, step_generator(0, 0), CPU)
    assert len(short) == 3 and len(long) == 2
    assert long.shape[2] == 3 and inputs.points.shape[2] == 9


@given(n=st.integers(1, 300), data=st.data())
@settings(max_examples=60, deadline=None)
def test_kept_points_are_those_that_the_engine_would_choose(n: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, n + 5))
    yes = torch.ones(1, 1, 1, n, dtype=torch.bool)
    inputs = ISAInputs(
        points=torch.zeros(1, 1, 1, n, 3),
        point_mask=yes,
        **dict.fromkeys(
            (
                "rest_points",
                "point_visibility",
                "reference_latents",
                "reference_points",
                "reference_visibility",
                "reference_present",
                "plucker",
                "camera_present",
                "background_latents",
                "background_present",
                "carried_latents",
                "known",
                "carried_present",
            ),
            yes,
        ),
    )
    kept = keep_points(inputs, torch.tensor([count])).point_mask[0, 0, 0].nonzero().flatten()
    assert kept.tolist() == point_subset(n, count).tolist()


def test_numbers_of_points() -> None:
    config = DiTLossConfig(fewer_points=0.5, least_points=8)
    counts = draw_point_counts(4000, 16, config, step_generator(0, 0))
    assert int(counts.min()) == 8 and int(counts.max()) == 16
    # Half keep all, the other half one of nine numbers, all among them.
    assert float((counts == 16).float().mean()) == pytest.approx(0.5 + 0.5 / 9, abs=0.03)
    assert draw_point_counts(9, 4, config, step_generator(0, 0)).tolist() == [4] * 9


def test_a_step_draws_clips_with_fewer_points(latents: Latents) -> None:
    config = replace(PLAIN, fewer_points=1.0, least_points=4, pair_share=0.0, long_share=0.0)
    loss = DiTLoss(latents, config, 8, CPU)
    clean, _, inputs, *_ = loss.draw(0, step_generator(0, 0))[0]
    full = latents.batch(latents.kind(0, config), 8, step_generator(0, 0), CPU).inputs
    kept = inputs.point_mask[:, 0, 0].sum(dim=1)
    assert clean.shape[0] == 8
    assert len(set(kept.tolist())) > 1 and int(kept.min()) >= 4
    assert not (inputs.point_mask & ~full.point_mask).any()
    value, _ = loss(ISATransformer3DModel(**TINY), 0, step_generator(0, 0))
    assert value.isfinite()


@pytest.mark.parametrize("name", ["unconditional", "points", "reference", "camera", "background", "carried"])
def test_each_condition_has_its_own_dropout(latents: Latents, name: str) -> None:
    config = replace(PLAIN, **{f"drop_{name}": 1.0}, pair_share=0.0, long_share=0.0)
    inputs = DiTLoss(latents, config, 4, CPU).draw(0, step_generator(0, 0))[0].inputs
    present = {
        "points": bool(inputs.point_mask.any()),
        "reference": bool(inputs.reference_present.any()),
        "camera": bool(inputs.camera_present.any()),
        "background": bool(inputs.background_present.any()),
        "carried": bool(inputs.carried_present.any()),
    }
    gone = {"points", "reference"} if name == "unconditional" else {name}
    assert {condition for condition, there in present.items() if not there} == gone


def test_dropout_probabilities() -> None:
    drops = random_drops(
        20_000,
        torch.Generator().manual_seed(0),
        unconditional=0.2,
        points=0,
        reference=0.3,
        camera=0.4,
        background=0.5,
        carried=0.6,
    )
    shares = {name: float(flags.float().mean()) for name, flags in drops.items()}
    expected = {"points": 0.2, "reference": 0.2 + 0.8 * 0.3, "camera": 0.4, "background": 0.5, "carried": 0.6}
    assert shares == pytest.approx(expected, abs=0.015)
    assert not (drops["points"] & ~drops["reference"]).any()


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({"pair_share": 1.5}, "pair_share"),
        ({"drop_camera": -0.1}, "drop_camera"),
        ({"pair_share": 0.6, "trio_share": 0.6}, "trio_share"),
        ({"least_points": 0}, "least_points"),
        ({"time_std": 0.0}, "time_std"),
        ({"fewer_points": 2.0}, "fewer_points"),
        ({"time_start": 2.0}, "time_start"),
        ({"pixel": -1.0}, "pixel"),
    ],
)
def test_bad_entries_are_named(entry: dict[str, float], named: str) -> None:
    with pytest.raises(TrainingError, match=named):
        DiTLossConfig(**entry)  # type: ignore[arg-type]


def test_perfect_flow_has_no_loss(latents: Latents) -> None:
    class Oracle(ISATransformer3DModel):
        def forward(self, hidden_states, timestep, conditions, return_dict=False):  # type: ignore[override]
            clean = latents.batch(latents.kind(0, PLAIN), 2, step_generator(3, 0), CPU).clean
            return ((hidden_states - clean) / (timestep / 1000).view(-1, 1, 1, 1, 1),)

    loss = DiTLoss(latents, PLAIN, 2, CPU)
    value, figures = loss(Oracle(**TINY), 0, step_generator(3, 0))
    assert float(value) < 1e-6
    assert float(figures["figure"]) < 1e-6
    untrained, _ = loss(ISATransformer3DModel(**TINY), 0, step_generator(3, 0))
    assert float(untrained.detach()) > 1e-2


@pytest.mark.parametrize("characters", [1, 2, 3])
def test_all_numbers_of_characters_train(latents: Latents, characters: int) -> None:
    shares = {1: (0.0, 0.0), 2: (1.0, 0.0), 3: (0.0, 1.0)}[characters]
    config = DiTLossConfig(pair_share=shares[0], trio_share=shares[1], long_share=0.0)
    torch.manual_seed(0)
    model = ISATransformer3DModel(**TINY)
    loss = DiTLoss(latents, config, 2, CPU)
    assert loss.draw(0, step_generator(0, 0))[0].inputs.points.shape[1] == characters
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    values = []
    for _ in range(12):
        value, _ = loss(model, 0, step_generator(0, 0))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.97 * values[0]


def test_lower_precision_computes_the_same_roughly_and_trains_float32(latents: Latents) -> None:
    torch.manual_seed(0)
    model = ISATransformer3DModel(**TINY)
    torch.nn.init.normal_(model.patch_out.weight, std=0.1)
    seen = []
    model.patch_out.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    values = []
    for dtype in (torch.float32, torch.bfloat16):
        value, _ = DiTLoss(latents, PLAIN, 2, CPU, dtype)(model, 0, step_generator(0, 0))
        model.zero_grad()
        value.backward()
        assert model.patch_out.weight.grad is not None and model.patch_out.weight.grad.dtype == torch.float32
        values.append(value.item())
    assert seen == [torch.float32, torch.bfloat16]
    assert values[1] == pytest.approx(values[0], rel=0.02)


def test_sampling_with_the_true_flow_gives_the_true_latents(latents: Latents) -> None:
    clean, _, inputs, *_ = latents.batch(Kind(2, 2, 8, 8), 2, step_generator(0, 0), CPU)
    noise = torch.randn(clean.shape, generator=step_generator(0, 1))

    class Oracle(ISATransformer3DModel):
        def forward(self, hidden_states, timestep, conditions, return_dict=False):  # type: ignore[override]
            return (noise - clean,)

    made = sample_latents(Oracle(**TINY).eval(), inputs, noise, steps=3, guidance=1.5)
    torch.testing.assert_close(made, clean, atol=1e-4, rtol=1e-4)


CORRECTING = {**TINY, "prediction": "residual", "start": "carried"}
ONE_STEP = replace(PLAIN, time_start=1.0, long_share=0.0, pair_share=0.0)


def decode(latents: torch.Tensor) -> torch.Tensor:
    vae = the_vae()
    return vae.decode(vae.denormalize(latents)).sample


def test_a_correction_starts_from_the_carried_film_and_changes_nothing_at_first(latents: Latents) -> None:
    """Relative to the carried film's own error the loss is 1, but for what the floor takes."""
    model = ISATransformer3DModel(**CORRECTING)
    batch, _, times = DiTLoss(latents, ONE_STEP, 2, CPU).draw(0, step_generator(0, 0))
    assert times.tolist() == [1.0, 1.0]
    seen = []
    hook = model.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    config = replace(ONE_STEP, floor=1e-9, pixel=1.0, pixel_floor=1e-9)
    value, figures = DiTLoss(latents, config, 2, CPU, decode=decode)(model, 0, step_generator(0, 0))
    hook.remove()
    torch.testing.assert_close(seen[0], batch.inputs.carried_latents)
    assert float(figures["pixel"]) == pytest.approx(1.0, rel=2e-2)
    assert float(value.detach()) - float(figures["pixel"]) == pytest.approx(1.0, rel=2e-2)
    only, _ = DiTLoss(latents, replace(config, latent=0.0), 2, CPU, decode=decode)(model, 0, step_generator(0, 0))
    assert float(only.detach()) == pytest.approx(float(figures["pixel"]))
    sampled = sample_latents(model.eval(), batch.inputs, torch.randn(batch.clean.shape), 1)
    assert torch.equal(sampled, batch.inputs.carried_latents)


def test_the_pixel_loss_teaches_and_the_true_difference_has_none(latents: Latents) -> None:
    config = replace(ONE_STEP, latent=0.0, pixel=1.0)
    torch.manual_seed(0)
    model = ISATransformer3DModel(**CORRECTING)
    loss = DiTLoss(latents, config, 2, CPU, decode=decode)
    batch = loss.draw(0, step_generator(0, 0))[0]
    assert batch.target is not None
    assert float(pixel_loss(batch.target, batch, config)) == 0
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    values = []
    for _ in range(12):
        value, _ = loss(model, 0, step_generator(0, 0))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.97 * values[0]
    gone = batch._replace(inputs=batch.inputs.drop(carried=True))
    assert float(pixel_loss(batch.target + 1, gone, config)) == 0
