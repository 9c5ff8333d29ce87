"""A picture's figure cut from its surroundings by the body that stands in it.

Shape letters: H W picture.
"""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np

from ...backend.shot import Media
from ..stage import Stage
from . import render
from .media import encode_png, pixels

_SOFT = 0.25
"""Share of the margin over which the edge fades."""


def cut_out(stage: Stage, media: Media, image: bpy.types.Image, margin: int, folder: Path, field: str) -> Media:
    """The picture with what lies far from the body transparent; the picture itself where parts of it are already.

    Args:
        stage: whose camera sees what is to be kept, at the picture's size, and nothing else.
        media: of the image.
        margin: pixels around it that are kept.

    Raises:
        ShotError: on ``field``: it cannot be rendered.
    """
    picture = pixels(image)
    if picture[..., 3].min() < 128:
        return media
    render.set_up(stage, "WORKBENCH", transparent=True, side=max(picture.shape[:2]))
    (folder / "mask.png").write_bytes(render.render(stage, folder, field))
    mask = bpy.data.images.load(str(folder / "mask.png"))
    try:
        covered = pixels(mask)[..., 3] >= 128
    finally:
        bpy.data.images.remove(mask)
    picture[..., 3] = np.round(255 * soft_edge(covered, margin))
    return Media(encode_png(picture), "image/png")


def soft_edge(covered: np.ndarray, margin: int) -> np.ndarray:
    """Opacity (H,W) float64: 1 on what is covered and up to a margin of pixels around it, then fading to 0."""
    margin = max(margin, 1)
    soft = max(round(_SOFT * margin), 1)
    grown = _around(covered.astype(np.float64), margin) > 0
    faded = grown.astype(np.float64)
    for _ in range(2):
        faded = _around(faded, soft) / (2 * soft + 1) ** 2
    # Fading begins outside of what was grown, so that nothing of the figure becomes transparent.
    return np.where(grown, 1.0, np.clip(2 * faded, 0, 1))


def _around(values: np.ndarray, by: int) -> np.ndarray:
    """Sums (H,W) over squares of ``2 by + 1`` pixels."""
    for axis in (0, 1):
        padding = [(0, 0), (0, 0)]
        padding[axis] = (by + 1, by)
        total = np.cumsum(np.pad(values, padding), axis=axis)
        low = np.arange(values.shape[axis])
        values = np.take(total, low + 2 * by + 1, axis=axis) - np.take(total, low, axis=axis)
    return values
