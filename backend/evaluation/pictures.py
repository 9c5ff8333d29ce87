"""The pictures of a report: contact sheets, and plots of its figures.

Shape letters: T frames, H W image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..media import encode_jpeg
from ..training.synth import Sample
from .evaluate import Run
from .measures import MEASURES, kinds

SHEET_SHOTS = 6
MAX_BYTES = 400_000
"""Of a sheet's file."""
_SHEET_FRAMES = 5
_SHOWN = ("psnr", "iou", "psnr_background", "colour", "warp")


def sheet_shots(samples: Sequence[Sample], count: int = SHEET_SHOTS) -> list[int]:
    """Indices of shots to look at: of each kind in turn the first that was not taken, in the set's order."""
    groups: dict[tuple[str, str], list[int]] = {}
    for index, sample in enumerate(samples):
        groups.setdefault(kinds(sample), []).append(index)
    queues, chosen = [groups[kind] for kind in sorted(groups, reverse=True)], []
    while len(chosen) < min(count, len(samples)):
        chosen += [queue.pop(0) for queue in queues if queue]
    return sorted(chosen[:count])


def sheet(samples: Sequence[Sample], films: Mapping[int, np.ndarray]) -> np.ndarray:
    """Picture (H,W,3) of some shots: true frames above generated ones, each led by its reference pictures.

    Args:
        films: (T,H,W,3) uint8 by the index of their sample.
    """
    blocks = []
    for index, film in sorted(films.items()):
        sample = samples[index]
        chosen = np.linspace(0, len(film) - 1, _SHEET_FRAMES).round().astype(int)
        true, made = (np.concatenate(list(each[chosen]), axis=1) for each in (sample.video, film))
        blocks.append(np.concatenate([_references(sample), np.concatenate([true, made], axis=0)], axis=1))
    if len(blocks) % 2:
        blocks.append(np.full_like(blocks[0], 255))
    rows = [np.concatenate(blocks[i : i + 2], axis=1) for i in range(0, len(blocks), 2)]
    return np.concatenate(rows, axis=0)


def _references(sample: Sample) -> np.ndarray:
    """A column (2H,W,3) with each character's reference picture, smaller where there are more than two."""
    height, width = sample.ref_image.shape[1:3]
    column = np.full((2 * height, width, 3), 255, np.uint8)
    pictures = list(sample.ref_image)
    if len(pictures) > 2:
        half = (width // 2, height // 2)
        pictures = [np.asarray(Image.fromarray(p).resize(half, Image.Resampling.LANCZOS)) for p in pictures]
    high, wide = pictures[0].shape[:2]
    for i, picture in enumerate(pictures[: (2 * height // high) * (width // wide)]):
        down, right = divmod(i, width // wide)
        column[down * high : (down + 1) * high, right * wide : (right + 1) * wide] = picture
    return column


def write_sheet(picture: np.ndarray, path: Path) -> None:
    """Write a JPEG of at most ``MAX_BYTES``, as good as fits."""
    for quality in (90, 80, 70, 55, 40):
        data = encode_jpeg(picture, quality).data
        if len(data) <= MAX_BYTES:
            break
    else:
        while len(data) > MAX_BYTES:
            picture = picture[::2, ::2]
            data = encode_jpeg(np.ascontiguousarray(picture), 80).data
    path.write_bytes(data)


def plot_settings(runs: Sequence[Run], autoencoder: Run | None, path: Path) -> None:
    """Quality against steps, a line per guidance, on the shots that all runs share; the autoencoder dotted."""
    pyplot = _pyplot()
    shared = np.arange(max(run.shots for run in runs)) < min(run.shots for run in runs)
    figure, axes = pyplot.subplots(1, len(_SHOWN), figsize=(3.1 * len(_SHOWN), 3.2), constrained_layout=True)
    for axis, name in zip(axes, _SHOWN, strict=True):
        for guidance in sorted({run.guidance for run in runs if run.guidance is not None}):
            line = sorted((run for run in runs if run.guidance == guidance), key=lambda run: run.steps or 0)
            steps = [run.steps for run in line]
            means = np.array([run.mean(name, shared) for run in line])
            axis.plot(steps, means[:, 0], marker="o", markersize=4, label=f"guidance {guidance:g}")
            axis.fill_between(steps, means[:, 1], means[:, 2], alpha=0.1)
        if autoencoder is not None:
            axis.axhline(autoencoder.mean(name, shared)[0], linestyle=":", color="0.3", label="autoencoder")
        axis.set_title(_title(name))
        axis.set_xlabel("steps")
        axis.set_xticks(sorted({run.steps for run in runs if run.steps is not None}))
    axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def plot_shots(run: Run, kind: Mapping[str, np.ndarray], path: Path) -> None:
    """Every shot's figures under one run, a column of dots per kind of shot (n,) bool, with the kind's mean."""
    pyplot = _pyplot()
    rng = np.random.default_rng(0)
    figure, axes = pyplot.subplots(1, len(_SHOWN), figsize=(3.1 * len(_SHOWN), 3.4), constrained_layout=True)
    for axis, name in zip(axes, _SHOWN, strict=True):
        for column, chosen in enumerate(kind.values()):
            values = run.values[name][chosen[: run.shots]]
            values = values[np.isfinite(values)]
            axis.scatter(column + rng.uniform(-0.15, 0.15, len(values)), values, s=9, alpha=0.6)
            if len(values):
                axis.hlines(values.mean(), column - 0.3, column + 0.3, color="0.2")
        axis.set_title(_title(name))
        axis.set_xticks(range(len(kind)), kind, rotation=35, ha="right", fontsize="small")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def _title(name: str) -> str:
    one = next(one for one in MEASURES if one.name == name)
    return f"{name} ({one.unit})" if one.unit else name


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
