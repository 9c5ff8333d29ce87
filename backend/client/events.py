"""What can happen to a job, and what the state machine may ask for in answer (see ``state``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ..wire import JobView


@dataclass(frozen=True)
class Part:
    """One model's share of a shot that goes to several.

    Attributes:
        model: its id. label: what people call it.
        shot: path of the .shot file made for it; empty when there is none (any more).
        job: the backend's id, when it was sent before.
        problem: why it cannot be sent at all; empty when it can.
    """

    model: str = ""
    label: str = ""
    shot: str = ""
    job: str = ""
    problem: str = ""


# Events ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Generate:
    """The animator pressed Generate in this scene."""

    scene: str


@dataclass(frozen=True)
class Resume:
    """Follow the failed job again, or send its shot once more when the backend does not have it."""


@dataclass(frozen=True)
class LeftBehind:
    """An earlier session ended while this job was under way; Resume takes it up."""

    scene: str
    shot: str
    job: str
    message: str


@dataclass(frozen=True)
class Cancel:
    """The animator pressed Cancel."""


@dataclass(frozen=True)
class Dismiss:
    """The animator has read how the job ended."""


@dataclass(frozen=True)
class CaptureAdvanced:
    """``done`` of ``total`` steps of the capture are behind us."""

    run: int
    done: int
    total: int


@dataclass(frozen=True)
class Captured:
    """The shot lies at ``shot``, made for ``model``; ``others`` are the same shot for further models."""

    run: int
    shot: str
    notes: tuple[str, ...] = ()
    model: str = ""
    label: str = ""
    others: tuple[Part, ...] = ()


@dataclass(frozen=True)
class CaptureFailed:
    """The scene cannot be captured."""

    run: int
    message: str


@dataclass(frozen=True)
class Waiting:
    """Something is being waited for: the local backend's start, the upload, a backend that stopped answering.

    ``progress`` 0 to 1 counts while the shot is being sent.
    """

    run: int
    message: str
    progress: float = 0.0


@dataclass(frozen=True)
class Submitted:
    """The backend has taken the job."""

    run: int
    job: str


@dataclass(frozen=True)
class Told:
    """What the backend says of the job, which waits or runs there."""

    run: int
    view: JobView


@dataclass(frozen=True)
class Downloading:
    """The video is made and on its way; ``progress`` 0 to 1."""

    run: int
    progress: float = 0.0


@dataclass(frozen=True)
class Received:
    """The video lies at ``video``."""

    run: int
    video: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class BackendCancelled:
    """The backend says the job is cancelled."""

    run: int


@dataclass(frozen=True)
class BackendFailed:
    """The backend refused or failed the job, cannot be reached, or the worker ended without a word.

    ``forget`` says that the backend will never know this job again (it failed there, or was refused), so that
    trying again means sending the shot again. ``final`` says that the same shot would be refused again, so that
    there is nothing to try.
    """

    run: int
    message: str
    forget: bool = False
    final: bool = False


@dataclass(frozen=True)
class Waited:
    """``seconds`` have passed since the last such event."""

    run: int
    seconds: float


@dataclass(frozen=True)
class Applied:
    """The result is in the results list, and where the scene is open also loaded."""

    run: int
    message: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ApplyFailed:
    """The result is kept but could not be loaded into the scene."""

    run: int
    message: str


Event: TypeAlias = (
    Generate | Resume | LeftBehind | Cancel | Dismiss | CaptureAdvanced | Captured | CaptureFailed | Waiting | Submitted
    | Told | Downloading | Received | BackendCancelled | BackendFailed | Waited | Applied | ApplyFailed
)  # fmt: skip


# Effects --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StartCapture:
    """Begin to capture the scene."""

    run: int
    scene: str


@dataclass(frozen=True)
class StopCapture:
    """Abandon the capture and leave the scene as it was found."""

    run: int


@dataclass(frozen=True)
class StartWorker:
    """Send the shot and follow the job; with ``job``, follow that job and send the shot only if it is unknown."""

    run: int
    shot: str
    job: str = ""


@dataclass(frozen=True)
class CancelJob:
    """Ask the backend, through the worker, to cancel."""

    run: int


@dataclass(frozen=True)
class StopWorker:
    """End the worker process if it still runs."""

    run: int


@dataclass(frozen=True)
class ApplyResult:
    """Keep the video with its scene; ``load`` says whether to put it into the scene as well."""

    run: int
    scene: str
    video: str
    load: bool = True


@dataclass(frozen=True)
class ShowTogether:
    """Show the videos that several models made of one shot, beside each other."""

    run: int
    scene: str
    videos: tuple[str, ...]


@dataclass(frozen=True)
class Forget:
    """The shot file and the worker's folder are no longer needed; with ``shot``, those of a shot that was not sent."""

    run: int
    shot: str = ""


@dataclass(frozen=True)
class Notify:
    """Tell the animator. ``level`` is ``INFO``, ``WARNING`` or ``ERROR``, as Blender names them."""

    run: int
    level: str
    message: str


Effect: TypeAlias = (
    StartCapture | StopCapture | StartWorker | CancelJob | StopWorker | ApplyResult | ShowTogether | Forget | Notify
)  # fmt: skip
