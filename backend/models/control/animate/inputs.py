"""From a shot to what leads Wan-Animate: pose, face, the reference, and the background with what is to be made in it.

Shape letters: T frames, H W picture, S pixels of a face's side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps

from ....control.face import face_film
from ....control.films import ControlFilms
from ....shot import Shot
from ...start_picture import reference_picture
from ..inputs import Kept, Report, kept_film, shot_errors

KEEPS = {"animate": "nothing", "replace": "background"}
"""What is kept of the shot in each mode, as ``kept_film`` names it."""


@dataclass(frozen=True, eq=False)
class Leads:
    """What the model is given, at its size and rate.

    Attributes:
        picture: of the person, whole in the middle of black.
        pose: (T,H,W,3) uint8.
        face: (T,S,S,3) uint8; all black where nothing leads it.
        kept: the background, black where the person is to be made; None where the whole film is made.
        notes: sentences for the animator.
    """

    picture: Image.Image
    pose: np.ndarray
    face: np.ndarray
    kept: Kept | None
    notes: tuple[str, ...]


def reference_image(shot: Shot) -> tuple[Image.Image, tuple[str, ...]]:
    """The person's picture at the clip's size, and notes for the animator. Raises EngineError."""
    found = reference_picture(shot, 0)
    size = (shot.clip.width, shot.clip.height)
    return ImageOps.pad(Image.fromarray(found.rgb), size, Image.Resampling.LANCZOS, "black"), found.notes


def make_leads(
    films: ControlFilms, mode: str, margin: float, face: str, side: int, device: torch.device, tell: Report
) -> Leads:
    """What leads a film of a shot.

    Args:
        films: of the shot at the model's size and rate.
        mode: ``animate`` or ``replace``.
        margin: see ``kept_film``.
        face: ``looks`` or ``none``.
        side: S.
        device: that draws the face.
        tell: called with frames done and their number; may raise to stop.

    Raises:
        EngineError: the shot lacks what a film of it is drawn from.
    """
    shot, clip = films.shot, films.shot.clip
    picture, notes = reference_image(shot)
    # Each film counts as much as another.
    count = 3 * clip.frames
    with shot_errors(), torch.no_grad():
        pose = np.empty((clip.frames, clip.height, clip.width, 3), np.uint8)
        for frame in range(clip.frames):
            tell(frame, count)
            pose[frame] = films.picture("pose", frame)
        if face == "none":
            close = np.zeros((clip.frames, side, side, 3), np.uint8)
        else:
            close = face_film(shot, side, 0, device, lambda done, _: tell(clip.frames + done, count))
        kept = kept_film(films, KEEPS[mode], margin, lambda done, _: tell(2 * clip.frames + done, count))
    if kept is not None:
        kept.frames[kept.make] = 0
    if face != "none" and not close.any():
        notes = (*notes, f"No face of {shot.characters[0].name} was found: its expression comes from the reference")
    return Leads(picture, pose, close, kept, (*notes, *films.notes))
