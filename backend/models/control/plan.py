"""Fit a shot to what VACE takes, and say so (no torch here)."""

from __future__ import annotations

from math import ceil

from ...catalogue.models import ModelSpec
from ...shot import Clip, Shot
from ..family import EngineError, Plan
from ..lora.files import lora_notes
from ..settings import check_settings, fit_size, held_note, option
from ..windows import even_windows

GROUP = 4
"""Frames of a latent frame; latent 0 holds one."""


def frames_in_time(spec: ModelSpec, clip: Clip) -> int:
    """Frames at the model's rate from the clip's first moment to its last, both included."""
    return ceil((clip.frames - 1) * spec.limits["fps"] / clip.fps - 1e-6) + 1


def snap_frames(spec: ModelSpec, frames: int) -> int:
    """The smallest 1 + 4k that holds ``frames``, and that the model takes."""
    return 1 + -(-(max(frames, int(spec.memory["least_frames"])) - 1) // GROUP) * GROUP


def latent_windows(spec: ModelSpec, frames: int) -> list[range]:
    """Latent frames of a film of 1 + 4k frames that are denoised together."""
    window, overlap = (int(spec.limits[name]) // GROUP for name in ("window_frames", "window_overlap"))
    return even_windows(1 + frames // GROUP, 1 + window, overlap)


def make_plan(spec: ModelSpec, shot: Shot) -> Plan:
    """What VACE will make of a shot.

    Raises:
        EngineError: too many frames, nothing to be kept where something is to be kept, or settings that it cannot have.
    """
    clip, rate = shot.clip, int(spec.limits["fps"])
    notes = [*check_settings(spec, shot), *lora_notes(spec, shot)]
    most = int(spec.limits["max_frames"])
    if clip.frames > most:
        raise EngineError("clip", f"{clip.frames} frames; {spec.label} makes at most {most}, so shorten the range")
    (width, height), model_size, about = fit_size(spec, shot)
    notes += about
    count = frames_in_time(spec, clip)
    frames = snap_frames(spec, count)
    if abs(clip.fps - rate) > 1e-6:
        notes.append(
            f"{spec.label} knows {rate} frames per second: {clip.frames} at {clip.fps:g} were made as {count} at "
            f"{rate}, and the scene's own motion made those between them; the film lasts as long as the range"
        )
    if frames != count:
        notes.append(held_note(count, frames, "the model takes 4k+1" + f", {frames} at least" * (frames > count + 3)))
    windows = [(max(0, GROUP * part[0] - 3), GROUP * part[-1] + 1) for part in latent_windows(spec, frames)]
    if len(windows) > 1:
        notes.append(
            f"{frames} frames are longer than {spec.label}'s window of {windows[0][1]}: generated in {len(windows)} "
            "overlapping windows, fused at every step"
        )
    return Plan(width, height, clip.frames, tuple(windows), (*notes, *_leads(spec, shot)), model_size, frames)


def _leads(spec: ModelSpec, shot: Shot) -> list[str]:
    """What is said of what leads the film. Raises EngineError."""
    kind, keep = (str(option(spec, shot, name)) for name in ("control", "keep"))
    notes = []
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
    if kind == "pose" and not shot.characters:
        raise EngineError("characters", "poses are drawn of characters; mark at least one body as a character")
    if kind == "none" and keep == "nothing":
        notes.append("Neither a control film nor anything that is kept: only the prompt and the references lead")
    if not shot.prompt.strip():
        notes.append("No prompt: the model does best when it is told what the film shows")
    bare = ", ".join(character.name for character in shot.characters if not character.references)
    if bare and option(spec, shot, "references"):
        notes.append(f"No reference picture for {bare}: its looks come from the prompt")
    return notes
