"""Contact sheets: rows of frames with a label, for looking at what was captured or made."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_GAP = 4
_LABEL_HEIGHT = 18
_PAPER = (24, 24, 26)
_INK = (230, 230, 230)


def squeeze_frames(frames: np.ndarray, width: int, height: int) -> np.ndarray:
    """The whole of each frame (T,H,W,3) uint8 at another size, whatever its shape."""
    return resize_frames(frames, width, height, frames.shape[2] / frames.shape[1])


def resize_frames(frames: np.ndarray, width: int, height: int, aspect: float | None = None) -> np.ndarray:
    """The middle of each frame (T,H,W,3) uint8, as large as its shape allows, at ``width`` x ``height``.

    Args:
        aspect: width over height of what is kept; that of ``width`` x ``height`` by default, so that nothing is
            squeezed.
    """
    source_height, source_width = frames.shape[1:3]
    if (source_width, source_height) == (width, height):
        return frames
    aspect = width / height if aspect is None else aspect
    crop_width, crop_height = min(source_width, source_height * aspect), min(source_height, source_width / aspect)
    left, top = (source_width - crop_width) / 2, (source_height - crop_height) / 2
    box = (left, top, left + crop_width, top + crop_height)
    method = Image.Resampling.LANCZOS
    return np.stack([np.asarray(Image.fromarray(f).resize((width, height), method, box=box)) for f in frames])


def overlay(frames: np.ndarray, masks: np.ndarray, color: tuple[int, int, int] = (255, 40, 90)) -> np.ndarray:
    """Frames (T,H,W,3) with the outline of ``masks`` (T,H,W) bool drawn over them."""
    padded = np.pad(masks, ((0, 0), (1, 1), (1, 1)), mode="edge")
    inner = padded[:, :-2, 1:-1] & padded[:, 2:, 1:-1] & padded[:, 1:-1, :-2] & padded[:, 1:-1, 2:]
    result = frames.copy()
    result[masks & ~inner] = color
    return result


def contact_sheet(
    rows: Sequence[tuple[str, np.ndarray]], columns: int = 8, tile_height: int = 128, tile_aspect: float | None = None
) -> np.ndarray:
    """Draw labelled rows of frames; the same moments are picked in rows of the same length.

    Args:
        rows: label and frames (T,H,W,3) uint8. Rows may differ in T.
        columns: at most this many frames of each row are shown, evenly spread from first to last.
        tile_height: pixels.
        tile_aspect: width / height of a tile; by default that of the first row's frames.

    Returns:
        (H,W,3) uint8.
    """
    if not rows:
        raise ValueError("rows: is empty; give at least one row of frames")
    aspect = tile_aspect or rows[0][1].shape[2] / rows[0][1].shape[1]
    tile_width = max(1, round(tile_height * aspect))
    columns = min(columns, max(len(frames) for _, frames in rows))
    sheet = Image.new(
        "RGB",
        (columns * (tile_width + _GAP) + _GAP, len(rows) * (tile_height + _LABEL_HEIGHT + _GAP) + _GAP),
        _PAPER,
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    for i, (label, frames) in enumerate(rows):
        top = _GAP + i * (tile_height + _LABEL_HEIGHT + _GAP)
        draw.text((_GAP, top + 1), label, fill=_INK, font=font)
        picks = np.linspace(0, len(frames) - 1, min(columns, len(frames))).round().astype(int)
        for column, t in enumerate(picks):
            frame = Image.fromarray(np.ascontiguousarray(frames[t]))
            small = frame.width < tile_width
            frame = frame.resize(
                (tile_width, tile_height), Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
            )
            sheet.paste(frame, (_GAP + column * (tile_width + _GAP), top + _LABEL_HEIGHT))
    return np.asarray(sheet)
