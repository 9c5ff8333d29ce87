"""Inputs and outputs of the reference models, stored beside the checkout, and how near ours must come.

A fixture NAME is NAME.safetensors (``in.*``, ``out.*``) and NAME.json (configuration, keys, tolerances, quirks).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

PARITY = Path(__file__).resolve().parents[3] / "shared" / "parity"
"""Where the fixtures lie; they are not part of the repository."""


@dataclass(frozen=True)
class Measured:
    """One comparison.

    Attributes:
        output: which tensor, or what else was compared.
        tolerance: as the fixture states it, in words.
        difference: largest absolute difference (or the stated measure).
        allowed: what it may be at most.
    """

    output: str
    tolerance: str
    difference: float
    allowed: float

    @property
    def passed(self) -> bool:
        """NaN never passes."""
        return bool(self.difference <= self.allowed)


Check = Callable[["Fixture"], Iterable[Measured]]


@dataclass(frozen=True, eq=False)
class Fixture:
    """One stored example.

    Attributes:
        inputs, outputs: tensors by name without ``in.`` and ``out.``; float16 widened to float32.
        sidecar: the JSON file.
        controls: also run ours deliberately wrong, and see that it differs as the original then does.
    """

    name: str
    sidecar: dict[str, Any]
    inputs: dict[str, torch.Tensor] = field(repr=False)
    outputs: dict[str, torch.Tensor] = field(repr=False)
    controls: bool = True

    @staticmethod
    def load(name: str, controls: bool = True) -> Fixture:
        """Read a fixture. Raises FileNotFoundError when it is not there."""
        sidecar = json.loads((PARITY / f"{name}.json").read_text("utf-8"))
        tensors = {
            key: value.float() if value.dtype == torch.float16 else value
            for key, value in load_file(PARITY / f"{name}.safetensors").items()
        }
        return Fixture(
            name,
            sidecar,
            {key.removeprefix("in."): value for key, value in tensors.items() if key.startswith("in.")},
            {key.removeprefix("out."): value for key, value in tensors.items() if key.startswith("out.")},
            controls,
        )

    def tolerance(self, *names: str) -> tuple[float, float]:
        """(atol, rtol) of the first of ``names`` that the sidecar lists, else of ``all``."""
        stated = self.sidecar["tolerance"]
        for name in (*names, "all"):
            if isinstance(entry := stated.get(name), dict):
                return float(entry.get("atol", 0.0)), float(entry.get("rtol", 0.0))
        raise KeyError(f"{self.name} states no tolerance for {names}")

    def close(self, output: str, ours: torch.Tensor, *names: str) -> Measured:
        """Compare with ``out.<output>``: max|a-b| <= max(atol, rtol max|b|).

        Args:
            names: entries of the sidecar's tolerances to look for; ``output`` first.
        """
        stored = self.outputs[output].double()
        atol, rtol = self.tolerance(output, *names)
        if tuple(ours.shape) != tuple(stored.shape):
            raise AssertionError(f"{self.name}.{output}: shape {tuple(ours.shape)}, stored {tuple(stored.shape)}")
        difference = float((ours.detach().double() - stored).abs().max())
        words = ", ".join(f"{word} {value:g}" for word, value in (("atol", atol), ("rtol", rtol)) if value)
        return Measured(output, words, difference, max(atol, rtol * float(stored.abs().max())))

    def keys(self, part: str = "model") -> dict[str, tuple[int, ...]]:
        """Every published key of ``weights.<part>`` with its shape."""
        entry = self.sidecar["weights"][part]
        rows = entry.get("keys")
        if rows is None:
            rows = json.loads(gzip.decompress((PARITY / entry["keys_file"]).read_bytes()))
        return {key: tuple(shape) for key, shape, _ in rows}

    def factors(self, part: str = "model") -> list[dict[str, Any]]:
        """Rules for keys that are multiplied after the recipe."""
        return self.sidecar["weights"][part].get("factors", [])

    def seed(self, part: str = "model") -> int:
        """The recipe's seed."""
        return int(self.sidecar["weights"][part]["SEED"])


def same_keys(fixture: Fixture, ours: dict[str, tuple[int, ...]], part: str = "model") -> Measured:
    """Count the keys that differ in name or shape; none may."""
    stored = fixture.keys(part)
    wrong = {key for key in stored.keys() | ours.keys() if stored.get(key) != ours.get(key)}
    if wrong:
        print(f"{fixture.name}: {sorted(wrong)[:8]}")
    return Measured(f"state-dict keys ({len(stored)})", "names and shapes equal", float(len(wrong)), 0.0)
