"""The options of single models, as the scene remembers them: one entry a model and option that has been looked at."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import bpy

from ...backend.catalogue.lora_choice import ChosenLora, format_loras, parse_loras
from ...backend.catalogue.models import ModelOption, Value
from . import models


def ensure(scene: bpy.types.Scene, model: str) -> bool:
    """Give the scene an entry for every option of a model, so that the panel can show them; whether any was new.

    Panels must not write to the scene while they draw, so this is done beforehand.
    """
    entries = scene.maquette.options
    there = {entry.option for entry in entries if entry.model == model}
    absent = [name for name in models.find(model).options if name not in there]
    for name in absent:
        entry = entries.add()
        entry.name, entry.model, entry.option = f"{model}.{name}", model, name
    return bool(absent)


def entries(scene: bpy.types.Scene, model: str) -> list[tuple[Any, ModelOption]]:
    """The scene's entries for the options that a model has now, in the model's order."""
    found = {entry.option: entry for entry in scene.maquette.options if entry.model == model}
    return [(found[name], each) for name, each in models.find(model).options.items() if name in found]


def chosen(scene: bpy.types.Scene, model: str) -> dict[str, Value]:
    """What the animator has set for a model, by the option's name: what goes into the shot."""
    return {entry.option: value(entry) for entry, _ in entries(scene, model) if entry.stored}


def value(entry: Any) -> Value:
    """An entry's value: what was set, else the model's default, always one that the option can have."""
    described = models.option(entry.model, entry.option)
    if described is None:
        return 0
    try:
        return described.fit(json.loads(entry.stored)) if entry.stored else described.default
    except (ValueError, TypeError):
        return described.default


def store(entry: Any, new: Value) -> None:
    """Set an entry, to the nearest value that the option can have."""
    described = models.option(entry.model, entry.option)
    if described is not None:
        entry.stored = json.dumps(described.fit(new))


def lora_entry(scene: bpy.types.Scene, model: str) -> Any:
    """The scene's entry for the LoRAs of a model; None where it takes none."""
    return next((entry for entry, described in entries(scene, model) if described.type == "loras"), None)


def loras(entry: Any) -> tuple[ChosenLora, ...]:
    """The LoRAs that an entry chooses."""
    described = models.option(entry.model, entry.option)
    return parse_loras(str(value(entry))) if described is not None and described.type == "loras" else ()


def choose_loras(entry: Any, chosen: Iterable[ChosenLora]) -> None:
    """Set them; none is the model as it is."""
    text = format_loras(chosen)
    entry.stored = json.dumps(text) if text else ""


def weigh(entry: Any, weights: Sequence[float]) -> None:
    """Give an entry's LoRAs their weights, in order."""
    # Blender keeps single precision: 0.6 comes back as 0.6000000238.
    choose_loras(
        entry, [replace(each, weight=round(weight, 4)) for each, weight in zip(loras(entry), weights, strict=False)]
    )
