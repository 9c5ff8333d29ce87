"""What every model checks in a shot's settings, and the size that it makes of them (no torch here)."""

from __future__ import annotations

from math import sqrt

from ..catalogue.models import ModelSpec
from ..shot import Shot
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
    unknown = sorted(set(settings.options) - set(spec.options))
    return [f"{spec.label} has no option {', '.join(unknown)}; left out"] if unknown else []


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


def even(x: float) -> int:
    """The even number nearest to ``x``, at least 2: films have even sides."""
    return max(2, 2 * round(x / 2))


def fit_size(spec: ModelSpec, shot: Shot) -> tuple[tuple[int, int], tuple[int, int], list[str]]:
    """Fit the picture to ``min_size``, ``max_size`` and ``size_multiple`` of a model's limits, at the clip's aspect.

    By default the picture has as many pixels as the model's default size; with ``max_short_side`` among the limits its
    short side is that of the default size, and the result is at the clip's aspect to the pixel.

    Returns:
        (width, height) of the result, (width, height) that the model works at, and notes for the animator.

    Raises:
        EngineError: a size that no model takes.
    """
    settings, clip = shot.settings, shot.clip
    aspect = clip.width / clip.height
    short = int(spec.limits.get("max_short_side", 0))
    for name in ("width", "height"):
        asked = getattr(settings, name)
        if asked is not None and asked < 1:
            raise EngineError(f"settings.{name}", f"{asked} pixels; set at least 1, or leave it to the model")
    if settings.width and settings.height:
        width = min(settings.width, settings.height * aspect)
    elif settings.width or settings.height:
        width = settings.width or (settings.height or 0) * aspect
    elif short:
        width = min(spec.defaults.width, spec.defaults.height) * max(1.0, aspect)
    else:
        width = sqrt(spec.defaults.width * spec.defaults.height * aspect)
    asked = (settings.width, settings.height)
    least, most, multiple = (int(spec.limits[key]) for key in ("min_size", "max_size", "size_multiple"))
    width = max(width, least * max(1.0, aspect))
    width = min(width, most * min(1.0, aspect), short * max(1.0, aspect) if short else width)
    snapped = [max(multiple, multiple * round(side / multiple)) for side in (width, width / aspect)]
    model = (snapped[0], snapped[1])
    # Of the sizes at the clip's aspect, the one asked for, or the one with as many pixels as the model makes.
    scale = width / aspect if short else sqrt(model[0] * model[1] / aspect)
    result = model if model[0] * clip.height == model[1] * clip.width else (even(scale * aspect), even(scale))
    notes = []
    if any(want is not None and want != got for want, got in zip(asked, result, strict=True)):
        wanted = " x ".join("auto" if side is None else str(side) for side in asked)
        notes.append(
            f"Size {wanted} became {result[0]} x {result[1]}: {spec.label} makes {least} to {most} pixels a side, "
            + (f"{short} on the short one" if short else f"in steps of {multiple}")
            + ", at the clip's aspect"
        )
    if result != model:
        how = "the correction of the film is made" if short else "generated"
        notes.append(f"{how.capitalize()} at {model[0]} x {model[1]} and resized to {result[0]} x {result[1]}")
    return result, model, notes


def held_note(frames: int, made: int, why: str = "") -> str:
    """Say that a model made more frames than the clip has; ``why`` follows in brackets."""
    what = "1 frame was" if frames == 1 else f"{frames} frames were"
    reason = f" ({why})" if why else ""
    return f"{what} generated as {made}, holding the last pose; the extra ones were cut off again{reason}"
