"""One progress bar in the terminal for the whole demo, with nothing but the standard library."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_WIDTH = 28


class DemoProgress:
    """Stages with known shares of the whole; ``update`` moves within the current one."""

    def __init__(self, stages: dict[str, float]) -> None:
        total = sum(stages.values())
        self._share = {name: value / total for name, value in stages.items()}
        self._done = 0.0
        self._stage = ""
        self._began = time.monotonic()
        self._live = sys.stderr.isatty()
        self.stream: TextIO = sys.stderr
        self._last = ""

    def start(self, stage: str) -> None:
        """Finish the stage before and begin ``stage``."""
        if self._stage:
            self._done += self._share[self._stage]
        self._stage = stage
        self.update(0.0)

    def update(self, fraction: float, detail: str = "") -> None:
        """Show ``fraction`` (0 to 1) of the current stage."""
        whole = min(1.0, self._done + self._share.get(self._stage, 0.0) * min(max(fraction, 0.0), 1.0))
        bar = "#" * round(whole * _WIDTH)
        text = f"[{bar:<{_WIDTH}}] {whole:4.0%} {time.monotonic() - self._began:5.0f} s  {self._stage}"
        line = f"{text}: {detail}" if detail else text
        if self._live:
            self.stream.write(f"\r\033[K{line[:110]}")
        elif self._stage != self._last:
            self.stream.write(f"{text}\n")
        self._last = self._stage
        self.stream.flush()

    def finish(self) -> None:
        """Fill the bar and end its line."""
        self._done, self._stage = 1.0, "Done"
        self._share["Done"] = 0.0
        self.update(1.0)
        if self._live:
            self.stream.write("\n")
