"""The few-step weights are added as their publisher's program adds them."""

from __future__ import annotations

import pytest
import torch
from maquette.backend.models.mtvcrafter.build import load_network
from maquette.backend.models.mtvcrafter.lora import lora_problems, merge_lora, plan_lora

from .builders import tiny_lora


@pytest.fixture
def transformer(tiny_17b):
    return load_network(tiny_17b, "transformer", torch.float32)


def test_every_kind_of_change_is_added_without_a_factor(transformer):
    before = {key: value.clone() for key, value in transformer.state_dict().items()}
    state = tiny_lora()
    # Some files carry it; the published program does not look at it.
    state["diffusion_model.blocks.0.self_attn.q.alpha"] = torch.tensor(1.0)
    plan = merge_lora(transformer, state)
    down, up = (state[f"diffusion_model.blocks.0.self_attn.q.lora_{part}.weight"] for part in ("down", "up"))
    o_down, o_up = (state[f"diffusion_model.blocks.4.motion_attn.o.lora_{part}.weight"] for part in ("down", "up"))
    expected = {
        "blocks.0.attn1.to_q.weight": up @ down,
        "blocks.0.attn1.to_q.bias": state["diffusion_model.blocks.0.self_attn.q.diff_b"],
        "blocks.1.norm2.weight": state["diffusion_model.blocks.1.norm3.diff"],
        "blocks.4.motion_attn.to_out.0.weight": o_up @ o_down,
        "patch_embedding.weight": state["diffusion_model.patch_embedding.diff"],
    }
    after = transformer.state_dict()
    for key, value in before.items():
        torch.testing.assert_close(after[key] - value, expected.get(key, torch.zeros_like(value)), atol=1e-5, rtol=1e-4)
    assert {change.parameter for change in plan.changes} == set(expected)
    assert plan.unknown == ("diffusion_model.blocks.0.self_attn.q.alpha",)


def test_sums_are_made_in_float32(transformer):
    transformer = transformer.to(torch.bfloat16)
    key = "blocks.0.attn1.to_q.weight"
    before = transformer.state_dict()[key].clone()
    state = tiny_lora()
    merge_lora(transformer, {key: value.to(torch.bfloat16) for key, value in state.items()})
    down, up = (
        state[f"diffusion_model.blocks.0.self_attn.q.lora_{part}.weight"].to(torch.bfloat16).float()
        for part in ("down", "up")
    )
    assert torch.equal(transformer.state_dict()[key], (before.float() + up @ down).to(torch.bfloat16))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("diffusion_model.blocks.0.self_attn.q.lora_up.weight"), "lora_down.weight has no partner"),
        (lambda s: s.update({"diffusion_model.blocks.9.norm3.diff": torch.ones(36)}), "belongs to no weight"),
        (
            lambda s: s.update({"diffusion_model.blocks.1.norm3.diff": torch.ones(37)}),
            r"adds \(37,\) to blocks.1",
        ),
        (
            lambda s: s.update({"diffusion_model.blocks.0.self_attn.q.lora_up.weight": torch.ones(36, 3)}),
            "rank 3, not 2",
        ),
        (lambda s: s.clear(), "no key of a LoRA"),
    ],
)
def test_what_does_not_fit_changes_nothing(transformer, change, words):
    before = {key: value.clone() for key, value in transformer.state_dict().items()}
    state = tiny_lora()
    change(state)
    with pytest.raises(ValueError, match=words):
        merge_lora(transformer, state)
    assert lora_problems(transformer, state)
    assert all(torch.equal(value, before[key]) for key, value in transformer.state_dict().items())


def test_pairs_are_planned_once():
    plan = plan_lora(tiny_lora())
    assert len(plan.changes) == 5 and not plan.unknown and not plan.unpaired
    assert sum(len(change.keys) for change in plan.changes) == 7
