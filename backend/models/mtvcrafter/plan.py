"""Fit a shot to what MTVCrafter takes, and say so (no torch here)."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np

from ...catalogue.models import ModelSpec
from ...catalogue.sizes import further_sizes, model_sizes, nearest_size, shot_size
from ...shot import Character, Shot
from ...shot.framing import framing
from ..family import EngineError, Plan
from ..lora.files import lora_notes
from ..settings import check_settings, held_note, option, options
from ..start_picture import moved

LORA = "lora/diffusion_pytorch_model.safetensors"
"""Where the few-step weights lie below a model's folder."""

_GROUP = 4
"""Frames of a latent frame; latent 0 holds one."""

_MOSTLY = 0.5

_ANOTHER_POSE = 0.15
"""Metres that a spot of the body may lie elsewhere in the reference's camera than in the shot's first one."""


def sampling(spec: ModelSpec) -> dict[str, Any]:
    """How a model samples: the ``[sampling]`` table of its description."""
    return dict(spec.components["sampling"])


def few_steps(spec: ModelSpec, shot: Shot) -> bool:
    """Whether the few-step LoRA is asked for. Raises EngineError when it is and its file is not there."""
    if "few_steps" not in spec.options or not option(spec, shot, "few_steps"):
        return False
    if not (spec.folder / LORA).is_file():
        raise EngineError(
            "settings.options.few_steps",
            f"the few-step LoRA of {spec.label} is not in {spec.folder / 'lora'}; get it (maquette models add "
            f"{spec.id}), or turn few steps off",
        )
    return True


def steps_and_guidance(spec: ModelSpec, shot: Shot) -> tuple[int, float]:
    """Denoising steps and guidance of a shot; the few-step LoRA has its own number at most and takes no guidance."""
    settings, defaults = shot.settings, spec.defaults
    steps = defaults.steps if settings.steps is None else settings.steps
    if few_steps(spec, shot):
        return min(steps, int(sampling(spec)["few_steps"])), 1.0
    return steps, float(defaults.guidance if settings.guidance is None else settings.guidance)


def sizes(spec: ModelSpec) -> list[tuple[int, int]]:
    """Every (width, height) that a model makes, see ``catalogue.sizes.model_sizes``."""
    return model_sizes(spec.limits, (spec.defaults.width, spec.defaults.height))


def lies_in_the_middle(spec: ModelSpec) -> bool:
    """Whether a model makes the middle of the clip's picture, at sizes of its own, rather than all of it."""
    return len(sizes(spec)) == 1


def _covered(size: tuple[int, int], aspect: float) -> float:
    """Share of the clip's picture that a picture of this size in its middle covers."""
    own = size[0] / size[1]
    return min(own, aspect) / max(own, aspect)


def _fit_size(spec: ModelSpec, shot: Shot) -> tuple[tuple[int, int], tuple[int, int], list[str]]:
    """(width, height) of the result and of the model's picture, and notes."""
    clip, settings = shot.clip, shot.settings
    aspect = clip.width / clip.height
    default = spec.defaults.width, spec.defaults.height
    result, model = shot_size(spec.limits, default, (clip.width, clip.height), options(spec, shot))
    notes = []
    if result != model and lies_in_the_middle(spec):
        notes.append(_in_the_middle(spec, shot, model, aspect))
    elif result != model:
        notes.append(f"Generated at {model[0]} x {model[1]} and resized to {result[0]} x {result[1]}")
    asked = (settings.width, settings.height)
    for name, side in zip(("width", "height"), asked, strict=True):
        if side is not None and side < 1:
            raise EngineError(f"settings.{name}", f"{side} pixels; set at least 1, or leave it to the model")
    if any(want is not None and want != got for want, got in zip(asked, result, strict=True)):
        wanted = " x ".join("auto" if side is None else str(side) for side in asked)
        notes.append(
            f"Size {wanted} became {result[0]} x {result[1]}: {spec.label} makes about "
            f"{spec.defaults.width} x {spec.defaults.height} pixels in all, at the clip's aspect"
        )
    return result, model, notes


