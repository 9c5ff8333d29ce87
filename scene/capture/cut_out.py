"""A picture's figure cut from its surroundings by the body that stands in it.

The body says what is surely figure and what surely not. In between, where the picture's figure may end a little earlier
or reach a little farther (hair, wide clothes), colours decide: whether a spot looks more like the figure or like the
ground near it.

Shape letters: H W picture.
"""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np

from ...backend.shot import Media
from ..stage import Stage
from . import render
from .media import encode_png, loaded, pixels

_SIDE = 768
"""Pixels of the longest side at which the figure is looked for."""
_WITHIN = 0.4
"""Share of the margin within the body's outline that may still be ground."""
_CONTRAST = (0.06, 0.2)
"""Distance between the colours of figure and ground, 0..1, at which colours begin to count, and from which on they
count most."""
_LIKE = 0.05
"""Distance between colours, 0..1, that nobody sees as another colour."""
_SHARP = 1.5


def cut_out(stage: Stage, media: Media, image: bpy.types.Image, margin: float, folder: Path, field: str) -> Media:
    """The picture with what does not belong to the figure transparent; see ``opacity``."""
    found = opacity(stage, image, margin, folder, field)
    if found is None:
        return media
    picture = pixels(image)
    picture[..., 3] = np.round(255 * enlarged(found, *picture.shape[:2]))
    return Media(encode_png(picture), "image/png")


def opacity(stage: Stage, image: bpy.types.Image, margin: float, folder: Path, field: str) -> np.ndarray | None:
    """Where a picture shows the figure: (H,W) in [0,1], of a size that may be smaller than the picture's.

    None where the picture has transparent parts of its own.

    Args:
        stage: whose camera sees the body, at the picture's size, and nothing else.
        margin: how far the figure may reach beyond the body, in pixels of the picture.

    Raises:
        ShotError: on ``field``: it cannot be rendered.
    """
    picture = pixels(image)
    if picture[..., 3].min() < 128:
        return None
    render.set_up(stage, "WORKBENCH", transparent=True, side=_SIDE)
    (folder / "mask.png").write_bytes(render.render(stage, folder, field))
    with loaded(folder / "mask.png") as mask:
        body = pixels(mask)[..., 3] >= 128
    height, width = body.shape
    rows = np.arange(height) * picture.shape[0] // height
    columns = np.arange(width) * picture.shape[1] // width
    scale = width / picture.shape[1]
    return soft_edge(picture[rows[:, None], columns, :3] / 255, body, margin * scale)


def soft_edge(picture: np.ndarray, body: np.ndarray, margin: float) -> np.ndarray:
    """Opacity (H,W) of the figure in a picture.

    Args:
        picture: (H,W,3) in [0,1].
        body: (H,W) bool, where the body stands.
        margin: pixels by which the figure may reach beyond it.
    """
    reach = max(round(margin), 1)
    inner = _around((~body).astype(np.float64), max(round(_WITHIN * margin), 1)) < 0.5
    outer = _around(body.astype(np.float64), reach) < 0.5
    about = _around(body.astype(np.float64), 4 * reach) > 0.5
    # Of thin parts nothing is sure; there all of the body tells how the figure looks.
    figure = _mean(picture, inner + 0.1 * body, 2 * reach)
    surely = (outer & about).astype(np.float64)
    ground = _mean(picture, surely, 2 * reach)
    spread = np.sqrt(_mean(np.square(picture - ground).sum(axis=-1, keepdims=True), surely, 2 * reach)[..., 0])
    to_figure, to_ground, apart = (
        np.linalg.norm(a - b, axis=-1) for a, b in ((picture, figure), (picture, ground), (figure, ground))
    )
    low, high = _CONTRAST
    trust = np.clip((np.maximum(apart, to_ground) - low) / (high - low), 0, 1)
    # A figure may have many colours; what is quite unlike the ground belongs to it as well.
    unlike = np.clip(to_ground / (3 * spread + _LIKE) - 1, -1, 1)
    by_colour = np.maximum((to_ground - to_figure) / np.maximum(apart, low), unlike)
    near = max(round(margin / 3), 1)
    by_place = 2 * _around(body.astype(np.float64), near) / (2 * near + 1) ** 2 - 1
    by_place = np.where(body, np.maximum(by_place, 0.5 / _SHARP), by_place)
    found = np.clip(0.5 + _SHARP * (trust * by_colour + (1 - 0.5 * trust) * by_place), 0, 1)
    found = _around(np.where(inner, 1.0, np.where(outer, 0.0, found)), 1) / 9
    return np.where(inner, 1.0, np.where(outer, 0.0, found))


def enlarged(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H,W) at another size, in between values mixed."""
    for axis, size in ((0, height), (1, width)):
        own = values.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * own / size - 0.5, 0, own - 1)
        low = np.minimum(at.astype(int), max(own - 2, 0))
        share = (at - low).reshape((-1, 1) if axis == 0 else (1, -1))
        above = np.minimum(low + 1, own - 1)
        values = np.take(values, low, axis=axis) * (1 - share) + np.take(values, above, axis=axis) * share
    return values


def _mean(picture: np.ndarray, weight: np.ndarray, by: int) -> np.ndarray:
    """Mean colour (H,W,3) of nearby pixels by their weights (H,W); of all pixels, where none is near."""
    total = _around(picture * weight[..., None], by)
    count = _around(weight, by)[..., None]
    everywhere = (picture * weight[..., None]).sum(axis=(0, 1)) / max(float(weight.sum()), 1e-6)
    return np.where(count > 0.05, total / np.maximum(count, 0.05), everywhere)


def _around(values: np.ndarray, by: int) -> np.ndarray:
    """Sums (H,W,...) over squares of ``2 by + 1`` pixels."""
    for axis in (0, 1):
        padding = [(0, 0)] * values.ndim
        padding[axis] = (by + 1, by)
        total = np.cumsum(np.pad(values, padding), axis=axis)
        low = np.arange(values.shape[axis])
        values = np.take(total, low + 2 * by + 1, axis=axis) - np.take(total, low, axis=axis)
    return values
