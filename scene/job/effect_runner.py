"""Carries out what a job's state machine asks for, and tells it what has happened.

Nothing here waits: the capture is done in slices, the backend is followed by a process of its own, and the result is
put into the scene when it is here.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections import deque
from collections.abc import Collection
from dataclasses import asdict, replace
from pathlib import Path

import bpy

from ...backend.client import Follower, FollowSpec
from ...backend.client import events as ev
from ...backend.client import state as s
from ...backend.client.owed import owe
from ...backend.client.process import is_alive, read_json, write_json
from ...backend.wire import RECONNECT_SECONDS, URGENCY
from .. import folders
from ..capture.pace import Pace
from . import backends, library
from . import shots as job_shots
from . import view as job_view
from .capturing import Capturing, Steps, captured
from .estimate import Stopwatch
from .reports import events_of, reason

_RECORD = "record.json"
_LEFT = "Blender was closed while this job was under way"


class EffectRunner:
    """One job.

    Attributes:
        title: for the animator, while it waits.
        part: frames that it captures; None for all of the scene's.
        urgency: among the jobs that wait, see ``wire.URGENCY``.
        may_capture, may_send: whether it is its turn.
        shown: whether its previews are.
    """

    def __init__(self) -> None:
        self.state = s.JobState()
        self.title = ""
        self.part: range | None = None
        self.urgency = URGENCY
        self.may_capture = self.may_send = self.shown = True
        self.notices: list[ev.Notify] = []
        self._events: deque[ev.Event] = deque()
        self._dispatching = False
        self._folders: dict[int, Path] = {}
        self._record: library.Record | None = None
        self._capture: Capturing | None = None
        self._to_start: ev.StartWorker | None = None
        self._follower: Follower | None = None
        self._polled = time.monotonic()
        self._watch = Stopwatch()
        self._seeds: dict[str, int] = {}

    def dispatch(self, event: ev.Event) -> None:
        """Let the state machine have an event, and carry out what follows from it."""
        self._events.append(event)
        if self._dispatching:
            return
        self._dispatching = True
        try:
            while self._events:
                before = self.state.phase
                self.state, effects = s.transition(self.state, self._events.popleft())
                for effect in effects:
                    if not s.superseded(self.state, effect):
                        self._carry_out(effect)
                if self.state.phase is not before and self.state.phase in s.WITH_BACKEND | {s.Phase.FAILED}:
                    self._remember()
        finally:
            self._dispatching = False

    def poll(self) -> None:
        """Take in whatever has happened since the last call."""
        now = time.monotonic()
        elapsed, self._polled = now - self._polled, now
        state = self.state
        if self.may_capture or state.phase is not s.Phase.CAPTURING:
            self._watch.passed(elapsed, state, self._to_start is not None)
        try:
            self._look()
        except Exception as error:
            # Nobody foresaw this; a job that is never heard of again would be worse.
            failed = ev.CaptureFailed if state.phase is s.Phase.CAPTURING else ev.BackendFailed
            self.dispatch(failed(self.state.run, reason(error)))
        if state.phase is s.Phase.CANCELLING:
            # A window that stood still, for a render say, is no proof that the backend did.
            self.dispatch(ev.Waited(state.run, min(elapsed, 1.0)))

    def _look(self) -> None:
        phase = self.state.phase
        if phase is s.Phase.CAPTURING:
            if self.may_capture and not _rendering():
                self._capture_slice()
        elif self._to_start is not None:
            self._start_worker()
        elif self._follower is not None and phase in s.WITH_BACKEND:
            self._look_at_worker()

    # -- effects -------------------------------------------------------------------------------------------------

    def _carry_out(self, effect: ev.Effect) -> None:
        match effect:
            case ev.StartCapture(run, scene):
                self._start_capture(run, scene)
            case ev.StopCapture():
                self.stop_capture()
            case ev.StartWorker(run, shot):
                if shot:
                    self._folders[run] = Path(shot).parent
                self._to_start = effect
                self._start_worker(first=True)
            case ev.CancelJob(run):
                if self._follower is None:
                    if self._to_start is not None and self._to_start.job:
                        owe(backends.owed_file(), self._to_start.job)
                    self._to_start = None
                    self.dispatch(ev.BackendCancelled(run))
                else:
                    self._follower.cancel()
            case ev.StopWorker():
                self._to_start = None
                if self._follower is not None:
                    self._follower.leave()
                    self._follower = None
            case ev.ApplyResult(run, scene, video, load):
                try:
                    self.dispatch(ev.Applied(run, *self._apply(scene, Path(video), load)))
                except Exception as error:
                    self.dispatch(ev.ApplyFailed(run, reason(error)))
            case ev.ShowTogether(run, scene, videos):
                try:
                    library.show_together(scene, [Path(video) for video in videos])
                except Exception as error:
                    self.notices.append(ev.Notify(run, "WARNING", f"Not shown side by side: {reason(error)}"))
            case ev.Forget(run, shot):
                self._forget(run, shot)
            case ev.Notify():
                self.notices.append(effect)

    def _start_capture(self, run: int, uid: str) -> None:
        try:
            if why := backends.problem():
                raise backends.BackendProblem(why)
            scene = folders.scene_of(uid)
            if scene is None:
                raise backends.BackendProblem("The scene is gone")
            folders.results_folder()
            recipients = job_shots.recipients(scene)
            self._watch = Stopwatch.of(scene)
            self._record = library.describe(scene, self.part)
            name = scene.name if self.part is None else f"{scene.name} {self.part[0]}-{self.part[-1]}"
            self.title = f"{name}, {self._record.model_label}, Seed {self._record.seed}"
            if recipients.several or scene.maquette.seeds > 1:
                self._record = replace(self._record, comparison=uuid.uuid4().hex)
            if run not in self._folders:
                self._folders[run] = folders.user_folder("jobs", uuid.uuid4().hex)
            cut = "" if self.part is None else f"_{self.part[0]}-{self.part[-1]}"
            path = self._folders[run] / f"{folders.stem(scene)}{cut}.shot"
            self._capture = Capturing(lambda pace: self._captured(run, scene, recipients, path, pace))
            # A local backend takes seconds to start: it does so while the scene is captured.
            backends.prepare()
        except Exception as error:
            self.dispatch(ev.CaptureFailed(run, reason(error)))

    def _captured(
        self, run: int, scene: bpy.types.Scene, recipients: job_shots.Recipients, path: Path, pace: Pace
    ) -> Steps:
        """Capture step by step, save the shot for each model, and say so."""
        notes: list[str] = []
        shot = yield from captured(scene, job_shots.wants(scene, recipients.able), notes, pace, self.part)
        if self._record is not None:
            self._record = replace(self._record, frame_count=shot.clip.frames, fps=shot.clip.fps)
        if scene.use_preview_range:
            notes.append(f"The preview range was left out: the shot is frames {scene.frame_start} to {scene.frame_end}")
        tries = job_shots.seeds(scene)
        first, *others = parts = job_shots.save(shot, scene, recipients.able, path, tries)
        self._seeds = {part.shot: tries[number % len(tries)] for number, part in enumerate(parts)}
        if len(recipients.able) > 1 and (scene.maquette.steps or scene.maquette.guidance):
            notes.append(f"Steps and guidance are for {first.label}; the other models took their own")
        for part in others:
            self._write_record(Path(part.shot).parent, part, scene.maquette.uid, tuple(notes))
        rest = (*others, *recipients.refused)
        self.dispatch(ev.Captured(run, first.shot, tuple(notes), first.model, first.label, rest))

    def _capture_slice(self) -> None:
        if self._capture is None:
            # It was stopped for the file to be saved or an undo to be made: it begins again.
            self._start_capture(self.state.run, self.state.scene)
        run, going = self.state.run, self._capture
        if going is None:
            return
        try:
            for done, total in going.turn():
                self.dispatch(ev.CaptureAdvanced(run, done, total))
            if going.over:
                self._capture = None
        except Exception as error:
            self._capture = None
            self.dispatch(ev.CaptureFailed(run, reason(error)))

    @property
    def seconds_left(self) -> float | None:
        """Until the end of the capture that is under way."""
        return None if self._capture is None else self._capture.seconds_left

    def stop_capture(self) -> None:
        going, self._capture = self._capture, None
        if going is not None:
            going.close()

    def _start_worker(self, first: bool = False) -> None:
        start = self._to_start
        if start is None:
            return
        try:
            if not self.may_send:
                self.dispatch(ev.Waiting(start.run, "Waits for its turn"))
                return
            if first:
                backends.prepare()
            target = backends.target()
            if target is None:
                self.dispatch(ev.Waiting(start.run, backends.waiting_line()))
                return
            self._to_start = None
            folder = self._folders.get(start.run)
            if folder is None:
                folder = self._folders[start.run] = folders.user_folder("jobs", uuid.uuid4().hex)
            stem = Path(start.shot).stem if start.shot else "shot"
            spec = FollowSpec(
                address=target.address,
                token=target.token,
                client_id=folders.client_id(),
                results=str(folders.results_folder()),
                shot=start.shot,
                job=start.job,
                name=library.film_name(stem, self._record, self.state.model if self.state.several else ""),
                patience=RECONNECT_SECONDS,
                owed=str(backends.owed_file()),
                urgency=self.urgency,
            )
            self._follower = Follower.start(spec, folder)
        except Exception as error:
            self._to_start = None
            self.dispatch(ev.BackendFailed(start.run, reason(error)))

    def _look_at_worker(self) -> None:
        if self._follower is None:
            return
        run, report = self.state.run, self._follower.report()
        if report.state == "completed" and _rendering():
            return  # the scene is not to be touched now; the video waits
        if report.view is not None:
            backends.heard()
        if self.shown:
            job_view.show_preview(report.preview_path, report.preview_revision)
        for event in events_of(report, self.state):
            self.dispatch(event)
        if self.state.run == run and self.state.phase in s.WITH_BACKEND and backends.is_local():
            status = backends.local().poll()
            if status.state == "dead" and report.state not in ("completed", "downloading"):
                self.dispatch(ev.BackendFailed(self.state.run, status.message))

    def _apply(self, uid: str, video: Path, load: bool) -> tuple[str, tuple[str, ...]]:
        """Keep the video, list it, and load it where that is wanted; returns what to tell the animator, and notes."""
        known = self._record or library.Record(scene=uid)
        whose = {"model": self.state.model, "model_label": self.state.label} if self.state.model else {}
        seed = self._seeds.get(self.state.shot, known.seed)
        record = replace(
            known, scene=uid, seed=seed, job=self.state.job, notes=self.state.notes, created=library.now(), **whose
        )
        self._watch.keep()
        self._watch = Stopwatch()
        where, notes = library.put_away(video, record, load)
        return (self.state.message if self.state.stopped else where), notes

    # -- what outlives Blender -----------------------------------------------------------------------------------

    def _remember(self) -> None:
        """Write down what a later session needs to take the job up."""
        folder = self._folders.get(self.state.run)
        if folder is None or not (self.state.shot or self.state.job):
            return
        state = self.state
        part = ev.Part(state.model, state.label, state.shot, state.job)
        self._write_record(folder, part, state.scene, state.notes)

    def _write_record(self, folder: Path, part: ev.Part, scene: str, notes: tuple[str, ...]) -> None:
        record = self._record
        if record is not None and part.model:
            seed = self._seeds.get(part.shot, record.seed)
            record = replace(record, model=part.model, model_label=part.label, seed=seed)
        data = {
            "pid": os.getpid(),
            "scene": scene,
            "shot": part.shot,
            "job": part.job,
            "notes": list(notes),
            "record": asdict(record) if record else None,
        }
        try:
            write_json(folder / _RECORD, data)
        except OSError as error:
            print(f"Maquette: the job cannot be written down in {folder}: {error}")

    @property
    def sent(self) -> bool:
        """Whether the backend has it, or is about to get it."""
        return self._follower is not None

    @property
    def folders(self) -> set[Path]:
        """Where the job's files lie."""
        return set(self._folders.values())

    def take_up(self, follow: bool = False, besides: Collection[Path] = ()) -> None:
        """Offer the newest job that an earlier session left behind, if there is one.

        Args:
            follow: go on at once with one that the backend has already, so that its video arrives by itself.
            besides: folders of jobs that others look after.
        """
        if self.state.phase is not s.Phase.IDLE:
            return
        try:
            left = sorted(folders.user_folder("jobs").glob(f"*/{_RECORD}"), key=os.path.getmtime, reverse=True)
        except OSError:
            return
        for path in left:
            data = read_json(path) or {}
            pid = data.get("pid")
            if not isinstance(pid, int) or (pid != os.getpid() and is_alive(pid)):
                continue  # another Blender is at it
            if path.parent in besides:
                continue
            shot, job = str(data.get("shot") or ""), str(data.get("job") or "")
            shot = shot if Path(shot).is_file() else ""
            if not (shot or job):
                shutil.rmtree(path.parent, ignore_errors=True)
                continue
            self._record = library.from_json(data.get("record"))
            self._folders[self.state.run + 1] = path.parent
            self.dispatch(ev.LeftBehind(str(data.get("scene") or ""), shot, job, _LEFT))
            if follow and job:
                self.dispatch(ev.Resume())
            return

    def _forget(self, run: int, shot: str = "") -> None:
        if shot:
            shutil.rmtree(Path(shot).parent, ignore_errors=True)
            return
        folder = self._folders.pop(run, None)
        # A job that is tried again lives on in the folder of the run before.
        if folder is not None and folder != self._folders.get(self.state.run):
            shutil.rmtree(folder, ignore_errors=True)

    def stop(self) -> None:
        """Let go of everything; a job at the backend goes on there and can be taken up later."""
        self.stop_capture()
        self.leave_all()

    def leave_all(self) -> None:
        """End the processes without touching Blender's data, which may be gone."""
        if self._capture is not None:
            self._capture.abandon()
        if self._follower is not None:
            self._follower.leave()
            self._follower = None
        self._to_start = None


def _rendering() -> bool:
    """Whether Blender renders in the background just now."""
    return bpy.app.is_job_running("RENDER")
