"""Write docs/models.md: every model with its inputs, limits, licences, sources and memory, from presets/models."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from maquette.backend.catalogue.models import ModelError, ModelSpec, find_specs
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

_HEAD = """# Models

What each model takes, makes and needs. Written by `make models-table` from `presets/models`; a test holds it to them.
`maquette models list` says the same of one computer, with what is missing there.
"""

_MEMORY = """Estimates in GB for a job of the default size at two bytes a weight: weights are counted from the networks,
activations come from each description's `[memory]` table. The columns to the right say how the job runs on a GPU of
that size with {ram} GB of main memory beside it: *full speed*, everything on the GPU; *models*, one network at a time;
*blocks* and *layers*, the network in pieces; *8 bit*, weights stored in 8 bits; *tiles*, the VAE in tiles;
*fewer decoded*, fewer frames at once than by default are decoded; *no*, refused with advice.
"""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "/") for cell in line) + " |\n" for line in lines)


def inputs_table(specs: Iterable[ModelSpec]) -> str:
    """Required, optional or ignored."""
    signs = {"required": "**yes**", "optional": "can", "ignored": ""}
    rows = [[spec.label, *(signs[spec.inputs.get(name, "ignored")] for name in INPUTS)] for spec in specs]
    return table(["model", *INPUTS], rows)


def limits_table(specs: Iterable[ModelSpec]) -> str:
    """Sizes, frames and characters; the default where it is not the limit."""
    rows = []
    for spec in specs:
        limits, d = spec.limits, spec.defaults
        least, most = limits.get("min_size", "?"), limits.get("max_size", "?")
        side = f"{least}" if least == most else f"{least} to {most}"
        short = f", {limits['max_short_side']} on the short one" if "max_short_side" in limits else ""
        steps = "1 step" if d.steps == 1 else f"{d.steps} steps"
        rows.append(
            [
                spec.label,
                limits.get("max_characters", "any"),
                f"{side}{short}, in steps of {limits.get('size_multiple', 1)}",
                f"{limits.get('min_frames', 1)} to {limits.get('max_frames', 'any')}",
                limits.get("window_frames", spec.options["window"].default if "window" in spec.options else "all"),
                f"{d.frames} frames of {d.width} x {d.height}, {steps}, guidance {d.guidance:g}",
            ]
        )
    return table(["model", "characters", "pixels a side", "frames", "at once", "by default"], rows)


def sources_table(specs: Iterable[ModelSpec]) -> str:
    """Where the weights come from, under which licence."""
    rows = []
    for spec in specs:
        for source in spec.sources:
            files = ", ".join(f"`{file}`" for file in source.files)
            name = f"{source.name} (optional)" if source.optional else source.name
            note = source.note.rstrip(".")
            rows.append([spec.label, name, source.repository, files, source.license, f"{source.gigabytes:g}", note])
    return table(["model", "what", "published by", "files", "licence", "GB", ""], rows)


def memory_table(specs: Iterable[ModelSpec]) -> str:
    """What a job of the default size takes, and how it is spread on GPUs of several sizes."""
    rows = []
    for spec in specs:
        if (parts := networks(spec)) is None:
            continue
        full, least = gpu_gigabytes(spec, parts) or (0.0, 0.0)
        weights = sum(part.weights for part in parts) / GB
        rows.append(
            [spec.label, f"{weights:.1f}", f"{full:.0f}", f"{least:.0f}", *(spread(spec, parts, g) for g in GPUS)]
        )
    return table(["model", "weights", "full speed", "least", *(f"{gpu} GB" for gpu in GPUS)], rows)


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
    published = [spec for spec in specs if spec.sources]
    licences = table(["model", "licence"], [[spec.label, spec.license] for spec in specs])
    return "\n".join(
        [
            _HEAD,
            "## Inputs\n\n**yes**: required; can: optional; empty: not used.\n",
            inputs_table(specs),
            "## Limits\n\n*At once* is the window of frames; a longer shot is made in overlapping windows.\n",
            limits_table(specs),
            "## Licences\n",
            licences,
            "## Where weights are published\n\n"
            "Maquette downloads none of them. Fetch the files, then run `maquette models add NAME --from DIR`.\n",
            sources_table(published),
            "## Memory\n",
            _MEMORY.format(ram=RAM),
            memory_table(published),
        ]
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
