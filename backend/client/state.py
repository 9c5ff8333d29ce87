"""The life of one job as a pure function: ``transition(state, event) -> (state, effects)``.

Nothing here touches a file, a process or Blender. Whoever drives the machine feeds it events, in any order the
world produces them, and carries out the effects it returns. Every event is defined in every phase: an event that
means nothing there changes nothing.

Runs are numbered. Each press of Generate starts a new run; an event that carries another run's number is old news
and is dropped, and so must be an effect whose run is no longer the state's.

    idle -> capturing -> submitting -> queued -> running -> downloading -> applying -> done
                any of these but applying -> failed, or -> cancelling -> cancelled
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from .events import (
    Applied,
    ApplyFailed,
    ApplyResult,
    BackendCancelled,
    BackendFailed,
    Cancel,
    CancelJob,
    CaptureAdvanced,
    Captured,
    CaptureFailed,
    Dismiss,
    Downloading,
    Effect,
    Event,
    Forget,
    Generate,
    LeftBehind,
    Notify,
    Progressed,
    Queued,
    Received,
    Resume,
    StartCapture,
    StartWorker,
    StopCapture,
    StopWorker,
    Submitted,
    Waited,
    Waiting,
)

__all__ = [
    "CANCEL_PATIENCE",
    "RESTING",
    "WITH_BACKEND",
    "Applied",
    "ApplyFailed",
    "ApplyResult",
    "BackendCancelled",
    "BackendFailed",
    "Cancel",
    "CancelJob",
    "CaptureAdvanced",
    "CaptureFailed",
    "Captured",
    "Dismiss",
    "Downloading",
    "Effect",
    "Event",
    "Forget",
    "Generate",
    "JobState",
    "LeftBehind",
    "Notify",
    "Phase",
    "Progressed",
    "Queued",
    "Received",
    "Resume",
    "StartCapture",
    "StartWorker",
    "StopCapture",
    "StopWorker",
    "Submitted",
    "Waited",
    "Waiting",
    "superseded",
    "transition",
]


class Phase(StrEnum):
    """Where a job stands."""

    IDLE = "idle"
    CAPTURING = "capturing"
    SUBMITTING = "submitting"
    QUEUED = "queued"
    RUNNING = "running"
    DOWNLOADING = "downloading"
    APPLYING = "applying"
    DONE = "done"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


RESTING = frozenset({Phase.IDLE, Phase.DONE, Phase.FAILED, Phase.CANCELLED})
"""Phases in which nothing is under way and a new job may start."""

WITH_BACKEND = frozenset({Phase.SUBMITTING, Phase.QUEUED, Phase.RUNNING, Phase.DOWNLOADING, Phase.CANCELLING})
"""Phases in which a worker process is following the job."""

CANCEL_PATIENCE = 20.0
"""Seconds that a cancelled job waits for the backend's word before it counts as cancelled anyway."""


@dataclass(frozen=True)
class JobState:
    """One job, as far as it is known.

    Attributes:
        phase: where it stands.
        run: number of this run; 0 before the first.
        scene: id of the scene the job belongs to.
        shot: path of the captured .shot file; empty until it is written.
        job: the backend's id of the job; empty until the backend has taken it.
        message: one sentence for the animator.
        queue_position: jobs ahead of this one; None when not queued or unknown.
        stage, step, steps: what the backend is doing, and how far within it.
        progress: 0 to 1 over the current phase (capturing, running, downloading).
        eta_seconds: seconds the backend expects to need; None when unknown.
        notes: what the capture and the backend changed or want the animator to know.
        video: path of the finished video; empty until it is here.
        waited: seconds spent in the phase ``cancelling``.
    """

    phase: Phase = Phase.IDLE
    run: int = 0
    scene: str = ""
    shot: str = ""
    job: str = ""
    message: str = ""
    queue_position: int | None = None
    stage: str = ""
    step: int = 0
    steps: int = 0
    progress: float = 0.0
    eta_seconds: float | None = None
    notes: tuple[str, ...] = ()
    video: str = ""
    waited: float = 0.0

    @property
    def resumable(self) -> bool:
        """Whether Resume would do something."""
        return self.phase is Phase.FAILED and bool(self.shot or self.job)

    @property
    def busy(self) -> bool:
        """Whether a job is under way."""
        return self.phase not in RESTING


