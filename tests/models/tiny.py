"""The shipped descriptions with other tables, so that their networks are tiny, and weights by the recipe."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maquette.backend.catalogue.models import PRESETS, ModelSpec, read_spec
from maquette.backend.models.weights.component import components

from ..parity.recipe import fill

WAN_PARTS = """
[vae]
base_dim = 4
z_dim = 4
dim_mult = [1, 1, 2, 2]
num_res_blocks = 1
temperal_downsample = [false, true, true]
latents_mean = [0.1, -0.2, 0.3, 0.0]
latents_std = [1.5, 2.0, 0.8, 1.1]

[text_encoder]
vocab_size = 40
d_model = 16
d_kv = 8
d_ff = 24
num_layers = 2
num_heads = 2
feed_forward_proj = "gated-gelu"
tie_word_embeddings = false
"""
"""A VAE and a text encoder of Wan's make, as tables of a description."""


def describe(
    folder: Path, preset: str, tables: Mapping[str, Any], changes: Mapping[str, Any], beside: bool = True
) -> ModelSpec:
    """Write a shipped description to ``folder``.

    Args:
        tables: what takes the place of its networks' tables.
        changes: entries of other tables, by ``table.entry``.
        beside: make the folder of its weights beside it; else they belong to the home of all weights.
    """
    data = tomllib.loads((PRESETS / f"{preset}.toml").read_text("utf-8")) | dict(tables)
    for name, value in changes.items():
        table, _, entry = name.rpartition(".")
        inner = data
        for key in table.split("."):
            inner = inner[key]
        assert entry in inner, name
        inner[entry] = value
    (folder / preset if beside else folder).mkdir(parents=True, exist_ok=True)
    path = folder / f"{preset}.toml"
    path.write_text(as_toml(data), "utf-8")
    return read_spec(path)


def as_toml(data: Mapping[str, Any], path: str = "") -> str:
    """Tables and arrays of tables after plain entries."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in data.items() if not _is_table(value)]
    for key, value in data.items():
        name = f"{path}{key}"
        if isinstance(value, Mapping):
            lines += [f"\n[{name}]", as_toml(value, f"{name}.")]
        elif _is_table(value):
            lines += [f"\n[[{name}]]\n{as_toml(entry, f'{name}.')}" for entry in value]
    return "\n".join(lines)


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, list) and bool(value) and isinstance(value[0], Mapping))


def save_weights(spec: ModelSpec, leave_out: tuple[str, ...] = ()) -> None:
    """Write every network with the recipe's weights to where the description expects it."""
    for seed, (name, part) in enumerate(components(spec).items(), 1):
        if part.build is not None and name not in leave_out:
            network: Any = fill(part.build(spec), seed)
            network.save_pretrained(spec.folder / name)
