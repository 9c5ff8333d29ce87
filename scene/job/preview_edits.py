"""What is edited while there are previews: which of their frames still hold, and since when all is quiet."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable

import bpy

from ..capture.pace import Pace
from ..fingerprint import Print, Printer
from ..screen.previews import Reel

CHECK_SECONDS = 0.25
SLICE = 0.01
"""Seconds of reading between two turns of the window."""
_MODAL = ("TRANSFORM_", "POSE_", "GRAPH_", "ACTION_", "ANIM_", "SCULPT_", "PAINT_", "MESH_")
"""Beginnings of the names of operators in the middle of which nothing is read."""


class Edits:
    """Of the scene that the window shows.

    Attributes:
        edited: when something may last have been edited; ``time.monotonic`` seconds, as all times here.
        changed: when something was last found to have changed.
        unread: whether an edit has not been looked at yet.
    """

    def __init__(self) -> None:
        self.edited = self.changed = 0.0
        self.unread = True
        self._printer = Printer()
        self._reading: Generator[None, None, Print] | None = None
        self._seen: tuple[str, object, object] = ("", None, None)
        self._checked = self._own = 0.0
        self._frame = (0, 0.0)

    def told(self, ids: Iterable[bpy.types.ID], moved: bool) -> None:
        """Blender tells of changed datablocks; of those that another frame has changed, where it was ``moved``."""
        self._printer.changed(ids, moved)
        self.unread = True
        now = time.monotonic()
        # Reading the scene changes it too, for a moment.
        if now - self._own > 0.3:
            self.edited = now

    def ours(self) -> None:
        """What Blender tells of soon is our own doing."""
        self._own = time.monotonic()

    def undone(self) -> None:
        """Anything may have changed."""
        self._printer.forget()
        self.stop()
        self.edited = time.monotonic()

    def stop(self) -> None:
        """Read no further; begin again at the next check."""
        self._reading, self.unread = None, True

    def forget(self) -> None:
        """Another file, or another film: what was seen says nothing."""
        self.stop()
        self._seen = ("", None, None)

    @property
    def reading(self) -> bool:
        """Whether the scene is being read just now."""
        return self._reading is not None

    def check(self, scene: bpy.types.Scene, reel: Reel | None) -> Print | None:
        """Find out which frames of the previews still hold, when something has changed; returns what was read."""
        now = time.monotonic()
        other = scene.maquette.uid != self._seen[0]
        if self._reading is None:
            if in_the_middle():
                return None
            due = self.unread or other or now - self._checked > 4 * CHECK_SECONDS
            if not due or (not other and now - self._checked < CHECK_SECONDS):
                return None
            self.unread, self._checked = False, now
            self._reading = self._printer.steps(scene)
        found = _within(self._reading, SLICE)
        if found is None:
            return None
        self._reading = None
        seen = (scene.maquette.uid, found.still, found.curves)
        if seen != self._seen:
            if not other:
                self.edited = self.changed = now
            self._seen = seen
            if reel is not None:
                reel.shown = range(scene.frame_start, scene.frame_end + 1)
                reel.check(found)
        return found

    def quiet(self, scene: bpy.types.Scene) -> float:
        """Seconds since the last edit and the last move of the playhead; 0 while the animator drags something."""
        now = time.monotonic()
        if scene.frame_current != self._frame[0]:
            self._frame = (scene.frame_current, now)
        return 0.0 if in_the_middle() else min(now - self.edited, now - self._frame[1])

    def read(self, scene: bpy.types.Scene, pace: Pace) -> Generator[tuple[int, int], None, Print]:
        """What determines the scene, at one moment."""
        steps = self._printer.steps(scene)
        while (found := _within(steps, SLICE)) is None:
            pace.breathe()
            yield 0, 0
        return found


def in_the_middle() -> bool:
    """Whether the animator is dragging something just now."""
    return any(
        operator.bl_idname.startswith(_MODAL)
        for window in bpy.context.window_manager.windows
        for operator in getattr(window, "modal_operators", ())
    )


def _within(steps: Generator[None, None, Print], seconds: float) -> Print | None:
    """Go on reading for so long; returns what was read once that is all."""
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            next(steps)
    except StopIteration as over:
        return over.value
    return None
