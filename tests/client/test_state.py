"""The job state machine: every event in every phase, in any order."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.backend.client import events as ev
from maquette.backend.client import state as s
from maquette.backend.client.state import JobState, Phase, transition
from maquette.backend.wire import GIVE_UP_CANCEL_SECONDS, JobView, Status

EVENTS = ev.Event.__args__
TEXT = st.sampled_from(["", "a", "vid_1", "The backend is gone"])
PARTS = st.builds(
    ev.Part, model=TEXT, label=TEXT, shot=st.sampled_from(["/tmp/b.shot", "/tmp/c.shot"]),
    problem=st.sampled_from(["", "", "takes one character"]),
)  # fmt: skip
VIEWS = st.builds(
    JobView, id=TEXT, status=st.sampled_from(Status), progress=st.floats(-10, 200), stage=st.none() | TEXT,
    step=st.none() | st.integers(0, 40), steps=st.none() | st.integers(0, 40),
)  # fmt: skip
NUMBERS = st.one_of(st.integers(-3, 40), st.floats(allow_nan=True, allow_infinity=True))


def events_of(runs: st.SearchStrategy[int]) -> st.SearchStrategy[ev.Event]:
    """Any event; those that carry a run's number take it from ``runs``."""
    by_type = {
        "run": runs, "scene": TEXT, "shot": TEXT, "job": TEXT, "message": TEXT, "video": TEXT, "view": VIEWS,
        "done": st.integers(-1, 20), "total": st.integers(-1, 20), "progress": NUMBERS,
        "seconds": NUMBERS, "forget": st.booleans(), "final": st.booleans(),
        "notes": st.lists(TEXT, max_size=2).map(tuple), "model": TEXT, "label": TEXT,
        "others": st.lists(PARTS, max_size=2).map(tuple),
    }  # fmt: skip
    return st.one_of([st.builds(kind, **{f.name: by_type[f.name] for f in fields(kind)}) for kind in EVENTS])


def queued(run: int, position: int, eta: float | None = None) -> ev.Told:
    """The backend says that the job waits."""
    return ev.Told(run, JobView("vid_1", Status.QUEUED, queue_position=position, eta_seconds=eta))


def running(run: int, step: int, steps: int, progress: float, eta: float | None = None) -> ev.Told:
    """The backend says that it works on the job."""
    view = JobView("vid_1", Status.IN_PROGRESS, stage="denoising", step=step, steps=steps, progress=progress)
    return ev.Told(run, replace(view, eta_seconds=eta))


def run_events(state: JobState, events: list[ev.Event]) -> tuple[JobState, list[ev.Effect]]:
    """Feed the events one after the other."""
    effects: list[ev.Effect] = []
    for event in events:
        state, new = transition(state, event)
        effects += new
    return state, effects


def captured(scene: str = "scene") -> JobState:
    """A job whose shot has just been handed to the worker."""
    state, _ = run_events(JobState(), [ev.Generate(scene), ev.Captured(1, "/tmp/a.shot")])
    return state


SENT = [ev.Generate("scene"), ev.Captured(1, "/tmp/a.shot")]
HERE = [*SENT, ev.Received(1, "/tmp/a.mp4")]
PATH = {
    Phase.IDLE: [],
    Phase.CAPTURING: SENT[:1],
    Phase.SUBMITTING: SENT,
    Phase.QUEUED: [*SENT, ev.Submitted(1, "vid_1"), queued(1, 2)],
    Phase.RUNNING: [*SENT, running(1, 3, 30, 10, 9.0)],
    Phase.DOWNLOADING: [*SENT, ev.Downloading(1, 0.5)],
    Phase.APPLYING: HERE,
    Phase.DONE: [*HERE, ev.Applied(1, "ok")],
    Phase.FAILED: [ev.Generate("scene"), ev.CaptureFailed(1, "no camera")],
    Phase.CANCELLING: [*SENT, ev.Cancel()],
    Phase.CANCELLED: [ev.Generate("scene"), ev.Cancel()],
}


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_is_reached(phase: Phase) -> None:
    state, _ = run_events(JobState(), PATH[phase])
    assert state.phase is phase


@settings(max_examples=60)
@given(st.lists(events_of(st.integers(0, 4)), max_size=40))
def test_any_sequence_of_events_is_defined(events: list[ev.Event]) -> None:
    state = JobState()
    for event in events:
        before = state
        state, effects = transition(state, event)
        assert isinstance(state, JobState) and isinstance(state.phase, Phase)
        assert state.run in (before.run, before.run + 1)
        assert 0.0 <= state.progress <= 1.0
        # A new run begins from rest, by the animator's wish, or where a part has ended and another waits.
        if state.run != before.run and not before.waiting:
            assert not before.busy and isinstance(event, (ev.Generate, ev.Resume, ev.LeftBehind))
        if state.run != before.run and before.busy:
            assert len(state.waiting) == len(before.waiting) - 1 and len(state.outcomes) == len(before.outcomes) + 1
        assert all(effect.run in (before.run, state.run) for effect in effects if not isinstance(effect, ev.Forget))
        assert not any(s.superseded(state, effect) for effect in effects)


