"""Clips longer than Stable Video Diffusion's window (no torch here)."""

from __future__ import annotations


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
