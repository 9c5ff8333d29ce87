"""Fit a shot to what a model takes, and say so (no torch here)."""

from __future__ import annotations

from math import sqrt

from ..shot import Shot
from .engine import EngineError, Plan
from .registry import ModelSpec
from .windows import fusion_windows

_GROUP = 4
"""Frames of a latent frame; latent 0 holds one."""


def snap_frames(frames: int) -> int:
    """The smallest 1 + 4k that holds ``frames``."""
    return 1 + -(-(frames - 1) // _GROUP) * _GROUP


def window_latents(spec: ModelSpec) -> tuple[int, int]:
    """A model's window and overlap in latent frames."""
    window = 1 + (snap_frames(int(spec.limits["window_frames"])) - 1) // _GROUP
    return window, int(spec.limits.get("window_overlap", 0)) // _GROUP


def _even(x: float) -> int:
    return max(2, 2 * round(x / 2))


def _sizes(spec: ModelSpec, shot: Shot) -> tuple[tuple[int, int], tuple[int, int], tuple[str, ...]]:
    """(width, height) of the result and of the model's picture, and notes."""
    settings, clip = shot.settings, shot.clip
    aspect = clip.width / clip.height
    for name in ("width", "height"):
        asked = getattr(settings, name)
        if asked is not None and asked < 1:
            raise EngineError(f"settings.{name}", f"{asked} pixels; set at least 1, or leave it to the model")
    if settings.width and settings.height:
        width = min(settings.width, settings.height * aspect)
    elif settings.width or settings.height:
        width = settings.width or (settings.height or 0) * aspect
    else:
        width = sqrt(spec.defaults.width * spec.defaults.height * aspect)
    asked = (settings.width, settings.height)
    least, most, multiple = (int(spec.limits[key]) for key in ("min_size", "max_size", "size_multiple"))
    width = max(width, least * max(1.0, aspect))
    width = min(width, most * min(1.0, aspect))
    snapped = [max(multiple, multiple * round(side / multiple)) for side in (width, width / aspect)]
    model = (snapped[0], snapped[1])
    # Of the sizes at the clip's aspect, the one with as many pixels as the model makes.
    scale = sqrt(model[0] * model[1] / aspect)
    result = model if model[0] * clip.height == model[1] * clip.width else (_even(scale * aspect), _even(scale))
    notes = []
    if any(want is not None and want != got for want, got in zip(asked, result, strict=True)):
        wanted = " x ".join("auto" if side is None else str(side) for side in asked)
        notes.append(
            f"Size {wanted} became {result[0]} x {result[1]}: {spec.label} makes {least} to {most} pixels a side in "
            f"steps of {multiple}, at the clip's aspect"
        )
    if result != model:
        notes.append(f"Generated at {model[0]} x {model[1]} and resized to {result[0]} x {result[1]}")
    return result, model, tuple(notes)


def make_plan(spec: ModelSpec, shot: Shot) -> Plan:
    """What a model will make of a shot.

    Raises:
        EngineError: no character, too many frames, or settings that no model takes.
    """
    settings, clip = shot.settings, shot.clip
    if not shot.characters and spec.inputs.get("characters") == "required":
        raise EngineError("characters", "the shot has no character; mark at least one body as a character")
    if settings.steps is not None and not 1 <= settings.steps <= 1000:
        raise EngineError("settings.steps", f"{settings.steps} steps; choose 1 to 1000")
    if settings.guidance is not None and not 0 <= settings.guidance <= 50:
        raise EngineError("settings.guidance", f"{settings.guidance}; choose 0 to 50 (1 turns guidance off)")
    most = int(spec.limits.get("max_frames", 0))
    if most and clip.frames > most:
        raise EngineError("clip", f"{clip.frames} frames; {spec.label} makes at most {most}, so shorten the range")
    (width, height), model_size, notes = _sizes(spec, shot)
    frames = snap_frames(clip.frames)
    notes = list(notes)
    if frames != clip.frames:
        notes.append(
            f"{clip.frames} frames were generated as {frames}, holding the last pose; the extra ones were cut off "
            "again (the model takes 4k+1)"
        )
    window, overlap = window_latents(spec)
    lists = fusion_windows(1 + (frames - 1) // _GROUP, window, overlap)
    windows = tuple(
        (0 if latents[1:2] in ([], [1]) else 1 + _GROUP * (latents[1] - 1), 1 + _GROUP * latents[-1])
        for latents in lists
    )
    if len(windows) > 1:
        notes.append(
            f"{frames} frames are longer than {spec.label}'s window of {1 + _GROUP * (window - 1)}: generated in "
            f"{len(windows)} overlapping windows, fused at every step"
        )
    points = int(spec.limits["points"])
    if any(character.points.shape[1] > points for character in shot.characters):
        notes.append(f"{spec.label} uses {points} of each character's points, evenly chosen")
    bare = ", ".join(character.name for character in shot.characters if character.reference is None)
    if bare and spec.inputs.get("reference") == "required":
        raise EngineError("characters", f"{bare} without a reference picture; {spec.label} needs one")
    if bare:
        notes.append(f"No reference picture for {bare}: the model invents the looks")
    return Plan(width, height, clip.frames, windows, tuple(notes), model_size, frames)