@settings(max_examples=60)
@given(
    st.lists(events_of(st.integers(0, 3)), max_size=30),
    st.lists(
        events_of(st.integers(0, 3)).filter(
            lambda e: not isinstance(e, (ev.Generate, ev.Resume, ev.LeftBehind, ev.Dismiss))
        ),
        max_size=30,
    ),
)
def test_a_cancel_ends_in_cancelled_or_done(before: list[ev.Event], after: list[ev.Event]) -> None:
    state, _ = run_events(JobState(), before)
    if not state.busy:
        return
    run = state.run
    state, _ = transition(state, ev.Cancel())
    state, _ = run_events(state, after)
    # However the world behaves, patience ends or the video is put away.
    state, _ = run_events(state, [ev.Waited(run, GIVE_UP_CANCEL_SECONDS), ev.ApplyFailed(run, "gone")])
    assert state.phase in (Phase.CANCELLED, Phase.DONE)


@settings(max_examples=60)
@given(st.lists(events_of(st.integers(0, 3)), max_size=30))
def test_a_job_is_never_stuck(events: list[ev.Event]) -> None:
    state, _ = run_events(JobState(), events)
    for _ in range(1 + len(state.waiting)):
        run = state.run
        failed = ev.BackendFailed(run, "x")
        bad = [ev.CaptureFailed(run, "x"), failed, failed, ev.ApplyFailed(run, "x")]
        state, _ = run_events(state, bad)
    assert not state.busy
    state, effects = transition(state, ev.Generate("next"))
    assert state.phase is Phase.CAPTURING and ev.StartCapture(state.run, "next") in effects


@settings(max_examples=60)
@given(st.lists(events_of(st.integers(0, 3)), max_size=30), events_of(st.integers(-5, 40)))
def test_events_of_another_run_change_nothing(events: list[ev.Event], late: ev.Event) -> None:
    state, _ = run_events(JobState(), events)
    if getattr(late, "run", state.run) == state.run:
        return
    assert transition(state, late) == (state, ())


@settings(max_examples=60)
@given(st.lists(events_of(st.integers(0, 2)), max_size=30))
def test_a_video_that_arrived_is_always_put_away(events: list[ev.Event]) -> None:
    state = JobState()
    for event in events:
        before = state
        state, effects = transition(state, event)
        if state.phase is Phase.APPLYING and before.phase is not Phase.APPLYING:
            assert [e for e in effects if isinstance(e, ev.ApplyResult)] == [
                ev.ApplyResult(
                    state.run, state.scene, state.video, load=before.phase is not Phase.CANCELLING and not state.several
                )
            ]
        if before.phase is Phase.APPLYING and state.run == before.run and not state.several:
            assert state.phase in (Phase.APPLYING, Phase.DONE)


@settings(max_examples=60)
@given(st.lists(events_of(st.integers(0, 2)), max_size=30))
def test_what_is_started_is_stopped(events: list[ev.Event]) -> None:
    """No worker and no capture outlives its run."""
    state, workers, captures = JobState(), set(), set()
    for event in events:
        state, effects = transition(state, event)
        for effect in effects:
            match effect:
                case ev.StartWorker(run):
                    workers.add(run)
                case ev.StopWorker(run):
                    workers.discard(run)
                case ev.StartCapture(run):
                    captures.add(run)
                case ev.StopCapture(run):
                    captures.discard(run)
        if state.phase is not Phase.CAPTURING and any(isinstance(e, ev.StartWorker) for e in effects):
            captures.discard(state.run)  # a capture that delivered has ended by itself
        if not state.busy:
            assert not workers and not captures


