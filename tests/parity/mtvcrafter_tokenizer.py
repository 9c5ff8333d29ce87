"""Checks of MTVCrafter's motion tokenizer and rotary tables against the stored examples."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from maquette.backend.models.mtvcrafter.rope import (
    key_rope_7b,
    key_rope_17b,
    query_rope_7b,
    query_rope_17b,
    rotate,
)
from maquette.backend.models.mtvcrafter.tokenizer import MotionTokenizer

from .fixtures import Check, Fixture, Measured, same_keys
from .recipe import fill

_MARGIN = 1e-2
"""Where two codes are nearer to each other than this, the fixtures accept either."""


def tokenizer_of(fixture: Fixture) -> MotionTokenizer:
    """The tokenizer of a fixture's configuration with its recipe weights."""
    config = fixture.sidecar["config"]
    model = MotionTokenizer(
        widths=config["encoder"]["mid_channels"],
        code_dim=config["quantizer"]["code_dim"],
        codes=config["quantizer"]["nb_code"],
        downsample_time=config["encoder"]["downsample_time"],
        mean_mm=fixture.inputs["mean_mm"].tolist(),
        std_mm=fixture.inputs["std_mm"].tolist(),
    )
    return fill(model, fixture.seed(), fixture.factors())


@torch.no_grad()
def tokenizer(fixture: Fixture) -> Iterator[Measured]:
    """Every stored length: latents, codes, what they decode to."""
    model = tokenizer_of(fixture)
    yield same_keys(fixture, {key: tuple(value.shape) for key, value in model.state_dict().items()})
    x_13FJ = model.normalized(fixture.inputs["joints_mm"])
    yield fixture.close("normalised", x_13FJ[0].permute(1, 2, 0), "tokens")
    for frames in sorted({int(name[1:].split(".")[0]) for name in fixture.outputs if "." in name}):
        stored = f"f{frames}."
        z_1DFJ = model.latents(x_13FJ[:, :, :frames])
        found = model.encode(x_13FJ[:, :, :frames])
        recon_1F3 = model.decode(found.tokens).permute(0, 2, 3, 1)
        ours = {
            "latent": z_1DFJ[0],
            "latent_sub": z_1DFJ[0, ::16],
            "tokens": found.tokens[0],
            "tokens_sub": found.tokens[0, :, ::16],
            "recon": recon_1F3[0],
            "vq_loss": found.loss[None],
        }
        margin = fixture.outputs[stored + "margin"]
        differ = (found.indices[0] != fixture.outputs[stored + "indices"]) & (margin > _MARGIN)
        yield Measured(stored + "indices", "exact", float(differ.sum()), 0.0)
        for output in fixture.outputs:
            name = output.removeprefix(stored)
            if output.startswith(stored) and name not in ("margin", "indices"):
                yield fixture.close(output, ours[name], name.removesuffix("_sub"))


def rotary(fixture: Fixture) -> Iterator[Measured]:
    """Tables of queries and keys, and vectors turned by them."""
    config = fixture.sidecar["config"]
    grid, latent_frames, mean = config["grid_thw"], config["latent_frames"], fixture.inputs["mean_mm"]
    tables = {
        "q7": query_rope_7b(*grid, head_dim=config["head_dim_7b"]),
        "k7": key_rope_7b(latent_frames, mean, config["head_dim_7b"]),
        "q17": query_rope_17b(*grid, head_dim=config["head_dim_17b"]),
        "k17": key_rope_17b(latent_frames, mean, config["head_dim_17b"]),
    }
    for name, table in tables.items():
        for part, values in zip(("cos", "sin"), table, strict=True):
            # Wan's own table has one column for each pair of channels.
            ours = values[:, ::2] if name == "q17" else values
            yield fixture.close(f"{name}_{part}", ours, "tables")
        yield fixture.close(f"{name}_rotated", rotate(fixture.inputs[name], table), "rotated")


CHECKS: dict[str, Check] = {
    "mtv_4dmot_small": tokenizer,
    "mtv_4dmot_full": tokenizer,
    "mtv_rope4d": rotary,
}
