"""LoRA files: found by name, and held against a model's files by their headers alone (no torch here)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...catalogue.lora_choice import ChosenLora, LoraEntry
from ...catalogue.loras import Recipe, chosen_loras, list_loras, lora_path, loras_home, recipe_for, recipe_of
from ...catalogue.models import ModelSpec
from ...catalogue.reader import CatalogueError
from ...shot import Shot
from ..family import EngineError
from ..weights.component import WeightsError
from ..weights.reading import headers, metadata, weights_in
from .keys import Match, Shape, match, some

FIELD = "settings.options.loras"

TEXTS = "text_encoder_connectors"
"""A part that LoRAs may change beside the transformer."""


@dataclass(frozen=True)
class FoundLora:
    """A chosen LoRA, its file, and which weights of the model it changes."""

    chosen: ChosenLora
    path: Path
    match: Match

    @property
    def variant(self) -> str:
        """Changes whenever what is added does."""
        state = self.path.stat()
        return f"{self.chosen}@{state.st_mtime_ns}:{state.st_size}"


def find_loras(spec: ModelSpec, shot: Shot, part: str = "transformer") -> list[FoundLora]:
    """The shot's LoRAs, each sure to fit the part of the model whose files are here.

    Raises:
        EngineError: one is unknown, damaged, or made for another model.
    """
    try:
        chosen = chosen_loras(spec, shot.settings.options)
    except ValueError as error:
        raise EngineError(FIELD, str(error)) from error
    found = []
    for each in chosen:
        path = lora_path(each.name)
        if path is None:
            raise EngineError(FIELD, f"no LoRA {each.name[:80]!r} in {loras_home()}; {_choices(list_loras())}")
        try:
            held = held_against(path, spec, part)
        except WeightsError as error:
            raise EngineError(FIELD, f"{each.name}: {error}") from error
        if why := _why_not(held, spec, part):
            raise EngineError(FIELD, f"{each.name} cannot be used: {why}")
        found.append(FoundLora(each, path, held))
    return found


def _choices(there: Mapping[str, Path]) -> str:
    if not there:
        return "put its file there, or take it off the list"
    return f"choose one of {', '.join(list(there)[:8])}" + (f" and {len(there) - 8} more" if len(there) > 8 else "")


def lora_notes(spec: ModelSpec, shot: Shot) -> list[str]:
    """What is told of the shot's LoRAs before the job is queued. Raises EngineError as ``find_loras``."""
    found = find_loras(spec, shot)
    if not found:
        return []
    notes = ["With " + ", ".join(f"{each.chosen.name} ({each.chosen.weight:g})" for each in found)]
    notes += [note for each in found if (note := each.match.note(each.chosen.name, spec.label))]
    if (wanted := _recipe(each.chosen for each in found)) is not None:
        lora, recipe = wanted
        settings = shot.settings
        own = [
            f"{name} {value:g}"
            for name, value, meant in (
                ("steps", settings.steps, recipe.steps),
                ("guidance", settings.guidance, recipe.guidance),
            )
            if value is not None and meant is not None and value != meant
        ]
        notes.append(
            f"{lora.name} is made for {recipe.words()}"
            + (f"; the shot's own {' and '.join(own)} stayed" if own else ", which were taken")
        )
    return notes


def _recipe(chosen: Iterable[ChosenLora]) -> tuple[ChosenLora, Recipe] | None:
    try:
        return recipe_for(chosen)
    except CatalogueError as error:
        raise EngineError(FIELD, str(error)) from error


def recipe_of_shot(spec: ModelSpec, shot: Shot) -> Recipe | None:
    """What the shot's LoRAs want of the sampler; None leaves it to the model. Raises EngineError."""
    wanted = _recipe(chosen_loras(spec, shot.settings.options))
    return None if wanted is None else wanted[1]


def shift_of(spec: ModelSpec, shot: Shot) -> float | None:
    """How far the shot's LoRAs want the noise shifted; None leaves it to the model. Raises EngineError."""
    recipe = recipe_of_shot(spec, shot)
    return None if recipe is None else recipe.shift


