"""Shots longer than a model's window: overlapping windows, fused at every denoising step.

Progressive latent fusion after MimicMotion (Zhang et al. 2024, Sec. 3.4), on latent frames. Latent 0 differs from the
others, it holds a single frame; it is the first of every window, so that each window has the structure that the
model was trained on and all share one anchor for looks and light.
"""

from __future__ import annotations

from math import ceil


def fusion_windows(latents: int, window: int, overlap: int) -> list[list[int]]:
    """Latent frames of each window.

    The windows' moving parts (all but latent 0) are spread evenly, so that the last one overlaps its neighbour no
    more than the others do.

    Args:
        latents: N of the whole shot.
        window: latent frames that the model takes at once, latent 0 included.
        overlap: least number of latent frames, latent 0 not counted, that neighbours share.

    Returns:
        Increasing indices, each list starting with 0; a single list when everything fits.
    """
    if latents <= window:
        return [list(range(latents))]
    body, rest = window - 1, latents - 1
    if body < 1:
        raise ValueError(f"a window of {window} latent frames cannot move; it needs at least 2")
    overlap = min(max(overlap, 0), body - 1)
    count = ceil((rest - overlap) / (body - overlap))
    starts = [round(i * (rest - body) / (count - 1)) for i in range(count)]
    return [[0, *range(1 + start, 1 + start + body)] for start in starts]


def fusion_weights(length: int) -> list[float]:
    """Triangular weight of each place in a window: most in its middle, never zero."""
    return [min((k + 0.5) * 2 / length, 2 - (k + 0.5) * 2 / length) for k in range(length)]
