"""The backend as Blender sees it: which one, whether it may be asked, what it last said about itself.

Nothing here waits: ``poll()`` looks at files and processes and shows what it finds in the window manager.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import bpy

from ...backend.catalogue.models import DEFAULT_MODEL, ModelEntry, find_specs
from ...backend.client import AddressError, LocalBackend, LocalStatus, is_loopback, normalise_address
from ...backend.client.installer import SIZES_GB
from ...backend.client.probe import Probe
from .. import folders
from . import models

INSTALL_WORDS = (
    "Downloads {:g} GB, takes {:g} GB on disk and 5 to 25 minutes; Blender stays usable, and a stopped "
    "installation goes on where it was".format(*SIZES_GB)
)
"""What installing the local backend costs."""
_ONLINE = "Preferences > System > Network > Allow Online Access"


class BackendProblem(Exception):
    """Why the backend cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Target:
    """Where to send a job."""

    address: str
    token: str


_local: LocalBackend | None = None
_local_python = ""
_probe: Probe | None = None
_shown: LocalStatus | None = None
_asked = False
_engines = 1
_upscale_lack = ""


def local() -> LocalBackend:
    """The backend of this computer, as the preferences describe it."""
    global _local, _local_python
    python = bpy.path.abspath(folders.preferences().local_python.strip())
    if _local is None or python != _local_python:
        if _local is not None:
            _local.stop()
        _local, _local_python = LocalBackend(folders.user_folder("backend"), python=python), python
    return _local


def is_local() -> bool:
    """Whether jobs go to the backend that Maquette starts by itself."""
    return folders.preferences().mode == "LOCAL"


def server_address() -> str:
    """The server's address in one form.

    Raises:
        BackendProblem: it is no address, or lies outside this computer while Blender may not go online.
    """
    try:
        address = normalise_address(folders.preferences().address)
    except AddressError as error:
        raise BackendProblem(f"{error} It stands in the add-on's preferences") from error
    if not is_loopback(address) and not bpy.app.online_access:
        raise BackendProblem(
            f"Blender is offline, so {address} may not be asked. Turn on {_ONLINE}, or use a backend on this computer"
        )
    return address


def problem() -> str:
    """Why no job can be sent now, in one sentence; empty when one can, or when the backend only has to start."""
    if not is_local():
        try:
            server_address()
        except BackendProblem as error:
            return str(error)
        return ""
    status = local().poll()
    if status.state in ("absent", "failed"):
        hint = "Press Install Backend, or choose a server in the add-on's preferences"
        return f"{status.message.rstrip('.')}. {hint}" if status.message else f"No backend is installed. {hint}"
    if status.state in ("installing", "cancelling"):
        return "The backend is still being installed"
    return ""


def prepare() -> None:
    """Start the local backend when jobs go there and it does not run.

    Raises:
        BackendProblem: it cannot be started.
    """
    if is_local() and local().poll().state in ("stopped", "dead"):
        start_local()


def target() -> Target | None:
    """Where to send a job; None while the local backend starts, which this sees to.

    Raises:
        BackendProblem: there is nowhere to send it.
    """
    if not is_local():
        return Target(server_address(), folders.preferences().token)
    status = local().poll()
    if status.state == "running":
        return Target(status.address, status.token)
    if status.state == "dead":
        raise BackendProblem(status.message)
    if why := problem():
        raise BackendProblem(why)
    prepare()
    return None


def start_local() -> None:
    """Start the local backend.

    Raises:
        BackendProblem: it cannot be started.
    """
    status = local().start()
    if status.state not in ("starting", "running"):
        raise BackendProblem(status.message or "The local backend cannot be started")


def waiting_line() -> str:
    """What a job waits for while the local backend starts."""
    return local().poll().line or "Starting the backend"


# -- connection test -------------------------------------------------------------------------------------------------


def start_test() -> None:
    """Begin to ask the backend who it is and which models it has; the answer appears in the window manager.

    Raises:
        BackendProblem: there is nobody to ask.
    """
    global _probe
    if is_local():
        status = local().poll()
        if status.state != "running":
            raise BackendProblem("The local backend does not run. Start it first")
        asked = Target(status.address, status.token)
    else:
        asked = Target(server_address(), folders.preferences().token)
    if _probe is not None:
        _probe.stop()
    view = bpy.context.window_manager.maquette.backend
    try:
        _probe = Probe(
            asked.address, asked.token, folders.client_id(), folders.user_folder("probe"), owed=str(owed_file())
        )
    except OSError as error:
        raise BackendProblem(f"The connection cannot be tested: {error}") from error
    view.test_state, view.test_message = "BUSY", f"Asking {asked.address}"


def ask_once() -> None:
    """Ask a server that nobody has asked since it was named, so that the models menu knows what it can run.

    Only in a window: a script asks when it wants to know.
    """
    global _asked
    if not _has_window() or is_local() or _probe is not None or _asked:
        return
    _asked = True
    if bpy.context.window_manager.maquette.backend.test_state == "NONE":
        with contextlib.suppress(BackendProblem):
            start_test()


def heard() -> None:
    """A server that gave no answer has told of a job: ask it again who it is."""
    if _probe is None and unanswered():
        with contextlib.suppress(BackendProblem):
            start_test()


def unanswered() -> str:
    """Why the server gave no answer when it was last asked; empty where it did, or has not been asked."""
    view = bpy.context.window_manager.maquette.backend
    return view.test_message if view.test_state == "ERROR" and not is_local() else ""


