"""Fit a shot to what control models take, and say so (no torch here)."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any

from ...catalogue.loras import Recipe, recipe_of
from ...catalogue.models import ModelError, ModelSpec
from ...shot import Clip, Shot
from ..family import EngineError, Plan
from ..lora.files import lora_notes
from ..settings import check_settings, fit_size, held_note, option
from ..windows import even_windows

GROUP = 4
"""Frames of a latent frame of Wan's; latent 0 holds one."""

GROUPS = {"vace": GROUP, "animate": GROUP, "ltx": 8}
"""The kinds of models (how they are led and how they make long films), and frames of a latent frame."""


DISTILLED = "distilled_lora"
"""The part that is a model's own few-step LoRA."""


def sampling(spec: ModelSpec) -> Mapping[str, Any]:
    """How a model samples: the ``[sampling]`` table of its description, empty where it has none."""
    return spec.components.get("sampling", {})


def base(spec: ModelSpec) -> str:
    """One of ``GROUPS``. Raises ModelError for another."""
    found = sampling(spec).get("base", "vace")
    if found not in GROUPS:
        raise ModelError(f"{spec.id}.toml: sampling.base is {found!r}; make it one of {', '.join(GROUPS)}")
    return str(found)


def own_lora(spec: ModelSpec, name: str) -> Path:
    """A LoRA that a model itself comes with, by the name of its part."""
    return spec.folder / name / "diffusion_pytorch_model.safetensors"


def few_steps(spec: ModelSpec, shot: Shot) -> Recipe | None:
    """What the model's own few-step LoRA wants of the sampler, where it is asked for. Raises EngineError when its file
    is not there."""
    if "few_steps" not in spec.options or not option(spec, shot, "few_steps"):
        return None
    if not own_lora(spec, DISTILLED).is_file():
        label = spec.options["few_steps"].label
        raise EngineError(
            "settings.options.few_steps",
            f"the few-step LoRA of {spec.label} is not in {spec.folder / DISTILLED}; get it (maquette models fetch "
            f"{spec.id} --component {DISTILLED}), or turn {label} off",
        )
    return recipe_of(str(sampling(spec)["few_steps"]))


def model_rate(spec: ModelSpec, shot: Shot) -> float:
    """Frames a second that the model makes."""
    return float(option(spec, shot, "frame_rate") if "frame_rate" in spec.options else spec.limits["fps"])


def frames_in_time(clip: Clip, rate: float) -> int:
    """Frames at the model's rate from the clip's first moment to its last, both included."""
    return ceil((clip.frames - 1) * rate / clip.fps - 1e-6) + 1


