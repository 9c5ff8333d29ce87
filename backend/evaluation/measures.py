"""The measures of the report, taken of one film of a sample.

Shape letters: T frames, H W image, C characters, R body regions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..worlds.sample import Sample
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
    Measure(
        "psnr_background",
        "dB",
        True,
        "pixels away from the bodies, where the camera moves; the empty film is "
        "a condition, so that this tells how well the model passes it on, not what it invents",
    ),
    Measure("ssim", "", True, "structural similarity to the true film"),
    Measure("lpips", "", False, "perceptual distance to the true film (AlexNet)"),
    Measure("iou", "", True, "outline found in the film against the bodies'"),
    Measure("iou_share", "", True, "iou as a share of the true film's own"),
    Measure("colour", "dE", False, "colour of each body part against the true film's"),
    Measure(
        "colour_ref",
        "dE",
        False,
        "the same against its reference picture, whose light may be another: the true films have a distance too",
    ),
    Measure("swapped", "", False, "share of shots whose characters wear each other's looks"),
    Measure(
        "swapped_mean",
        "",
        False,
        "share of bodies whose mean colour is nearer to another's reference than to their own, among those that "
        "the true film tells apart",
    ),
    Measure("warp", "levels", False, "unsteadiness: difference to the next frame along the true flow"),
    Measure("judder", "", False, "jumps where a latent frame ends, as a multiple of the true film's"),
    Measure("window_seam", "", False, "jumps where windows meet, along the true flow, as a multiple of the rest's"),
    Measure("seam", "dB", False, "last-frame bias: worst place in a latent frame against the mean of all"),
)
"""Each gives one figure a shot, NaN where the shot has nothing to measure."""

FVD = Measure("fvd", "", False, "Fréchet distance of I3D features to the true films', of all shots together")

_STILL_CAMERA = 1e-4

FILM_REFERENCE, OTHER_REFERENCE = "reference from the film", "reference is another picture"
"""The kinds of shot by where their reference pictures are from."""

ASPECTS = {"16:9": 16 / 9, "9:16": 9 / 16, "1:1": 1.0, "4:3": 4 / 3}
"""Width over height of the shots of a set, by name."""

Perceptual = Callable[[np.ndarray, np.ndarray], float]
"""LPIPS of two films (T,H,W,3) uint8."""


def camera_moves(sample: Sample) -> bool:
    """Whether the camera of a sample changes its place, direction or lens."""
    still = [np.abs(each - each[0]).max() <= _STILL_CAMERA for each in (sample.viewmats, sample.Ks)]
    return not all(still)


def measure(
    film: np.ndarray, sample: Sample, lpips: Perceptual | None = None, across: Sequence[range] = ()
) -> dict[str, float]:
    """All measures of one film (T,H,W,3) uint8 of a sample that was made with its truth.

    Args:
        lpips: the network; None leaves its measure NaN.
        across: where windows meet, as ``windows.joins`` has it; none for a film of one window.
    """
    truth = sample.truth
    assert truth is not None, "the sample was made without its truth"
    regions = int(max(truth.region.max(), sample.point_regions.max())) + 1
    shown = [metrics.region_colours(film, truth, c, regions) for c in range(len(sample.points))]
    worn = [reference_colours(sample, c, regions) for c in range(len(sample.points))]
    mean = np.stack([metrics.mean_colour(film, truth, c) for c in range(len(sample.points))])
    outline, true_iou = silhouette_iou(film, sample.mask, sample.background), _true_iou(sample)
    true = [metrics.region_colours(sample.video, truth, c, regions) for c in range(len(sample.points))]
    nothing = float("nan")
    return {
        "psnr": psnr(film, sample.video),
        "psnr_figure": psnr(film, sample.video, sample.mask) if sample.mask.any() else nothing,
        "psnr_background": (
            metrics.background_psnr(film, sample.video, sample.mask) if camera_moves(sample) else nothing
        ),
        "ssim": metrics.ssim(film, sample.video),
        "lpips": nothing if lpips is None else lpips(film, sample.video),
        "iou": outline,
        "iou_share": outline / true_iou if true_iou > 0 else nothing,
        "colour": _mean_error(shown, true),
        "colour_ref": _mean_error(shown, worn),
        "swapped": metrics.identities_swapped(shown, worn) if len(shown) > 1 else nothing,
        "swapped_mean": metrics.nearer_another(mean, *_true_means(sample)),
        "warp": metrics.warp_error(film, truth),
        "judder": metrics.judder(film, sample.video),
        "window_seam": metrics.window_seam(film, truth, across),
        "seam": metrics.seam_error(film, sample.video),
    }


def _mean_error(shown: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> float:
    """Mean over the characters of the distance between region colours (R,3); NaN where none can be compared."""
    errors = np.array([metrics.colour_error(a, b) for a, b in zip(shown, wanted, strict=True)])
    return float(np.nanmean(errors)) if np.isfinite(errors).any() else float("nan")


@lru_cache(maxsize=4)
def _true_iou(sample: Sample) -> float:
    return silhouette_iou(sample.video, sample.mask, sample.background)


@lru_cache(maxsize=4)
def _true_means(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Mean colours (C,3) in CIELAB of the bodies in the true film, and in their references at the points that show."""
    assert sample.truth is not None
    true, worn = np.full((2, len(sample.points), 3), np.nan)
    for c in range(len(sample.points)):
        true[c] = metrics.mean_colour(sample.video, sample.truth, c)
        colours, _ = _reference_pixels(sample, c)
        if len(colours) >= metrics.MIN_POINTS:
            worn[c] = colours.mean(axis=0)
    return true, worn


def reference_colours(sample: Sample, character: int, regions: int) -> np.ndarray:
    """Region colours (R,3) in CIELAB of a character's reference picture, at the points that it shows."""
    colours, seen = _reference_pixels(sample, character)
    return metrics.by_region(colours, sample.point_regions[character][seen], regions)


def _reference_pixels(sample: Sample, c: int) -> tuple[np.ndarray, np.ndarray]:
    return metrics.seen_colours(
        sample.ref_image[c], sample.ref_points[c], sample.ref_visibility[c], sample.ref_viewmat[c], sample.ref_K[c]
    )


def kinds(sample: Sample) -> tuple[str, str, str]:
    """What kind of shot a sample is: by its characters, by its camera and by its aspect, in words."""
    count = len(sample.points)
    number = {1: "one character", 2: "two characters", 3: "three characters"}.get(count, f"{count} characters")
    return number, "moving camera" if camera_moves(sample) else "still camera", aspect(sample)


def aspect(sample: Sample) -> str:
    """Which of ``ASPECTS`` a sample's picture has, or its size."""
    height, width = sample.mask.shape[1:]
    for name, ratio in ASPECTS.items():
        # Sides are rounded to multiples of 16.
        if abs(width / height / ratio - 1) < 0.1:
            return name
    return f"{width} x {height}"


def reference_kind(sample: Sample) -> str:
    """Where the references are from: one that is a frame of the film shows the model a part of the answer.

    Returns:
        ``OTHER_REFERENCE`` where no character's reference is a frame of the film, else ``FILM_REFERENCE``.
    """
    frames = sample.video
    taken = any(
        picture.shape == frames.shape[1:] and (frames == picture).all((1, 2, 3)).any() for picture in sample.ref_image
    )
    return FILM_REFERENCE if taken else OTHER_REFERENCE
