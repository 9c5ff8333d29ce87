"""An ISA-DiT on several devices: what each layer exchanges and what that gains, on paper, and two processes measured.

The table is for bf16, one character, a film of the model's window; ``compute`` and ``link`` are rates that are
reached, not those of data sheets. Measured is one evaluation of a small ISA-DiT's eight latent frames by one process
and by two (gloo), a thread each: by the clock where two cores are idle, and of processor time on a busy machine too.

python bench/shards.py [--compute 400] [--link 300] [--repeats 5]
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from maquette.backend.catalogue.models import model_spec
from maquette.backend.models.group import ALONE, Group, Part, here, join, shares
from maquette.backend.models.isa.inputs import ISAConditions, ISAInputs
from maquette.backend.models.isa.transformer import ISATransformer3DModel

MODELS = ("isa-nano", "isa-base", "isa-4b")
BYTES = 2


@dataclass(frozen=True)
class Sizes:
    """L latent frames, P video tokens and M point tokens of each, K camera tokens of each, D width, blocks."""

    L: int
    P: int
    M: int
    K: int
    D: int
    blocks: int
    mlp: float
    temporal_mlp: float

    @classmethod
    def of(cls, model: str) -> Sizes:
        spec = model_spec(model)
        table, size = spec.components["transformer"], spec.defaults
        patch, camera = table["patch_size"], table["camera_patch_size"]
        area = size.width * size.height // 64
        width = table["num_attention_heads"] * table["attention_head_dim"]
        ratios = table["mlp_ratio"], table["temporal_mlp_ratio"]
        latents = 1 + (int(spec.limits["window_frames"]) - 1) // 4
        points = 1 + int(spec.limits["points"])
        return cls(latents, area // patch**2, points, area // camera**2, width, table["num_layers"], *ratios)

    def work(self, n: int) -> float:
        """Operations of a block on the busiest of n devices: two a multiplication of the products."""
        D, P, M, L = self.D, self.P, self.M, self.L
        # Per latent frame: spatial attention, feed-forward, ISA, feed-forward, camera, references (K few, left out).
        video = P * D * (4 * D + 2 * self.mlp * D + 4 * D + 2 * self.mlp * D + 4 * D)
        video += P * D * (2 * P + 2 * M + 2 * self.K) + 2 * self.temporal_mlp * P * D * D
        points = M * D * (4 * D + 2 * self.mlp * D + 2 * self.temporal_mlp * D + 2 * P)
        frames = shares(L, n)[0] * (video + points)
        temporal = sum(shares(X, n)[0] * L * D * (4 * D + 2 * L) for X in (P, M))
        return 2 * (frames + temporal)

    def by_places(self, n: int) -> float:
        """Bytes that a device sends in a block: both temporal layers, there and back."""
        return 2 * (n - 1) / n**2 * self.L * (self.P + self.M) * self.D * BYTES

    def by_keys(self, n: int) -> float:
        """The same if each device got all keys and values of the temporal layers instead."""
        return 2 * (n - 1) / n * self.L * (self.P + self.M) * self.D * BYTES

    def ulysses(self, n: int) -> float:
        """A block that attends over all tokens of the film, by heads: queries, keys, values there, answers back."""
        return 4 * (n - 1) / n**2 * self.L * self.P * self.D * BYTES

    def ring(self, n: int) -> float:
        """The same, keys and values passed round."""
        return 2 * (n - 1) / n * self.L * self.P * self.D * BYTES


def table(compute: float, link: float) -> str:
    """Markdown.

    Args:
        compute: operations a second of a device. link: bytes a second that it sends.
    """
    lines = [
        "| model | GPUs | frames on the busiest | by places | all keys, values | Ulysses | ring | speed-up | "
        "with guidance |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for model in MODELS:
        sizes = Sizes.of(model)

        def seconds(n: int, sizes: Sizes = sizes) -> float:
            return sizes.work(n) / compute + (sizes.by_places(n) / link if n > 1 else 0.0)

        for n in (2, 3, 4, 6, 8):
            told = [f"{each(n) / 2**20:.1f}" for each in (sizes.by_places, sizes.by_keys, sizes.ulysses, sizes.ring)]
            gain = seconds(1) / seconds(n)
            # Half the members for each branch of guidance, or all for both, as ``Group.spread`` has it.
            guided = [seconds(1) / seconds(n // 2) * 2] if n % 2 == 0 else []
            lines.append(
                f"| {model} | {n} | {shares(sizes.L, n)[0]} of {sizes.L} | {' | '.join(told)} | {gain:.2f} | "
                f"{max([gain, *guided]):.2f} |"
            )
    return "\n".join(lines)


# -- measured ----------------------------------------------------------------------------------------------------


def measured(repeats: int) -> tuple[list[float], list[float]]:
    """Median seconds of an evaluation by one process and by two, by the clock and of processor time (the busier's)."""
    context: Any = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = context.Pipe(duplex=False)
        arguments = [(rank, f"file://{Path(folder) / 'store'}", repeats, theirs) for rank in range(2)]
        processes = [context.Process(target=_member, args=each) for each in arguments]
        for process in processes:
            process.start()
        answer = ours.recv()
        for process in processes:
            process.join()
    return answer


def _member(rank: int, store: str, repeats: int, pipe: Any) -> None:
    torch.set_num_threads(1)
    join(rank, 2, store)
    torch.manual_seed(0)
    network = ISATransformer3DModel(num_layers=4, num_attention_heads=4, attention_head_dim=48).eval()
    inputs = _inputs(frames=29, size=24)
    with torch.no_grad():
        both = torch.tensor(_seconds(network, inputs, here(), repeats))
        dist.all_reduce(both, dist.ReduceOp.MAX)
        # By one, while the other waits without the processor.
        one = _seconds(network, inputs, ALONE, repeats) if rank == 0 else []
    if rank == 0:
        pipe.send((one, both.tolist()))
    dist.barrier()


def _seconds(network: ISATransformer3DModel, inputs: ISAInputs, group: Group, repeats: int) -> list[float]:
    latents = inputs.background_latents.shape[2]
    part = Part(group, latents)
    mine = list(range(latents))[part.place]
    conditions = network(None, None, inputs.frames(mine))
    assert isinstance(conditions, ISAConditions)
    x, times = inputs.carried_latents[:, :, part.place], []
    for _ in range(1 + repeats):
        begun = time.perf_counter(), time.process_time()
        network(x, torch.tensor([500.0]), conditions, part=part)
        times.append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
    return [statistics.median(each) for each in zip(*times[1:], strict=True)]


def _inputs(frames: int, size: int, points: int = 256) -> ISAInputs:
    seed, latents = torch.Generator().manual_seed(0), 1 + (frames - 1) // 4

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=seed) * 2 - 1

    yes = torch.ones(1, 1, frames, points, dtype=torch.bool)
    film = (1, 16, latents, size, size)
    return ISAInputs(
        rand(1, 1, frames, points, 3), rand(1, 1, points, 3), yes, yes.float(), rand(1, 1, 16, size, size),
        rand(1, 1, points, 2), yes[:, :, 0], yes[:, :, 0, 0], rand(1, frames, 6, size, size), yes[:, 0, 0, 0],
        rand(*film), yes[:, 0, 0, 0], rand(*film), rand(1, latents, size, size).abs(), yes[:, 0, 0, 0],
    )  # fmt: skip


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compute", type=float, default=400.0, help="10^12 operations a second of a device")
    parser.add_argument("--link", type=float, default=300.0, help="10^9 bytes a second that a device sends")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    print(f"MiB that each GPU sends in a block and evaluation; {args.compute:g} TFLOP/s, {args.link:g} GB/s\n")
    print(table(args.compute * 1e12, args.link * 1e9))
    one, both = measured(args.repeats)
    for name, alone, shared in zip(("by the clock", "of processor time"), one, both, strict=True):
        print(f"measured, {name}: {alone:.3f} s by one process, {shared:.3f} s by two, a ratio of {alone / shared:.2f}")


if __name__ == "__main__":
    main()