def _in_the_middle(spec: ModelSpec, shot: Shot, model: tuple[int, int], aspect: float) -> str:
    """What is beside a picture that does not reach the clip's edges, and what to choose for more of it."""
    beside = str(option(spec, shot, "beside"))
    if beside == "background" and shot.background.kind == "none":
        beside = "black"
    words = {"background": "the background", "carried": "the carried film", "black": "black"}[beside]
    said = (
        f"{spec.label} makes {model[0]} x {model[1]}: the middle of the picture, {_covered(model, aspect):.0%} of it, "
        f"with {words} beside it ({spec.options['beside'].label})"
    )
    other = nearest_size([model, *further_sizes(spec.limits)], aspect)
    more = ""
    if other != model:
        more = (
            f"set {spec.options['picture'].label} to frame for {other[0]} x {other[1]}, which covers "
            f"{_covered(other, aspect):.0%}, or "
        )
    return f"{said}; {more}choose a model that takes the clip's shape"


def _fit_frames(spec: ModelSpec, frames: int) -> tuple[tuple[tuple[int, int], ...], list[str]]:
    """(start, stop) of every window, and notes."""
    window, overlap = int(spec.limits["window_frames"]), int(spec.limits.get("window_overlap", 0))
    most = int(spec.limits["max_frames"])
    if frames > most:
        cure = f"shorten the range to {most}" + (
            ", or choose a model that takes more" if most == window else " or make it in parts"
        )
        raise EngineError("clip", f"{frames} frames; {spec.label} makes at most {most}, so {cure}")
    count = 1 + max(0, ceil((frames - window) / (window - overlap)))
    starts = [i * (window - overlap) for i in range(count)]
    windows = tuple((start, start + window) for start in starts)
    notes = []
    if count > 1:
        notes.append(
            f"{frames} frames are longer than {spec.label}'s window of {window}: generated in {count} windows, each "
            f"led by the last {overlap} frames before it"
        )
    if windows[-1][1] != frames:
        notes.append(held_note(frames, windows[-1][1]))
    return windows, notes


def _is_another_moment(character: Character, viewmat: np.ndarray) -> bool:
    """Whether a reference shows its character otherwise than the shot's first frame does."""
    reference = character.reference
    return reference is not None and moved(reference, character.points[0], viewmat) > _ANOTHER_POSE


def make_plan(spec: ModelSpec, shot: Shot) -> Plan:
    """What MTVCrafter will make of a shot.

    Raises:
        EngineError: not exactly one character, no reference, no joints, a body behind the camera, too many frames, or
            settings that the model cannot have.
    """
    notes = [*check_settings(spec, shot), *lora_notes(spec, shot)]
    character, clip = shot.characters[0], shot.clip
    if character.joints is None:
        raise EngineError(
            "characters[0].joints",
            f"{character.name} has no joints and {spec.label} is led by them alone; use a rigged body whose bones "
            "map to the 24 joints",
        )
    if character.reference is None:
        raise EngineError(
            "characters[0].reference",
            f"{character.name} has no reference picture and {spec.label} takes its looks from one; set its reference "
            "to Render or Picture",
        )
    measured = framing(character.joints, clip.viewmats, clip.Ks, clip.width, clip.height)
    if measured.behind > _MOSTLY:
        raise EngineError(
            "clip.viewmats",
            f"{character.name} is behind the camera for {measured.behind:.0%} of its joints; point the camera at it",
        )
    (width, height), model_size, about = _fit_size(spec, shot)
    windows, about_frames = _fit_frames(spec, clip.frames)
    notes += [*about, *about_frames]
    if few_steps(spec, shot):
        notes.append(f"Few steps: {steps_and_guidance(spec, shot)[0]} denoising steps without guidance")
    if spec.inputs.get("prompt") == "ignored":
        if shot.prompt:
            notes.append(f"{spec.label} takes no text: the prompt is left out")
    elif not shot.prompt.strip():
        notes.append(f'No prompt: the model is told "{sampling(spec)["prompt"]}"')
    if spec.limits.get("first_frame_reference") and _is_another_moment(character, clip.viewmats[0]):
        notes.append(
            f"The film begins with the reference picture itself, and {character.name} was taken in another pose or by "
            "another camera there: expect a jump at the start, or set the reference to the shot's first frame"
        )
    notes += measured.warnings(character.name)
    return Plan(width, height, clip.frames, windows, tuple(notes), model_size, windows[-1][1])
