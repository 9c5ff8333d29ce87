"""Which frames a preview is made of, and in which windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import bpy
import numpy as np

from ...backend.catalogue.quality import STANDARD, list_quality
from . import models

WINDOW = 9
"""Frames sent at once where the model does not want more."""
AROUND = 24
"""Frames around the playhead that are previewed where no preview range is set."""


@dataclass(frozen=True)
class Window:
    """Frames to be made.

    Attributes:
        frames: empty for the looks of the draft.
        quality: that the model makes them in.
        rough: whether what is sent may be rough, so that it is there sooner.
    """

    frames: range
    quality: str = ""
    rough: bool = True


def preview_frames(scene: bpy.types.Scene) -> range:
    """The preview range where one is set, else frames around the playhead, within the scene's."""
    first, last, step = scene.frame_start, scene.frame_end, scene.frame_step
    if scene.use_preview_range:
        first, last = scene.frame_preview_start, scene.frame_preview_end
    else:
        half = AROUND // 2 * step
        middle = min(max(scene.frame_current, first), last)
        middle = first + (middle - first) // step * step
        first, last = max(first, middle - half), min(last, middle + half)
    return range(first, max(first, last) + 1, step)


def model_windows(scene: bpy.types.Scene, wanted: Callable[[int], bool] = lambda _: True) -> list[Window]:
    """Windows of the preview's frames in which some are wanted, those nearest to the playhead first."""
    frames, model = preview_frames(scene), models.find(scene.maquette.model)
    size = max(WINDOW, model.limit("min_frames"))
    size = min(size, model.limit("max_frames") or size)
    place = int(np.clip((scene.frame_current - frames.start) // frames.step, 0, len(frames) - 1))
    # The playhead's own window has it in its middle.
    offset = (place - size // 2) % size
    starts = sorted({0, *range(offset, len(frames), size)})
    parts = [frames[a:b] for a, b in zip(starts, [*starts[1:], len(frames)], strict=True)]
    if len(frames) >= size:
        least = model.limit("min_frames")
        parts = [part if len(part) >= least else _grown(part, frames, least) for part in parts]
    now = scene.frame_current
    parts.sort(key=lambda part: 0 if part[0] <= now <= part[-1] else min(abs(part[0] - now), abs(part[-1] - now)))
    return [Window(part, quality(scene)) for part in parts if any(map(wanted, part))]


def _grown(part: range, frames: range, size: int) -> range:
    """A part of at least ``size`` frames around one that is shorter."""
    start = min(frames.index(part[0]), len(frames) - size)
    return frames[start : start + size]


def quality(scene: bpy.types.Scene) -> str:
    """The quality in which the model makes previews: the scene's, where that asks the model at all."""
    chosen = scene.maquette.quality
    return STANDARD if list_quality()[chosen].carried else chosen
