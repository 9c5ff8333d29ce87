"""What is known of one job: where it stands, and what came of its parts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..wire import JobView
from .events import Part


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


@dataclass(frozen=True)
class Outcome:
    """What became of one part.

    Attributes:
        run: number of the run that it was; 0 for one that was never sent.
        phase: DONE, FAILED or CANCELLED.
        message: one sentence on it.
        video: path of the finished video.
    """

    run: int
    part: Part
    phase: Phase
    message: str
    video: str = ""

    @property
    def resumable(self) -> bool:
        """Whether it failed in a way that trying again may mend."""
        return self.phase is Phase.FAILED and bool(self.part.shot or self.part.job)


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
        told: what the backend has last said of the job, while it waits or runs there; else None.
        step, steps: how far the capture is, or the backend within its stage.
        progress: 0 to 1 over the current phase (capturing, running, downloading).
        notes: what the capture and the backend changed or want the animator to know.
        video: path of the finished video; empty until it is here.
        waited: seconds spent in the phase ``cancelling``.
        model, label: id and name of the model at work, where that is known.
        waiting: the same shot for further models, sent one after the other when this one has ended.
        outcomes: what became of the parts before this one; all of them at rest.
        stopped: the animator has pressed Cancel.
    """

    phase: Phase = Phase.IDLE
    run: int = 0
    scene: str = ""
    shot: str = ""
    job: str = ""
    message: str = ""
    told: JobView | None = None
    step: int = 0
    steps: int = 0
    progress: float = 0.0
    notes: tuple[str, ...] = ()
    video: str = ""
    waited: float = 0.0
    model: str = ""
    label: str = ""
    waiting: tuple[Part, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    stopped: bool = False

    @property
    def several(self) -> bool:
        """Whether the shot goes to several models."""
        return bool(self.waiting or self.outcomes)

    @property
    def resumable(self) -> bool:
        """Whether Resume would do something."""
        if self.several:
            return not self.busy and any(outcome.resumable for outcome in self.outcomes)
        return self.phase is Phase.FAILED and bool(self.shot or self.job)

    @property
    def busy(self) -> bool:
        """Whether a job is under way."""
        return self.phase not in RESTING
