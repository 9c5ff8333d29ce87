"""A choice of LoRAs as a text, which options of a model are: one line ``NAME=WEIGHT`` a LoRA."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

MOST = 8
"""LoRAs of one shot."""

STRONGEST = 4.0
"""Greatest weight, and least below 0."""


@dataclass(frozen=True)
class ChosenLora:
    """A LoRA by name, and how much of it is added."""

    name: str
    weight: float = 1.0

    def __str__(self) -> str:
        return f"{self.name}={self.weight:g}"


@dataclass(frozen=True)
class LoraEntry:
    """A LoRA as a backend offers it for one model.

    Attributes:
        reason: why it cannot be used with that model; empty where it can.
        megabytes: of its file.
        steps, guidance, shift: that it wants of the sampler; None for the model's own.
    """

    name: str
    reason: str = ""
    megabytes: float = 0.0
    steps: int | None = None
    guidance: float | None = None
    shift: float | None = None


def parse_loras(text: str) -> tuple[ChosenLora, ...]:
    """A choice from its text. Raises ValueError that says what is wrong with which line."""
    chosen = [_parse(line.strip()) for line in text.splitlines() if line.strip()]
    if len(chosen) > MOST:
        raise ValueError(f"{len(chosen)} LoRAs; choose at most {MOST}")
    names = [each.name for each in chosen]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{twice} is chosen twice; add its weights together")
    return tuple(chosen)


def _parse(line: str) -> ChosenLora:
    name, equals, weight = line.rpartition("=")
    if not equals:
        name, weight = line, "1"
    try:
        value = float(weight)
    except ValueError:
        value = math.nan
    if not name or not abs(value) <= STRONGEST:
        raise ValueError(f"{line[:80]!r}; write NAME=WEIGHT, with a weight of -{STRONGEST:g} to {STRONGEST:g}")
    return ChosenLora(name, value)


def format_loras(chosen: Iterable[ChosenLora]) -> str:
    """The text of a choice."""
    return "\n".join(map(str, chosen))
