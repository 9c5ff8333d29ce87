"""Quality levels as the backend applies them to a shot's settings."""

from __future__ import annotations

from dataclasses import replace

from ..catalogue.models import ModelDefaults
from ..catalogue.quality import QualityLevel, list_quality
from ..shot import Settings, Shot
from .family import EngineError


def apply(level: QualityLevel, settings: Settings, defaults: ModelDefaults) -> Settings:
    """Fill in what the settings leave open; what the animator chose stays."""
    steps = settings.steps if settings.steps is not None else max(1, round(defaults.steps * level.steps))
    guidance = settings.guidance if settings.guidance is not None else level.guidance
    return replace(settings, steps=steps, guidance=guidance)


def level_of(shot: Shot) -> QualityLevel | None:
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
    return shot if level is None else replace(shot, settings=apply(level, shot.settings, defaults))
