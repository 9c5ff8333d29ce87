"""A picture's figure cut from its surroundings by the body that stands in it.

The body says what is surely figure and what surely not. In between, where the picture's figure may end a little earlier
or reach a little farther (hair, wide clothes), colours decide: whether a spot's kind of colour is more frequent in the
figure or in the ground near it. What is found spreads to neighbours of like colour, and not across edges: a random
walk (Grady, "Random Walks for Image Segmentation", 2006; the frequencies' weights are those of his priors).

Shape letters: H W picture, K kinds of colour.
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
_KINDS = 40
_NEAR = 6.0
"""Margins around a spot within which colours are counted."""
_COLOUR, _PLACE = 2.0, 0.3
"""Weights of what the colours say, in logits, and of where the body's outline lies."""
_OUTLINE = 4.0
"""Further weight of the outline where colours say nothing."""
_PLAIN = 15.0
"""Inverse of the logit from which on colours do say something."""
_SURE = 3.0
"""Logit that no count of colours exceeds."""
_SMOOTH, _UNLIKE = 60.0, 0.06
"""Weight of neighbours of equal colour against the spot's own, and the distance of colours, 0..1, that ends it."""
_WALK = 60
_ROUNDS = 2
_EDGE = 4.0
"""Steepness of the outline."""


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
    found = np.zeros(body.shape)
    if body.any():
        # Farther away nothing is asked of the ground.
        away = round(5 * margin) + 2
        lines = (np.flatnonzero(body.any(axis=axis)) for axis in (1, 0))
        part = tuple(slice(max(line[0] - away, 0), line[-1] + away + 1) for line in lines)
        found[part] = _cut(picture[part], body[part], margin)
    return found


def _cut(picture: np.ndarray, body: np.ndarray, margin: float) -> np.ndarray:
    """``soft_edge`` of the part of the picture around the body."""
    reach, near = max(round(margin), 1), max(round(margin / 3), 1)
    inner = _around(~body, max(round(_WITHIN * margin), 1)) < 0.5
    outer = _around(body, reach) < 0.5
    surely = outer & (_around(body, 4 * reach) > 0.5)
    place = 2 * _around(body, near) / (2 * near + 1) ** 2 - 1
    place = np.where(body, np.maximum(place, 0.5), place)  # else thin parts would count as ground
    kinds = _kinds(picture, surely | ~outer)
    # Of thin parts nothing is sure; there all of the body tells how the figure looks.
    figure, ground = np.where(inner, 1.0, 0.15 * (body & ~outer)), surely.astype(np.float64)
    for _ in range(_ROUNDS):
        odds = _odds(kinds, figure, ground, _NEAR * margin)
        unsure = np.exp(-_PLAIN * np.abs(odds))
        logit = _COLOUR * odds + (_PLACE + _OUTLINE * unsure) * place
        figure = _walk(picture, 1 / (1 + np.exp(-logit)), 1 + _SMOOTH * unsure, inner, outer)
        ground = np.where(outer, surely, 1 - figure)
    found = _joined(np.clip(0.5 + _EDGE * (figure - 0.5), 0, 1), inner if inner.any() else body)
    return np.where(inner, 1.0, np.where(outer, 0.0, _around(found, 1) / 9))


def _kinds(picture: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Kind (H,W) below K of each pixel's colour, of those that are usual ``where`` (H,W): k-means from the farthest."""
    some = picture[where]
    some = some[:: max(1, len(some) // 4000)]
    means = some.mean(axis=0, keepdims=True)
    apart = np.full(len(some), np.inf)
    for _ in range(_KINDS - 1):
        apart = np.minimum(apart, np.square(some - means[-1]).sum(axis=1))
        means = np.vstack([means, some[apart.argmax()]])
    for _ in range(5):
        nearest = np.square(some[:, None] - means).sum(axis=2).argmin(axis=1)
        for kind in np.unique(nearest):
            means[kind] = some[nearest == kind].mean(axis=0)
    return (np.square(means).sum(axis=1) - 2 * picture @ means.T).argmin(axis=-1)


def _odds(kinds: np.ndarray, figure: np.ndarray, ground: np.ndarray, near: float) -> np.ndarray:
    """How much more frequent a pixel's kind of colour is near it in the figure than in the ground: (H,W) logits.

    Args:
        figure, ground: (H,W) how much each pixel counts as such.
        near: pixels around each that are counted, in cells of a quarter of it.
    """
    cell = max(round(near / 4), 1)
    row, column = (np.arange(side) // cell for side in kinds.shape)
    shape = (row[-1] + 1, column[-1] + 1, _KINDS)
    at = (row[:, None] * shape[1] + column) * _KINDS + kinds
    shares = []
    for weight in (figure, ground):
        counts = np.bincount(at.ravel(), weight.ravel(), np.prod(shape)).reshape(shape)
        everywhere = counts.sum(axis=(0, 1)) / max(counts.sum(), 1e-9)
        there = _around(counts, 4)
        # Where little is near, the whole picture's counts.
        shares.append(((there + near * everywhere) / (there.sum(axis=-1, keepdims=True) + near)).reshape(-1)[at])
    return np.clip(np.log((shares[0] + 1e-3) / (shares[1] + 1e-3)), -_SURE, _SURE)


def _walk(picture: np.ndarray, found: np.ndarray, firm: np.ndarray, inner: np.ndarray, outer: np.ndarray) -> np.ndarray:
    """What was found (H,W) of each pixel alone, spread to neighbours of like colour, by conjugate gradients.

    Args:
        firm: (H,W) weight of what was found there.
        inner, outer: (H,W) bool, what surely is figure and what surely not.
    """
    down, right = (
        _SMOOTH * np.exp(-np.square(np.diff(picture, axis=axis)).sum(axis=-1) / _UNLIKE**2) + 0.01 for axis in (0, 1)
    )
    free = ~(inner | outer)
    total = firm.copy()
    total[:-1] += down
    total[1:] += down
    total[:, :-1] += right
    total[:, 1:] += right

    def apply(values: np.ndarray) -> np.ndarray:
        out = total * values
        out[:-1] -= down * values[1:]
        out[1:] -= down * values[:-1]
        out[:, :-1] -= right * values[:, 1:]
        out[:, 1:] -= right * values[:, :-1]
        return free * out

    result = np.where(inner, 1.0, np.where(outer, 0.0, found))
    rest = free * firm * found - apply(result)
    step = rest / total
    size = (rest * step).sum()
    for _ in range(_WALK):
        if size < 1e-9 * result.size:
            break
        moved = apply(step)
        by = size / (step * moved).sum()
        result, rest = result + by * step, rest - by * moved
        towards = rest / total
        before, size = size, (rest * towards).sum()
        step = towards + size / before * step
    return result


def _joined(found: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """What is found (H,W), without what does not hang together with the ``seed`` (H,W) bool."""
    shown = found > 0.5
    kept, more = np.zeros_like(shown), seed & shown
    while (more != kept).any():
        kept, more = more, (_around(more, 1) > 0.5) & shown
    return np.where(_around(kept, 2) > 0.5, found, 0.0)


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


def _around(values: np.ndarray, by: int) -> np.ndarray:
    """Sums (H,W,...) over squares of ``2 by + 1`` pixels."""
    values = values.astype(np.float64)
    for axis in (0, 1):
        padding = [(0, 0)] * values.ndim
        padding[axis] = (by + 1, by)
        total = np.cumsum(np.pad(values, padding), axis=axis)
        low = np.arange(values.shape[axis])
        values = np.take(total, low + 2 * by + 1, axis=axis) - np.take(total, low, axis=axis)
    return values
