"""Previews of a scene's frames, kept for the session: which film shows at a frame, and which frames still hold.

They are no results: nothing of them is saved, listed or rendered.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np

from ..fingerprint import FramePrints, Print
from .carry import Dress


class Standing(StrEnum):
    """How a frame stands."""

    CURRENT = "current"
    OUTDATED = "outdated"
    MAKING = "making"


@dataclass(eq=False)
class Clip:
    """A film of some frames.

    Attributes:
        path: of the film, a frame of it for each of ``frames``.
        prints: what the frames were made from.
        label: what made it, for people.
        current: (F,) bool, the frames that would be made the same again.
    """

    path: Path
    prints: FramePrints
    label: str
    current: np.ndarray

    @property
    def frames(self) -> range:
        """Of the scene."""
        return self.prints.frames

    def index(self, frame: float) -> int | None:
        """Which frame of the film shows at one of the scene; None where none does."""
        index = int((frame - self.frames.start) // self.frames.step)
        return index if 0 <= index < len(self.frames) else None


@dataclass(eq=False)
class Draft:
    """The looks by which views draw the characters themselves: at every frame, whatever moves.

    Attributes:
        prints: what the looks were taken from, frame by frame.
        current: whether they would be the same again.
    """

    dressed: tuple[Dress, ...]
    prints: list[FramePrints]
    current: bool = True


@dataclass(eq=False)
class Reel:
    """All previews of one scene, the newest last.

    Attributes:
        draft: drawn where no film shows; None while it is off.
        shown: frames of which the draft is to be told in strips.
        making: frames that are being made.
    """

    clips: list[Clip] = field(default_factory=list)
    draft: Draft | None = None
    shown: range = range(0)
    making: range = range(0)

    def add(self, clip: Clip) -> list[Clip]:
        """Put in a newer clip; returns those that it has replaced altogether."""
        gone = [old for old in self.clips if set(old.frames) <= set(clip.frames)]
        self.clips = [old for old in self.clips if old not in gone] + [clip]
        return gone

    def check(self, now: Print) -> None:
        """Look which frames still hold."""
        for clip in self.clips:
            clip.current = clip.prints.current(now)
        if self.draft is not None:
            self.draft.current = all(prints.current(now).all() for prints in self.draft.prints)

    def at(self, frame: float) -> tuple[Clip, int] | None:
        """The newest film that shows at a frame, and which of its frames."""
        for clip in reversed(self.clips):
            index = clip.index(frame)
            if index is not None:
                return clip, index
        return None

    def holds(self, frame: int) -> bool:
        """Whether a frame is there and current."""
        found = self.at(frame)
        return found is not None and bool(found[0].current[found[1]])

    def standing(self) -> dict[int, Standing]:
        """How each frame stands that is there or being made."""
        found: dict[int, Standing] = {}
        if self.draft is not None:
            found = dict.fromkeys(self.shown, Standing.CURRENT if self.draft.current else Standing.OUTDATED)
        for clip in self.clips:
            for frame, current in zip(clip.frames, clip.current, strict=True):
                found[frame] = Standing.CURRENT if current else Standing.OUTDATED
        return found | dict.fromkeys(self.making, Standing.MAKING)


reels: dict[str, Reel] = {}
"""By the scene's id."""


finished: dict[str, float] = {}
"""When a result last came into a scene, by its id: ``time.monotonic`` seconds."""


def give_way(uid: str) -> None:
    """A result is to be seen in a scene: its previews are over."""
    reels.pop(uid, None)
    finished[uid] = time.monotonic()


def reel_of(uid: str) -> Reel | None:
    """The previews of a scene, if it has any."""
    return reels.get(uid) if uid else None


def runs(standing: dict[int, Standing], step: int = 1) -> Iterable[tuple[int, int, Standing]]:
    """Frames that stand alike, as first and last and how they stand."""
    first = last = None
    for frame in sorted(standing):
        if first is not None and last is not None:
            if frame - last <= step and standing[frame] == standing[first]:
                last = frame
                continue
            yield first, last, standing[first]
        first = last = frame
    if first is not None and last is not None:
        yield first, last, standing[first]