def engines() -> int:
    """How many jobs the backend can run at a time, as far as it has said."""
    return _engines


def upscale_lack() -> str:
    """Why the backend cannot make videos larger, as far as it has said; empty where it can."""
    return _upscale_lack


def _has_window() -> bool:
    return not bpy.app.background


def testing() -> bool:
    """Whether a test is under way."""
    return _probe is not None


def changed() -> None:
    """The preferences name another backend: what the old one said counts no more."""
    global _probe, _asked, _engines, _upscale_lack
    _engines, _upscale_lack = 1, ""
    if _probe is not None:
        _probe.stop()
        _probe = None
    _asked = False
    view = bpy.context.window_manager.maquette.backend
    view.test_state, view.test_message = "NONE", ""
    show_models(_cached_models())


# -- what the panels show --------------------------------------------------------------------------------------------


def poll() -> bool:
    """Take in what has happened; returns whether anything to be seen has changed."""
    global _probe, _shown
    redraw = False
    view = bpy.context.window_manager.maquette.backend
    if is_local() or _local is not None:
        status = local().poll()
        if status != _shown:
            came_up = status.state == "running" and (_shown is None or _shown.state != "running")
            _shown = status
            redraw = True
            _show_local(view, status)
            if came_up and is_local():
                start_test()
    if _probe is not None and (answer := _probe.answer()) is not None:
        _probe = None
        redraw = True
        _show_answer(view, answer)
    return redraw


def busy() -> bool:
    """Whether something is going on that wants looking at often."""
    state = _shown.state if _shown else ""
    return testing() or state in ("installing", "cancelling", "starting", "stopping")


def republish() -> None:
    """Show everything again, in a window manager that has lost it."""
    global _shown
    _shown = None
    show_models(_cached_models())


def close() -> None:
    """Blender or the add-on ends: no process of ours is left."""
    global _probe, _local, _shown
    if _probe is not None:
        _probe.stop()
    if _local is not None:
        _local.cancel()
        _local.stop()
    _probe = _local = _shown = None


def _show_local(view: Any, status: LocalStatus) -> None:
    view.local_state = status.state.upper()
    view.local_message = status.message or status.line
    view.local_progress = status.fraction
    view.local_log = str(local().log) if local().log.exists() else ""


def _show_answer(view: Any, answer: dict[str, Any]) -> None:
    if answer["error"]:
        view.test_state, view.test_message = "ERROR", str(answer["error"])
        return
    global _engines, _upscale_lack
    health, entries = answer["health"], answer["models"]
    told = health.get("engines") if health else None
    _engines = told if isinstance(told, int) and told > 0 else 1
    upscale = health.get("upscale") if health else None
    _upscale_lack = str(upscale.get("reason") or "") if isinstance(upscale, dict) else ""
    ready = sum(bool(entry.get("available")) for entry in entries)
    view.test_state = "OK"
    where = f"Maquette {health.get('version', '?')} on {health.get('device', '?')}"
    kept = _kept(health.get("retention"))
    view.test_message = f"{where}, {ready} of {len(entries)} models ready. {kept}"
    try:
        _cache().write_text(json.dumps(entries), "utf-8")
    except (OSError, BackendProblem):
        pass  # only the offline menu is the poorer for it
    show_models(entries)


def _kept(retention: Any) -> str:
    """How long the backend keeps results, in one sentence."""
    told = retention if isinstance(retention, dict) else {}
    limits = [f"{told[key]:g} {key}" for key in ("days", "gigabytes") if isinstance(told.get(key), (int, float))]
    return (
        f"Results there are deleted beyond {' or '.join(limits)}" if limits else "Results there are kept until deleted"
    )


def show_models(entries: list[dict[str, Any]]) -> None:
    """Fill the models menu. Each entry as in ``GET /v1/models``; ``available`` may be absent when nobody knows."""
    shown = bpy.context.window_manager.maquette.backend.models
    shown.clear()
    for model in models.show(entries):
        item = shown.add()
        item.name, item.label, item.description = model.id, model.label, model.description
        item.state, item.missing = model.state, model.reason


def name() -> str:
    """A short name for the backend in use; empty where the preferences name none."""
    try:
        return _key()
    except BackendProblem:
        return ""


def owed_file() -> Path:
    """The file of the cancels that the backend in use has not heard of.

    Raises:
        OSError: its folder cannot be made. BackendProblem: the preferences name no backend.
    """
    return folders.user_folder("owed") / f"{_key()}.json"


def _cache() -> Path:
    """The file that holds what the backend in use last said of its models; each backend has its own.

    Raises:
        OSError: its folder cannot be made. BackendProblem: the preferences name no backend.
    """
    return folders.user_folder("models") / f"{_key()}.json"


def _key() -> str:
    """A file name for the backend in use; the local one has another address each time it starts."""
    return "local" if is_local() else hashlib.sha256(server_address().encode()).hexdigest()[:16]


def _cached_models() -> list[dict[str, Any]]:
    """The models as last reported; else those this version knows of, of which nobody has said whether they run."""
    try:
        entries = json.loads(_cache().read_text("utf-8"))
        if isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries):
            return entries
    except (OSError, ValueError, BackendProblem):
        pass
    return _preset_models()


@cache
def _preset_models() -> list[dict[str, Any]]:
    """The models of presets/models, the default first, as an entry of ``GET /v1/models`` describes them."""
    specs = find_specs(faulty=lambda error: print(f"Maquette: {error}"))
    return [ModelEntry.of(spec).to_json() for spec in specs.values()] or [{"id": DEFAULT_MODEL}]
