"""The pictures of a report: contact sheets, and plots of its figures.

Shape letters: T frames, H W image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..media import contact_sheet, encode_jpeg
from ..worlds.sample import Sample
from .evaluate import EvaluationRun
from .measures import MEASURES, kinds

SHEET_SHOTS = 6
MAX_BYTES = 600_000
"""Of a sheet's file."""
_SHEET_WIDTH = 1500
_TILE = 150
"""Pixels of a sheet's frames: their height."""
_SHOWN = ("psnr", "psnr_figure", "iou_share", "colour", "judder")


def sheet_shots(samples: Sequence[Sample], count: int = SHEET_SHOTS) -> list[int]:
    """Indices of shots to look at, in order: one after the other the first of which least was seen before."""
    found = [kinds(sample) for sample in samples]
    seen: Counter[str] = Counter()
    chosen: list[int] = []
    while len(chosen) < min(count, len(samples)):
        left = (i for i in range(len(samples)) if i not in chosen)
        # Casts come before cameras and aspects: there are fewer shots of some.
        chosen.append(min(left, key=lambda i: (sum(seen[kind] for kind in found[i]), seen[found[i][0]], i)))
        seen.update(found[chosen[-1]])
    return sorted(chosen)


def sheet(samples: Sequence[Sample], films: Mapping[str, Mapping[int, np.ndarray]]) -> np.ndarray:
    """Picture (H,W,3) of some shots, one below the other: a row of frames for each kind of film, reference pictures
    first, as many frames as there is room for.

    Args:
        films: by what they are, the films (T,H,W,3) uint8 by the index of their sample. Samples are shown that each
            kind has a film of.
    """
    shown = sorted(set.intersection(*(set(each) for each in films.values())))
    blocks = [_block(samples[index], {name: each[index] for name, each in films.items()}) for index in shown]
    width = max(block.shape[1] for block in blocks)
    return np.concatenate([_grown(block, block.shape[0], width) for block in blocks])


def _grown(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture on more paper, whose colour is that of its corner, below and to the right."""
    paper = np.empty((height, width, 3), np.uint8)
    paper[:] = picture[0, 0]
    paper[: picture.shape[0], : picture.shape[1]] = picture
    return paper


def _block(sample: Sample, films: Mapping[str, np.ndarray]) -> np.ndarray:
    """The rows of one shot. A row has one reference picture, so that only as many are shown as there are rows."""
    frames = next(iter(films.values()))
    tile = _TILE * frames.shape[2] / frames.shape[1]
    columns = max(1, int(_SHEET_WIDTH / tile) - 1)
    looks = [("reference" if i == 0 else "", look[None]) for i, look in enumerate(sample.ref_image[: len(films)])]
    rows = contact_sheet(list(films.items()), columns, _TILE)
    beside = contact_sheet(looks, 1, _TILE, tile / _TILE)
    return np.concatenate([_grown(beside, rows.shape[0], beside.shape[1]), rows], axis=1)


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


def plot_settings(runs: Sequence[EvaluationRun], carried: EvaluationRun, path: Path) -> None:
    """Quality against steps, a line per guidance, on the shots that all runs share; the carried film dotted."""
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
        axis.axhline(carried.mean(name, shared)[0], linestyle=":", color="0.3", label="carried film")
        axis.set_title(_title(name))
        axis.set_xlabel("steps")
        axis.set_xticks(sorted({run.steps for run in runs if run.steps is not None}))
    axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def plot_shots(run: EvaluationRun, kind: Mapping[str, np.ndarray], path: Path) -> None:
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
