"""Shots longer than a model's window: overlapping windows (no torch here).

Fused ones follow MimicMotion's progressive latent fusion (Zhang et al. 2024, Sec. 3.4), on latent frames. Latent 0
differs from the others, as it holds a single frame, so it comes first in every window: each window has the structure
that the model was trained on, and all share one anchor for looks and light.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, floor, isfinite, nan
from statistics import fmean, median

_LEAST_CHANGE = 0.5
"""Levels of 255 that a film changes at the least: rounding."""


def fusion_windows(latents: int, window: int, overlap: int) -> list[list[int]]:
    """Latent frames of each window; the windows are fused at every denoising step.

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


def even_windows(latents: int, window: int, overlap: int) -> list[range]:
    """Latent frames of each window, spread evenly; the last one ends with the last latent frame.

    Args:
        latents: of the whole shot.
        window: latent frames that the model takes at once.
        overlap: least number of them that neighbours share.
    """
    if latents <= window:
        return [range(latents)]
    overlap = min(max(overlap, 0), window - 1)
    count = ceil((latents - overlap) / (window - overlap))
    starts = [round(i * (latents - window) / (count - 1)) for i in range(count)]
    return [range(start, start + window) for start in starts]


def fusion_weights(length: int) -> list[float]:
    """Triangular weight of each place in a window: most in its middle, never zero."""
    return [min((k + 0.5) * 2 / length, 2 - (k + 0.5) * 2 / length) for k in range(length)]


def periodic_windows(frames: int, window: int, stride: int) -> list[list[int]]:
    """Frames that are sampled together (MOFA-Video's "periodic sampling").

    Every window holds frame 0 and ``window - 1`` frames in a row; these advance by ``stride``, and the last window ends
    with the last frame.

    Raises:
        ValueError: a window without room to move, or a stride that would leave frames out.
    """
    if frames <= window:
        return [list(range(frames))]
    body = window - 1
    if not 1 <= stride <= body:
        raise ValueError(f"stride: {stride}; a window of {window} frames can advance by 1 to {body}")
    starts = list(range(1, frames - body + 1, stride))
    if starts[-1] + body < frames:
        starts.append(frames - body)
    return [[0, *range(start, start + body)] for start in starts]


def joins(windows: Iterable[tuple[int, int]], frames: int, rate: float = 1.0) -> list[range]:
    """Where windows begin or end within a film: for each place the neighbouring frames (t, t + 1), by t, that lie
    across it.

    Args:
        windows: (start, stop) frames of the model.
        frames: of the film.
        rate: frames of the film to a frame of the model; above 1 a jump is spread over several.
    """
    edges = {edge for window in windows for edge in window}
    across = [range(floor((edge - 1) * rate + 1e-6), ceil(edge * rate - 1e-6)) for edge in sorted(edges)]
    return [pairs for pairs in across if pairs.start >= 0 and pairs.stop < frames]


def seam(changes: Sequence[float], across: Iterable[range]) -> float:
    """How much a film jumps where windows meet, as a multiple of what it changes elsewhere; 1 is no seam.

    Args:
        changes: from each frame to the next in levels of 255, NaN where it is not known.
        across: as ``joins`` has them.

    Returns:
        NaN where windows do not meet, or nothing is known on either side.
    """
    across = list(across)
    inside = {t for pairs in across for t in pairs}
    elsewhere = [change for t, change in enumerate(changes) if t not in inside and isfinite(change)]
    at = [max((changes[t] for t in pairs if isfinite(changes[t])), default=nan) for pairs in across]
    at = [change for change in at if isfinite(change)]
    return fmean(at) / max(median(elsewhere), _LEAST_CHANGE) if at and elsewhere else nan
