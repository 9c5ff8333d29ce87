"""From a shot to what leads LTX: its control film, and pictures of the carried film that it is to pass through.

Shape letters: T frames, H W picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from ....control.films import ControlFilms
from ...carried_start import CarriedPicture
from ..inputs import Report, shot_errors
from ..plan import GROUPS

KNOWN = 0.5
"""Share of the figures that the looks have to show where a frame of the carried film is a keyframe."""

_GAINS = (0.8, 1.25)
"""How far the colours of a segment are stretched at most."""


@dataclass(frozen=True)
class Keyframe:
    """A frame of the film that is given.

    Attributes:
        frame: of the whole film.
        index: of the segment's latents, whose first frame it is.
    """

    frame: int
    index: int


def control_film(films: ControlFilms, kind: str, tell: Report) -> np.ndarray | None:
    """(T,H,W,3) uint8; None for ``none``. ``tell`` is called with frames done and their number; may raise to stop.

    Raises:
        EngineError: the shot lacks what a film of it is drawn from.
    """
    if kind == "none":
        return None
    clip = films.shot.clip
    film = np.empty((clip.frames, clip.height, clip.width, 3), np.uint8)
    with shot_errors(), torch.no_grad():
        for frame in range(clip.frames):
            tell(frame, clip.frames)
            film[frame] = films.picture(kind, frame)
    return film


@dataclass(frozen=True, eq=False)
class Pictures:
    """Frames of the film that are known.

    Attributes:
        first: (H,W,3) uint8, frame 0 as the references themselves show it; None where they do not.
        carried: the carried film; None where its frames are no whole pictures.
    """

    first: np.ndarray | None
    carried: CarriedPicture | None

    def known(self, frame: int) -> float:
        """How much of the figures is known."""
        if frame == 0 and self.first is not None:
            return 1.0
        return 0.0 if self.carried is None else float(self.carried.looks[frame])

    def frame(self, frame: int) -> np.ndarray:
        """One that is known."""
        if frame == 0 and self.first is not None:
            return self.first
        assert self.carried is not None
        return self.carried.frames[frame]


def keyframes(shown: Pictures, window: tuple[int, int], before: int, count: int) -> tuple[list[Keyframe], int]:
    """Where a segment is given frames, and how many were left out since too little of the figures is known there.

    The film's first frame, where it is the segment's, comes first; the others are spread evenly over what is made,
    the last at its end, each where the looks show most of the figures.

    Args:
        window: (start, stop) frames of the segment.
        before: how many of them the segment before has made.
        count: at most.
    """
    start, stop = window
    group = GROUPS["ltx"]
    # Frame t of the segment begins latent (t - 1) / group + 1, but for the first.
    places = [Keyframe(start + group * (i - 1) + 1, i) for i in range(1, (stop - start - 1) // group + 1)]
    places = [place for place in places if place.frame >= start + before]
    wanted = [[Keyframe(start, 0)]] if count and not before else []
    rest = 0 if shown.carried is None else count - len(wanted)
    if rest and places:
        edges = np.linspace(0, len(places), rest + 1).round().astype(int)
        wanted += [places[(low + high) // 2 : high] for low, high in pairwise(edges) if high > low]
    chosen = [max(near, key=lambda place: (shown.known(place.frame), place.frame)) for near in wanted]
    found = [place for place in chosen if shown.known(place.frame) >= KNOWN]
    return found, len(chosen) - len(found)


def as_before(film: np.ndarray, before: np.ndarray) -> np.ndarray:
    """A segment's frames (T,H,W,3) uint8 in the colours of the one before, which ends with the frames (S,H,W,3) with
    which this one begins: mean and spread of each channel are those of the frames that both have."""
    mine, theirs = (x.reshape(-1, 3).astype(np.float32) for x in (film[: len(before)], before))
    gain = np.clip(theirs.std(axis=0) / np.maximum(mine.std(axis=0), 1e-3), *_GAINS)
    moved = (film - mine.mean(axis=0)) * gain + theirs.mean(axis=0)
    return np.rint(moved).clip(0, 255).astype(np.uint8)
