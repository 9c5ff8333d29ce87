"""Fit a shot to what MimicMotion takes, and say so (no torch here)."""

from __future__ import annotations

import json

import numpy as np

from ...catalogue.models import ModelSpec
from ...shot import Clip, Shot
from ..family import EngineError, Plan
from ..settings import check_settings, fit_size, option
from .inputs import Poses, read_poses
from .tiles import sequence_tiles

_SCALES = 1.6
"""How much larger or smaller the body may be in the video than in the reference without a word about it."""

_SEEN = 4
"""Body keypoints that a frame shows at least, or it is mentioned."""


_TRAINED_FPS = (12, 15)
"""Every second frame of films at 24 to 30 frames per second."""

_SHORT_CHECKPOINT = "MimicMotion_1.pth"
_SHORT_WINDOW = 16
"""The first published weights, and the frames at once that they were trained on."""


def window_of(spec: ModelSpec, shot: Shot) -> int:
    """Frames that the model takes at once: the shot's choice, else what the weights were trained on."""
    window = int(option(spec, shot, "window"))
    if "window" not in shot.settings.options and _SHORT_CHECKPOINT in _made_of(spec):
        return min(window, _SHORT_WINDOW)
    return window


def _made_of(spec: ModelSpec) -> list[str]:
    """Names of the published files that the UNet was made of, as noted when they were added; none when unknown."""
    try:
        record = json.loads((spec.folder / "unet" / "maquette.json").read_text("utf-8"))
        return [name for name, _ in record["made_of"]["files"]]
    except (OSError, ValueError, LookupError, TypeError):
        return []


def tiles_of(spec: ModelSpec, shot: Shot) -> list[list[int]]:
    """Frames of each tile, frame 0 being the reference and the shot's first frame 1."""
    window, overlap = window_of(spec, shot), int(option(spec, shot, "overlap"))
    if overlap > window - 2:
        raise EngineError(
            "settings.options.overlap",
            f"{overlap} frames of a window of {window}; choose at most {window - 2}, so that windows move on",
        )
    return sequence_tiles(1 + shot.clip.frames, window, overlap, str(option(spec, shot, "tiling")))


def make_plan(spec: ModelSpec, shot: Shot) -> Plan:
    """What MimicMotion will make of a shot.

    Raises:
        EngineError: not one character with a reference and a pose, too many frames, or settings that it cannot take.
    """
    clip = shot.clip
    notes = check_settings(spec, shot)
    most = int(spec.limits.get("max_frames", 0))
    if most and clip.frames > most:
        raise EngineError("clip", f"{clip.frames} frames; {spec.label} makes at most {most}, so shorten the range")
    (width, height), model_size, about = fit_size(spec, shot)
    tiles = tiles_of(spec, shot)
    poses = read_poses(shot, 0, model_size)
    notes += [*about, *poses.notes, *_framing(spec, shot, poses)]
    if _moves(clip):
        notes.append(
            f"{spec.label} is told of the body alone: it makes up how the background moves with this moving camera"
        )
    if clip.fps > _TRAINED_FPS[1]:
        low, high = _TRAINED_FPS
        notes.append(
            f"{spec.label} learned motion at {low} to {high} frames per second and gets {clip.fps:g}: it may move too "
            "little; a frame step of 2 gives it half as many"
        )
    if len(tiles) > 1:
        notes.append(
            f"{clip.frames} frames are longer than {spec.label}'s window of {len(tiles[0])}, the reference included: "
            f"generated in {len(tiles)} overlapping windows, fused at every step"
        )
    windows = tuple((tile[1] - 1, tile[-1]) for tile in tiles)
    return Plan(width, height, clip.frames, windows, tuple(notes), model_size, clip.frames)


def _framing(spec: ModelSpec, shot: Shot, poses: Poses) -> list[str]:
    """What about the pictures will cost likeness."""
    name, frames = shot.characters[0].name, shot.clip.frames
    notes = []
    if not 1 / _SCALES < poses.scale < _SCALES:
        ratio = max(poses.scale, 1 / poses.scale)
        notes.append(
            f"{name} is {ratio:.1f} times as {'large' if poses.scale > 1 else 'small'} in the first frame as in the "
            f"reference picture; {spec.label} keeps looks best when both are framed alike"
        )
    bare = int((poses.driving.drawn.sum(axis=1) < _SEEN).sum())
    if bare == frames:
        raise EngineError("clip", f"no frame shows enough of {name}'s body to draw a pose; turn the camera to it")
    if bare:
        notes.append(f"{bare} of {frames} frames show next to nothing of {name}: what they will show is not led")
    return notes


def _moves(clip: Clip) -> bool:
    """Whether the camera turns, travels or zooms."""
    still = np.allclose(clip.viewmats, clip.viewmats[:1], atol=1e-4)
    return not (still and np.allclose(clip.Ks, clip.Ks[:1], rtol=1e-4))
