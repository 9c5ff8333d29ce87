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
from ..worlds.sample import Sample, make_sample
from .measures import ASPECTS

DRESSED = HELD_OUT + 250_000_000
"""Seeds of the dressed shots."""
REAL = HELD_OUT + 500_000_000
"""Seeds of the surroundings, looks and cameras of real motions."""

_PAIRS, _TRIOS = 4, 8
"""Every so many shots has two characters, every so many three."""


class SetError(ValueError):
    """A set that cannot be made; the message says what to change."""


def held_out(
    count: int,
    frames: int,
    size: int,
    points: int = 128,
    maps: bool = False,
    square: bool = False,
    references: int = 1,
    dressed: bool = False,
) -> list[Sample]:
    """Shots of fixed seeds that training never draws: identities, motions and cameras are all new.

    Every fourth has two characters, who may hide each other, but every eighth has three. Each aspect has as many of
    these in every 32 shots.

    Args:
        frames, points: T and N of every shot.
        size: pixels of the shorter side, see ``shot_size``.
        maps: also draw normals and canonical coordinates.
        square: all pictures are square.
        references: pictures of each character.
        dressed: of the dressed world, with seeds of their own.
    """
    first = DRESSED if dressed else HELD_OUT
    return [
        make_sample(
            first + i,
            frames,
            size if square else shot_size(i, size),
            points,
            _characters(i),
            truth=True,
            maps=maps,
            references=references,
            dressed=dressed,
        )
        for i in range(count)
    ]


def shot_size(index: int, size: int) -> tuple[int, int]:
    """Width and height of a set's ``index``-th shot: the aspects in turn, ``size`` pixels on the shorter side, the
    longer one rounded to a multiple of 16."""
    ratios = list(ASPECTS.values())
    # Turned on by one every eight shots, or one aspect would have all the pairs.
    ratio = ratios[(index + index // _TRIOS) % len(ratios)]
    longer = max(16 * round(size * max(ratio, 1 / ratio) / 16), size)
    return (longer, size) if ratio >= 1 else (size, longer)


def _characters(index: int) -> int:
    """How many characters the ``index``-th held-out shot has."""
    if index % _TRIOS == _TRIOS - 1:
        return 3
    return 2 if index % _PAIRS == _PAIRS - 1 else 1


def real_motions(
    folder: Path, count: int, frames: int, size: int, points: int = 128, references: int = 1
) -> list[Sample]:
    """Windows of the motion files in a folder, each on a new body before a new camera, the files in turn; bare bodies
    and people of the dressed world in turn.

    Arguments as of ``held_out``.

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
        make_sample(
            REAL + i,
            frames,
            shot_size(i, size),
            points,
            1,
            truth=True,
            motion=_window(found[i % len(found)]),
            references=references,
            # Turned on by one every four shots, or each aspect would have one of both only.
            dressed=(i + i // len(ASPECTS)) % 2 == 1,
        )
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
    cast = f"{pairs} with two characters" + (f", {trios} with three" if trios else "")
    sizes = [f"{sample.mask.shape[2]} x {sample.mask.shape[1]}" for sample in samples]
    named = ", ".join(sorted(set(sizes), key=sizes.index))
    return f"{len(samples)} shots of {len(samples[0].mask)} frames, {named}, {cast}"