def entries(spec: ModelSpec, part: str = "transformer") -> tuple[LoraEntry, ...]:
    """Every LoRA here as a backend tells it of one model: whether it fits, and what it wants of the sampler."""
    told = []
    for name, path in list_loras().items():
        recipe, why = None, ""
        try:
            recipe = recipe_of(name, path)
            why = _why_not(held_against(path, spec, part), spec, part)
            size = path.stat().st_size
        except (WeightsError, CatalogueError) as error:
            why, size = str(error), 0
        except OSError:
            continue
        wants = {} if recipe is None else {key: getattr(recipe, key) for key in ("steps", "guidance", "shift")}
        told.append(LoraEntry(name, why, round(size / 1e6, 1), **wants))
    return tuple(told)


def _why_not(held: Match, spec: ModelSpec, part: str) -> str:
    """Why a LoRA cannot be used with a part of a model as its files are here, or empty."""
    if why := held.problem(spec.label):
        return why
    kept = {key for key, entry in headers(weights_in(spec.folder / part)).items() if entry.held}
    if mixed := [each.key for each in held.changes if each.parameter in kept and not each.is_pair]:
        return (
            f"{some(mixed)} of weights that are quantised here (GGUF), beside which only plain LoRAs can run; add the "
            "published files of the model instead"
        )
    return ""


def held_against(path: Path, spec: ModelSpec, part: str) -> Match:
    """A LoRA's keys against a part of a model; keys of ``TEXTS`` are foreign to no other part. Raises WeightsError for
    a damaged file."""
    files, texts = (tuple(weights_in(spec.folder / name)) for name in (part, TEXTS))
    found = _held(path, _state(path), files, tuple(map(_state, files)))
    if part == TEXTS or not texts or not found.foreign:
        return found
    used = {key for change in held_against(path, spec, TEXTS).changes for key in (*change.keys, change.alpha)}
    return replace(found, foreign=[key for key in found.foreign if key not in used])


def of_texts(spec: ModelSpec, loras: Iterable[FoundLora]) -> list[FoundLora]:
    """What the same LoRAs change of ``TEXTS``; those that change nothing of it are not among them."""
    found = [replace(lora, match=held_against(lora.path, spec, TEXTS)) for lora in loras]
    return [lora for lora in found if lora.match.changes]


def _state(path: Path) -> tuple[int, int]:
    try:
        state = path.stat()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from error
    return state.st_mtime_ns, state.st_size


@lru_cache(maxsize=256)
def _held(path: Path, _when: tuple[int, int], files: tuple[Path, ...], _whens: tuple[tuple[int, int], ...]) -> Match:
    return match(_shapes([path]), _shapes(files))


def _shapes(files: Iterable[Path]) -> dict[str, Shape]:
    return {key: entry.shape for key, entry in headers(files).items()}


def scales(lora: FoundLora, ranks: Mapping[str, int], alphas: Mapping[str, float]) -> dict[str, float]:
    """The factor of every change by its first key, from the file's alphas or else from what peft was told.

    Args:
        ranks: of each change that has one, by its first key.
        alphas: value of each key of an alpha.
    """
    told, factors = _peft(lora.path), {}
    for change in lora.match.changes:
        key, rank = change.key, ranks.get(change.key)
        alpha = alphas.get(change.alpha)
        if rank is None:
            # A difference, or a LoKr of two whole factors: nothing of it has a rank to be divided by.
            factors[key] = 1.0
        elif alpha is not None:
            factors[key] = alpha / rank
        else:
            alpha = _peft_alpha(told, change.parameter.removesuffix(".weight"))
            by = math.sqrt(rank) if told.get("use_rslora") is True else rank
            factors[key] = 1.0 if alpha is None else alpha / by
    return factors


def _peft(path: Path) -> Mapping[str, Any]:
    """What peft was told, as diffusers keeps it in the header; empty where it does not."""
    try:
        told = json.loads(metadata(path)["lora_adapter_metadata"])
        return {key.removeprefix("transformer."): value for key, value in told.items()}
    except (LookupError, ValueError, AttributeError):
        return {}


def _peft_alpha(told: Mapping[str, Any], module: str) -> float | None:
    """peft's alpha for a module: that of the first pattern which ends its name, else the one of all."""
    alpha, patterns = told.get("lora_alpha"), told.get("alpha_pattern")
    for pattern, own in (patterns if isinstance(patterns, dict) else {}).items():
        # Patterns are names in practice; as regular expressions a file could make them run for ever.
        if module == pattern or module.endswith(f".{pattern}"):
            alpha = own
            break
    return float(alpha) if isinstance(alpha, (int, float)) and not isinstance(alpha, bool) else None
