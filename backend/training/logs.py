"""What a training loop tells: a progress bar, a text file, and TensorBoard's curves."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from accelerate import Accelerator

EVERY = 10
"""Steps between two points of TensorBoard's curves."""

EVERY_LINE = 100
"""Steps between two lines of the text log."""


def average(figures: dict[str, float], news: Mapping[str, float]) -> None:
    """Move the averages ``figures`` towards ``news``, with a memory of about fifty steps.

    A figure that is not finite is left out: it would stay in the average for ever.
    """
    for name, value in news.items():
        if math.isfinite(value):
            figures[name] = 0.98 * figures.get(name, value) + 0.02 * value


class Log:
    """The log of one loop; silent on all processes but the first."""

    def __init__(
        self, accelerator: Accelerator, name: str, label: str, first: int, steps: int, text: Path | None
    ) -> None:
        """Begin at step ``first`` of ``steps``; curves go into the folder ``name`` of the accelerator's logs."""
        from tqdm import tqdm

        self._main = accelerator.is_main_process
        self._accelerator, self._text = accelerator, text
        self._first, self._started = first, time.time()
        self._marked = (first, self._started)
        self.bar = tqdm(total=steps, initial=first, desc=label, unit="step", mininterval=5.0, disable=not self._main)
        if accelerator.log_with:
            # Points that a stopped run left behind its last checkpoint are drawn once only.
            accelerator.init_trackers(name, init_kwargs={"tensorboard": {"purge_step": first + 1}})

    def step(self, done: int, samples: int, figures: Mapping[str, float], extra: Mapping[str, float]) -> None:
        """Tell of step ``done`` (1-based), of ``samples`` over all processes.

        Args:
            figures: moving averages, shown everywhere.
            extra: what only the curves show.
        """
        if not self._main:
            return
        self.bar.update()
        self.bar.set_postfix({k: f"{v:.3g}" for k, v in figures.items()}, refresh=False)
        if self._text is not None and done % EVERY_LINE == 0:
            pace = (done - self._first) * samples / (time.time() - self._started)
            line = " ".join(f"{k}={v:.5f}" for k, v in figures.items())
            with open(self._text, "a", encoding="utf-8") as file:
                file.write(f"step={done} samples_per_s={pace:.2f} {line}\n")
        if self._accelerator.log_with and done % EVERY == 0:
            step, since = self._marked
            pace = (done - step) * samples / max(time.time() - since, 1e-9)
            self._marked = (done, time.time())
            self._accelerator.log({**figures, **extra, "samples_per_s": pace}, step=done)

    def pictures(self, name: str, images: Sequence[np.ndarray], step: int) -> None:
        """Show pictures (H,W,3) uint8 beside the curves."""
        if self._main:
            for tracker in self._accelerator.trackers:
                tracker.log_images({name: np.stack(images)}, step=step, dataformats="NHWC")

    def close(self) -> None:
        """End the bar and the curves."""
        self.bar.close()
        if self._main:
            for tracker in self._accelerator.trackers:
                tracker.finish()
