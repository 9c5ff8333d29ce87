"""How good a model is on synthetic shots that no training has seen.

Every shot goes through the engine exactly as one from Blender would: a Shot in, frames out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..models.engine import Engine
from ..shot.types import Settings
from ..training.data import HELD_OUT
from ..training.synth import Sample, make_sample, to_shot
from .silhouette import psnr, silhouette_iou


@dataclass(frozen=True)
class Figures:
    """Means over the evaluated shots.

    Attributes:
        shots: how many.
        steps, guidance: they were sampled with.
        iou: silhouette IoU against the rendered bodies.
        iou_ceiling: the same measure of the true films, which differ little from 1 where clothes differ from walls.
        psnr: dB over all pixels. psnr_figure: over the bodies' pixels.
        seconds: per shot.
    """

    shots: int
    steps: int
    guidance: float
    iou: float
    iou_ceiling: float
    psnr: float
    psnr_figure: float
    seconds: float


def held_out_samples(count: int, frames: int = 17, size: int = 128, characters: int | None = 1) -> list[Sample]:
    """Shots of seeds that training never uses."""
    return [make_sample(HELD_OUT + i, frames, size, 128, characters) for i in range(count)]


def evaluate(
    engine: Engine, samples: Sequence[Sample], steps: int, guidance: float
) -> tuple[Figures, list[np.ndarray]]:
    """Generate every sample and compare it with its true film; returns the figures and the films (T,H,W,3)."""
    films, rows = [], []
    for sample in samples:
        shot = to_shot(sample, Settings(seed=sample.seed % 2**32, steps=steps, guidance=guidance))
        started = time.monotonic()
        film = engine.generate(shot, lambda progress: None, lambda: False).frames
        seconds = time.monotonic() - started
        films.append(film)
        rows.append(
            (
                silhouette_iou(film, sample.mask, sample.background),
                silhouette_iou(sample.video, sample.mask, sample.background),
                psnr(film, sample.video),
                psnr(film, sample.video, sample.mask),
                seconds,
            )
        )
    means = [float(value) for value in np.mean(rows, axis=0)]
    return Figures(len(samples), steps, guidance, *means), films


def held_out_sheet(samples: Sequence[Sample], films: Sequence[np.ndarray]) -> np.ndarray:
    """Picture (H,W,3) of true films above generated ones, the reference in front of each."""
    rows = []
    for sample, film in zip(samples, films, strict=True):
        chosen = np.linspace(0, len(film) - 1, 5).round().astype(int)
        true = np.concatenate([sample.ref_image[0], *sample.video[chosen]], axis=1)
        blank = np.full_like(sample.ref_image[0], 255)
        rows.append(np.concatenate([true, np.concatenate([blank, *film[chosen]], axis=1)], axis=0))
    if len(rows) % 2:
        rows.append(np.full_like(rows[0], 255))
    return np.concatenate([np.concatenate(rows[i : i + 2], axis=1) for i in range(0, len(rows), 2)], axis=0)
