"""``maquette synth``: synthetic shots as files, each with its true film and what is true of every pixel."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .sample import Sample


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``maquette synth``."""
    parser.description = (
        "Make synthetic shots. Of each, SEED.shot is a shot as Blender exports it, SEED.mp4 its true film, "
        "SEED.npz the masks, depth, flow, characters and body regions of every pixel."
    )
    parser.add_argument("--seed", type=int, default=0, help="of the first shot; the next ones follow (default 0)")
    parser.add_argument("--count", type=int, default=1, help="how many (default 1)")
    parser.add_argument("--frames", type=int, default=17, help="of each (default 17)")
    parser.add_argument(
        "--size",
        type=int,
        nargs="+",
        default=[128],
        metavar="PIXELS",
        help="width and height, or one number for a square (default 128)",
    )
    parser.add_argument("--points", type=int, default=128, help="surface points of each character (default 128)")
    parser.add_argument("--characters", type=int, choices=(1, 2, 3), help="in each; drawn by default")
    parser.add_argument(
        "--dressed",
        action="store_true",
        help="with hair, skirts, coats, hats and bags, in furnished sets under several lights; the shots know only the "
        "bare bodies, the true films and reference pictures show the clothes",
    )
    parser.add_argument("--device", help="cpu or cuda; a GPU where there is one by default")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="where the files go")
    parser.set_defaults(run=run_synth)


def run_synth(args: argparse.Namespace) -> int:
    """Run ``maquette synth``. Returns 0."""
    import torch
    from tqdm import tqdm

    from .sample import make_sample

    for name, least in (("seed", 0), ("count", 1), ("frames", 1), ("points", 1)):
        if getattr(args, name) < least:
            raise ValueError(f"--{name} {getattr(args, name)}: choose at least {least}")
    if len(args.size) > 2 or min(args.size) < 16:
        raise ValueError(f"--size {' '.join(map(str, args.size))}: choose at least 16, for width and height at most")
    size = (args.size[0], args.size[-1])
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    args.output.mkdir(parents=True, exist_ok=True)
    made = written = 0.0
    for seed in tqdm(range(args.seed, args.seed + args.count), desc="synthetic shots", file=sys.stderr):
        started = time.monotonic()
        sample = make_sample(
            seed, args.frames, size, args.points, args.characters, device, truth=True, dressed=args.dressed
        )
        finished = time.monotonic()
        write_sample(sample, args.output / f"{seed:010d}")
        made += finished - started
        written += time.monotonic() - finished
    frames = args.count * args.frames
    making, writing = (frames / max(seconds, 1e-9) for seconds in (made, written))
    print(f"{args.output}: {args.count} shots; made {making:.1f} frames a second on {device}, written {writing:.1f}")
    return 0


def write_sample(sample: Sample, stem: Path) -> None:
    """Write ``stem``.shot, .mp4 and .npz; each is whole or not there.

    The .npz holds ``mask`` (T,H,W) bool, and ``depth``, ``character``, ``region``, ``flow``, ``flow_valid`` as in
    ``truth.Truth``.
    """
    from ..media import write_mp4
    from ..shot import save_shot
    from .sample import to_shot

    truth = sample.truth
    assert truth is not None, "the sample was made without its truth"
    save_shot(to_shot(sample), stem.with_suffix(".shot"))
    write_mp4(stem.with_suffix(".mp4"), sample.video, sample.fps, {"generator": "Maquette", "seed": sample.seed})
    partial = stem.with_suffix(".partial.npz")
    np.savez_compressed(partial, mask=sample.mask, **vars(truth))
    os.replace(partial, stem.with_suffix(".npz"))
