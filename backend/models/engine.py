"""What every engine offers: plan a shot, generate it, report progress, stop when asked (numpy only)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ..shot import Shot

STAGES = ("loading", "encoding", "denoising", "decoding", "writing")


class Cancelled(Exception):
    """The job was cancelled; raised by ``Engine.generate`` within one denoising step."""


class EngineError(Exception):
    """A shot that the engine cannot make.

    Attributes:
        field: dotted path of the part of the shot at fault.
        message: what is wrong and what to do.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        stage: one of STAGES.
        step, steps: of the stage; 0 of 0 where it has none.
        preview: (h,w,3) uint8, a frame as it looks so far.
    """

    stage: str
    step: int = 0
    steps: int = 0
    preview: np.ndarray | None = None


@dataclass(frozen=True)
class Plan:
    """What will be made of a shot.

    Attributes:
        width, height, frames: of the result.
        windows: (first, past the last) frame of each window that is denoised.
        notes: what was changed to fit the model, in sentences for the animator.
    """

    width: int
    height: int
    frames: int
    windows: tuple[tuple[int, int], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Result:
    """A finished video.

    Attributes:
        frames: (T,H,W,3) uint8.
        fps: frames per second.
        notes: sentences for the animator.
        metadata: what to keep with the file.
    """

    frames: np.ndarray
    fps: float
    notes: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """One loaded model."""

    def plan(self, shot: Shot) -> Plan:
        """Size, frames and windows; raises EngineError."""
        ...

    def generate(self, shot: Shot, on_progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> Result:
        """Make the video; raises EngineError, or Cancelled within one denoising step."""
        ...
