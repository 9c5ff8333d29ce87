"""A model's weights on their way from their hub to the backend's computer, this one or another: one fetch at a time.

First the backend is asked what would come; nothing does before the animator has agreed to that.
"""

from __future__ import annotations

import contextlib

import bpy

from ...backend.catalogue.reader import CatalogueError
from ...backend.catalogue.weights_offer import WeightsOffer
from ...backend.client.command import CommandReport, CommandRun
from ...backend.client.download import RemoteFetch
from .. import folders
from . import backends, models
from .beside import Beside

_run: CommandRun | RemoteFetch | None = None
_model = _backend = _trouble = ""
_offer: WeightsOffer | None = None
_agreed = False


def can(model: models.Model) -> bool:
    """Whether a model's weights may be fetched by a press of a button: it lacks them, and there is somebody to ask."""
    there = not backends.is_local() or backends.local().python.is_file()
    return model.state == "MISSING" and bool(model.sources) and there


def ask(model: str) -> None:
    """Begin to ask what would come. Raises OSError or BackendProblem when nobody can be asked."""
    global _model, _backend, _trouble, _offer, _agreed
    _model, _backend, _trouble, _offer, _agreed = model, backends.name(), "", None, False
    _begin("Asking the Publishers", None)


def start() -> None:
    """Begin what was agreed to, or go on where it was stopped. Raises OSError, or BackendProblem."""
    global _agreed
    found = offer(_model)
    if found is None:
        raise backends.BackendProblem("Press Download first: it shows what would come")
    _begin("Asking the Hub", found)
    _agreed = True


def _begin(label: str, agreed: WeightsOffer | None) -> None:
    global _run
    if backends.is_local():
        how = ["--facts", "--json"]
        if agreed is not None:
            how = ["--yes", *(f"--commit={name}@{commit}" for name, commit in agreed.commits.items())]
        _run = CommandRun(backends.local().python, folders.user_folder("fetch"), ["models", "fetch", _model, *how])
    else:
        target = backends.target()
        assert target is not None
        commits = None if agreed is None else agreed.commits
        _run = RemoteFetch(
            target.address, target.token, folders.client_id(), folders.user_folder("fetch"), _model, commits
        )
    beside.begin(_run, label)


def offer(model: str) -> WeightsOffer | None:
    """What would come for a model, while that waits for a yes."""
    return _offer if model == _model and _backend == backends.name() and not _agreed else None


def trouble(model: str) -> str:
    """Why it cannot be told what would come for a model, or empty."""
    return _trouble if model == _model and _backend == backends.name() else ""


def dismiss() -> None:
    """Forget what would come: the animator does not want it now."""
    global _offer, _trouble
    _offer, _trouble = None, ""


def _ended() -> None:
    global _offer, _trouble
    report = beside.report
    if _agreed:
        if report.state == "done" and not bpy.app.background:
            with contextlib.suppress(backends.BackendProblem):
                backends.start_test()
    elif report.state == "failed":
        _trouble = report.message
    elif report.state == "done" and _run is not None:
        try:
            _offer = WeightsOffer.from_json(_run.printed())
        except CatalogueError as error:
            _trouble = str(error)


def _outcome(report: CommandReport) -> tuple[str, str]:
    if not _agreed:
        return ("ERROR", _trouble) if _trouble else ("INFO", "")
    label = models.find(_model).label
    if report.state == "failed":
        return "ERROR", f"{label} was not fetched: {report.message}"
    if report.state == "cancelled":
        return "WARNING", f"{label} was not fetched; what has come stays, and Download goes on from there"
    return "INFO", f"{label} is here"


beside = Beside(_outcome, 0.5, _ended)
"""The question or the fetch under way."""
