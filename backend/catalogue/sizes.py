"""How large a picture a model makes of a clip, by its limits and its default size."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

Size = tuple[int, int]
"""Width and height in pixels."""


def even(x: float) -> int:
    """The even number nearest to ``x``, at least 2: films have even sides."""
    return max(2, 2 * round(x / 2))


def picture_size(
    limits: Mapping[str, float], default: Size, clip: Size, width: int | None = None, height: int | None = None
) -> tuple[Size, Size]:
    """The size of the result, and that at which the model works.

    By default the picture has as many pixels as the model's default size; with ``max_short_side`` among the limits its
    short side is that of the default size, and the result is at the clip's aspect to the pixel.

    Args:
        limits: with ``min_size``, ``max_size`` and ``size_multiple``; see ``ModelSpec``.
        default: the model's default size.
        clip: the clip's size, of which only the aspect counts.
        width, height: asked for, or None.
    """
    aspect = clip[0] / clip[1]
    short = int(limits.get("max_short_side", 0))
    if width and height:
        wide = min(width, height * aspect)
    elif width or height:
        wide = width or (height or 0) * aspect
    elif short:
        wide = min(default) * max(1.0, aspect)
    else:
        wide = sqrt(default[0] * default[1] * aspect)
    least, most, multiple = (int(limits[key]) for key in ("min_size", "max_size", "size_multiple"))
    wide = max(wide, least * max(1.0, aspect))
    wide = min(wide, most * min(1.0, aspect), short * max(1.0, aspect) if short else wide)
    snapped = [max(multiple, multiple * round(side / multiple)) for side in (wide, wide / aspect)]
    model = (snapped[0], snapped[1])
    # Of the sizes at the clip's aspect, the one asked for, or the one with as many pixels as the model makes.
    scale = wide / aspect if short else sqrt(model[0] * model[1] / aspect)
    result = model if model[0] * clip[1] == model[1] * clip[0] else (even(scale * aspect), even(scale))
    return result, model
