"""The measures of the report, taken of one film of a sample.

Shape letters: T frames, H W image, C characters, R body regions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..training.synth import Sample
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
    Measure("colour", "dE", False, "colour of each body part against its reference picture"),
    Measure("swapped", "", False, "share of shots whose characters wear each other's looks"),
    Measure("warp", "levels", False, "unsteadiness: difference to the next frame along the true flow"),
    Measure("seam", "dB", False, "last-frame bias: worst place in a latent frame against the mean of all"),
)
"""Each gives one figure a shot, NaN where the shot has nothing to measure."""

FVD = Measure("fvd", "", False, "Fréchet distance of I3D features to the true films', of all shots together")

_STILL_CAMERA = 1e-4

FILM_REFERENCE, OTHER_REFERENCE = "reference from the film", "reference is another picture"
"""The kinds of shot by where their reference pictures are from."""

Perceptual = Callable[[np.ndarray, np.ndarray], float]
"""LPIPS of two films (T,H,W,3) uint8."""


def camera_moves(sample: Sample) -> bool:
    """Whether the camera of a sample changes its place, direction or lens."""
    still = [np.abs(each - each[0]).max() <= _STILL_CAMERA for each in (sample.viewmats, sample.Ks)]
    return not all(still)


def measure(film: np.ndarray, sample: Sample, lpips: Perceptual | None = None) -> dict[str, float]:
    """All measures of one film (T,H,W,3) uint8 of a sample that was made with its truth.

    Args:
        lpips: the network; None leaves its measure NaN.
    """
    truth = sample.truth
    assert truth is not None, "the sample was made without its truth"
    regions = int(max(truth.region.max(), sample.point_regions.max())) + 1
    shown = [metrics.region_colours(film, truth, c, regions) for c in range(len(sample.points))]
    worn = [reference_colours(sample, c, regions) for c in range(len(sample.points))]
    errors = np.array([metrics.colour_error(a, b) for a, b in zip(shown, worn, strict=True)])
    nothing = float("nan")
    return {
        "psnr": psnr(film, sample.video),
        "psnr_figure": psnr(film, sample.video, sample.mask) if sample.mask.any() else nothing,
        "psnr_background": (
            metrics.background_psnr(film, sample.video, sample.mask) if camera_moves(sample) else nothing
        ),
        "ssim": metrics.ssim(film, sample.video),
        "lpips": nothing if lpips is None else lpips(film, sample.video),
        "iou": silhouette_iou(film, sample.mask, sample.background),
        "colour": float(np.nanmean(errors)) if np.isfinite(errors).any() else nothing,
        "swapped": metrics.identities_swapped(shown, worn) if len(shown) > 1 else nothing,
        "warp": metrics.warp_error(film, truth),
        "seam": metrics.seam_error(film, sample.video),
    }


def reference_colours(sample: Sample, character: int, regions: int) -> np.ndarray:
    """Region colours (R,3) in CIELAB of a character's reference picture, at the points that it shows."""
    return metrics.point_colours(
        sample.ref_image[character],
        sample.ref_points[character],
        sample.ref_visibility[character],
        sample.ref_viewmat[character],
        sample.ref_K[character],
        sample.point_regions[character],
        regions,
    )


def kinds(sample: Sample) -> tuple[str, str]:
    """What kind of shot a sample is: by its characters and by its camera, in words."""
    count = len(sample.points)
    number = {1: "one character", 2: "two characters", 3: "three characters"}.get(count, f"{count} characters")
    return number, "moving camera" if camera_moves(sample) else "still camera"


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
