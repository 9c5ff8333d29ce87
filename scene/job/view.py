"""Shows the state of things in the window manager, where the panels read it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import bpy
import bpy.utils.previews

from ...backend.client import events as ev
from ...backend.client import state as s
from ...backend.wire import JobView, Status
from .. import folders
from . import readiness

_NOTHING = JobView(id="", status=Status.QUEUED)

told = _NOTHING
"""What the backend has last said of the job under way, for panels that show more than the window manager holds."""

numbers: dict[str, float] = {"step": 0, "steps": 0, "progress": 0.0, "eta_seconds": -1.0}
"""How far the job is; the window manager shows them under these names."""

_previews: Any = None
_revision = 0
_names = itertools.count()


def publish(state: s.JobState, notices: Iterable[ev.Notify] = (), capture_left: float | None = None) -> bool:
    """Copy the job's state to where the panels read it, and tell the notices; returns whether anything has changed.

    Args:
        capture_left: seconds until the end of the capture.
    """
    global told
    view, scene = bpy.context.window_manager.maquette, folders.scene_of(state.scene)
    earlier, told = told, state.told or _NOTHING
    changed = told != earlier
    left = capture_left if state.phase is s.Phase.CAPTURING else told.eta_seconds
    shown = {
        "state": state.phase.value,
        "message": state.message,
        "scene_name": scene.name if scene else "",
        "queue_position": -1 if told.queue_position is None else told.queue_position,
        "stage": told.stage or "",
        "notes": "\n".join(state.notes),
        "can_resume": state.resumable,
    }
    for name, value in shown.items():
        if getattr(view, name) != value:
            setattr(view, name, value)
            changed = True
    before = dict(numbers)
    numbers.update(
        step=state.step,
        steps=state.steps,
        progress=state.progress,
        eta_seconds=-1.0 if left is None else round(left),
    )
    changed |= any(abs(numbers[name] - value) > 1e-4 for name, value in before.items())
    changed |= _publish_parts(state, view)
    if not state.busy and view.preview_path:
        drop_previews()
        changed = True
    for notice in notices:
        tell(notice.level, notice.message)
        changed = True
    return readiness.publish() or changed


def _publish_parts(state: s.JobState, view: Any) -> bool:
    """Copy what has become of each model's share; returns whether anything has changed."""
    parts: list[tuple[str, str, str]] = []
    if state.several:
        parts = [(o.part.label or o.part.model, o.phase.name, o.message) for o in state.outcomes]
        if state.busy:
            parts.append((state.label or state.model, "NOW", ""))
        parts += [(part.label or part.model, "WAITING", "") for part in state.waiting]
    if parts == [(item.name, item.state, item.message) for item in view.parts]:
        return False
    view.parts.clear()
    for name, phase, message in parts:
        item = view.parts.add()
        item.name, item.state, item.message = name, phase, message
    return True


def publish_queue(jobs: Iterable[tuple[str, s.JobState, bool]]) -> bool:
    """Copy the jobs behind the one under way, each with its title, and whether it can pass the one in front of it.

    Returns:
        Whether anything has changed.
    """
    view = bpy.context.window_manager.maquette
    shown = []
    for title, state, can_move in jobs:
        if state.phase is s.Phase.CAPTURING:
            detail = f"Capturing {state.step} of {state.steps}" if state.steps else "Waits to be captured"
        else:
            detail = state.message + (f" {state.progress:.0%}" if state.phase is s.Phase.RUNNING else "")
        resumable = state.resumable and not state.busy
        shown.append((title, state.phase.name, detail, resumable, can_move))
    if shown == [(item.name, item.state, item.message, item.can_resume, item.can_move) for item in view.queue]:
        return False
    view.queue.clear()
    for each in shown:
        item = view.queue.add()
        item.name, item.state, item.message, item.can_resume, item.can_move = each
    return True


def show_preview(path: str, revision: int) -> None:
    """Show a new preview of the running job."""
    global _previews, _revision
    if not path or revision == _revision:
        return
    _revision = revision
    if _previews is None:
        _previews = bpy.utils.previews.new()
    _previews.clear()
    try:
        # A name that was loaded before would give the old picture.
        picture = _previews.load(f"preview{next(_names)}", path, "IMAGE")
    except (OSError, RuntimeError, KeyError):
        return  # not worth the job
    # Asking for the size reads the file now; left to itself, Blender would first show a spinner each time.
    _ = (picture.icon_size[:], picture.image_size[:])
    view = bpy.context.window_manager.maquette
    view.preview_path, view.preview = path, picture.icon_id


def drop_previews() -> None:
    """Forget the preview."""
    global _previews, _revision
    view = bpy.context.window_manager.maquette
    view.preview_path, view.preview = "", 0
    _revision = 0
    if _previews is not None:
        bpy.utils.previews.remove(_previews)
        _previews = None


def tell(level: str, message: str) -> None:
    """Report something in the window's status bar and log; in the background, print it."""
    if bpy.app.background or not bpy.context.window_manager.windows:
        print(f"Maquette: {message}")
        return
    window = bpy.context.window_manager.windows[0]
    with bpy.context.temp_override(window=window):
        bpy.ops.maquette.tell("INVOKE_DEFAULT", level=level, message=message)


def redraw() -> None:
    """Draw the sidebars, and the preferences where they are open, again."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type not in ("VIEW_3D", "PREFERENCES"):
                continue
            for region in area.regions:
                if region.type in ("UI", "WINDOW") and (area.type, region.type) != ("VIEW_3D", "WINDOW"):
                    region.tag_redraw()
        # The status bar is no area of the screen: asking for the text that it has anyway draws it.
        if not window.modal_operators:
            window.workspace.status_text_set_internal(None)
