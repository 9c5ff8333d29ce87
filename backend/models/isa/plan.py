"""Fit a shot to what an ISA-DiT takes, and say so (no torch here)."""

from __future__ import annotations

import json
import struct

from ...catalogue.models import ModelSpec
from ...shot import Shot
from ..family import EngineError, Plan
from ..settings import check_settings, fit_size, held_note
from ..windows import fusion_windows

_MOST_HEADER = 100_000_000
"""Bytes of a safetensors file's header, as its format has it."""

_GROUP = 4
"""Frames of a latent frame; latent 0 holds one."""


def snap_frames(frames: int) -> int:
    """The smallest 1 + 4k that holds ``frames``."""
    return 1 + -(-(frames - 1) // _GROUP) * _GROUP


def window_latents(spec: ModelSpec) -> tuple[int, int]:
    """A model's window and overlap in latent frames."""
    window = 1 + (snap_frames(int(spec.limits["window_frames"])) - 1) // _GROUP
    return window, int(spec.limits.get("window_overlap", 0)) // _GROUP


def corrects(spec: ModelSpec) -> bool:
    """Whether the model's saved transformer changes the carried film at all.

    Where no correction helped, ``training.strength`` publishes zeros as its last layer. Of weights that cannot be read
    the answer is yes: reading them tells what is wrong with them.
    """
    folder = spec.folder / "transformer"
    try:
        if json.loads((folder / "config.json").read_text("utf-8")).get("prediction") != "residual":
            return True
        with (folder / "diffusion_pytorch_model.safetensors").open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            entries = json.loads(file.read(min(length, _MOST_HEADER)))
            for name in ("weight", "bias"):
                start, stop = entries[f"patch_out.{name}"]["data_offsets"]
                file.seek(8 + length + start)
                if any(file.read(stop - start)):
                    return True
        return False
    except (OSError, ValueError, TypeError, LookupError, AttributeError, struct.error):
        return True


def idle_parts(spec: ModelSpec) -> frozenset[str]:
    """See ``registry.idle_parts``."""
    return frozenset() if corrects(spec) else frozenset(("vae", "transformer", "image_encoder"))


def make_plan(spec: ModelSpec, shot: Shot) -> Plan:
    """What a model will make of a shot.

    Raises:
        EngineError: no character, too many frames, or settings that no model takes.
    """
    clip = shot.clip
    notes = check_settings(spec, shot)
    most = int(spec.limits.get("max_frames", 0))
    if most and clip.frames > most:
        raise EngineError("clip", f"{clip.frames} frames; {spec.label} makes at most {most}, so shorten the range")
    idle = not corrects(spec)
    (width, height), model_size, about = fit_size(spec, shot, networks=not idle)
    frames = clip.frames if idle else snap_frames(clip.frames)
    notes += about
    if frames != clip.frames:
        notes.append(held_note(clip.frames, frames, "the model takes 4k+1"))
    window, overlap = window_latents(spec)
    lists = fusion_windows(1 + (frames - 1) // _GROUP, window, overlap)
    windows = tuple(
        (0 if latents[1:2] in ([], [1]) else 1 + _GROUP * (latents[1] - 1), 1 + _GROUP * latents[-1])
        for latents in lists
    )
    if idle:
        windows = ((0, frames),)
    if len(windows) > 1:
        notes.append(
            f"{frames} frames are longer than {spec.label}'s window of {1 + _GROUP * (window - 1)}: generated in "
            f"{len(windows)} overlapping windows, fused at every step"
        )
    points = int(spec.limits["points"])
    if any(character.points.shape[1] > points for character in shot.characters):
        notes.append(f"{spec.label} uses {points} of each character's points, evenly chosen")
    if shot.settings.seed and spec.components.get("transformer", {}).get("start") == "carried":
        notes.append(f"The seed changes nothing: {spec.label} corrects the carried film and starts from no noise")
    bare = ", ".join(character.name for character in shot.characters if character.reference is None)
    if bare and spec.inputs.get("reference") == "required":
        raise EngineError("characters", f"{bare} without a reference picture; {spec.label} needs one")
    if bare:
        notes.append(f"No reference picture for {bare}: the model starts from a body in clay grey")
    return Plan(width, height, clip.frames, windows, tuple(notes), model_size, frames)
