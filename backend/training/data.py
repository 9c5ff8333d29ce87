"""Shards of pre-made synthetic shots, so that training never waits for the renderer.

A shard is one .npz of ``SHARD`` samples with the same number of frames and characters; its seeds follow from its
number, so that a missing shard can be made again at any time and a held-out set never meets the training set.

Shape letters: n samples, C characters, T frames, N points, H W image.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .synth import make_sample

SHARD = 64
HELD_OUT = 1_000_000_000
"""Seeds from here on are for evaluation only."""

FIELDS = (
    "video",
    "background",
    "mask",
    "points",
    "rest_points",
    "visibility",
    "viewmats",
    "Ks",
    "ref_image",
    "ref_points",
    "ref_visibility",
    "ref_viewmat",
    "ref_K",
)
"""Fields of a Sample that a shard keeps, stacked along a new first axis."""


@dataclass(frozen=True)
class DataConfig:
    """What to make.

    Attributes:
        frames, size, points: T, H = W, N of every sample.
        shards: number of shards with one character.
        pair_shards: number of shards with two characters.
    """

    frames: int = 9
    size: int = 128
    points: int = 128
    shards: int = 48
    pair_shards: int = 4


def shard_path(folder: Path, config: DataConfig, index: int) -> Path:
    """File of a shard. The first ``config.shards`` have one character, the others two."""
    kind = "one" if index < config.shards else "two"
    number = index if index < config.shards else index - config.shards
    return folder / f"{kind}_{config.frames}f_{config.size}px_{number:04d}.npz"


def make_shard(folder: Path, config: DataConfig, index: int, device: str = "cpu") -> Path:
    """Make one shard unless it is there; written under another name first, so that a file is always whole."""
    path = shard_path(folder, config, index)
    if path.exists():
        return path
    characters = 1 if index < config.shards else 2
    number = index if characters == 1 else index - config.shards
    first = (number * 2 + characters - 1) * SHARD + config.frames * 10_000_000
    samples = [
        make_sample(first + i, config.frames, config.size, config.points, characters, device) for i in range(SHARD)
    ]
    stacked = {name: np.stack([getattr(sample, name) for sample in samples]) for name in FIELDS}
    partial = path.with_suffix(f".{os.getpid()}.partial.npz")
    np.savez(partial, **stacked)  # type: ignore[arg-type]
    os.replace(partial, path)
    return path


def _work(arguments: tuple[Path, DataConfig, int, str]) -> Path:
    torch.set_num_threads(1)
    return make_shard(*arguments)


def make_data(folder: Path, config: DataConfig, workers: int = 2, device: str = "cpu") -> list[Path]:
    """Make the missing shards of a data set and return all of its files, in order."""
    from tqdm import tqdm

    folder.mkdir(parents=True, exist_ok=True)
    count = config.shards + config.pair_shards
    missing = [i for i in range(count) if not shard_path(folder, config, i).exists()]
    jobs = [(folder, config, i, device) for i in missing]
    if missing and (device != "cpu" or workers <= 1):
        for job in tqdm(jobs, desc="synthetic shots", unit="shard"):
            make_shard(*job)
    elif missing:
        import multiprocessing

        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            for _ in tqdm(pool.map(_work, jobs), total=len(jobs), desc="synthetic shots", unit="shard"):
                pass
    return [shard_path(folder, config, i) for i in range(count)]