def test_the_usual_course() -> None:
    state, effects = transition(JobState(), ev.Generate("scene"))
    assert effects == (ev.StartCapture(1, "scene"),)
    state, _ = transition(state, ev.CaptureAdvanced(1, 3, 12))
    assert (state.step, state.steps, state.progress) == (3, 12, 0.25)
    state, effects = transition(state, ev.Captured(1, "/tmp/a.shot", ("snapped",)))
    assert effects == (ev.StartWorker(1, "/tmp/a.shot"),)
    state, _ = transition(state, ev.Submitted(1, "vid_1"))
    state, _ = transition(state, queued(1, 2, 60.0))
    assert (state.phase, state.job, state.told.queue_position) == (Phase.QUEUED, "vid_1", 2)
    state, _ = transition(state, running(1, 6, 30, 20, 24.0))
    assert (state.phase, state.step, state.steps, state.progress) == (Phase.RUNNING, 6, 30, 0.2)
    assert (state.told.stage, state.told.eta_seconds) == ("denoising", 24.0)
    state, _ = transition(state, ev.Downloading(1, 0.5))
    state, effects = transition(state, ev.Received(1, "/tmp/a.mp4", ("snapped", "17 frames")))
    assert effects == (ev.ApplyResult(1, "scene", "/tmp/a.mp4"),)
    assert state.notes == ("snapped", "17 frames")
    state, effects = transition(state, ev.Applied(1, "Loaded"))
    assert state.phase is Phase.DONE
    assert effects == (ev.StopWorker(1), ev.Forget(1), ev.Notify(1, "INFO", "Loaded"))
    assert transition(state, ev.Dismiss()) == (JobState(run=1), ())


def test_a_restarted_backend_queues_the_job_again() -> None:
    state, _ = run_events(captured(), [running(1, 5, 30, 20), queued(1, 0)])
    assert state.phase is Phase.QUEUED and state.progress == 0.0


def test_a_video_that_beats_the_cancel_is_kept_but_not_loaded() -> None:
    state, effects = run_events(captured(), [ev.Cancel(), ev.Received(1, "/tmp/a.mp4")])
    assert effects == [ev.CancelJob(1), ev.ApplyResult(1, "scene", "/tmp/a.mp4", load=False)]
    state, _ = transition(state, ev.Applied(1, state.message))
    assert state.phase is Phase.DONE and "results list" in state.message


def test_a_silent_backend_does_not_hold_a_cancel() -> None:
    state, _ = run_events(captured(), [ev.Cancel(), ev.Waited(1, GIVE_UP_CANCEL_SECONDS / 2)])
    assert state.phase is Phase.CANCELLING
    state, effects = transition(state, ev.Waited(1, GIVE_UP_CANCEL_SECONDS / 2))
    assert state.phase is Phase.CANCELLED and ev.StopWorker(1) in effects and "did not confirm" in state.message


def test_a_failed_job_can_be_followed_again() -> None:
    state, _ = run_events(captured(), [ev.Submitted(1, "vid_1"), ev.BackendFailed(1, "The backend is gone")])
    assert state.phase is Phase.FAILED and state.job == "vid_1"
    state, effects = transition(state, ev.Resume())
    assert effects == (ev.StartWorker(2, "/tmp/a.shot", "vid_1"),)
    assert state.phase is Phase.SUBMITTING and state.scene == "scene"


def test_a_job_the_backend_refused_is_sent_anew() -> None:
    state, _ = run_events(captured(), [ev.Submitted(1, "vid_1"), ev.BackendFailed(1, "failed", forget=True)])
    _, effects = transition(state, ev.Resume())
    assert effects == (ev.StartWorker(2, "/tmp/a.shot", ""),)


def test_a_failed_capture_leaves_nothing_to_resume() -> None:
    state, effects = run_events(JobState(), [ev.Generate("scene"), ev.CaptureFailed(1, "no camera")])
    assert effects[1:] == [ev.StopCapture(1), ev.Notify(1, "ERROR", "no camera")]
    assert transition(state, ev.Resume()) == (state, ())


def test_a_job_of_an_earlier_session_is_taken_up() -> None:
    state, effects = transition(JobState(), ev.LeftBehind("other", "/tmp/b.shot", "vid_7", "Blender was closed"))
    assert state.phase is Phase.FAILED and state.resumable and effects == ()
    state, effects = transition(state, ev.Resume())
    assert effects == (ev.StartWorker(2, "/tmp/b.shot", "vid_7"),)
    assert (state.scene, state.job) == ("other", "vid_7")
    assert transition(state, ev.LeftBehind("other", "", "vid_8", "")) == (state, ())


def test_only_tidying_survives_its_run() -> None:
    state = replace(JobState(), run=5)
    assert s.superseded(state, ev.StartWorker(4, "a"))
    assert s.superseded(state, ev.Notify(4, "INFO", "a"))
    assert not s.superseded(state, ev.Forget(4))
    assert not s.superseded(state, ev.StartWorker(5, "a"))


def test_a_shot_that_would_be_refused_again_is_not_kept() -> None:
    state, effects = transition(captured(), ev.BackendFailed(1, "No such model", forget=True, final=True))
    assert state.phase is Phase.FAILED and not state.resumable
    assert effects == (ev.StopWorker(1), ev.Forget(1), ev.Notify(1, "ERROR", "No such model"))


B = ev.Part("b", "Model B", "/tmp/b/a.shot")
C = ev.Part("c", "Model C", "/tmp/c/a.shot")
REFUSED = ev.Part("d", "Model D", problem="takes one character")


