"""The life of one job as a pure function: ``transition(state, event) -> (state, effects)``.

Nothing here touches a file, a process or Blender. Whoever drives the machine feeds it events, in any order the
world produces them, and carries out the effects it returns. Every event is defined in every phase: an event that
means nothing there changes nothing.

Runs are numbered. Each press of Generate starts a new run; an event that carries another run's number is old news
and is dropped, and so must be an effect whose run is no longer the state's.

    idle -> capturing -> submitting -> queued -> running -> downloading -> applying -> done
                any of these but applying -> failed, or -> cancelling -> cancelled

One captured shot may go to several models: its parts are sent one after the other, each as a run of its own, and
whatever becomes of one does not stop the next. All is at rest when the last has ended.
"""

from __future__ import annotations

from dataclasses import replace

from ..wire import GIVE_UP_CANCEL_SECONDS, Status
from . import events as ev
from .job import WITH_BACKEND, JobState, Outcome, Phase


def superseded(state: JobState, effect: ev.Effect) -> bool:
    """Whether ``effect`` belongs to an earlier run and must be dropped; tidying up after one is always right."""
    return effect.run != state.run and not isinstance(effect, (ev.StopCapture, ev.StopWorker, ev.Forget))


_CANCELLED = "Cancelled"
_FINISHED_FIRST = "The video was finished before the cancel arrived; it is in the results list"


def transition(state: JobState, event: ev.Event) -> tuple[JobState, tuple[ev.Effect, ...]]:
    """What ``event`` makes of ``state``, and what is to be done about it.

    Never raises for an event of this module. An event of another run, or one that means nothing in this phase,
    gives the same state back and no effects.
    """
    run = getattr(event, "run", None)
    if run is not None and run != state.run:
        return state, ()
    match event:
        case ev.Generate() | ev.Resume() | ev.LeftBehind() | ev.Cancel() | ev.Dismiss():
            return _on_wish(state, event)
        case ev.CaptureAdvanced() | ev.Captured() | ev.CaptureFailed():
            return _on_capture(state, event)
        case ev.Applied() | ev.ApplyFailed():
            return _on_apply(state, event)
        case _:
            return _on_backend(state, event)


def _on_wish(
    state: JobState, event: ev.Generate | ev.Resume | ev.LeftBehind | ev.Cancel | ev.Dismiss
) -> tuple[JobState, tuple[ev.Effect, ...]]:
    """What the animator asks for."""
    match event:
        case ev.Generate(scene) if not state.busy:
            new = JobState(phase=Phase.CAPTURING, run=state.run + 1, scene=scene, message="Capturing the scene")
            # What a failed job left behind is given up by pressing Generate again.
            return new, (*_left(state), ev.StartCapture(new.run, scene))
        case ev.Resume() if state.resumable:
            if not state.several:
                return _send(state, ev.Part(state.model, state.label, state.shot, state.job), (), ())
            first, *rest = (outcome.part for outcome in state.outcomes if outcome.resumable)
            done = tuple(outcome for outcome in state.outcomes if outcome.phase is Phase.DONE)
            return _send(state, first, tuple(rest), done)
        case ev.LeftBehind(scene, shot, job, message) if state.phase is Phase.IDLE:
            new = JobState(phase=Phase.FAILED, run=state.run + 1, scene=scene, shot=shot, job=job, message=message)
            return new, ()
        case ev.Cancel() if state.phase is Phase.CAPTURING:
            return _ended(state, Phase.CANCELLED, _CANCELLED), (ev.StopCapture(state.run), ev.Forget(state.run))
        case ev.Cancel() if state.phase in WITH_BACKEND and state.phase is not Phase.CANCELLING:
            unsent = tuple(Outcome(0, replace(p, shot=""), Phase.CANCELLED, _CANCELLED) for p in state.waiting)
            new = replace(
                state, phase=Phase.CANCELLING, message="Cancelling", waited=0.0, told=None, stopped=True,
                waiting=(), outcomes=(*state.outcomes, *unsent),
            )  # fmt: skip
            return new, (
                ev.CancelJob(state.run),
                *(ev.Forget(state.run, part.shot) for part in state.waiting if part.shot),
            )
        case ev.Dismiss() if state.phase in (Phase.DONE, Phase.FAILED, Phase.CANCELLED):
            return JobState(run=state.run), _left(state)
    return state, ()


