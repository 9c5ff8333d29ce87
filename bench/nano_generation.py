"""Nano generation, and frames batched against a loop over frames, in the same run.

    .venv/bin/python bench/nano_generation.py [--frames 17] [--repeats 3] [--json OUT]

Generates 17 frames of 128x128 through the engine: reference and background encoded, default steps, guidance, frames
decoded. The weights are the shipped ones, or new ones of the same size where there are none (the time is the same).

``ratio`` compares one evaluation of the transformer with the same evaluation where every per-frame attention
(spatial, interspatial, camera, reference) runs frame by frame, as a per-frame method must. Best of the repeats.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from maquette.backend.models.isa.build import new_transformer, new_vae
from maquette.backend.models.isa.engine import ISAEngine
from maquette.backend.models.isa.layers import CrossAttention, InterspatialAttention, SelfAttention
from maquette.backend.models.registry import model_spec, status
from maquette.backend.shot import Background, Character, Clip, Media, Reference, Settings, Shot
from maquette.backend.shot.cameras import look_at
from PIL import Image
from tqdm import tqdm


def example_shot(frames: int, size: int, points: int) -> Shot:
    """One cloud of points with a reference and a background, before an orbiting camera."""
    rng = np.random.default_rng(0)
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (size, size, 3), dtype=np.uint8)).save(stream, "PNG")
    picture = Media(stream.getvalue(), "image/png")
    angles = np.linspace(0, 0.8, frames)
    target = np.array([0.0, 0.0, 1.0])
    viewmats = np.stack([look_at(np.array([4 * np.sin(a), -4 * np.cos(a), 1.2]), target) for a in angles])
    K = np.array([[size, 0, size / 2], [0, size, size / 2], [0, 0, 1.0]])
    rest = rng.uniform(-0.5, 0.5, (points, 3)).astype(np.float32)
    cloud = np.repeat((rest + np.float32(target))[None], frames, 0)
    character = Character(
        name="points",
        points=cloud,
        rest_points=rest,
        visibility=np.ones((frames, points), bool),
        reference=Reference(picture, cloud[0], viewmats[0].astype(np.float32), K.astype(np.float32)),
    )
    clip = Clip(12.0, size, size, viewmats.astype(np.float32), np.repeat(K[None], frames, 0).astype(np.float32))
    return Shot(clip, (character,), Background("still", (picture,)), settings=Settings(model="isa-nano"))


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


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="time of nano generation, batched and frame by frame")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()

    spec = model_spec("isa-nano")
    with tempfile.TemporaryDirectory() as folder:
        trained = status(spec).available
        if not trained:
            spec = replace(spec, folder=Path(folder))
            new_vae(spec).save_pretrained(spec.folder / "vae")
            new_transformer(spec).save_pretrained(spec.folder / "transformer")
        engine = ISAEngine(spec)
        load = time.perf_counter()
        pipeline = engine.load()
        load = time.perf_counter() - load
    size = spec.defaults.width
    shot = example_shot(arguments.frames, size, spec.limits["points"])
    rounds = arguments.repeats + 1
    with tqdm(total=rounds, desc="generating") as bar:

        def generate() -> None:
            engine.generate(shot, lambda _: None, lambda: False)
            bar.update()

        seconds = best(generate, arguments.repeats)

    plan = engine.plan(shot)
    with torch.no_grad():
        inputs = engine.encode(shot, plan, lambda *_: None).to(engine.device)
        conditions = pipeline.transformer.prepare_conditions(inputs)
        x = torch.randn(inputs.background_latents.shape, device=engine.device)
        timestep = torch.tensor([500.0], device=engine.device)

        def evaluate() -> torch.Tensor:
            return pipeline.transformer(x, timestep, conditions).sample

        # In turn, so that whatever else the machine does falls on both.
        batched = looped = float("inf")
        for _ in range(5 * arguments.repeats):
            batched = min(batched, best(evaluate, 1))
            with FrameByFrame(x.shape[2], x.shape[2]):
                looped = min(looped, best(evaluate, 1))
        whole = evaluate()
        with FrameByFrame(x.shape[2], x.shape[2]):
            parted = evaluate()
    tolerance = 0.05 * float(whole.float().abs().max() + 1e-6)
    if not torch.allclose(whole.float(), parted.float(), atol=tolerance):
        raise SystemExit("frame by frame gives another result; the comparison is void")
    figures = {
        "frames": arguments.frames,
        "size": size,
        "steps": spec.defaults.steps,
        "guidance": spec.defaults.guidance,
        "device": str(engine.device),
        "dtype": str(engine.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "trained_weights": trained,
        "load_seconds": round(load, 2),
        "generation_seconds": round(seconds, 2),
        "step_ms": round(1000 * batched, 1),
        "step_frame_by_frame_ms": round(1000 * looped, 1),
        "ratio": round(looped / batched, 2),
    }
    print(json.dumps(figures, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
