"""The jobs of this Blender: one is under way, the others wait behind it.

``poll()`` does all of it. One timer calls it while Blender has a window; in the background, and in tests, whoever
started the job calls it. Each is captured as soon as it may be, so that the scene can be worked in while it waits. The
backend gets as many as it can run at a time, so that the order of the others can be changed.
"""

from __future__ import annotations

import time

import bpy

from ...backend.catalogue.quality import list_quality
from ...backend.client import events as ev
from ...backend.client import state as s
from ...backend.wire import DRAFT_URGENCY, PRIORITIES, URGENCY
from .. import folders
from . import backends, readiness
from . import view as job_view
from .effect_runner import EffectRunner

_LOOK_SECONDS = 0.25
_SHOW_SECONDS = 0.2
_SHOW_SHARE = 5.0
"""While a capture goes on, seconds between two drawings of it for each that the last took."""

runner = EffectRunner()
"""The job under way, or the last one."""

queue: list[EffectRunner] = []
"""Those behind it, next first; also those that have failed, which wait for the animator."""

_shown_at = _show_took = 0.0
_shown = False


def poll() -> float:
    """Everything that is to be done now and then; returns the seconds until it wants to be called again."""
    global _shown_at, _show_took, _shown
    if _shown:
        _show_took, _shown = time.monotonic() - _shown_at, False
    _advance()
    _take_turns()
    for one in _all():
        one.poll()
    capturing = _capturing() is not None
    if capturing and time.monotonic() - _shown_at < max(_SHOW_SECONDS, _SHOW_SHARE * _show_took):
        # Drawing would take longer than the frames that are captured.
        return 0.0
    redraw = backends.poll()
    if redraw:
        readiness.touch()
    redraw |= _publish()
    if redraw:
        job_view.redraw()
    _shown_at, _shown = time.monotonic(), capturing
    if capturing:
        return 0.0
    return _LOOK_SECONDS if busy() or backends.busy() else 2 * _LOOK_SECONDS


def busy() -> bool:
    """Whether a job is under way or waits for its turn."""
    return any(one.state.busy for one in _all())


def generate(scene: bpy.types.Scene, part: range | None = None) -> EffectRunner:
    """Start a job for the scene, behind those that are there and as urgent; returns what carries it out.

    Args:
        part: its frames; by default all of the scene's.
    """
    job = EffectRunner() if runner.state.busy else runner
    job.part, job.urgency = part, _urgency(scene)
    if job is not runner:
        later = (place for place, one in enumerate(queue) if one.urgency > job.urgency and not one.sent)
        queue.insert(next(later, len(queue)), job)
    _take_turns(job)
    job.dispatch(ev.Generate(folders.scene_id(scene)))
    if job is not runner and not job.state.busy:
        # It cannot even begin, which whoever asked for it tells.
        queue.remove(job)
    _publish()
    return job


def _urgency(scene: bpy.types.Scene) -> int:
    """Of a job for the scene, as the wire has it."""
    wanted = PRIORITIES[scene.maquette.priority.lower()]
    usual = DRAFT_URGENCY if list_quality()[scene.maquette.quality].carried else URGENCY
    return usual if wanted is None else wanted


def move_up(place: int) -> None:
    """Have a job of the queue run before the one in front of it."""
    if 0 < place < len(queue) and not queue[place - 1].sent:
        queue[place - 1 : place + 1] = [queue[place], queue[place - 1]]
    _publish()


def cancel(place: int) -> None:
    """Take a job out of the queue; one that has failed is given up."""
    if 0 <= place < len(queue):
        job = queue[place]
        job.dispatch(ev.Cancel() if job.state.busy else ev.Dismiss())
    poll()


def try_again(place: int) -> None:
    """Have a job that has failed wait for its turn again."""
    if 0 <= place < len(queue):
        _take_turns(queue[place])
        queue[place].dispatch(ev.Resume())
    poll()


def take_up(follow: bool = False) -> None:
    """See ``EffectRunner.take_up``."""
    runner.take_up(follow, {folder for one in queue for folder in one.folders})


def wait() -> s.JobState:
    """Poll until all jobs have ended. For scripts: a window stands still meanwhile."""
    while busy():
        poll()
        time.sleep(0.02)
    poll()
    return runner.state


def step_aside() -> None:
    """Leave the scene as it was found, for the file to be saved or an undo to be made; a capture begins again."""
    for one in _all():
        one.stop_capture()


def file_going() -> None:
    """Another file is about to be opened."""
    message = "Another file was opened while the scene was being captured: press Generate again there"
    for one in _all():
        if one.state.phase is s.Phase.CAPTURING:
            one.dispatch(ev.CaptureFailed(one.state.run, message))


def leave_all() -> None:
    """See ``EffectRunner.leave_all``."""
    for one in _all():
        one.leave_all()


def close() -> None:
    """Blender or the add-on ends."""
    global runner
    for one in _all():
        one.stop()
    runner = EffectRunner()
    queue.clear()


def _all() -> list[EffectRunner]:
    return [runner, *queue]


def _capturing() -> EffectRunner | None:
    return next((one for one in _all() if one.state.phase is s.Phase.CAPTURING), None)


def _take_turns(new: EffectRunner | None = None) -> None:
    """The first jobs are sent, as many as the backend runs at a time, and one is captured at a time."""
    capturing, places = _capturing() or new, backends.engines()
    for one in _all():
        one.may_send, one.may_capture, one.shown = places > 0, one is capturing, one is runner
        places -= one.state.busy and one.state.phase is not s.Phase.CAPTURING


def _advance() -> None:
    """Let the next job take the place of one that has ended. One that has failed stays in the queue, to be seen."""
    global runner
    for one in [*queue]:
        if one.state.phase in (s.Phase.DONE, s.Phase.CANCELLED, s.Phase.IDLE):
            queue.remove(one)
            runner.notices += one.notices
    following = next((one for one in queue if one.state.busy), None)
    if following is None or runner.state.busy:
        return
    queue.remove(following)
    following.notices[:0] = runner.notices
    if runner.state.phase is s.Phase.FAILED:
        runner.notices = []
        queue.append(runner)
    runner = following


def _publish() -> bool:
    told = []
    for one in _all():
        told += one.notices
        one.notices = []
    movable = [not in_front.sent for in_front in _all()]
    changed = job_view.publish_queue([(job.title, job.state, can) for job, can in zip(queue, movable, strict=False)])
    return job_view.publish(runner.state, told, runner.seconds_left) or changed
