"""How fast a capture goes: when it lets the window have its turn, and how long it will take yet."""

from __future__ import annotations

import time

SLICE = 0.03
"""Seconds of work between two turns of a window that is drawn at once; at least one step is made."""
LONGEST_SLICE = 2.0
"""Seconds of work at most, however slowly the window is drawn."""
_SHARE = 3.0
"""Seconds of work for each that the window takes for its turn: then it takes a quarter of the time, not most of it."""

READ, PICTURE = "read", "picture"
BREATH = object()
"""What a capture's parts yield where the window may have its turn though no step is done."""
_USUAL = {READ: 0.03, PICTURE: 0.2}
"""Seconds a step, by its kind, until one has been made."""
_latest: dict[tuple[str, str], float] = {}
"""Seconds a step by its kind and what renders it, of the newest steps of this session."""


class Pace:
    """Of one capture. Whoever takes its steps calls ``begin`` before a run of them, and stops where ``pausing``.

    Attributes:
        left: seconds until its end, by what its steps have taken so far; None before the first.
        pausing: whether it is the window's turn now.
    """

    def __init__(self, windowed: bool = False, longest: float = LONGEST_SLICE) -> None:
        """
        Args:
            windowed: whether a window waits for its turn.
            longest: seconds of work between two turns after which no other step is begun.
        """
        self.left: float | None = None
        self.pausing = False
        self._windowed, self._longest = windowed, longest
        self._slice = min(SLICE, longest)
        self._began = self._stepped = self._last = time.monotonic()

    def begin(self) -> None:
        """A slice of work begins. The longer the window was at it, the longer is the slice."""
        now = time.monotonic()
        if self.pausing:
            self._slice = min(max(SLICE, _SHARE * (now - self._stepped)), self._longest)
        self._began, self.pausing = now, False

    def step(self, kind: str, engine: str, ahead: dict[str, int]) -> None:
        """A step was made.

        Args:
            kind: ``READ`` or ``PICTURE``.
            engine: what renders pictures.
            ahead: how many steps of each kind are still to be made.
        """
        self.breathe()
        took, self._last = self._stepped - self._last, self._stepped
        known = _latest.get((kind, engine))
        # The newest count most: the first picture of a session takes many times as long as the others.
        _latest[kind, engine] = took if known is None else known + 0.3 * (took - known)
        self.left = sum(count * _latest.get((each, engine), _USUAL[each]) for each, count in ahead.items())

    def breathe(self) -> None:
        """Something was done that counts as no step."""
        self._stepped = time.monotonic()
        self.pausing = self._windowed and self._stepped - self._began >= self._slice
