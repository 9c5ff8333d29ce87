"""The variants of the ablation: equal budgets, and each is given what it is said to be given and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from maquette.backend.ablation.network import (
    FROM_CARRIED,
    VARIANTS,
    ControlConditions,
    control_network,
    parameter_count,
    variant_network,
)
from maquette.backend.catalogue.models import find_specs, model_spec
from maquette.backend.models.isa.inputs import ISAInputs
from maquette.backend.models.isa.pipeline import ISAPipeline
from maquette.backend.models.isa.transformer import ISATransformer3DModel
from torch.utils.flop_counter import FlopCounterMode

from ..models.conftest import random_inputs

TINY = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 24, "patch_size": 1, "adaln_rank": 8}
POINTS_AND_LOOKS = ("points", "rest_points", "point_visibility", "reference_points")


def conditions(batch: int = 2, characters: int = 1, points: int = 16, size: int = 4, frames: int = 9) -> ISAInputs:
    """Random conditions with normal maps."""
    inputs = random_inputs(batch, characters, frames, points, size)
    generator = torch.Generator().manual_seed(2)
    return replace(inputs, control_latents=torch.rand(inputs.background_latents.shape, generator=generator) * 2 - 1)


def shaken(variant: str, **config) -> ISATransformer3DModel:
    """A variant whose every weight is off its start, so that nothing is zero by initialisation."""
    torch.manual_seed(0)
    model = variant_network(variant, {**TINY, **config}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape) * 0.05
    return model


@torch.no_grad()
def run(model: ISATransformer3DModel, inputs) -> torch.Tensor:
    latents = (inputs.background_latents if isinstance(inputs, ISAInputs) else inputs.latents[:, :16]).shape
    x = torch.randn(latents, generator=torch.Generator().manual_seed(2))
    return model(x, torch.full((latents[0],), 600.0), inputs).sample


@pytest.mark.parametrize("preset", ["isa-nano", "isa-small", "isa-base", "isa-4b"])
def test_the_variants_have_as_many_parameters(preset: str) -> None:
    config = find_specs()[preset].components["transformer"]
    # Every layer adds the same numbers: four stand for all.
    config = {**config, "num_layers": min(config["num_layers"], 4)}
    with torch.device("meta"):
        counts = {name: parameter_count(variant_network(name, config)) for name in VARIANTS}
    for isa, no_ispe, control in (("isa", "no_ispe", "control"), FROM_CARRIED):
        assert counts[no_ispe] == counts[isa]
        assert counts[control] == pytest.approx(counts["isa"], rel=2e-3)


def test_a_step_costs_about_the_same_where_points_and_tokens_are_about_as_many() -> None:
    config = {**model_spec("isa-nano").components["transformer"], "patch_size": 1}
    inputs = conditions(batch=1, points=64, size=8)
    work = {}
    for name in VARIANTS:
        with FlopCounterMode(display=False) as counter:
            run(variant_network(name, config), inputs)
        work[name] = counter.get_total_flops()
    assert work["no_ispe"] == work["isa"]
    assert work["control"] == pytest.approx(work["isa"], rel=0.05)


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_learns(variant: str) -> None:
    torch.manual_seed(0)
    model = variant_network(variant, TINY)
    inputs = conditions()
    clean = inputs.background_latents + inputs.reference_latents[:, 0, :, None]
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(15):
        noise = torch.randn(clean.shape, generator=generator)
        t = torch.rand(2, generator=generator).view(-1, 1, 1, 1, 1)
        flow = model((1 - t) * clean + t * noise, 1000 * t.flatten(), inputs).sample
        loss = (flow - (noise - clean)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_weight_is_idle(variant: str) -> None:
    model = shaken(variant).train()
    inputs = conditions(characters=2)
    model(torch.randn(2, 16, 3, 4, 4), torch.tensor([500.0, 100.0]), inputs).sample.square().mean().backward()
    idle = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    # The last block's points are not looked at again, and a camera is there.
    last = ("point_to_out", "point_mlp", "video_norm_k", "point_norm_q")
    assert all(name == "null_camera" or any(part in name for part in last) for name in idle), idle


def test_without_ispe_interspatial_attention_sees_no_places() -> None:
    """Tokens as they are, another encoding of their places: nothing changes without ISPE, much changes with it."""
    for variant, same in (("isa", False), ("no_ispe", True)):
        model = shaken(variant)
        prepared = model.prepare_conditions(conditions())
        moved = replace(prepared, point_encoding=prepared.point_encoding.flip(2) + 1)
        assert torch.equal(run(model, moved), run(model, prepared)) == same


def test_ispe_is_all_that_the_attention_goes_without() -> None:
    """With the same weights, what enters the first attention differs by exactly the encodings of both sides."""
    with_encoding, without = shaken("isa"), shaken("no_ispe")
    without.load_state_dict(with_encoding.state_dict())
    entered: list[tuple[torch.Tensor, ...]] = []
    prepared = with_encoding.prepare_conditions(conditions())
    for model in (with_encoding, without):
        model.blocks[0].interspatial_attention.register_forward_pre_hook(lambda _, given: entered.append(given[:2]))
        run(model, prepared)
    (video, points), (plain_video, plain_points) = entered
    grid = with_encoding._grid_encoding(4, 4, torch.device("cpu"))
    torch.testing.assert_close(video - plain_video, grid.expand(6, -1, -1))
    torch.testing.assert_close(points - plain_points, prepared.point_encoding.flatten(0, 1))
    assert grid.abs().max() > 1


def test_without_ispe_the_points_still_matter() -> None:
    model, inputs = shaken("no_ispe"), conditions()
    assert not torch.allclose(run(model, replace(inputs, points=-inputs.points)), run(model, inputs))


def test_unknown_interspatial_and_variant_are_refused() -> None:
    with pytest.raises(ValueError, match="no_encoding"):
        ISATransformer3DModel(**TINY, interspatial="none")
    with pytest.raises(ValueError, match="no_ispe"):
        variant_network("isaac", TINY)


@pytest.mark.parametrize("characters", [1, 2])
def test_the_control_variant_ignores_points_and_obeys_normals(characters: int) -> None:
    model, inputs = shaken("control"), conditions(characters=characters)
    base = run(model, inputs)
    other = replace(
        inputs,
        **{name: getattr(inputs, name) + 0.5 for name in POINTS_AND_LOOKS},
        point_mask=torch.zeros_like(inputs.point_mask),
        reference_visibility=~inputs.reference_visibility,
    )
    assert torch.equal(run(model, other), base)
    turned = replace(inputs, control_latents=inputs.control_latents.flip(4))
    assert not torch.allclose(run(model, turned), base)
    changed = replace(inputs, reference_latents=inputs.reference_latents + 0.5)
    assert not torch.allclose(run(model, changed), base)


def test_the_control_branch_adds_nothing_at_first() -> None:
    torch.manual_seed(0)
    model = control_network(TINY).eval()
    # Open every gate and the output; the control branch's own output stays zero.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("control_blocks") or ".out." not in name:
                parameter += torch.randn(parameter.shape) * 0.05
    inputs = conditions()
    assert torch.equal(run(model, replace(inputs, control_latents=inputs.control_latents + 1)), run(model, inputs))


def test_points_and_normals_are_dropped_together() -> None:
    inputs = conditions().drop(points=torch.tensor([True, False]))
    assert not inputs.point_mask[0].any() and inputs.point_mask[1].all()
    assert not inputs.control_latents.any(dim=(1, 2, 3, 4))[0] and inputs.control_latents[1].any()
    model = shaken("control")
    other = replace(conditions(), control_latents=conditions().control_latents + 0.5)
    flag = torch.tensor([True, False])
    a, b = run(model, conditions().drop(points=flag)), run(model, other.drop(points=flag))
    assert torch.equal(a[0], b[0])
    assert not torch.allclose(a[1], b[1])


def test_normals_must_be_given() -> None:
    with pytest.raises(ValueError, match="control_latents"):
        run(shaken("control"), replace(conditions(), control_latents=None))


def test_frames_of_control_conditions() -> None:
    model = shaken("control")
    prepared = model.prepare_conditions(conditions())
    part = prepared.frames(torch.tensor([0, 2]))
    assert isinstance(part, ControlConditions)
    assert torch.equal(part.control, prepared.control[:, :, [0, 2]])
    assert part.latents.shape[2] == 2


def test_the_control_variant_samples_through_the_pipeline() -> None:
    from maquette.backend.models.isa.build import new_scheduler, new_vae

    spec = model_spec("isa-nano")
    pipeline = ISAPipeline(new_vae(spec), shaken("control"), new_scheduler(spec))
    pipeline.set_progress_bar_config(disable=True)
    given = conditions()
    turned = replace(given, control_latents=given.control_latents.flip(4))

    def sample(inputs: ISAInputs) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return pipeline(inputs, num_inference_steps=2, generator=generator, window=2, output_type="latent").latents

    made = sample(given)
    assert made.shape == (2, 16, 3, 4, 4) and torch.equal(made, sample(given))
    assert made.isfinite().all() and not torch.allclose(made, sample(turned), atol=1e-3)