def _left(state: JobState) -> tuple[ev.Effect, ...]:
    """What gives up whatever a job at rest has left behind to be tried again."""
    if state.several:
        return tuple(ev.Forget(outcome.run) for outcome in state.outcomes if outcome.resumable)
    return (ev.Forget(state.run),) if state.phase is Phase.FAILED else ()


def _send(
    state: JobState, part: ev.Part, waiting: tuple[ev.Part, ...], outcomes: tuple[Outcome, ...]
) -> tuple[JobState, tuple[ev.Effect, ...]]:
    """A new run that sends a shot captured before, or follows its job."""
    message = "Asking the backend for the job" if part.job else "Sending the shot"
    new = JobState(
        phase=Phase.SUBMITTING, run=state.run + 1, scene=state.scene, shot=part.shot, job=part.job, message=message,
        notes=state.notes, model=part.model, label=part.label, waiting=waiting, outcomes=outcomes,
    )  # fmt: skip
    return new, (ev.StartWorker(new.run, part.shot, part.job),)


def _on_capture(
    state: JobState, event: ev.CaptureAdvanced | ev.Captured | ev.CaptureFailed
) -> tuple[JobState, tuple[ev.Effect, ...]]:
    """What the capture reports; only a state that is capturing listens."""
    if state.phase is not Phase.CAPTURING:
        return state, ()
    match event:
        case ev.CaptureAdvanced(_, done, total):
            return replace(state, step=done, steps=total, progress=_fraction(done / total if total > 0 else 0.0)), ()
        case ev.Captured(run, shot, notes, model, label, others):
            refused = tuple(Outcome(0, part, Phase.FAILED, part.problem) for part in others if part.problem)
            new = replace(
                state, phase=Phase.SUBMITTING, shot=shot, notes=notes, message="Sending the shot",
                step=0, steps=0, progress=0.0, model=model, label=label, outcomes=refused,
                waiting=tuple(part for part in others if not part.problem),
            )  # fmt: skip
            return new, (ev.StartWorker(run, shot),)
        case ev.CaptureFailed(run, message):
            return _ended(state, Phase.FAILED, message), (ev.StopCapture(run), ev.Notify(run, "ERROR", message))
    return state, ()


def _on_backend(state: JobState, event: ev.Event) -> tuple[JobState, tuple[ev.Effect, ...]]:
    """What the worker reports about the backend."""
    if state.phase not in WITH_BACKEND:
        return state, ()
    run = state.run
    cancelling = state.phase is Phase.CANCELLING
    match event:
        case ev.Received(_, video, notes):
            whose = tuple(f"{state.label}: {note}" for note in notes) if state.several and state.label else notes
            new = replace(
                state, phase=Phase.APPLYING, video=video, notes=_merged(state.notes, whose), told=None,
                progress=1.0, message=_FINISHED_FIRST if cancelling else "Loading the video",
            )  # fmt: skip
            # Somebody who has pressed Cancel does not want the scene changed, but may want the video yet. Several
            # videos are shown together when all are here.
            return new, (ev.ApplyResult(run, state.scene, video, load=not (cancelling or state.several)),)
        case ev.BackendCancelled():
            message = _CANCELLED if cancelling else "The backend cancelled the job"
            told = () if cancelling else (ev.Notify(run, "WARNING", message),)
            return _over(state, Phase.CANCELLED, message, (ev.StopWorker(run), ev.Forget(run)), told)
        case ev.BackendFailed(_, message, forget, final):
            if cancelling:
                told = (ev.Notify(run, "WARNING", message),)
                return _over(state, Phase.CANCELLED, message, (ev.StopWorker(run), ev.Forget(run)), told)
            told = (ev.Notify(run, "ERROR", message),)
            if final:
                effects = (ev.StopWorker(run), ev.Forget(run))
                return _over(replace(state, shot="", job=""), Phase.FAILED, message, effects, told)
            kept = replace(state, job="") if forget else state
            return _over(kept, Phase.FAILED, message, (ev.StopWorker(run),), told)
        case ev.Waited(_, seconds) if cancelling:
            waited = state.waited + max(seconds, 0.0)
            if not waited < GIVE_UP_CANCEL_SECONDS:
                message = "Cancelled here; the backend did not confirm it and may still be working on the job"
                told = (ev.Notify(run, "WARNING", message),)
                return _over(state, Phase.CANCELLED, message, (ev.StopWorker(run), ev.Forget(run)), told)
            return replace(state, waited=waited), ()
        case ev.Submitted(_, job):
            return replace(state, job=job), ()
    if cancelling:
        return state, ()
    match event:
        case ev.Waiting(_, message, progress):
            sent = _fraction(progress) if state.phase is Phase.SUBMITTING else state.progress
            told = replace(state.told, eta_seconds=None) if state.told else None
            return replace(state, message=message, progress=sent, told=told), ()
        case ev.Told(_, view) if state.phase is not Phase.DOWNLOADING:
            queued = view.status is Status.QUEUED
            return replace(
                state, phase=Phase.QUEUED if queued else Phase.RUNNING, told=view, step=view.step or 0,
                steps=view.steps or 0, progress=_fraction(view.progress / 100),
                message="Queued" if queued else "Generating",
            ), ()  # fmt: skip
        case ev.Downloading(_, progress):
            return replace(
                state, phase=Phase.DOWNLOADING, told=None, step=0, steps=0, progress=_fraction(progress),
                message="Fetching the video",
            ), ()  # fmt: skip
    return state, ()


