"""The embedded model and the carried film alone, at both default shapes, against a convolution timed in the same run.

    .venv/bin/python bench/nano_generation.py [--frames 17] [--repeats 3] [--json OUT]

Makes 17 frames of 448x256 and of 256x256 through the engine, after loading, and draws their carried film alone (the
quality level Draft). The shot is a synthetic one with its meshes, light, reference and background film. Each time
stands beside its ratio to ``reference_seconds``: one pass of a fixed convolution over 16 pictures, which says how fast
this machine is at the moment. The weights are new ones of the shipped size: those correct nothing, so that nothing of
them is computed.

``frame_by_frame`` compares one evaluation of the transformer with the same evaluation where every per-frame attention
(spatial, interspatial, camera, reference) runs frame by frame, as a per-frame method must. Best of the repeats.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from maquette.backend.catalogue.models import model_spec
from maquette.backend.models.engine import Engine
from maquette.backend.models.isa.build import new_transformer, new_vae
from maquette.backend.models.isa.family import carry, condition
from maquette.backend.models.isa.layers import CrossAttention, InterspatialAttention, SelfAttention
from maquette.backend.raster.carry import carry_shot
from maquette.backend.shot import Shot
from maquette.backend.training.data import HELD_OUT
from maquette.backend.worlds.sample import make_sample, to_shot

SIZES = ((448, 256), (256, 256))


def example_shot(frames: int, size: int | tuple[int, int], points: int) -> Shot:
    """A synthetic shot of one character with all that Blender would have exported."""
    return to_shot(make_sample(HELD_OUT, frames, size, points, characters=1))


def best(function: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest run, after one to warm up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


class FrameByFrame:
    """Inside, attention that rides on frames in the batch axis runs once per frame instead."""

    classes = (SelfAttention, InterspatialAttention, CrossAttention)

    def __init__(self, batched: int, latents: int) -> None:
        self._batched = batched
        self._latents = latents

    def __enter__(self) -> None:
        self._kept = {cls: cls.forward for cls in self.classes}
        for cls, forward in self._kept.items():
            cls.forward = self._looped(forward)

    def __exit__(self, *_: object) -> None:
        for cls, forward in self._kept.items():
            cls.forward = forward

    def _looped(self, forward: Callable) -> Callable:
        def run(layer: torch.nn.Module, x: torch.Tensor, *arguments, **named):
            if isinstance(layer, CrossAttention) and x.shape[0] == self._batched // self._latents:
                # The reference: all frames' queries in one sequence, cut by frame.
                return torch.cat([forward(layer, part, *arguments, **named) for part in x.chunk(self._latents, 1)], 1)
            if x.shape[0] != self._batched:
                return forward(layer, x, *arguments, **named)  # a temporal layer
            results = []
            for i in range(self._batched):
                cut = [a[i : i + 1] if isinstance(a, torch.Tensor) else a for a in arguments]
                results.append(forward(layer, x[i : i + 1], *cut, **named))
            if isinstance(results[0], tuple):
                return tuple(torch.cat(parts) for parts in zip(*results, strict=True))
            return torch.cat(results)

        return run


def convolution(repeats: int) -> float:
    """Seconds of the fixed convolution."""
    x, weight = torch.rand(16, 64, 128, 128), torch.rand(64, 64, 3, 3)
    return best(lambda: F.conv2d(x, weight, padding=1), repeats)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="time of nano generation and of the carried film alone")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()

    folder = tempfile.TemporaryDirectory()
    spec = replace(model_spec("isa-nano"), folder=Path(folder.name))
    new_vae(spec).save_pretrained(spec.folder / "vae")
    transformer = new_transformer(spec)
    torch.nn.init.normal_(transformer.patch_out.weight, std=0.01)
    transformer.save_pretrained(spec.folder / "transformer")
    engine = Engine(spec)
    load = time.perf_counter()
    engine.load(engine.begin(example_shot(arguments.frames, SIZES[0], spec.limits["points"])))
    load = time.perf_counter() - load
    figures = {
        "frames": arguments.frames,
        "steps": spec.defaults.steps,
        "guidance": spec.defaults.guidance,
        "device": str(engine.device),
        "dtype": str(engine.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "load_seconds": round(load, 2),
    }
    references = []
    for width, height in SIZES:
        shot = example_shot(arguments.frames, (width, height), spec.limits["points"])
        reference = convolution(5 * arguments.repeats)
        nano = best(lambda shot=shot: engine.generate(shot, lambda _: None, lambda: False), arguments.repeats)
        draft = best(lambda shot=shot, w=width, h=height: carry_shot(shot, w, h, engine.device), arguments.repeats)
        reference = min(reference, convolution(5 * arguments.repeats))
        references.append(reference)
        for name, seconds in (("nano", nano), ("draft", draft)):
            figures[f"{name}_{width}x{height}_seconds"] = round(seconds, 2)
            figures[f"{name}_{width}x{height}_ratio"] = round(seconds / reference, 1)
    figures["reference_seconds"] = round(min(references), 4)
    figures["frame_by_frame"] = frame_by_frame(engine, shot, arguments.repeats)
    print(json.dumps(figures, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    return 0


def frame_by_frame(engine: Engine, shot: Shot, repeats: int) -> dict[str, float]:
    """Milliseconds of an evaluation of the transformer with frames batched and frame by frame, and their ratio."""
    run = engine.begin(shot)
    engine.load(run)
    transformer: Any = run.networks["transformer"]
    with torch.no_grad():
        inputs = condition(run, carry(run)).to(run.device)
        conditions = transformer.prepare_conditions(inputs)
        timestep = torch.tensor([1000.0], device=engine.device)

        def evaluate() -> torch.Tensor:
            return transformer(conditions.carried, timestep, conditions).sample

        # In turn, so that whatever else the machine does falls on both.
        batched = looped = float("inf")
        frames = conditions.carried.shape[2]
        for _ in range(5 * repeats):
            batched = min(batched, best(evaluate, 1))
            with FrameByFrame(frames, frames):
                looped = min(looped, best(evaluate, 1))
        whole = evaluate()
        with FrameByFrame(frames, frames):
            parted = evaluate()
    tolerance = 0.05 * float(whole.float().abs().max() + 1e-6)
    if not torch.allclose(whole.float(), parted.float(), atol=tolerance):
        raise SystemExit("frame by frame gives another result; the comparison is void")
    return {
        "batched_ms": round(1000 * batched, 1),
        "looped_ms": round(1000 * looped, 1),
        "ratio": round(looped / batched, 2),
    }


if __name__ == "__main__":
    raise SystemExit(main())
