"""Reports of an engine on its way, each of which may end it."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from .family import Cancelled, Progress

PREVIEW_SECONDS = 0.5
"""Least time between previews: decoding one takes time from the work."""


class Reporter:
    """Tells how far a generation is and stops it when that is asked for.

    Args:
        on_progress, cancelled: see ``Engine.generate``.
    """

    def __init__(self, on_progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> None:
        self._on_progress = on_progress
        self._cancelled = cancelled
        self._shown = float("-inf")

    def check(self) -> None:
        """Raise Cancelled when the generation is to stop."""
        if self._cancelled():
            raise Cancelled

    def report(self, stage: str, step: int, steps: int, preview: np.ndarray | None = None) -> None:
        """Report a step of a stage (see ``Progress``). Raises Cancelled."""
        self._on_progress(Progress(stage, step, steps, preview))
        self.check()

    def denoised(self, step: int, steps: int, preview: Callable[[], np.ndarray]) -> None:
        """Report a denoising step; ``preview`` is asked for a picture (h,w,3) uint8 only when one is due.

        Raises:
            Cancelled: the generation is to stop.
        """
        picture = None
        if step == steps or time.monotonic() - self._shown >= PREVIEW_SECONDS:
            picture = preview()
            self._shown = time.monotonic()
        self.report("denoising", step, steps, picture)
