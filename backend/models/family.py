"""What every model offers to the server and the command line (no torch here)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ..shot import Shot


class EngineError(ValueError):
    """A shot that this model cannot make.

    Attributes:
        field: dotted path of the part of the Shot at fault.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class Cancelled(Exception):
    """The generation was stopped on request."""


@dataclass(frozen=True, eq=False)
class Progress:
    """How far a generation is.

    Attributes:
        stage: ``loading``, ``encoding``, ``denoising``, ``decoding`` or ``writing``.
        step, steps: within the stage.
        preview: (h,w,3) uint8, what the middle of the clip looks like by now, or None.
    """

    stage: str
    step: int
    steps: int
    preview: np.ndarray | None = None


@dataclass(frozen=True)
class Plan:
    """What will be made of a shot.

    Attributes:
        width, height: pixels of the result, at the clip's aspect.
        frames: of the result; always the clip's.
        windows: (start, stop) frames that are denoised together; more than one when the shot is longer than the
            model's window.
        notes: sentences for the animator about what was fitted to the model.
        model_size: (width, height) in pixels that the model works at.
        model_frames: frames that the model works on, at least ``frames``.
    """

    width: int
    height: int
    frames: int
    windows: tuple[tuple[int, int], ...]
    notes: tuple[str, ...]
    model_size: tuple[int, int] = (0, 0)
    model_frames: int = 0


@dataclass(frozen=True, eq=False)
class Result:
    """A finished video.

    Attributes:
        frames: (T,H,W,3) uint8.
        fps: of the clip.
        notes: of the plan, and what turned up on the way.
        metadata: settings as they were run.
    """

    frames: np.ndarray
    fps: float
    notes: tuple[str, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """A model that turns a Shot into a video."""

    def plan(self, shot: Shot) -> Plan:
        """What ``generate`` would make. Raises EngineError."""
        ...

    def generate(self, shot: Shot, on_progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> Result:
        """Make the video.

        Args:
            on_progress: called at every stage and step, from the calling thread.
            cancelled: asked at least once per denoising step; True stops.

        Raises:
            EngineError: the shot does not suit the model. Cancelled: ``cancelled`` said so.
        """
        ...
