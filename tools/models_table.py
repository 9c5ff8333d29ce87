"""Write docs/models.md: every model with its inputs, limits, licences, sources and memory, from presets/models."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from maquette.backend.catalogue.models import ModelError, ModelSpec, find_specs
from maquette.backend.evaluation.markdown import render
from maquette.backend.models.memory.arrangement import DoesNotFit, choose
from maquette.backend.models.memory.footprint import GB, Free, NetworkFootprint, need_of
from maquette.backend.models.weights.sizes import default_plan, gpu_gigabytes, parts_of_components

ROOT = Path(__file__).resolve().parents[1]

INPUTS = (
    "characters", "reference", "background", "camera", "prompt", "joints", "keypoints", "meshes", "tracks", "clay",
)  # fmt: skip

GPUS = (8, 12, 16, 24, 32, 48, 80)
"""Gigabytes of memory that are sold."""

RAM = 64
"""Gigabytes of main memory beside the GPU."""

_FREE = 0.95
"""Share of a GPU's memory that is free when the screen and the system have had theirs."""


def memory(specs: Iterable[ModelSpec]) -> Iterator[list[str]]:
    """What a job of the default size takes, and how it is spread on GPUs of several sizes."""
    for spec in specs:
        if (parts := networks(spec)) is None:
            continue
        full, least = gpu_gigabytes(spec, parts) or (0.0, 0.0)
        weights = sum(part.weights for part in parts) / GB
        yield [spec.label, f"{weights:.1f}", f"{full:.0f}", f"{least:.0f}", *(spread(spec, parts, g) for g in GPUS)]


def networks(spec: ModelSpec) -> tuple[NetworkFootprint, ...] | None:
    """A model's networks at two bytes a weight, without their files; None where its family declares none."""
    try:
        return parts_of_components(spec)
    except ModelError:
        return None


def spread(spec: ModelSpec, parts: tuple[NetworkFootprint, ...], gpu: int) -> str:
    """How the default job runs on a GPU of so many GB."""
    plan = default_plan(spec)
    try:
        strategy, need = choose(spec, plan, Free(RAM * GB, int(gpu * GB * _FREE)), parts)
    except DoesNotFit:
        return "no"
    words = {"RESIDENT": "full speed", "MODELS": "models", "BLOCKS": "blocks", "LAYERS": "layers"}[strategy.mode.name]
    fewer = ", fewer decoded" * (need != need_of(spec, plan, parts))
    return words + ", 8 bit" * strategy.casting + ", tiles" * strategy.tiling + fewer


def document() -> str:
    """docs/models.md."""
    specs = list(find_specs().values())
    return render(
        Path(__file__).with_name("models.md.jinja"),
        specs=specs,
        inputs=list(INPUTS),
        gpus=[f"{gpu} GB" for gpu in GPUS],
        ram=RAM,
        memory=memory(spec for spec in specs if spec.sources),
    )


def main() -> int:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "models.md")
    args = parser.parse_args()
    args.output.write_text(document(), "utf-8")
    print(args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
