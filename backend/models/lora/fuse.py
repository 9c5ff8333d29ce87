"""Add LoRAs to a network's weights, once, before it is spread over memory: whatever the arrangement, nothing else is
held or computed later, and 8-bit storage keeps the sum. Beside quantised weights they run instead (``beside``)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..family import EngineError, Network
from ..weights.gguf_files import quantised
from .arithmetic import product, stretched
from .beside import run_beside
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
    added: dict[str, list[_Adding]] = {}
    with ExitStack() as opened, torch.no_grad():
        for lora in loras:
            try:
                file = opened.enter_context(safe_open(str(lora.path), framework="pt", device="cpu"))
                factors = _factors(lora, file)
            except (OSError, SafetensorError) as error:
                raise EngineError(FIELD, f"{lora.chosen.name}: {lora.path} cannot be read ({error})") from error
            for change in lora.match.changes:
                added.setdefault(change.parameter, []).append(_Adding(lora, file, change, factors[change.key]))
            log.info("%s: %d weights changed", lora.chosen, len(lora.match.changes))
        for name, several in added.items():
            parameter = parameters[name]
            if quantised(parameter):
                run_beside(network.get_submodule(name.removesuffix(".weight")), [each.thin() for each in several])
                continue
            base = parameter.float()
            total = base + sum(each.delta(base) for each in several)
            parameter.copy_(total)


def _factors(lora: FoundLora, file: Any) -> dict[str, float]:
    changes = lora.match.changes
    ranks = {c.key: file.get_slice(c.rank_key).get_shape()[0] for c in changes if c.rank_key}
    return scales(lora, ranks, {c.alpha: float(file.get_tensor(c.alpha).float()) for c in changes if c.alpha})


@dataclass
class _Adding:
    """One change of one file, ready to be made."""

    lora: FoundLora
    file: Any
    change: Change
    factor: float

    def read(self, key: str) -> Tensor:
        """A tensor of the file, float32. Raises EngineError where it is not finite."""
        value = self.file.get_tensor(key).float()
        if not bool(torch.isfinite(value).all()):
            raise EngineError(FIELD, f"{self.lora.chosen.name}: {key} is not finite; download the file again")
        return value

    def delta(self, base: Tensor) -> Tensor:
        """What is added to a weight, in its shape."""
        added = product({role: self.read(key) for role, key in self.change.parts.items()}).reshape(base.shape)
        added = added * self.factor
        if self.change.magnitude:
            added = stretched(base + added, self.read(self.change.magnitude)) - base
        return added * self.lora.chosen.weight

    def thin(self) -> tuple[Tensor, Tensor]:
        """(rank, in) and (out, rank) whose product is what is added."""
        down, up = (self.read(self.change.parts[role]).flatten(1) for role in ("down", "up"))
        return down, up * (self.factor * self.lora.chosen.weight)
