"""Frames per second: found among a file's data under any usual name, and made exact where few digits were written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

USUAL = (12, 15, 24, 25, 30, 48, 50, 60, 72, 90, 100, 120, 144, 150, 180, 200, 240, 250, 300)
FILM = tuple(n * 1000 / 1001 for n in (15, 24, 30, 48, 60, 120, 240))
"""Film's and television's 14.985, 23.976, 29.97, 59.94..."""
_LEAST, _MOST = 0.1, 2000.0
"""Rates beyond are none of pictures or bodies; those of sound begin above."""

_KINDS = (
    ("rate", re.compile(r"mocap_?(fps|frame_?rate|frequency)|mocap.*rate$")),
    ("rate", re.compile(r"fps|frame_?rate")),
    ("rate", re.compile(r".*fps.*|.*frame_?rate.*|.*frames_?per_?s(ec(ond)?)?|frames_sec")),
    ("rate", re.compile(r".*(sampling|sample|capture)_?rate|rate|(.*_)?(hz|freq|frequency)")),
    ("period", re.compile(r".*frame_?time|dt|delta_?t|time_?step")),
    ("times", re.compile(r"times?|.*time_?stamps?")),
    ("length", re.compile(r".*time_?length|duration")),
)
"""What keys of these names tell, the surest first."""
_OTHER = re.compile("audio|sound|music|learn|speech|eval")
"""Words of rates of something else."""


def exact_rate(fps: float, slack: float) -> float:
    """The standard rate within ``slack`` of a rate that was written with few digits, else the rate itself.

    Of several, a usual one (24, 25, 30...), then film's and television's 1000/1001 of those, which may also be cut
    after two digits or more (23.97), then any whole rate.
    """
    cut = 2 * slack if slack < 0.006 else slack
    for options, reach in ((USUAL, slack), (FILM, cut), ((round(fps),), slack)):
        nearest = min(options, key=lambda option: abs(option - fps))
        if nearest > 0 and abs(nearest - fps) <= max(reach, 1e-5 * fps):
            return float(nearest)
    return fps


def find_rate(data: Any, frames: int = 0, depth: int = 5) -> tuple[float | None, bool]:
    """Frames per second that a file's data tell anywhere, outermost first, and whether as a dataset does (``mocap``).

    What is no rate under a rate's name ("auto", several numbers, a sound's) is passed over.

    Args:
        data: a record, and the records in it.
        frames: of the motion, for files that tell its length in seconds.
        depth: of records within records that are looked into.
    """
    if not isinstance(data, Mapping) or depth == 0:
        return None, False
    named = {str(k): v for k, v in data.items() if v is not None}
    plain = {key: re.sub(r"[^a-z0-9]+", "_", key.lower()) for key in named}
    for kind, pattern in _KINDS:
        for key, value in named.items():
            if pattern.fullmatch(plain[key]) and not _OTHER.search(plain[key]):
                rate = _read(kind, value, frames)
                if rate is not None and _LEAST <= rate <= _MOST:
                    return rate, "mocap" in plain[key] and kind == "rate"
    for value in named.values():
        inner = value[0] if isinstance(value, list) and value else value
        if (found := find_rate(inner, frames, depth - 1))[0] is not None:
            return found
    return None, False


def _read(kind: str, value: Any, frames: int) -> float | None:
    if kind == "times":
        return _of_times(value)
    number, slack = _number(value)
    if not np.isfinite(number) or number <= 0:
        return None
    if kind == "rate":
        return exact_rate(number, slack)
    if kind == "period":
        number, slack = (number, slack) if number < 1 else (number / 1000, slack / 1000)
        return exact_rate(1 / number, slack / number**2)
    return exact_rate(frames / number, 0.5 / number) if frames > 1 else None


def _of_times(value: Any) -> float | None:
    """The rate of a series of times in seconds or milliseconds; None for the numbers of frames."""
    try:
        times = np.asarray(value, float).reshape(-1)
    except (TypeError, ValueError):
        return None
    step = float(np.median(np.diff(times))) if len(times) > 1 and np.isfinite(times).all() else 0.0
    if step <= 0 or abs(step - 1) < 1e-6:
        return None
    step = step if step < 1 else step / 1000
    return exact_rate(1 / step, 0.002 / step)


def _number(value: Any) -> tuple[float, float]:
    """A number and half of the last digit that it is written with; NaN where it is not one number.

    Taken too: ``"59.94 fps"``, ``"30000/1001"``, the same as two numbers, and a series of one and the same.
    """
    if isinstance(value, (np.ndarray, list, tuple)):
        items = list(np.asarray(value).reshape(-1)) if np.ndim(value) or isinstance(value, np.ndarray) else []
        if len(items) == 2 and items[1] in (1, 1001):
            return float(items[0]) / float(items[1]), 0.0
        if not items or any(item != items[0] for item in items):
            return float("nan"), 0.0
        value = items[0]
    if isinstance(value, (bool, np.bool_)):
        return float("nan"), 0.0
    if isinstance(value, (int, float, np.number)):
        single = value if isinstance(value, np.floating) else np.float64(value)
        text = np.format_float_positional(single, unique=True, trim="-")
    else:
        text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
    found = re.fullmatch(r"(-?\d+)(?:[.,](\d*))?(?:\s*/\s*(\d+))?\s*(?:fps|hz|frames.*)?", text.strip().lower())
    if not found:
        return float("nan"), 0.0
    whole, decimals, below = found[1], found[2] or "", int(found[3] or 1)
    return float(f"{whole}.{decimals or 0}") / max(below, 1), 0.5 * 10.0 ** -len(decimals) if decimals else 0.0
