"""Which frames each tile of a long sequence holds (no torch here).

Frame 0 of the sequence is the reference picture, the shot's frames follow it.
"""

from __future__ import annotations

from ..windows import fusion_windows

TILINGS = ("published", "even")
"""``published``: at a fixed stride, and one more tile that ends with the last frame, which may all but coincide with
the one before. ``even``: as many tiles or fewer, spread evenly."""


def sequence_tiles(frames: int, window: int, overlap: int, tiling: str = "published") -> list[list[int]]:
    """Frames of each tile (MimicMotion, Sec. 3.4).

    Args:
        frames: N of the sequence, the reference included.
        window: T that the model takes at once; a shorter sequence is one tile of its own length.
        overlap: frames that neighbours share, at least the reference: tiles follow each other at a stride of
            ``window - overlap``.
        tiling: see ``TILINGS``.

    Returns:
        Lists that start with 0, each of ``window`` frames.
    """
    window = min(window, frames)
    overlap = min(max(overlap, 1), window - 1)
    if tiling == "even":
        return fusion_windows(frames, window, overlap - 1)
    tiles = [[0, *range(i + 1, i + window)] for i in range(0, frames - window + 1, window - overlap)]
    if tiles[-1][-1] < frames - 1:
        tiles.append([0, *range(frames - window + 1, frames)])
    return tiles