def compared(*others: ev.Part) -> JobState:
    """A shot whose first part is with the worker."""
    state, _ = run_events(
        JobState(), [ev.Generate("scene"), ev.Captured(1, "/tmp/a/a.shot", (), "a", "Model A", others)]
    )
    return state


def finish(state: JobState, video: str) -> tuple[JobState, list[ev.Effect]]:
    """The part at work succeeds."""
    return run_events(state, [ev.Received(state.run, video, ("fitted",)), ev.Applied(state.run, "listed")])


def test_the_parts_follow_each_other() -> None:
    state = compared(B, C)
    assert (state.label, [part.model for part in state.waiting]) == ("Model A", ["b", "c"])
    state, effects = finish(state, "/tmp/a.mp4")
    assert effects == [
        ev.ApplyResult(1, "scene", "/tmp/a.mp4", load=False),
        ev.StopWorker(1), ev.Forget(1), ev.StartWorker(2, "/tmp/b/a.shot"),
    ]  # fmt: skip
    assert (state.phase, state.run, state.model, state.job, state.video) == (Phase.SUBMITTING, 2, "b", "", "")
    assert transition(state, ev.BackendFailed(1, "old news")) == (state, ())
    state, _ = finish(state, "/tmp/b.mp4")
    state, effects = finish(state, "/tmp/c.mp4")
    assert state.phase is Phase.DONE and not state.resumable
    assert state.message == "3 of 3 videos ready: Model A, Model B, Model C"
    assert state.notes == ("Model A: fitted", "Model B: fitted", "Model C: fitted")
    assert ev.ShowTogether(3, "scene", ("/tmp/a.mp4", "/tmp/b.mp4", "/tmp/c.mp4")) in effects
    assert effects[-1] == ev.Notify(3, "INFO", state.message)


def test_one_that_fails_does_not_stop_the_others() -> None:
    state = compared(B, REFUSED)
    state, effects = transition(state, ev.BackendFailed(1, "out of memory", forget=True))
    assert effects == (ev.StopWorker(1), ev.StartWorker(2, "/tmp/b/a.shot"))
    state, effects = finish(state, "/tmp/b.mp4")
    assert state.phase is Phase.DONE and state.resumable
    assert state.message.splitlines() == [
        "1 of 3 videos ready: Model B", "Model D: takes one character", "Model A: out of memory",
    ]  # fmt: skip
    assert effects[-2:] == [ev.ShowTogether(2, "scene", ("/tmp/b.mp4",)), ev.Notify(2, "WARNING", state.message)]
    # Trying again sends only what failed, and counts what was there.
    again, effects = transition(state, ev.Resume())
    assert effects == (ev.StartWorker(3, "/tmp/a/a.shot"),) and again.busy
    again, _ = finish(again, "/tmp/a.mp4")
    assert again.message == "2 of 2 videos ready: Model B, Model A"
    # Dismissing it gives the shot up instead.
    assert transition(state, ev.Dismiss()) == (JobState(run=2), (ev.Forget(1),))


def test_all_that_fail() -> None:
    state, _ = run_events(compared(B), [ev.BackendFailed(1, "gone"), ev.BackendFailed(2, "gone too")])
    assert state.phase is Phase.FAILED and state.resumable
    assert state.message.splitlines() == ["No video was made", "Model A: gone", "Model B: gone too"]
    again, effects = transition(state, ev.Resume())
    assert effects == (ev.StartWorker(3, "/tmp/a/a.shot"),) and [part.model for part in again.waiting] == ["b"]
    assert set(transition(state, ev.Generate("scene"))[1]) == {ev.Forget(1), ev.Forget(2), ev.StartCapture(3, "scene")}


def test_a_cancel_is_for_all() -> None:
    state, _ = finish(compared(B, C), "/tmp/a.mp4")
    state, effects = transition(state, ev.Cancel())
    assert effects == (ev.CancelJob(2), ev.Forget(2, "/tmp/c/a.shot")) and not state.waiting
    state, effects = transition(state, ev.BackendCancelled(2))
    assert state.phase is Phase.CANCELLED and not state.resumable
    assert state.message == "Cancelled. 1 of 3 videos ready: Model A"
    assert not any(isinstance(effect, ev.ShowTogether) for effect in effects)


def test_a_part_cancelled_at_the_backend_does_not_stop_the_others() -> None:
    state, _ = transition(compared(B), ev.BackendCancelled(1))
    assert state.phase is Phase.SUBMITTING and state.model == "b"
    state, _ = finish(state, "/tmp/b.mp4")
    assert state.phase is Phase.DONE and "Model A: The backend cancelled the job" in state.message
