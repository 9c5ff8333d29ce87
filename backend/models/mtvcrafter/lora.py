"""Merge a LoRA in ComfyUI's layout into MV-DiT-17B: the few-step weights.

A module ``m`` of the published names may have ``m.lora_down`` and ``m.lora_up`` (their product is added to its weight,
without any factor), ``m.diff`` (added to its weight) and ``m.diff_b`` (added to its bias), all below
``diffusion_model.``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .names import WAN_TRANSFORMER

log = logging.getLogger("maquette.mtvcrafter")

PREFIX = "diffusion_model."

_DOWN, _UP, _DIFF, _DIFF_BIAS = ".lora_down", ".lora_up", ".diff", ".diff_b"


@dataclass(frozen=True)
class Change:
    """What a LoRA adds to one parameter.

    Attributes:
        parameter: our key of the transformer.
        keys: of the file, in its own names.
    """

    parameter: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class LoraKeys:
    """A LoRA's keys in order.

    Attributes:
        changes: one per ``lora`` pair, ``diff`` and ``diff_b``.
        unknown: keys that are none of these; the published program leaves them out as well.
        unpaired: ``lora_down`` or ``lora_up`` without the other.
    """

    changes: tuple[Change, ...]
    unknown: tuple[str, ...]
    unpaired: tuple[str, ...]


def plan_lora(state: Mapping[str, Tensor]) -> LoraKeys:
    """Sort a LoRA's keys."""
    changes, unknown, unpaired = [], [], []
    for key in state:
        stem = key.removesuffix(".weight")
        module = stem.removeprefix(PREFIX)
        if stem.endswith((_DOWN, _UP)):
            mine, other = (_DOWN, _UP) if stem.endswith(_DOWN) else (_UP, _DOWN)
            partner = stem.removesuffix(mine) + other + key.removeprefix(stem)
            if partner not in state:
                unpaired.append(key)
            elif mine == _DOWN:
                changes.append(Change(_parameter(module.removesuffix(_DOWN), "weight"), (key, partner)))
        elif key.endswith(_DIFF):
            changes.append(Change(_parameter(key.removeprefix(PREFIX).removesuffix(_DIFF), "weight"), (key,)))
        elif key.endswith(_DIFF_BIAS):
            changes.append(Change(_parameter(key.removeprefix(PREFIX).removesuffix(_DIFF_BIAS), "bias"), (key,)))
        else:
            unknown.append(key)
    return LoraKeys(tuple(changes), tuple(unknown), tuple(unpaired))


def _parameter(module: str, kind: str) -> str:
    return f"{WAN_TRANSFORMER.ours(module)}.{kind}"


def _delta(change: Change, state: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
    """What is added to a parameter, float32. Raises ValueError when it has another shape."""
    parts = [state[key].float() for key in change.keys]
    if len(parts) == 2:
        down, up = parts
        if up.flatten(1).shape[1] != down.flatten(1).shape[0]:
            raise ValueError(f"{change.keys[1]}: rank {up.flatten(1).shape[1]}, not {down.shape[0]}")
        delta = up.flatten(1) @ down.flatten(1)
        if delta.numel() == torch.Size(shape).numel() and delta.shape[0] == shape[0]:
            delta = delta.reshape(shape)
    else:
        (delta,) = parts
    if tuple(delta.shape) != tuple(shape):
        raise ValueError(f"{change.keys[0]}: adds {tuple(delta.shape)} to {change.parameter}, which is {tuple(shape)}")
    return delta


def lora_problems(transformer: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Sentences about why a LoRA does not fit the transformer; none when it does.

    Only shapes are looked at, so the transformer may be on the meta device.
    """
    plan = plan_lora(state)
    shapes = {key: tuple(value.shape) for key, value in transformer.state_dict().items()}
    problems = [f"{key} has no partner" for key in plan.unpaired]
    if not plan.changes:
        return [*problems, "no key of a LoRA in it (diffusion_model.*.lora_down, lora_up, diff, diff_b)"]
    for change in plan.changes:
        if change.parameter not in shapes:
            problems.append(f"{change.keys[0]} belongs to no weight of the transformer")
            continue
        try:
            _delta(change, {key: state[key].to("meta") for key in change.keys}, shapes[change.parameter])
        except ValueError as error:
            problems.append(str(error))
    return problems


def merge_lora(transformer: nn.Module, state: Mapping[str, Tensor]) -> LoraKeys:
    """Add a LoRA to the transformer's weights in place, in float32.

    Returns:
        What was added, and the keys that were left out.

    Raises:
        ValueError: the LoRA does not fit.
    """
    if problems := lora_problems(transformer, state):
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError("; ".join(problems[:3]) + more)
    plan = plan_lora(state)
    parameters = dict(transformer.named_parameters())
    with torch.no_grad():
        for change in plan.changes:
            parameter = parameters[change.parameter]
            delta = _delta(change, state, tuple(parameter.shape))
            parameter.copy_((parameter.float() + delta.to(parameter.device)).to(parameter.dtype))
    if plan.unknown:
        log.warning("LoRA: %d keys left out: %s", len(plan.unknown), ", ".join(plan.unknown[:8]))
    return plan