def superseded(state: JobState, effect: Effect) -> bool:
    """Whether ``effect`` belongs to an earlier run and must be dropped; tidying up after one is always right."""
    return effect.run != state.run and not isinstance(effect, (StopCapture, StopWorker, Forget))


_CANCELLED = "Cancelled"
_FINISHED_FIRST = "The video was finished before the cancel arrived; it is in the results list"


def transition(state: JobState, event: Event) -> tuple[JobState, tuple[Effect, ...]]:
    """What ``event`` makes of ``state``, and what is to be done about it.

    Never raises for an event of this module. An event of another run, or one that means nothing in this phase,
    gives the same state back and no effects.
    """
    run = getattr(event, "run", None)
    if run is not None and run != state.run:
        return state, ()
    match event:
        case Generate() | Resume() | LeftBehind() | Cancel() | Dismiss():
            return _on_wish(state, event)
        case CaptureAdvanced() | Captured() | CaptureFailed():
            return _on_capture(state, event)
        case Applied() | ApplyFailed():
            return _on_apply(state, event)
        case _:
            return _on_backend(state, event)


def _on_wish(
    state: JobState, event: Generate | Resume | LeftBehind | Cancel | Dismiss
) -> tuple[JobState, tuple[Effect, ...]]:
    """What the animator asks for."""
    match event:
        case Generate(scene) if not state.busy:
            new = JobState(phase=Phase.CAPTURING, run=state.run + 1, scene=scene, message="Capturing the scene")
            # What a failed job left behind is given up by pressing Generate again.
            left = (Forget(state.run),) if state.phase is Phase.FAILED else ()
            return new, (*left, StartCapture(new.run, scene))
        case Resume() if state.resumable:
            message = "Asking the backend for the job" if state.job else "Sending the shot"
            new = JobState(
                phase=Phase.SUBMITTING, run=state.run + 1, scene=state.scene, shot=state.shot, job=state.job,
                message=message, notes=state.notes,
            )  # fmt: skip
            return new, (StartWorker(new.run, new.shot, new.job),)
        case LeftBehind(scene, shot, job, message) if state.phase is Phase.IDLE:
            new = JobState(phase=Phase.FAILED, run=state.run + 1, scene=scene, shot=shot, job=job, message=message)
            return new, ()
        case Cancel() if state.phase is Phase.CAPTURING:
            return _ended(state, Phase.CANCELLED, _CANCELLED), (StopCapture(state.run), Forget(state.run))
        case Cancel() if state.phase in WITH_BACKEND and state.phase is not Phase.CANCELLING:
            new = replace(state, phase=Phase.CANCELLING, message="Cancelling", waited=0.0, eta_seconds=None)
            return new, (CancelJob(state.run),)
        case Dismiss() if state.phase in (Phase.DONE, Phase.FAILED, Phase.CANCELLED):
            left = (Forget(state.run),) if state.phase is Phase.FAILED else ()
            return JobState(run=state.run), left
    return state, ()


def _on_capture(
    state: JobState, event: CaptureAdvanced | Captured | CaptureFailed
) -> tuple[JobState, tuple[Effect, ...]]:
    """What the capture reports; only a state that is capturing listens."""
    if state.phase is not Phase.CAPTURING:
        return state, ()
    match event:
        case CaptureAdvanced(_, done, total):
            return replace(state, step=done, steps=total, progress=_fraction(done / total if total > 0 else 0.0)), ()
        case Captured(run, shot, notes):
            new = replace(
                state, phase=Phase.SUBMITTING, shot=shot, notes=notes, message="Sending the shot",
                step=0, steps=0, progress=0.0,
            )  # fmt: skip
            return new, (StartWorker(run, shot),)
        case CaptureFailed(run, message):
            return _ended(state, Phase.FAILED, message), (StopCapture(run), Notify(run, "ERROR", message))
    return state, ()


