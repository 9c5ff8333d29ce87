"""Quality levels: one TOML file each in ``presets/quality``, relative to what a model's description advises."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

from ..shot import Settings
from .registry import ModelDefaults, ModelError

PRESETS = Path(__file__).resolve().parents[2] / "presets" / "quality"


@dataclass(frozen=True)
class Quality:
    """One level.

    Attributes:
        steps: factor on the model's number of denoising steps.
        guidance: scale of guidance, or None for the model's.
        order: place in a list, cheapest first.
    """

    id: str
    label: str
    description: str
    steps: float
    guidance: float | None = None
    order: int = 0

    def apply(self, settings: Settings, defaults: ModelDefaults) -> Settings:
        """Fill in what the settings leave open; what the animator chose stays."""
        steps = settings.steps if settings.steps is not None else max(1, round(defaults.steps * self.steps))
        guidance = settings.guidance if settings.guidance is not None else self.guidance
        return replace(settings, steps=steps, guidance=guidance)


def list_quality() -> dict[str, Quality]:
    """All levels by id, cheapest first. Raises ModelError when a file cannot be read."""
    levels = []
    for path in PRESETS.glob("*.toml"):
        try:
            levels.append(Quality(**tomllib.loads(path.read_text("utf-8"))))
        except (OSError, tomllib.TOMLDecodeError, TypeError) as error:
            raise ModelError(f"{path}: not a readable quality level ({error})") from error
    return {level.id: level for level in sorted(levels, key=lambda level: level.order)}
