"""How well a generated figure covers the body it was keyed on, measured from pixels alone.

Shape letters: T frames, H W image.

Nothing but the generated film and the known background is looked at to find the figure: a pixel belongs to it when
it differs from the background. So an unchanged background has no figure (IoU 0), and a film that differs
everywhere, such as noise, scores no more than the share of the picture that the body covers.

Limits: a figure coloured like the background is not seen, shadows that the model paints count as figure, and so do
errors of the background above the threshold. ``silhouette_iou`` of the true film tells how high a film can score.
"""

from __future__ import annotations

import numpy as np

THRESHOLD = 28
"""Levels of 255 by which a channel must differ from the background, in the 3x3 median around each pixel."""


def _settle(difference: np.ndarray) -> np.ndarray:
    """3x3 median of (T,H,W), which takes single pixels out and leaves edges where they are."""
    padded = np.pad(difference, ((0, 0), (1, 1), (1, 1)), mode="edge")
    height, width = difference.shape[1:]
    window = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return np.median(np.stack(window), axis=0)


def _border_colour(frames: np.ndarray) -> np.ndarray:
    """Median colour (T,1,1,3) of the outermost pixels at the top and the sides of each frame."""
    border = np.concatenate([frames[:, 0], frames[:, :, 0], frames[:, :, -1]], axis=1)
    return np.median(border, axis=1)[:, None, None]


def silhouette(frames: np.ndarray, background: np.ndarray | None, threshold: float = THRESHOLD) -> np.ndarray:
    """Pixels that differ from the background.

    Args:
        frames: (T,H,W,3) uint8.
        background: (T,H,W,3) uint8, the same picture without the figure. None takes each frame's background for one
            colour, the median along its top and sides.
        threshold: levels of 255 by which the worst channel must differ.

    Returns:
        (T,H,W) bool.
    """
    reference = _border_colour(frames) if background is None else background.astype(np.float32)
    difference = frames.astype(np.float32) - reference
    return _settle(np.abs(difference).max(axis=-1)) > threshold


def silhouette_iou(
    generated: np.ndarray, masks: np.ndarray, background: np.ndarray | None, threshold: float = THRESHOLD
) -> float:
    """Intersection over union of the generated figure's silhouette and the body's, over the whole film.

    Args:
        generated: (T,H,W,3) uint8, what the model made.
        masks: (T,H,W) bool, where the bodies are.
        background: (T,H,W,3) uint8 without the bodies, or None (see ``silhouette``).

    Returns:
        0 to 1. Without any body and any figure there is nothing to compare: NaN.

    Raises:
        ValueError: when sizes do not agree.
    """
    if generated.ndim != 4 or generated.shape[-1] != 3 or generated.shape[:3] != masks.shape:
        raise ValueError(f"generated is {generated.shape} and masks are {masks.shape}; need (T,H,W,3) and (T,H,W)")
    if background is not None and background.shape != generated.shape:
        raise ValueError(f"background is {background.shape}; it must have the shape of generated {generated.shape}")
    found = silhouette(generated, background, threshold)
    union = np.count_nonzero(found | masks)
    return float(np.count_nonzero(found & masks) / union) if union else float("nan")


def psnr(generated: np.ndarray, truth: np.ndarray, masks: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB of uint8 films (T,H,W,3), over all pixels or those of ``masks`` (T,H,W).

    Identical films give 99 dB.
    """
    if generated.shape != truth.shape:
        raise ValueError(f"generated is {generated.shape} and truth is {truth.shape}; they must be equal")
    error = np.square(generated.astype(np.float64) - truth.astype(np.float64))
    mean = error.mean() if masks is None else error[masks].mean()
    return psnr_of(float(mean))


def psnr_of(error: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean square error in levels of 255; 99 at best."""
    return float(min(10 * np.log10(255.0**2 / max(error, 1e-12)), 99.0))
