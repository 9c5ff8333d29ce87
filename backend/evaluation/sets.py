"""Shots to evaluate on: synthetic ones that no training has seen, and real motions in synthetic surroundings."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..bodies import embedded
from ..motions import load_motion
from ..motions.resample import resample
from ..motions.types import BodyMotion, MotionError
from ..training.data import HELD_OUT
from ..training.synth import Sample, make_sample

REAL = HELD_OUT + 500_000_000
"""Seeds of the surroundings, looks and cameras of real motions."""

_PAIRS, _TRIOS = 4, 8
"""Every so many shots has two characters, every so many three."""


class SetError(ValueError):
    """A set that cannot be made; the message says what to change."""


def held_out(count: int, frames: int, size: int, points: int = 128, maps: bool = False) -> list[Sample]:
    """Shots of fixed seeds that training never draws: identities, motions and cameras are all new.

    Every fourth has two characters, who may hide each other, but every eighth has three.

    Args:
        frames, size, points: T, H = W and N of every shot.
        maps: also draw normals and canonical coordinates.
    """
    return [
        make_sample(HELD_OUT + i, frames, size, points, _characters(i), truth=True, maps=maps) for i in range(count)
    ]


def _characters(index: int) -> int:
    """How many characters the ``index``-th held-out shot has."""
    if index % _TRIOS == _TRIOS - 1:
        return 3
    return 2 if index % _PAIRS == _PAIRS - 1 else 1


def real_motions(folder: Path, count: int, frames: int, size: int, points: int = 128) -> list[Sample]:
    """Windows of the motion files in a folder, each on a new body before a new camera, the files in turn.

    Files that are no motion are told of on stderr and left out; the last pose is held where a motion is too short.

    Raises:
        SetError: no file of the folder can be read as motion.
    """
    found: list[BodyMotion] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        try:
            found.append(load_motion(path, body=embedded()))
        except (MotionError, OSError) as error:
            if path.is_file():
                print(f"not evaluated: {path.name}: {error}", file=sys.stderr)
    if not found:
        raise SetError(f"{folder}: no motion file can be read there; give a folder of BVH, AMASS or tracker files")
    return [
        make_sample(REAL + i, frames, size, points, 1, truth=True, motion=_window(found[i % len(found)]))
        for i in range(count)
    ]


def _window(source: BodyMotion):
    """A random window of a motion at the shot's rate; the last pose is held where the motion is too short."""

    def draw(rng: np.random.Generator, frames: int, fps: float) -> tuple[np.ndarray, np.ndarray]:
        motion = resample(source, fps)
        first = int(rng.integers(max(motion.frames - frames, 0) + 1))
        chosen = np.minimum(np.arange(first, first + frames), motion.frames - 1)
        path = motion.trans[chosen].copy()
        path[:, :2] -= path[frames // 2, :2]
        path[:, 2] = 0
        return motion.poses[chosen].copy(), path

    return draw


def describe(samples: Sequence[Sample]) -> str:
    """The set in words."""
    pairs, trios = (sum(len(sample.points) == count for sample in samples) for count in (2, 3))
    frames, height, width = samples[0].mask.shape
    cast = f"{pairs} with two characters" + (f", {trios} with three" if trios else "")
    return f"{len(samples)} shots of {frames} frames, {width} x {height}, {cast}"