def _on_backend(state: JobState, event: Event) -> tuple[JobState, tuple[Effect, ...]]:
    """What the worker reports about the backend."""
    if state.phase not in WITH_BACKEND:
        return state, ()
    run = state.run
    cancelling = state.phase is Phase.CANCELLING
    match event:
        case Received(_, video, notes):
            new = replace(
                state, phase=Phase.APPLYING, video=video, notes=_merged(state.notes, notes), queue_position=None,
                eta_seconds=None, progress=1.0, message=_FINISHED_FIRST if cancelling else "Loading the video",
            )  # fmt: skip
            # Somebody who has pressed Cancel does not want the scene changed, but may want the video yet.
            return new, (ApplyResult(run, state.scene, video, load=not cancelling),)
        case BackendCancelled():
            message = _CANCELLED if cancelling else "The backend cancelled the job"
            told = () if cancelling else (Notify(run, "WARNING", message),)
            return _ended(state, Phase.CANCELLED, message), (StopWorker(run), Forget(run), *told)
        case BackendFailed(_, message, forget):
            if cancelling:
                effects = (StopWorker(run), Forget(run), Notify(run, "WARNING", message))
                return _ended(state, Phase.CANCELLED, message), effects
            new = _ended(state, Phase.FAILED, message)
            return (replace(new, job="") if forget else new), (StopWorker(run), Notify(run, "ERROR", message))
        case Waited(_, seconds) if cancelling:
            waited = state.waited + max(seconds, 0.0)
            if not waited < CANCEL_PATIENCE:
                message = "Cancelled here; the backend did not confirm it and may still be working on the job"
                effects = (StopWorker(run), Forget(run), Notify(run, "WARNING", message))
                return _ended(state, Phase.CANCELLED, message), effects
            return replace(state, waited=waited), ()
        case Submitted(_, job):
            return replace(state, job=job), ()
    if cancelling:
        return state, ()
    match event:
        case Waiting(_, message, progress):
            sent = _fraction(progress) if state.phase is Phase.SUBMITTING else state.progress
            return replace(state, message=message, progress=sent, eta_seconds=None), ()
        case Queued(_, position, eta) if state.phase is not Phase.DOWNLOADING:
            return replace(
                state, phase=Phase.QUEUED, queue_position=position, eta_seconds=eta, stage="", step=0, steps=0,
                progress=0.0, message="Queued",
            ), ()  # fmt: skip
        case Progressed(_, stage, step, steps, progress, eta) if state.phase is not Phase.DOWNLOADING:
            return replace(
                state, phase=Phase.RUNNING, queue_position=None, stage=stage, step=step, steps=steps,
                progress=_fraction(progress), eta_seconds=eta, message="Generating",
            ), ()  # fmt: skip
        case Downloading(_, progress):
            return replace(
                state, phase=Phase.DOWNLOADING, queue_position=None, stage="", step=0, steps=0,
                progress=_fraction(progress), eta_seconds=None, message="Fetching the video",
            ), ()  # fmt: skip
    return state, ()


def _on_apply(state: JobState, event: Applied | ApplyFailed) -> tuple[JobState, tuple[Effect, ...]]:
    """What became of the result."""
    if state.phase is not Phase.APPLYING:
        return state, ()
    run = state.run
    effects = (StopWorker(run), Forget(run))
    if isinstance(event, Applied):
        noted = replace(state, notes=_merged(state.notes, event.notes))
        return _ended(noted, Phase.DONE, event.message), (*effects, Notify(run, "INFO", event.message))
    message = f"The video is kept in the results list, but could not be loaded: {event.message}"
    return _ended(state, Phase.DONE, message), (*effects, Notify(run, "WARNING", message))


def _ended(state: JobState, phase: Phase, message: str) -> JobState:
    """``state`` at rest in ``phase``."""
    return replace(state, phase=phase, message=message, queue_position=None, eta_seconds=None, waited=0.0)


def _fraction(value: float) -> float:
    """``value`` as a share between 0 and 1; not-a-number counts as nothing done."""
    return min(max(value, 0.0), 1.0) if value == value else 0.0


def _merged(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    """Both lists of notes without repeats."""
    return tuple(dict.fromkeys((*first, *second)))
