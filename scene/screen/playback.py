"""A finished video and the scene frames it plays on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import bpy

from ..capture.media import Film
from ..marks import TAG
from .colour import undo_transform

_RESAMPLED = 5e-3


@dataclass(frozen=True)
class Playback:
    """A film and where it plays in the scene.

    Attributes:
        film: the video.
        filepath: as kept in the .blend: relative to it when it is saved.
        key: job id or path that the result goes by.
        start: scene frame that shows the film's first frame.
        rate: film frames per scene frame: 1 when both run alike, 1/n for a shot of every n-th frame.
    """

    film: Film
    filepath: str
    key: str
    start: int
    rate: float

    @property
    def duration(self) -> int:
        """Scene frames that the film lasts."""
        return max(math.ceil(self.film.frames / self.rate - 1e-6), 1)

    @property
    def offset_expression(self) -> str:
        """What to add to the scene frames played, as a driver: Blender plays one film frame per scene frame."""
        played = f"clamp(frame-{self.start},0,{self.duration - 1})"
        return f"floor({played}*{self.rate:.12g}+1e-6)-{played}"


def film_rate(film_fps: float, scene_fps: float, frame_step: int) -> float:
    """Film frames per scene frame, exact where the film was made from every ``frame_step``-th frame of the scene."""
    rate = film_fps / scene_fps
    return 1 / frame_step if abs(rate * frame_step - 1) < _RESAMPLED else rate


def stored_path(path: Path) -> str:
    """A path as the .blend keeps it: relative to it once it is saved."""
    if not bpy.data.filepath:
        return str(path)
    try:
        return bpy.path.relpath(str(path))
    except ValueError:  # Another drive.
        return str(path)


def load_image(playback: Playback, seen_in: bpy.types.Scene | None = None) -> bpy.types.Image:
    """The film as an image datablock.

    Args:
        seen_in: the scene whose view transform is applied to it; None where none is.
    """
    image = bpy.data.images.load(str(playback.film.path))
    image.name = f"Maquette {playback.film.path.stem}"
    image.filepath = playback.filepath
    image.alpha_mode = "NONE"
    image[TAG] = playback.key
    if seen_in is not None:
        undo_transform(image.colorspace_settings, seen_in)
    return image


def set_playback(user: bpy.types.ImageUser, playback: Playback, owner: bpy.types.ID, path: str) -> None:
    """Make an image user play the film on its frames.

    Args:
        owner: the datablock that holds ``user``, at ``path``.
    """
    user.frame_duration = playback.duration
    user.frame_start = playback.start
    user.frame_offset = 0
    user.use_cyclic = False
    user.use_auto_refresh = True
    if playback.rate != 1:
        curve = owner.driver_add(f"{path}.frame_offset")
        curve.driver.expression = playback.offset_expression