def snap_frames(spec: ModelSpec, frames: int) -> int:
    """The smallest 1 + 4k (LTX: 1 + 8k) that holds ``frames``, and that the model takes."""
    group = GROUPS[base(spec)]
    return 1 + -(-(max(frames, int(spec.memory["least_frames"])) - 1) // group) * group


def segments(spec: ModelSpec, frames: int, overlap: int) -> list[tuple[int, int]]:
    """Frames (start, stop) of the segments of a film that holds ``frames``, each of which goes on from the last
    ``overlap`` of the one before: as few as can be, equally long, so that hardly a frame is made for nothing."""
    most = int(spec.limits["window_frames"])
    if frames <= most:
        return [(0, snap_frames(spec, frames))]
    count = ceil((frames - overlap) / (most - overlap))
    length = snap_frames(spec, ceil((frames - overlap) / count) + overlap)
    return [(start, start + length) for start in range(0, count * (length - overlap), length - overlap)]


def latent_windows(spec: ModelSpec, frames: int) -> list[range]:
    """Latent frames of a film of 1 + 4k frames that are denoised together."""
    window, overlap = (int(spec.limits[name]) // GROUP for name in ("window_frames", "window_overlap"))
    return even_windows(1 + frames // GROUP, 1 + window, overlap)


def make_plan(spec: ModelSpec, shot: Shot) -> Plan:
    """What a model will make of a shot.

    Raises:
        EngineError: too many frames, nothing to be kept where something is to be kept, or settings that it cannot have.
        ModelError: the description names a base that there is not.
    """
    kind, clip = base(spec), shot.clip
    notes = [*check_settings(spec, shot), *lora_notes(spec, shot)]
    rate = model_rate(spec, shot)
    most = int(spec.limits["max_frames"])
    if clip.frames > most:
        raise EngineError("clip", f"{clip.frames} frames; {spec.label} makes at most {most}, so shorten the range")
    (width, height), model_size, about = fit_size(spec, shot)
    notes += about
    count = frames_in_time(clip, rate)
    if kind == "vace":
        frames = snap_frames(spec, count)
        windows = [(max(0, GROUP * part[0] - 3), GROUP * part[-1] + 1) for part in latent_windows(spec, frames)]
    else:
        windows = segments(spec, count, int(option(spec, shot, "overlap")))
        frames = windows[-1][1]
    if abs(clip.fps - rate) > 1e-6:
        notes.append(
            f"{spec.label} makes {rate:g} frames per second: {clip.frames} at {clip.fps:g} were made as {count} at "
            f"{rate:g}, and the scene's own motion made those between them; the film lasts as long as the range"
        )
    if frames != count:
        group = GROUPS[kind]
        least = f", {frames} at least" * (len(windows) == 1 and frames >= count + group)
        notes.append(held_note(count, frames, f"the model takes {group}k+1" + least))
    if len(windows) > 1:
        how = (
            "overlapping windows, fused at every step"
            if kind == "vace"
            else f"segments of {windows[0][1]}, each going on from the end of the one before"
        )
        notes.append(
            f"{frames} frames are longer than {spec.label}'s window of {int(spec.limits['window_frames'])}: generated "
            f"in {len(windows)} {how}"
        )
    notes += {"vace": _leads, "animate": _animated, "ltx": _in_context}[kind](spec, shot)
    return Plan(width, height, clip.frames, tuple(windows), tuple(notes), model_size, frames)


def _animated(spec: ModelSpec, shot: Shot) -> list[str]:
    """What is said of what leads a person's film. Raises EngineError."""
    person, notes = shot.characters[0], []
    if person.reference is None:
        raise EngineError(
            "characters[0].reference", f"{person.name} has no reference picture; set its reference to Render or Picture"
        )
    if person.keypoints is None and person.joints is None:
        raise EngineError(
            "characters[0].keypoints", f"{person.name} has no bones that Maquette knows, so that no pose can be drawn"
        )
    if option(spec, shot, "mode") == "replace" and shot.background.kind == "none":
        raise EngineError(
            "settings.options.mode",
            f"the shot has no background to put {person.name} into; give it one, or set {spec.options['mode'].label} "
            "to animate",
        )
    return [*notes, *_trained_rate(spec, shot)]


def _trained_rate(spec: ModelSpec, shot: Shot) -> list[str]:
    if float(option(spec, shot, "frame_rate")) == spec.limits["fps"]:
        return []
    return [f"{spec.label} was trained at {spec.limits['fps']:g} frames per second"]


def _in_context(spec: ModelSpec, shot: Shot) -> list[str]:
    """What is said of what leads LTX. Raises EngineError."""
    notes = _led(spec, shot)
    if option(spec, shot, "control") == "none" and not option(spec, shot, "keyframes"):
        notes.append("Neither a control film nor keyframes: only the prompt leads")
    if (recipe := few_steps(spec, shot)) is not None:
        notes.append(f"Few steps: {recipe.words()}")
    return [*notes, *_trained_rate(spec, shot)]


def _led(spec: ModelSpec, shot: Shot) -> list[str]:
    """What is said of every shot that a control film and a prompt lead. Raises EngineError."""
    if option(spec, shot, "control") == "pose" and not shot.characters:
        raise EngineError("characters", "poses are drawn of characters; mark at least one body as a character")
    return [] if shot.prompt.strip() else ["No prompt: the model does best when it is told what the film shows"]


def _leads(spec: ModelSpec, shot: Shot) -> list[str]:
    """What is said of what leads the film. Raises EngineError."""
    kind, keep = (str(option(spec, shot, name)) for name in ("control", "keep"))
    label = spec.options["keep"].label
    if keep == "background" and shot.background.kind == "none":
        raise EngineError(
            "settings.options.keep", f"the shot has no background; give it one, or set {label} to nothing"
        )
    if keep == "known" and shot.background.kind == "none" and not any(c.references for c in shot.characters):
        raise EngineError(
            "settings.options.keep",
            f"neither looks nor a background are known; give the shot one of them, or set {label} to nothing",
        )
    if keep == "background" and not shot.characters:
        raise EngineError(
            "characters", f"all is kept but the characters, and there are none; mark one, or set {label} to nothing"
        )
    notes = _led(spec, shot)
    if kind == "none" and keep == "nothing":
        notes.insert(0, "Neither a control film nor anything that is kept: only the prompt and the references lead")
    bare = ", ".join(character.name for character in shot.characters if not character.references)
    if bare and option(spec, shot, "references"):
        notes.append(f"No reference picture for {bare}: its looks come from the prompt")
    return notes
