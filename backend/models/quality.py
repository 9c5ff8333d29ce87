"""Quality levels as the backend applies them to a shot's settings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..catalogue.loras import chosen_loras, recipe_for
from ..catalogue.models import ModelDefaults, ModelSpec
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


def settled(shot: Shot, spec: ModelSpec) -> Shot:
    """The shot with its level's steps and guidance where it leaves them open; few-step LoRAs have their own.

    Raises:
        EngineError: as ``level_of``, or LoRAs that cannot be read.
    """
    level, meant, settings = level_of(shot), lora_settings(spec, shot), shot.settings
    if level is not None:
        defaults = replace(spec.defaults, steps=meant.get("steps", spec.defaults.steps))
        settings = apply(level, settings, defaults)
    own = {name: value for name, value in meant.items() if getattr(shot.settings, name) is None}
    if level is not None:
        own.pop("steps", None)
    return replace(shot, settings=replace(settings, **own))


def lora_settings(spec: ModelSpec, shot: Shot) -> dict[str, Any]:
    """The steps and the guidance that the shot's LoRAs are made for, as far as they say. Raises EngineError."""
    try:
        wanted = recipe_for(chosen_loras(spec, shot.settings.options))
    except ValueError as error:
        raise EngineError("settings.options.loras", str(error)) from error
    recipe = None if wanted is None else wanted[1]
    meant = {name: getattr(recipe, name, None) for name in ("steps", "guidance")}
    return {name: value for name, value in meant.items() if value is not None}
