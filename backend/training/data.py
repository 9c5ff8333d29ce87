"""Shards of pre-made synthetic shots, so that training never waits for the renderer.

A shard is one .npz of ``SHARD`` samples with the same number of frames and characters; its seeds follow from its
number, so that a missing shard can be made again at any time and a held-out set never meets the training set.

A shard's shots have one size. With ``DataConfig.aspects`` shards take turns in shape, at equal area.

Shape letters: n samples, C characters, T frames, N points, H W image.
"""

from __future__ import annotations

import functools
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..raster.carry import carry_shot
from ..worlds.sample import Sample, make_sample, to_shot
from .errors import TrainingError
from .stamp import read_stamp, write_stamp

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
MAPS = ("normals", "canonical")
"""Fields that a shard keeps besides when it was made with ``DataConfig.maps``."""
CARRIED = ("carried", "known")
"""And with ``DataConfig.carried``, of ``carry_sample``."""

ASPECTS = (1.0, 16 / 9, 9 / 16, 4 / 3)
"""Width over height of the shards' shots, in turn."""
_MULTIPLE = 16
"""Pixels that sides of other shapes than squares are a multiple of."""
_UNLIT = 5
"""Every so-many-th seed is carried without its light, as a picture from elsewhere is."""

GENERATOR = "generator.json"
"""Mark of a folder of shards: what drew them."""

_FINGERPRINT_SEED = HELD_OUT - 1
_SAME = 3e-4
"""Largest mean difference of fingerprints by one generator on two machines; in units of white, and metres."""

_KINDS = ("one", "two", "three")
_CASTS = ("", "pair_", "trio_")
_SEEDS = 5_000_000
"""Seeds set aside for each number of frames."""


@dataclass(frozen=True)
class DataConfig:
    """What to make.

    Attributes:
        frames, size, points: T, H = W, N of every sample.
        aspects: give shards the shapes of ``ASPECTS`` in turn, with about size x size pixels each.
        carried: also keep the carried film and how far it is known, for what starts from it.
        shards, pair_shards, trio_shards: number of shards with one, two and three characters.
        maps: keep normals and canonical coordinates of the drawn bodies too.
        dressed: share of the shards, of each number of characters, that are of the dressed world.
    """

    frames: int = 9
    size: int = 128
    points: int = 128
    shards: int = 48
    pair_shards: int = 4
    trio_shards: int = 0
    maps: bool = False
    aspects: bool = False
    carried: bool = True
    dressed: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.dressed <= 1:
            raise TrainingError(f"dressed = {self.dressed}: choose 0 to 1")
        for name, least in (("frames", 1), ("size", 16), ("points", 1), *((f"{kind}shards", 0) for kind in _CASTS)):
            if getattr(self, name) < least:
                raise TrainingError(f"{name} = {getattr(self, name)}: choose at least {least}")

    @property
    def count(self) -> int:
        """Number of shards altogether."""
        return self.shards + self.pair_shards + self.trio_shards

    @property
    def fields(self) -> tuple[str, ...]:
        """What each shard holds."""
        return FIELDS + (MAPS if self.maps else ()) + (CARRIED if self.carried else ())

    def cast(self, index: int) -> tuple[int, int]:
        """Number of characters of the ``index``-th shard, and its number among those with as many.

        Raises:
            IndexError: there are fewer shards.
        """
        number = index
        for characters, shards in enumerate((self.shards, self.pair_shards, self.trio_shards), start=1):
            if 0 <= number < shards:
                return characters, number
            number -= shards
        raise IndexError(f"shard {index} of {self.count}")

    def dressed_at(self, number: int) -> bool:
        """Whether the ``number``-th shard with as many characters is of the dressed world."""
        return int((number + 1) * self.dressed) > int(number * self.dressed)

    def size_of(self, index: int) -> tuple[int, int]:
        """Width and height of the ``index``-th shard's shots."""
        aspect = ASPECTS[self.cast(index)[1] % len(ASPECTS)] if self.aspects else 1.0
        if aspect == 1:
            return self.size, self.size
        width, height = (self.size * scale / _MULTIPLE for scale in (aspect**0.5, aspect**-0.5))
        return max(round(width), 1) * _MULTIPLE, max(round(height), 1) * _MULTIPLE


def shard_seeds(frames: int, characters: int, number: int) -> range:
    """Seeds of a shard's samples; no two shards share one, and all lie below ``HELD_OUT``.

    Raises:
        ValueError: so many frames or shards that the seeds would meet others.
    """
    first = (number * len(_KINDS) + characters - 1) * SHARD
    if not 0 < frames < HELD_OUT // _SEEDS:
        raise ValueError(f"frames = {frames}: choose 1 to {HELD_OUT // _SEEDS - 1}")
    if first + SHARD > _SEEDS:
        raise ValueError(f"shard number {number}: choose at most {_SEEDS // SHARD // len(_KINDS) - 1} of each kind")
    return range(frames * _SEEDS + first, frames * _SEEDS + first + SHARD)


def shard_path(folder: Path, config: DataConfig, index: int) -> Path:
    """File of a shard: first those with one character, then those with two, then those with three."""
    characters, number = config.cast(index)
    width, height = config.size_of(index)
    size = f"{width}" if width == height else f"{width}x{height}"
    kept = "".join(f"_{name}" for name in ("maps", "carried") if getattr(config, name))
    kept += "_dressed" if config.dressed_at(number) else ""
    return folder / f"{_KINDS[characters - 1]}_{config.frames}f_{size}px_{config.points}p{kept}_{number:04d}.npz"


