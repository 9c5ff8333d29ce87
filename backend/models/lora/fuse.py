"""Add LoRAs to a network's weights, once, before it is spread over memory: whatever the arrangement, nothing else is
held or computed later, and 8-bit storage keeps the sum."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..family import EngineError, Network
from .files import FIELD, FoundLora, scales
from .keys import Change

log = logging.getLogger("maquette.lora")


def with_loras(
    networks: Mapping[str, Network], loras: Sequence[FoundLora], part: str = "transformer"
) -> dict[str, Network]:
    """Networks of which one is read with LoRAs added."""
    if not loras:
        return dict(networks)
    plain = networks[part]

    def load() -> Any:
        network = plain.load()
        fuse(network, loras)
        return network

    variant = " ".join([plain.variant, *(lora.variant for lora in loras)])
    return {**networks, part: replace(plain, load=load, variant=variant)}


def fuse(network: nn.Module, loras: Iterable[FoundLora]) -> None:
    """Add LoRAs in place; each parameter's sum is made in float32 and rounded once.

    Raises:
        EngineError: a file that cannot be read any more, or numbers in it that are not finite.
    """
    parameters = dict(network.named_parameters())
    added: dict[str, list[tuple[FoundLora, Any, Change, float]]] = {}
    with ExitStack() as opened, torch.no_grad():
        for lora in loras:
            try:
                file = opened.enter_context(safe_open(str(lora.path), framework="pt", device="cpu"))
                factors = _factors(lora, file)
            except (OSError, SafetensorError) as error:
                raise EngineError(FIELD, f"{lora.chosen.name}: {lora.path} cannot be read ({error})") from error
            for change in lora.match.changes:
                added.setdefault(change.parameter, []).append((lora, file, change, factors[change.keys[0]]))
            log.info("%s: %d weights changed", lora.chosen, len(lora.match.changes))
        for name, several in added.items():
            parameter = parameters[name]
            total = parameter.float()
            for lora, file, change, factor in several:
                total = total + _delta(lora, file, change).reshape(parameter.shape) * (lora.chosen.weight * factor)
            parameter.copy_(total)


def _factors(lora: FoundLora, file: Any) -> dict[str, float]:
    changes = lora.match.changes
    ranks = {change.keys[0]: file.get_slice(change.keys[0]).get_shape()[0] for change in changes}
    return scales(lora, ranks, {c.alpha: float(file.get_tensor(c.alpha).float()) for c in changes if c.alpha})


def _delta(lora: FoundLora, file: Any, change: Change) -> Tensor:
    """What a LoRA adds to a parameter at weight 1, float32. Raises EngineError where that is not finite."""
    parts = [file.get_tensor(key).float() for key in change.keys]
    added = parts[0] if len(parts) == 1 else parts[1].flatten(1) @ parts[0].flatten(1)
    if not bool(torch.isfinite(added).all()):
        raise EngineError(FIELD, f"{lora.chosen.name}: {change.keys[0]} is not finite; download the file again")
    return added
