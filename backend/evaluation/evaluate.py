"""Run a model on shots whose true film is known, and measure what comes out.

Every shot goes through the engine exactly as one from Blender would: a Shot in, frames out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..models.engine import Engine
from ..shot.types import Settings
from ..training.synth import Sample, to_shot
from . import metrics
from .silhouette import psnr, silhouette_iou


@dataclass(frozen=True)
class Measure:
    """One column of the report.

    Attributes:
        unit: of the figure, or empty.
        higher: whether more is better.
        about: what it says, for the reader of the report.
    """

    name: str
    unit: str
    higher: bool
    about: str


MEASURES = (
    Measure("psnr", "dB", True, "all pixels against the true film"),
    Measure("psnr_figure", "dB", True, "pixels of the bodies"),
    Measure("psnr_background", "dB", True, "pixels away from the bodies, where the camera moves"),
    Measure("ssim", "", True, "structural similarity to the true film"),
    Measure("iou", "", True, "outline found in the film against the bodies'"),
    Measure("colour", "dE", False, "colour of each body part against its reference picture"),
    Measure("swapped", "", False, "share of shots with two characters that wear each other's looks"),
    Measure("warp", "levels", False, "unsteadiness: difference to the next frame along the true flow"),
    Measure("seam", "dB", False, "last-frame bias: worst place in a latent frame against the mean of all"),
)

_STILL_CAMERA = 1e-4


@dataclass(frozen=True)
class Run:
    """What one setting gave.

    Attributes:
        steps, guidance: of the sampler; None for what no sampler made.
        values: per measure, one figure a shot (NaN where the shot has nothing to measure).
        seconds: per shot.
        films: (T,H,W,3) uint8 a shot.
    """

    steps: int | None
    guidance: float | None
    values: dict[str, np.ndarray]
    seconds: np.ndarray
    films: list[np.ndarray] = field(repr=False, default_factory=list)

    def mean(self, name: str) -> tuple[float, float, float]:
        """Mean of a measure over the shots, and its 95 % bootstrap interval."""
        return metrics.bootstrap(self.values[name])


def measure(film: np.ndarray, sample: Sample) -> dict[str, float]:
    """All measures of one film of a sample."""
    truth = sample.truth
    assert truth is not None, "the sample was made without its truth"
    regions = int(truth.region.max()) + 1
    shown = [metrics.region_colours(film, truth, c, regions) for c in range(len(sample.points))]
    worn = [_reference_colours(sample, c, regions) for c in range(len(sample.points))]
    moving = np.abs(sample.viewmats - sample.viewmats[0]).max() > _STILL_CAMERA
    return {
        "psnr": psnr(film, sample.video),
        "psnr_figure": psnr(film, sample.video, sample.mask) if sample.mask.any() else float("nan"),
        "psnr_background": metrics.background_psnr(film, sample.video, sample.mask) if moving else float("nan"),
        "ssim": metrics.ssim(film, sample.video),
        "iou": silhouette_iou(film, sample.mask, sample.background),
        "colour": float(np.nanmean([_or_nan(metrics.colour_error, a, b) for a, b in zip(shown, worn, strict=True)])),
        "swapped": metrics.identities_swapped(shown, worn) if len(shown) == 2 else float("nan"),
        "warp": metrics.warp_error(film, truth),
        "seam": metrics.seam_error(film, sample.video),
    }


def _reference_colours(sample: Sample, character: int, regions: int) -> np.ndarray:
    """Region colours (R,3) of a character's reference picture, at its own visible points."""
    return metrics.point_colours(
        sample.ref_image[character],
        sample.ref_points[character],
        sample.ref_visibility[character],
        sample.ref_viewmat[character],
        sample.ref_K[character],
        sample.point_regions[character],
        regions,
    )


def _or_nan(function: Callable[..., float], *arguments: np.ndarray) -> float:
    value = function(*arguments)
    return value if np.isfinite(value) else float("nan")


def true_films(samples: Sequence[Sample]) -> Run:
    """The measures of the true films themselves: the best that each can be."""
    rows = [measure(sample.video, sample) for sample in samples]
    return Run(None, None, _columns(rows), np.zeros(len(samples)), [sample.video for sample in samples])


def run_model(
    engine: Engine,
    samples: Sequence[Sample],
    model: str,
    steps: int,
    guidance: float,
    bar: Any = None,
) -> Run:
    """Generate every sample and measure it; ``bar``, a tqdm bar, is moved on after each."""
    rows, films, seconds = [], [], []
    for sample in samples:
        shot = to_shot(sample, Settings(model=model, seed=sample.seed % 2**32, steps=steps, guidance=guidance))
        started = time.monotonic()
        film = engine.generate(shot, lambda progress: None, lambda: False).frames
        seconds.append(time.monotonic() - started)
        if film.shape != sample.video.shape:
            from ..media import resize_frames

            film = resize_frames(film, sample.video.shape[2], sample.video.shape[1])
        films.append(film)
        rows.append(measure(film, sample))
        if bar is not None:
            bar.update()
    return Run(steps, guidance, _columns(rows), np.array(seconds), films)


def run_autoencoder(code: Callable[[np.ndarray], np.ndarray], samples: Sequence[Sample]) -> Run:
    """Send every true film (T,H,W,3) through ``code``, an autoencoder, and measure it: the ceiling of its DiT."""
    films, seconds = [], []
    for sample in samples:
        started = time.monotonic()
        films.append(code(sample.video))
        seconds.append(time.monotonic() - started)
    rows = [measure(film, sample) for film, sample in zip(films, samples, strict=True)]
    return Run(None, None, _columns(rows), np.array(seconds), films)


def _columns(rows: Sequence[dict[str, float]]) -> dict[str, np.ndarray]:
    return {one.name: np.array([row[one.name] for row in rows]) for one in MEASURES}
