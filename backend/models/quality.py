"""Quality levels as the backend applies them to a shot's settings."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from ..catalogue.models import ModelDefaults, ModelError
from ..catalogue.quality import QualityLevel, read_levels
from ..shot import Settings, Shot
from .family import EngineError


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


def level_of(shot: Shot) -> Quality | None:
    """The level that a shot asks for, or None. Raises EngineError for one that does not exist."""
    name = shot.settings.quality
    if name is None:
        return None
    levels = list_quality()
    if name not in levels:
        raise EngineError("settings.quality", f"no level {name!r}; choose one of {', '.join(levels)}")
    return levels[name]


def is_draft(shot: Shot) -> bool:
    """Whether the carried film alone is asked for. Raises EngineError for a level that does not exist."""
    level = level_of(shot)
    return level is not None and level.carried


def settled(shot: Shot, defaults: ModelDefaults) -> Shot:
    """The shot with its level's steps and guidance where it leaves them open. Raises EngineError as ``level_of``."""
    level = level_of(shot)
    return shot if level is None else replace(shot, settings=level.apply(shot.settings, defaults))
