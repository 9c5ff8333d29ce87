"""What reports and errors mean: for the state machine, and for the animator."""

from __future__ import annotations

import traceback
from typing import Any

from ...backend.client import state as s
from ...backend.shot import ShotError
from .backends import BackendProblem


def events_of(report: dict[str, Any], state: s.JobState) -> list[s.Event]:
    """What the worker's report means for the state machine."""
    run, eta = state.run, report["eta_seconds"]
    events: list[s.Event] = []
    if report["job"] and report["job"] != state.job:
        events.append(s.Submitted(run, report["job"]))
    share = float(report["progress"] or 0.0) / 100.0
    match report["state"]:
        case "starting" | "uploading" | "reconnecting":
            events.append(s.Waiting(run, report["message"], share))
        case "queued":
            events.append(s.Queued(run, report["queue_position"], eta))
        case "running":
            step, steps = int(report["step"] or 0), int(report["steps"] or 0)
            events.append(s.Progressed(run, report["stage"] or "", step, steps, share, eta))
        case "downloading":
            events.append(s.Downloading(run, share))
        case "completed":
            events.append(s.Received(run, report["result_path"], tuple(report["notes"])))
        case "cancelled":
            events.append(s.BackendCancelled(run))
        case "failed":
            error = report["error"] or {}
            message = str(error.get("message") or report["message"])
            # A model that the backend does not have, it will not have a moment later.
            final = error.get("field") == "settings.model" and not report["resumable"]
            events.append(s.BackendFailed(run, message, forget=not report["resumable"], final=final))
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
        return "Something that the shot needs was deleted while it was being captured: press Generate again"
    traceback.print_exc()
    return f"{type(error).__name__}: {error}"