def _on_apply(state: JobState, event: ev.Applied | ev.ApplyFailed) -> tuple[JobState, tuple[ev.Effect, ...]]:
    """What became of the result."""
    if state.phase is not Phase.APPLYING:
        return state, ()
    run = state.run
    effects = (ev.StopWorker(run), ev.Forget(run))
    if isinstance(event, ev.Applied):
        noted = replace(state, notes=_merged(state.notes, event.notes))
        return _over(noted, Phase.DONE, event.message, effects, (ev.Notify(run, "INFO", event.message),))
    message = f"The video is kept in the results list, but could not be loaded: {event.message}"
    return _over(state, Phase.DONE, message, effects, (ev.Notify(run, "WARNING", message),))


def _over(
    state: JobState, phase: Phase, message: str, effects: tuple[ev.Effect, ...], told: tuple[ev.Notify, ...]
) -> tuple[JobState, tuple[ev.Effect, ...]]:
    """The run has ended in ``phase``: the next part begins, or all is at rest.

    Args:
        effects: what tidies up after the run.
        told: what the animator hears of it where it is the only one.
    """
    if not state.several:
        return _ended(state, phase, message), (*effects, *told)
    part = ev.Part(state.model, state.label, state.shot, state.job)
    outcomes = (*state.outcomes, Outcome(state.run, part, phase, message, state.video if phase is Phase.DONE else ""))
    if state.waiting:
        new, started = _send(state, state.waiting[0], state.waiting[1:], outcomes)
        return new, (*effects, *started)
    done = [outcome for outcome in outcomes if outcome.phase is Phase.DONE]
    cancelled = any(outcome.phase is Phase.CANCELLED for outcome in outcomes)
    best = Phase.DONE if done else Phase.FAILED
    end = Phase.CANCELLED if cancelled and (state.stopped or not done) else best
    summary = _summary(outcomes, stopped=end is Phase.CANCELLED)
    level = "INFO" if len(done) == len(outcomes) else "WARNING" if done or cancelled else "ERROR"
    videos = tuple(outcome.video for outcome in done if outcome.video)
    shown = (ev.ShowTogether(state.run, state.scene, videos),) if videos and not state.stopped else ()
    resting = replace(_ended(state, end, summary), outcomes=outcomes)
    return resting, (*effects, *shown, ev.Notify(state.run, level, summary))


def _summary(outcomes: tuple[Outcome, ...], stopped: bool) -> str:
    """How a shot for several models went, in one line for those that succeeded and one for each that did not."""
    done = [outcome.part.label or outcome.part.model for outcome in outcomes if outcome.phase is Phase.DONE]
    ready = f"{len(done)} of {len(outcomes)} videos ready: {', '.join(done)}" if done else "No video was made"
    failed = [o for o in outcomes if o.phase is not Phase.DONE and not (stopped and o.message == _CANCELLED)]
    lines = [f"{outcome.part.label or outcome.part.model}: {outcome.message}" for outcome in failed]
    return "\n".join([f"Cancelled. {ready}" if stopped else ready, *lines])


def _ended(state: JobState, phase: Phase, message: str) -> JobState:
    """``state`` at rest in ``phase``."""
    return replace(state, phase=phase, message=message, told=None, waited=0.0)


def _fraction(value: float) -> float:
    """``value`` as a share between 0 and 1; not-a-number counts as nothing done."""
    return min(max(value, 0.0), 1.0) if value == value else 0.0


def _merged(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    """Both lists of notes without repeats."""
    return tuple(dict.fromkeys((*first, *second)))
