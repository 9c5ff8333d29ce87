"""How large a picture a model makes of a clip, by its limits and its default size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import log, sqrt
from typing import Any

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
    short side is that of the default size, with ``within_clip`` no longer than the clip's own, and the result is at the
    clip's aspect to the pixel.

    Args:
        limits: with ``min_size``, ``max_size`` and ``size_multiple``; see ``ModelSpec``.
        default: the model's default size.
        clip: the clip's size, of which otherwise only the aspect counts.
        width, height: asked for, or None.
    """
    aspect = clip[0] / clip[1]
    short = int(limits.get("max_short_side", 0))
    if width and height:
        wide = min(width, height * aspect)
    elif width or height:
        wide = width or (height or 0) * aspect
    elif short:
        wide = min(*default, *(clip if limits.get("within_clip") else ())) * max(1.0, aspect)
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


def shot_size(
    limits: Mapping[str, float],
    default: Size,
    clip: Size,
    options: Mapping[str, Any],
    width: int | None = None,
    height: int | None = None,
) -> tuple[Size, Size]:
    """The size of the result that a shot's options give, and that at which the model works.

    Args:
        options: the choice, or else the default, of each of the model's options.
        limits, default, clip, width, height: see ``picture_size``; a model with ``same_area`` makes none that is asked
            for.
    """
    if limits.get("same_area"):
        return _same_area(limits, default, clip, options)
    if limits.get("whole_short_side") and max(clip) / min(clip) <= limits["max_size"] / limits["min_size"]:
        result, model, _ = short_side_size(limits, default, clip, bool(options.get("parity")), width, height)
        return result, model
    if limits.get("control_scale") and options.get("control") != "none":
        # A control film at a part of the size has the steps of its own sides.
        limits = {**limits, "size_multiple": limits["size_multiple"] * limits["control_scale"]}
    return picture_size(limits, default, clip, width, height)


def model_sizes(limits: Mapping[str, float], default: Size) -> list[Size]:
    """Every size that a model with ``same_area`` makes: multiples of ``size_multiple`` from ``min_size`` to
    ``max_size`` with about as many pixels as its default size."""
    least, most, multiple = (int(limits[key]) for key in ("min_size", "max_size", "size_multiple"))
    sizes = [
        (multiple * round(default[0] * default[1] / height / multiple), height)
        for height in range(least, most + 1, multiple)
    ]
    return [size for size in sizes if least <= size[0] <= most]


def further_sizes(limits: Mapping[str, float]) -> list[Size]:
    """Sizes that a model of one size makes besides, where it is asked to: lying and standing."""
    long, short = int(limits.get("frame_long_side", 0)), int(limits.get("frame_short_side", 0))
    return [(long, short), (short, long)] if long else []


def nearest_size(found: Iterable[Size], aspect: float) -> Size:
    """The size whose proportions are nearest to ``aspect`` (width over height)."""
    return min(found, key=lambda size: abs(log(size[0] / size[1] / aspect)))


def _same_area(limits: Mapping[str, float], default: Size, clip: Size, options: Mapping[str, Any]) -> tuple[Size, Size]:
    aspect, own = clip[0] / clip[1], model_sizes(limits, default)
    model = nearest_size([*own, *(further_sizes(limits) if options.get("picture") == "frame" else ())], aspect)
    if len(own) == 1:
        # It makes the middle of the clip's picture.
        scale = max(model[0] / clip[0], model[1] / clip[1])
        return (max(model[0], even(clip[0] * scale)), max(model[1], even(clip[1] * scale))), model
    scale = sqrt(model[0] * model[1] / aspect)
    return model if model[0] * clip[1] == model[1] * clip[0] else (even(scale * aspect), even(scale)), model


def short_side_size(
    limits: Mapping[str, float],
    default: Size,
    clip: Size,
    cut: bool,
    width: int | None = None,
    height: int | None = None,
) -> tuple[Size, Size, Size]:
    """The sizes of a model with ``whole_short_side``: that side as asked for or by default, both sides multiples.

    Args:
        cut: the longer side is rounded down and the clip's picture is cut to fit; else all of it is squeezed by a few
            percent.
        limits, default, clip, width, height: see ``picture_size``; the clip is no narrower than ``min_size`` by
            ``max_size``.

    Returns:
        The result's size, the model's, and that of the clip's picture before it is cut.
    """
    aspect = clip[0] / clip[1]
    wide = max(aspect, 1 / aspect)
    heights = [side for side in (width / aspect if width else None, height) if side]
    short = min(heights) * min(aspect, 1.0) if heights else min(default)
    least, most, multiple = (int(limits[key]) for key in ("min_size", "max_size", "size_multiple"))
    short = max(least, min(short, most / wide))
    short = max(multiple, int(short + 0.5) // multiple * multiple)
    long = short * wide
    if cut:
        scaled = (round(long), short)
        result = size = (max(multiple, scaled[0] // multiple * multiple), short)
    else:
        size = scaled = (min(max(multiple, multiple * round(long / multiple)), most), short)
        scale = sqrt(size[0] * size[1] / wide)
        exact = size[0] * min(clip) == size[1] * max(clip)
        result = size if exact else (even(scale * wide), even(scale))
    if aspect >= 1:
        return result, size, scaled
    return (result[1], result[0]), (size[1], size[0]), (scaled[1], scaled[0])
