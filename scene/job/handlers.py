"""When Blender tells of something: the timer, files opened and closed, undo, changes of the scene, the end."""

from __future__ import annotations

import atexit
from pathlib import Path

import bpy
from bpy.app.handlers import persistent

from .. import folders
from ..capture import memory
from ..screen import switch, thumbnails
from ..screen.overlay import overlay
from ..stage import STAGE, remove_stages
from . import backends, control, effects, fetching, library, preview, readiness, shelf
from .view import drop_previews

_FIRST_LOOK = 0.1


def _tick() -> float:
    """Called by Blender's timer; an error must not end it, or a running job would never be heard of again."""
    try:
        return min(control.beside.tick(), fetching.beside.tick(), preview.runner.poll(), effects.poll())
    except Exception:
        import traceback

        traceback.print_exc()
        return 1.0


@persistent
def _before_load(*_: object) -> None:
    preview.runner.forget()
    effects.file_going()


@persistent
def _after_load(*_: object) -> None:
    memory.forget()
    remove_stages()
    overlay.forget()
    for scene in bpy.data.scenes:
        switch.mend(scene)
    folders.forget_ids()
    drop_previews()
    backends.republish()
    library.sync()
    readiness.publish(now=True)
    effects.poll()


@persistent
def _before_change(*_: object) -> None:
    preview.runner.step_aside()
    effects.step_aside()


@persistent
def _before_save(path: object = "", *_: object) -> None:
    preview.runner.step_aside()
    effects.step_aside()
    # Of a file that has a place, a copy elsewhere is no move.
    place = bpy.data.filepath or (path if isinstance(path, str) else "")
    if place:
        shelf.settle(Path(place))


@persistent
def _after_save(path: object = "", *_: object) -> None:
    if isinstance(path, str) and path and not bpy.data.filepath:
        shelf.unsettle(Path(path))


@persistent
def _after_undo(*_: object) -> None:
    memory.forget()
    # What was done while a capture was under way has its stage in the undo history.
    remove_stages()
    overlay.forget()
    preview.runner.undone()
    folders.keep_ids()
    library.sync()
    readiness.touch()
    # They may be about a motion that is gone.
    bpy.context.window_manager.maquette.motion_notes = ""


@persistent
def _scene_changed(scene: bpy.types.Scene, depsgraph: bpy.types.Depsgraph | None = None) -> None:
    if STAGE in scene:
        return  # A copy that is worked in.
    overlay.changed()
    if depsgraph is not None:
        moved = memory.changed(scene, depsgraph)
        preview.runner.edited([update.id for update in depsgraph.updates], moved)
    readiness.touch()


@persistent
def _frame_changed(scene: bpy.types.Scene, *_: object) -> None:
    if STAGE not in scene:
        memory.moved(scene)


_HANDLERS = (
    ("load_pre", _before_load),
    ("load_post", _after_load),
    ("save_pre", _before_save),
    ("save_post", _after_save),
    ("undo_pre", _before_change),
    ("redo_pre", _before_change),
    ("undo_post", _after_undo),
    ("redo_post", _after_undo),
    ("depsgraph_update_post", _scene_changed),
    ("frame_change_post", _frame_changed),
)


def register() -> None:
    """Start to listen, and where Blender has a window, to poll."""
    for name, handler in _HANDLERS:
        getattr(bpy.app.handlers, name).append(handler)
    atexit.register(_at_exit)
    if bpy.app.background:
        _first_look()
    else:
        # While an add-on is being enabled, bpy.data is not to be touched.
        # A file that Blender is started with, loaded by then, ends timers that do not persist.
        bpy.app.timers.register(_first_look, first_interval=_FIRST_LOOK, persistent=True)
        bpy.app.timers.register(_tick, first_interval=2 * _FIRST_LOOK, persistent=True)


def unregister() -> None:
    """Stop all of it; a job at the backend goes on there."""
    atexit.unregister(_at_exit)
    for name, handler in _HANDLERS:
        handlers = getattr(bpy.app.handlers, name)
        if handler in handlers:
            handlers.remove(handler)
    _stop()


def _first_look() -> None:
    """What an earlier session and the open file have left."""
    backends.republish()
    shelf.leave_extension()
    if hasattr(bpy.data, "scenes"):
        library.sync()
    effects.take_up(follow=not bpy.app.background)


def _at_exit() -> None:
    """A timer still registered when the interpreter ends hangs Blender 4.5. Blender's data may be gone already."""
    _stop_timers()
    preview.runner.leave()
    effects.leave_all()
    control.beside.close()
    fetching.beside.close()
    backends.close()


def _stop() -> None:
    _stop_timers()
    preview.close()
    effects.close()
    control.beside.close()
    fetching.beside.close()
    thumbnails.drop()
    drop_previews()
    backends.close()


def _stop_timers() -> None:
    for timer in (_tick, _first_look):
        if bpy.app.timers.is_registered(timer):
            bpy.app.timers.unregister(timer)
