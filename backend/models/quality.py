"""Quality levels as the backend applies them to a shot's settings."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from ..catalogue.quality import QualityLevel, read_levels
from ..shot import Settings
from .registry import ModelDefaults, ModelError


@dataclass(frozen=True)
class Quality(QualityLevel):
    """One level; see ``QualityLevel``."""

    def apply(self, settings: Settings, defaults: ModelDefaults) -> Settings:
        """Fill in what the settings leave open; what the animator chose stays."""
        steps = settings.steps if settings.steps is not None else max(1, round(defaults.steps * self.steps))
        guidance = settings.guidance if settings.guidance is not None else self.guidance
        return replace(settings, steps=steps, guidance=guidance)


def list_quality() -> dict[str, Quality]:
    """All levels by id, cheapest first. Raises ModelError when a file cannot be read."""
    try:
        return {level.id: Quality(**asdict(level)) for level in read_levels()}
    except ValueError as error:
        raise ModelError(str(error)) from error
