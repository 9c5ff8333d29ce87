"""Quality levels: one TOML file each in ``presets/quality``, relative to what a model's description advises."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from .reader import PRESETS, CatalogueError, Preset, list_presets

STANDARD = "standard"
"""The level that is taken where nobody has chosen."""


@dataclass(frozen=True)
class QualityLevel(Preset):
    """One level.

    Attributes:
        order: place in a list, cheapest first; no two levels have the same, and it never changes: files keep it.
        steps: factor on the model's number of denoising steps.
        guidance: scale of guidance, or None for the model's.
        carried: whether the carried film alone is the result, without any network.
    """

    FOLDER: ClassVar[Path] = PRESETS / "quality"
    description: str
    order: int
    steps: float = 1.0
    guidance: float | None = None
    carried: bool = False

    def __post_init__(self) -> None:
        if self.steps <= 0:
            raise ValueError("steps must be above 0")


def list_quality(folder: Path = QualityLevel.FOLDER) -> dict[str, QualityLevel]:
    """All levels by id, cheapest first. Raises CatalogueError for a file that cannot be read or repeats an order."""
    levels = list_presets(QualityLevel, folder)
    orders: dict[int, str] = {}
    for level in levels.values():
        if (other := orders.setdefault(level.order, level.id)) != level.id:
            raise CatalogueError(f"{folder / level.id}.toml: order is {level.order}, as {other}'s; choose another")
    return levels
