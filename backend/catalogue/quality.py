"""Quality levels: one TOML file each in ``presets/quality``, relative to what a model's description advises."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

PRESETS = Path(__file__).resolve().parents[2] / "presets" / "quality"
STANDARD = "standard"
"""The level that is taken where nobody has chosen."""


@dataclass(frozen=True)
class QualityLevel:
    """One level.

    Attributes:
        steps: factor on the model's number of denoising steps.
        guidance: scale of guidance, or None for the model's.
        carried: whether the carried film alone is the result, without any network.
        order: place in a list, cheapest first; no two levels have the same, and it never changes: files keep it.
    """

    id: str
    label: str
    description: str
    steps: float = 1.0
    guidance: float | None = None
    carried: bool = False
    order: int = 0


def read_levels(folder: Path = PRESETS) -> list[QualityLevel]:
    """All levels, cheapest first. Raises ValueError that names a file that cannot be read."""
    levels = []
    for path in folder.glob("*.toml"):
        try:
            levels.append(QualityLevel(**tomllib.loads(path.read_text("utf-8"))))
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{path}: not a readable quality level ({error})") from error
    return sorted(levels, key=lambda level: level.order)
