"""LoRAs: the user's own files in one folder, and what the few-step ones among them want of the sampler.

A LoRA's name is its file's path in the folder without the ending, with forward slashes; only what the folder lists can
be named.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from .lora_choice import ChosenLora, parse_loras
from .models import ModelSpec, weights_home
from .reader import PRESETS, Preset, list_presets, read_preset

OPTION = "loras"
"""The option of a model that chooses them."""

ENDING = ".safetensors"

_DEPTH = 4
"""Folders below the folder that are looked into; a link back up does not go on for ever."""


@dataclass(frozen=True)
class Recipe(Preset):
    """Sampler settings that a kind of few-step LoRA was made for: a file in ``presets/loras``, or one beside the LoRA
    with its name.

    Attributes:
        match: pieces of names of files, in small letters.
        steps, guidance, shift: of the sampler; None leaves the model's own.
        sigmas: noise before each of the steps, where these are not spread by a rule; other numbers of steps do without.
    """

    FOLDER: ClassVar[Path] = PRESETS / "loras"
    match: tuple[str, ...] = ()
    steps: int | None = None
    guidance: float | None = None
    shift: float | None = None
    sigmas: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ValueError("steps must be at least 1")
        if self.sigmas and (len(self.sigmas) != self.steps or list(self.sigmas) != sorted(self.sigmas, reverse=True)):
            raise ValueError("sigmas must be as many as steps, each below the one before")

    def words(self) -> str:
        """``4 steps, guidance 1, shift 5``."""
        steps = "" if self.steps is None else "1 step" if self.steps == 1 else f"{self.steps} steps"
        rest = [f"{name} {value:g}" for name, value in self._numbers().items() if value is not None]
        return ", ".join([steps, *rest] if steps else rest)

    def _numbers(self) -> dict[str, float | None]:
        return {"guidance": self.guidance, "shift": self.shift}


def loras_home() -> Path:
    """The folder of the user's LoRAs, beside the models' weights."""
    return weights_home() / "loras"


def list_loras(folder: Path | None = None) -> dict[str, Path]:
    """Every LoRA of the folder by name; linked folders count."""
    home = folder or loras_home()
    found: dict[str, Path] = {}
    for at, folders, names in os.walk(home, followlinks=True):
        inside = Path(at).relative_to(home)
        if len(inside.parts) >= _DEPTH:
            folders.clear()
        for name in names:
            if name.endswith(ENDING) and not name.startswith("."):
                found[(inside / name.removesuffix(ENDING)).as_posix()] = Path(at) / name
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def lora_path(name: str) -> Path | None:
    """The file of a LoRA that ``list_loras`` lists by that name, found without a walk; None where there is none."""
    parts = name.split("/")
    if len(parts) > _DEPTH + 1 or parts[-1].startswith(".") or any(part in ("", ".", "..") for part in parts):
        return None
    if set(name) & {"\\", "\0", ":"}:
        return None  # Windows would take these for folders and drives.
    path = loras_home().joinpath(*parts[:-1], f"{parts[-1]}{ENDING}")
    try:
        return path if path.is_file() else None
    except OSError:
        return None


def chosen_loras(spec: ModelSpec, options: Mapping[str, object]) -> tuple[ChosenLora, ...]:
    """The LoRAs among a shot's options; none where the model takes none. Raises ValueError as ``parse_loras``."""
    return parse_loras(str(options.get(OPTION, ""))) if OPTION in spec.options else ()


def recipe_of(name: str, path: Path | None = None) -> Recipe | None:
    """What a LoRA wants of the sampler: the file beside it says so, else its name; None for an ordinary one.

    Raises:
        CatalogueError: the file beside it cannot be used.
    """
    beside = None if path is None else path.with_suffix(".toml")
    if beside is not None and beside.is_file():
        return read_preset(Recipe, beside)
    small = name.rpartition("/")[2].lower()
    return next((each for each in _recipes() if any(piece in small for piece in each.match)), None)


@lru_cache(maxsize=1)
def _recipes() -> tuple[Recipe, ...]:
    return tuple(list_presets(Recipe).values())


def recipe_for(chosen: Iterable[ChosenLora]) -> tuple[ChosenLora, Recipe] | None:
    """The first of the chosen LoRAs that wants something of the sampler, where it has any weight; else None.

    Raises:
        CatalogueError: the file beside one cannot be used.
    """
    for each in chosen:
        recipe = recipe_of(each.name, lora_path(each.name)) if each.weight else None
        if recipe is not None:
            return each, recipe
    return None
