"""Previews: the draft's looks taken, windows of frames sent to the model, and both made anew after an edit.

A preview is no job of ``effects``: it is made in windows around the playhead, its films stay out of the library, and it
gives way to a film that is being made. ``poll()`` does a slice of it and never waits.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from pathlib import Path

import bpy
import numpy as np

from .. import folders
from ..capture.pace import Pace
from ..fingerprint import FramePrints, Print
from ..screen import strip
from ..screen.draft import drawer
from ..screen.overlay import overlay, redraw
from ..screen.previews import Clip, Draft, Reel, finished, reels
from . import backends, effects, models, presence, preview_sending, preview_taking
from .capturing import Capturing, Steps
from .preview_edits import SLICE, Edits, in_the_middle
from .preview_sending import Sending
from .preview_windows import Window, model_windows, preview_frames, quality
from .reports import reason

QUIET = 1.0
"""Seconds without an edit after which a live preview is made anew."""
ASKED_SLICE = 0.3
"""Seconds of work between two turns of the window for what was asked for, where the window takes long itself."""

_PATIENCE = 5.0
"""Seconds until a live preview asks a busy backend again."""
BUSY = "The backend is busy with a film: the preview waits until that is here"


class PreviewRunner:
    """The previews of this Blender; those of one scene are made at a time.

    Attributes:
        message: one sentence for the panel; ``problem`` says whether something is wrong.
        longest: seconds of the longest block of the window, by what was done in it.
    """

    def __init__(self) -> None:
        self.message, self.problem = "", False
        self.longest: dict[str, float] = {}
        self._uid = ""
        self._left: deque[Window] = deque()
        self._total = 0
        self._now: Window | None = None
        self._going: Capturing | None = None
        self._prints: list[FramePrints] = []
        self._sending: Sending | None = None
        self._edits = Edits()
        self._asked_again = 0.0

    # -- what is asked of it -------------------------------------------------------------------------------------

    @property
    def live(self) -> bool:
        """Whether what is outdated near the playhead is made anew by itself."""
        return bpy.context.window_manager.maquette.live

    @property
    def busy(self) -> bool:
        """Whether something is being made."""
        return self._now is not None or bool(self._left)

    @property
    def progress(self) -> float:
        """0 to 1, of the windows."""
        left = len(self._left) + (self._now is not None)
        return 1 - left / self._total if self._total else 0.0

    @property
    def by_model(self) -> bool:
        """Whether what is being made is sent to a model."""
        window = self._now or (self._left[0] if self._left else None)
        return window is not None and bool(window.frames)

    def start(self, scene: bpy.types.Scene, windows: Iterable[Window]) -> None:
        """Make these windows, in their order; what was being made before is cancelled."""
        self.cancel()
        self._uid = folders.scene_id(scene)
        self._left = deque(windows)
        self._total = len(self._left)
        self._reel().shown = range(scene.frame_start, scene.frame_end + 1)
        self._asked_again = 0.0
        self._tell("")
        self._edits.unread = True

    def cancel(self) -> None:
        """Make nothing more; what is here stays."""
        self._left.clear()
        self._drop()
        self._mark(range(0))

    def clear(self, uid: str) -> None:
        """Take away all previews of a scene."""
        if uid == self._uid:
            self.cancel()
        reel = reels.pop(uid, None)
        for clip in reel.clips if reel is not None else ():
            clip.path.unlink(missing_ok=True)
        drawer.forget()
        self._tell("")
        self._redraw()

    def step_aside(self) -> None:
        """Leave the scene as it was found, for a save, an undo or another job; what was being read begins again."""
        self._edits.stop()
        if self._going is not None and self._now is not None:
            self._left.appendleft(self._now)
            self._drop()

    def edited(self, ids: Iterable[bpy.types.ID], moved: bool) -> None:
        """See ``Edits.told``."""
        if self._going is not None:
            self._edits.ours()
        self._edits.told(ids, moved)

    def undone(self) -> None:
        """An undo may have changed anything."""
        self._edits.undone()
        drawer.forget()
        if self.problem:
            self._tell("")

    def forget(self) -> None:
        """Another file is opened, or Blender ends: nothing of this one's previews stays."""
        self.cancel()
        for uid in list(reels):
            self.clear(uid)
        self._edits.undone()
        self._edits.forget()
        self._uid = ""
        finished.clear()

    def leave(self) -> None:
        """End the process without touching Blender's data, which may be gone."""
        if self._going is not None:
            self._going.abandon()
            self._going = None
        if self._sending is not None:
            self._sending.leave()
            self._sending = None
        preview_sending.remove()

    # -- a turn --------------------------------------------------------------------------------------------------

    def poll(self) -> float:
        """Do what is to be done now; returns the seconds until it wants to be called again."""
        scene = bpy.context.scene
        if scene is None or not (self.busy or self.live or reels):
            return 0.5
        if self.busy and folders.scene_of(self._uid) is None:
            self.cancel()
        if effects.runner.state.busy:
            if self.busy:
                self.cancel()
                self._tell(BUSY)
            return 0.5
        if self.message == BUSY:
            self._tell("")
        if presence.playing() or bpy.app.is_job_running("RENDER"):
            self.step_aside()
            self._edits.edited = time.monotonic()
        else:
            if self._going is None:
                self._timed("check", lambda: self._check(scene))
            self._timed("live", lambda: self._follow_edits(scene))
            if self._now is None and self._left:
                self._timed("begin", self._begin)
            if self._going is not None:
                self._timed("turn", self._turn)
        if self._sending is not None:
            self._timed("send", self._look)
        soon = self._going is not None or self._edits.reading
        return 0.0 if soon else 0.05 if self.busy else 0.25

    def _check(self, scene: bpy.types.Scene) -> None:
        """Find out which frames still hold, when something has changed."""
        reel = reels.get(scene.maquette.uid)
        if reel is None and not self.live:
            return
        before = reel.standing() if reel is not None else None
        found = self._edits.check(scene, reel)
        if found is None:
            return
        if reel is not None and reel.standing() != before:
            self._redraw()
        if self._now is not None and self._sending is not None and self.live and not _stand(self._prints, found):
            # What is being made is outdated already.
            self.cancel()

    def _follow_edits(self, scene: bpy.types.Scene) -> None:
        """Make anew what is outdated near the playhead, a while after the last edit."""
        if not self.live or self.busy:
            return
        edits = self._edits
        if edits.quiet(scene) < QUIET or edits.unread or time.monotonic() < self._asked_again:
            return
        if edits.changed < finished.get(scene.maquette.uid, -1.0):
            return
        reel = reels.get(scene.maquette.uid)
        if scene.maquette.preview_by == "DRAFT":
            if reel is None or reel.draft is None or not reel.draft.current:
                self.start(scene, [Window(range(0))])
            return
        held = reel.holds if reel is not None else lambda _: False
        windows = model_windows(scene, lambda frame: not held(frame))
        if windows:
            self.start(scene, windows[:1])

    def _begin(self) -> None:
        """Start the next window."""
        window, scene = self._left[0], folders.scene_of(self._uid)
        assert scene is not None
        if in_the_middle():
            return
        try:
            if window.frames:
                if why := backends.problem():
                    raise backends.BackendProblem(why)
                backends.prepare()
            make = self._captured if window.frames else self._dressed
            # Who has asked for it waits for it.
            longest = SLICE if self.live else ASKED_SLICE
            self._going = Capturing(lambda pace: make(scene, window, pace), longest)
        except Exception as error:
            self._fail(error)
            return
        self._left.popleft()
        self._now = window
        self._mark(window.frames or self._reel().shown)

    def _turn(self) -> None:
        """Some steps of what is being read."""
        going = self._going
        assert going is not None
        try:
            for _ in going.turn():
                pass
            if going.over:
                self._going = None
        except Exception as error:
            self._going = None
            self._fail(error)
        self._edits.ours()

    def _dressed(self, scene: bpy.types.Scene, _: Window, pace: Pace) -> Steps:
        prints, dressed, message = yield from preview_taking.dressed(scene, self._edits, pace)
        if (yield from self._again(scene, prints, pace)):
            return
        self._reel().draft = Draft(dressed, prints)
        drawer.forget()
        self._ended(message)

    def _captured(self, scene: bpy.types.Scene, window: Window, pace: Pace) -> Steps:
        prints, shot = yield from preview_taking.shot(scene, window, self._edits, pace)
        if not (yield from self._again(scene, prints, pace)):
            self._prints, self._sending = prints, Sending(shot)

    def _again(
        self, scene: bpy.types.Scene, prints: list[FramePrints], pace: Pace
    ) -> Generator[tuple[int, int], None, bool]:
        """Whether the scene was edited while it was read: then what was read is mixed, and is read again."""
        found = yield from self._edits.read(scene, pace)
        if _stand(prints, found):
            return False
        assert self._now is not None
        if not self.live:
            self._left.appendleft(self._now)
        self._now = None
        self._edits.edited = time.monotonic()
        self._mark(range(0))
        return True

    def _look(self) -> None:
        """Hear what the backend says of the window."""
        assert self._sending is not None
        try:
            report = self._sending.report()
        except Exception as error:
            self._fail(error)
            return
        if isinstance(report, str):
            self._tell(report)
        elif report.state == "completed":
            self._arrived(Path(report.result_path))
        elif report.state in ("failed", "cancelled"):
            error = report.error.message if report.error is not None else report.message
            self._fail(backends.BackendProblem(error))
        elif report.state == "queued" and report.view is not None and (report.view.queue_position or 0) > 0:
            if self.live:
                # Someone else's film is at it: no edit is to wait in its queue.
                self.cancel()
                self._asked_again = time.monotonic() + _PATIENCE
                self._tell("The backend is busy with another film: Live Preview waits for it")
            else:
                self._tell(f"Queued behind {report.view.queue_position}")
        elif report.state == "reconnecting":
            self._tell(report.message)

    def _arrived(self, film: Path) -> None:
        assert self._now is not None and self._sending is not None and self._prints
        scene = folders.scene_of(self._uid)
        self._sending.clean()
        self._sending = None
        label = models.find(scene.maquette.model).label if scene is not None else ""
        clip = Clip(film, self._prints[0], label, np.ones(len(self._now.frames), dtype=bool))
        for old in self._reel().add(clip):
            old.path.unlink(missing_ok=True)
        self._edits.forget()
        overlay.expect()
        self._ended("")

    # -- its ends ------------------------------------------------------------------------------------------------

    def _ended(self, message: str) -> None:
        self._now = None
        self._mark(range(0))
        self._tell(message)

    def _fail(self, error: Exception) -> None:
        self._left.clear()
        self._drop()
        self._mark(range(0))
        self._asked_again = time.monotonic() + 4 * _PATIENCE
        self._tell(reason(error), problem=True)

    def _drop(self) -> None:
        """Stop what is under way, here and at the backend."""
        going, self._going, self._now = self._going, None, None
        if going is not None:
            going.close()
            self._edits.ours()
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    def _reel(self) -> Reel:
        return reels.setdefault(self._uid, Reel())

    def _mark(self, frames: range) -> None:
        reel = reels.get(self._uid)
        if reel is not None and reel.making != frames:
            reel.making = frames
        self._redraw()

    def _tell(self, message: str, problem: bool = False) -> None:
        if (self.message, self.problem) != (message, problem):
            self.message, self.problem = message, problem
            self._redraw()

    def _redraw(self) -> None:
        strip.redraw()
        redraw()

    def _timed(self, what: str, do: Callable[[], None]) -> None:
        began = time.monotonic()
        do()
        self.longest[what] = max(self.longest.get(what, 0.0), time.monotonic() - began)


runner = PreviewRunner()


def preview(scene: bpy.types.Scene) -> None:
    """Make a preview as the scene says."""
    if scene.maquette.preview_by == "DRAFT":
        runner.start(scene, [Window(range(0))])
    else:
        runner.start(scene, model_windows(scene))


def refine(scene: bpy.types.Scene) -> None:
    """Have the chosen model make the previewed range in one piece, with the scene's seed."""
    runner.start(scene, [Window(preview_frames(scene), quality(scene), rough=False)])


def close() -> None:
    """Blender or the add-on ends."""
    global runner
    runner.forget()
    runner.leave()
    runner = PreviewRunner()


def _stand(prints: list[FramePrints], found: Print) -> bool:
    return all(each.current(found).all() for each in prints)
