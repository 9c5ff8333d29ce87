"""Reports for people: Markdown from the templates (``*.md.jinja``) that lie beside the code that measures."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

if TYPE_CHECKING:
    from .measures import Measure


def render(template: Path, **values: Any) -> str:
    """Fill a template in; a name that it uses and is not given raises jinja2.UndefinedError.

    Besides ``values`` it knows the filters of this module: ``row``, ``number``, ``interval`` and ``heading``.
    """
    return _environment(template.parent).get_template(template.name).render(values)


@cache
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(row=row, number=number, interval=interval, heading=heading)
    return environment


def row(cells: Iterable[object]) -> str:
    """A row of a table."""
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"


def number(value: float, digits: int = 3) -> str:
    """A figure with so many significant digits; a dash where there is none."""
    return f"{value:.{digits}g}" if math.isfinite(value) else "-"


def interval(found: tuple[float, float, float], signed: bool = False, digits: int = 3, count: int | None = None) -> str:
    """A mean with its interval and, where given, the number of shots that it rests on."""
    if not math.isfinite(found[0]):
        return "-"
    mean, low, high = (f"{value:{'+' if signed else ''}.{digits}g}" for value in found)
    return f"{mean} ({low} to {high}{'' if count is None else f'; {count}'})"


def heading(measure: Measure) -> str:
    """A measure's name, which way is better, and its unit."""
    unit = f", {measure.unit}" if measure.unit else ""
    return f"{measure.name} ({'up' if measure.higher else 'down'}{unit})"
