"""What reports and errors mean: for the state machine, and for the animator."""

from __future__ import annotations

import traceback

from ...backend.client import Report
from ...backend.client import events as ev
from ...backend.client import state as s
from ...backend.shot import ShotError
from .backends import BackendProblem


def events_of(report: Report, state: s.JobState) -> list[ev.Event]:
    """What the worker's report means for the state machine."""
    run, view = state.run, report.view
    events: list[ev.Event] = []
    if report.job and report.job != state.job:
        events.append(ev.Submitted(run, report.job))
    match report.state:
        case "starting" | "uploading" | "reconnecting":
            events.append(ev.Waiting(run, report.message, report.progress))
        case "queued" | "running" if view is not None:
            events.append(ev.Told(run, view))
        case "downloading":
            events.append(ev.Downloading(run, report.progress))
        case "completed":
            events.append(ev.Received(run, report.result_path, view.notes if view else ()))
        case "cancelled":
            events.append(ev.BackendCancelled(run))
        case "failed":
            field = report.error.field if report.error else None
            # A model that the backend does not have, it will not have a moment later.
            final = field == "settings.model" and not report.resumable
            events.append(ev.BackendFailed(run, report.message, forget=not report.resumable, final=final))
    return events


def reason(error: Exception) -> str:
    """An exception as one message for the animator; what nobody foresaw is also logged."""
    if isinstance(error, (ShotError, BackendProblem)):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.strerror or error}: {error.filename}" if error.filename else str(error)
    if isinstance(error, RuntimeError) and str(error).startswith("Error: "):
        return str(error).removeprefix("Error: ").strip()
    if isinstance(error, ReferenceError):
        return "Something that the shot needs was deleted while it was being read: start again"
    traceback.print_exc()
    return f"{type(error).__name__}: {error}"
