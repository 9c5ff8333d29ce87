"""What every model checks in a shot's settings, and the size that it makes of them (no torch here)."""

from __future__ import annotations

from ..catalogue.models import ModelSpec
from ..catalogue.sizes import shot_size
from ..shot import Character, Shot
from ..shot.cameras import project
from .family import EngineError


def check_settings(spec: ModelSpec, shot: Shot) -> list[str]:
    """Check what no model can take, whatever it is.

    Returns:
        Notes for the animator.

    Raises:
        EngineError: no character, too many of them, steps, guidance or an option out of range.
    """
    settings = shot.settings
    if not shot.characters and spec.inputs.get("characters") == "required":
        raise EngineError("characters", "the shot has no character; mark at least one body as a character")
    most = spec.limits.get("max_characters")
    if most and len(shot.characters) > most:
        names = ", ".join(character.name for character in shot.characters)
        raise EngineError(
            "characters",
            f"{len(shot.characters)} characters ({names}); {spec.label} takes {'one' if most == 1 else most}, so "
            "unmark the others, or make a shot of each",
        )
    if settings.steps is not None and not 1 <= settings.steps <= 1000:
        raise EngineError("settings.steps", f"{settings.steps} steps; choose 1 to 1000")
    if settings.guidance is not None and not 0 <= settings.guidance <= 50:
        raise EngineError("settings.guidance", f"{settings.guidance}; choose 0 to 50 (1 turns guidance off)")
    for name, option in spec.options.items():
        if name in settings.options and (why := option.problem(settings.options[name])):
            raise EngineError(f"settings.options.{name}", f"{option.label} is {why}")
    notes = [
        f"The camera sees nothing of {character.name} in any frame; turn it to the body"
        for character in shot.characters
        if not _in_picture(shot, character)
    ]
    unknown = sorted(set(settings.options) - set(spec.options))
    return [*notes, *([f"{spec.label} has no option {', '.join(unknown)}; left out"] if unknown else [])]


def _in_picture(shot: Shot, character: Character) -> bool:
    """Whether any of a character's points lies in the picture in any frame."""
    clip = shot.clip
    uv, _ = project(character.points, clip.viewmats, clip.Ks)
    return bool(((uv >= 0) & (uv <= (clip.width, clip.height))).all(axis=-1).any())


def option(spec: ModelSpec, shot: Shot, name: str) -> bool | int | float | str:
    """The shot's choice of a model's option, or the default.

    Raises:
        EngineError: a value that the option cannot have.
    """
    found = spec.options[name]
    value = shot.settings.options.get(name, found.default)
    if why := found.problem(value):
        raise EngineError(f"settings.options.{name}", f"{found.label} is {why}")
    return {"int": int, "float": float}.get(found.type, lambda x: x)(value)


def options(spec: ModelSpec, shot: Shot) -> dict[str, bool | int | float | str]:
    """``option`` of all of a model's options."""
    return {name: option(spec, shot, name) for name in spec.options}


def fit_size(spec: ModelSpec, shot: Shot, networks: bool = True) -> tuple[tuple[int, int], tuple[int, int], list[str]]:
    """Fit the picture to ``min_size``, ``max_size`` and ``size_multiple`` of a model's limits, at the clip's aspect.

    Args:
        networks: whether any make it, at the size that the model works at.

    Returns:
        (width, height) of the result, (width, height) that the model works at, and notes for the animator.

    Raises:
        EngineError: a size that no model takes.
    """
    settings, clip = shot.settings, shot.clip
    for name in ("width", "height"):
        asked = getattr(settings, name)
        if asked is not None and asked < 1:
            raise EngineError(f"settings.{name}", f"{asked} pixels; set at least 1, or leave it to the model")
    asked = (settings.width, settings.height)
    default = (spec.defaults.width, spec.defaults.height)
    result, model = shot_size(spec.limits, default, (clip.width, clip.height), options(spec, shot), *asked)
    short = int(spec.limits.get("max_short_side", 0))
    least, most, multiple = (int(spec.limits[key]) for key in ("min_size", "max_size", "size_multiple"))
    notes = []
    if any(want is not None and want != got for want, got in zip(asked, result, strict=True)):
        wanted = " x ".join("auto" if side is None else str(side) for side in asked)
        notes.append(
            f"Size {wanted} became {result[0]} x {result[1]}: {spec.label} makes {least} to {most} pixels a side, "
            + (f"{short} on the short one" if short else f"in steps of {multiple}")
            + ", at the clip's aspect"
        )
    if result != model and networks:
        how = "the correction of the film is made" if short else "generated"
        notes.append(f"{how.capitalize()} at {model[0]} x {model[1]} and resized to {result[0]} x {result[1]}")
    return result, model, notes


def held_note(frames: int, made: int, why: str = "") -> str:
    """Say that a model made more frames than the clip has; ``why`` follows in brackets."""
    what = "1 frame was" if frames == 1 else f"{frames} frames were"
    reason = f" ({why})" if why else ""
    return f"{what} generated as {made}, holding the last pose; the extra ones were cut off again{reason}"