def shard_paths(folder: Path, config: DataConfig) -> list[Path]:
    """Files of all shards, in order."""
    return [shard_path(folder, config, i) for i in range(config.count)]


def carry_sample(sample: Sample, device: str = "cpu") -> dict[str, np.ndarray]:
    """The carried film of a sample, as the engine would draw it of its Shot.

    Returns:
        ``carried`` (T,H,W,3) uint8 and ``known`` (T,H,W) uint8, 255 times that of ``CarriedFilm``.
    """
    height, width = sample.video.shape[1:3]
    film = carry_shot(to_shot(sample, light=sample.seed % _UNLIT > 0), width, height, device)
    return {"carried": film.frames, "known": np.rint(255 * film.known).astype(np.uint8)}


def made_paths(folder: Path, config: DataConfig) -> list[Path]:
    """Files of the shards that are there, in order; of a shard that is not whole, its first samples."""
    found = (path if path.exists() else _begun(path) for path in shard_paths(folder, config))
    return [path for path in found if path is not None]


def _begun(path: Path) -> Path | None:
    """The file of a shard's first samples; their number is in its name, so that no two contents share a name."""
    return next(path.parent.glob(f"{path.stem}_first*.npz"), None)


def make_shard(
    folder: Path, config: DataConfig, index: int, device: str = "cpu", until: float | None = None
) -> Path | None:
    """Make one shard unless it is there; written under another name first, so that a file is always whole.

    Args:
        until: begin no sample after this ``time.time()``. What was made until then is kept in a file of its own, from
            where the next call goes on.

    Returns:
        The shard's file, or that of its first samples, or None where there was time for none.
    """
    path = shard_path(folder, config, index)
    if path.exists():
        return path
    characters, number = config.cast(index)
    size, dressed = config.size_of(index), config.dressed_at(number)
    kept: dict[str, list[np.ndarray]] = {name: [] for name in config.fields}
    begun = _begun(path)
    if begun is not None:
        with np.load(begun) as file:
            kept = {name: list(file[name]) for name in config.fields}
    seeds = shard_seeds(config.frames, characters, number)
    count = before = len(kept["video"])
    while count < len(seeds) and not time_is_up(until):
        sample = make_sample(
            seeds[count], config.frames, size, config.points, characters, device, maps=config.maps, dressed=dressed
        )
        carried = carry_sample(sample, device) if config.carried else {}
        for name, values in kept.items():
            values.append(carried[name] if name in carried else getattr(sample, name))
        count += 1
    if count == before:
        return begun
    target = path if count == len(seeds) else path.with_name(f"{path.stem}_first{count}.npz")
    partial = path.with_suffix(f".{os.getpid()}.partial.npz")
    np.savez(partial, **{name: np.stack(values) for name, values in kept.items()})  # type: ignore[arg-type]
    os.replace(partial, target)
    if begun is not None:
        begun.unlink(missing_ok=True)
    return target


def _work(arguments: tuple[Path, DataConfig, int, str, float | None]) -> Path | None:
    torch.set_num_threads(1)
    return make_shard(*arguments)


def time_is_up(until: float | None) -> bool:
    """Whether ``time.time()`` has reached ``until``; never for None."""
    return until is not None and time.time() >= until


@functools.cache
def fingerprint() -> tuple[float, ...]:
    """A few numbers of one fixed sample and its carried film, by which versions of the generator are told apart.

    Colours and points drawn on the CPU, not a digest: another processor may round a pixel differently.
    """
    sample = make_sample(_FINGERPRINT_SEED, frames=1, size=32, characters=2)
    numbers: list[float] = []
    for images in (sample.video, sample.ref_image, carry_sample(sample)["carried"]):
        numbers += (images.reshape(-1, 8, 4, 8, 4, 3).mean(axis=(2, 4)) / 255).ravel().tolist()
    for places in (sample.points[:, :, ::16], sample.viewmats, sample.poses):
        numbers += places.ravel().tolist()
    return tuple(round(number, 5) for number in numbers)


def claim_data(folder: Path) -> None:
    """Mark a folder of shards with the generator that draws them.

    Raises:
        TrainingError: its shards are another generator's.
    """
    mine = fingerprint()
    stamp = read_stamp(folder / GENERATOR)
    theirs = (stamp or {}).get("fingerprint", [])
    if len(theirs) == len(mine) and np.abs(np.subtract(theirs, mine)).mean() <= _SAME:
        return
    if any(folder.glob("*.npz")):
        raise TrainingError(
            f"{folder} holds shots that another version of the generator drew; name another --folder, or delete "
            f"{folder} and what was trained on it"
        )
    write_stamp(folder / GENERATOR, {"fingerprint": mine})


def make_data(
    folder: Path, config: DataConfig, workers: int = 2, device: str = "cpu", until: float | None = None
) -> list[Path]:
    """Make the missing shards of a data set.

    Args:
        workers: processes on a CPU; a GPU has one.
        until: begin no sample after this ``time.time()``; see ``make_shard``.

    Returns:
        ``made_paths``: where there was no time for all, fewer, and the last of them with fewer samples.

    Raises:
        TrainingError: the folder holds shots of another version of the generator.
    """
    from tqdm import tqdm

    claim_data(folder)
    missing = [i for i in range(config.count) if not shard_path(folder, config, i).exists()]
    jobs = [(folder, config, i, device, until) for i in missing]
    told = functools.partial(tqdm, total=len(jobs), desc="synthetic shots", unit="shard")
    if missing and (device != "cpu" or workers <= 1):
        for job in told(jobs):
            make_shard(*job)
    elif missing:
        import multiprocessing

        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            for _ in told(pool.map(_work, jobs)):
                pass
    return made_paths(folder, config)
