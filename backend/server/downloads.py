"""Published weights that clients have this computer fetch: by ``maquette models fetch``, in a process of its own.

A download ends with the server and goes on from there when it is begun again; it outlives the client that asked for it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..catalogue.models import ModelError, ModelSpec, model_spec
from ..models.registry import status
from ..models.weights.fetch import lacking
from ..wire import OFFER_SECONDS, Code, DownloadView, Status
from .config import ServerConfig
from .errors import ApiError

_PATIENCE = 10.0
"""Seconds that a fetch which was asked to stop has for it."""


class Downloads:
    """One download at a time; the newest of each model is remembered as long as the server runs."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._views: dict[str, DownloadView] = {}
        self._turn = threading.Lock()
        """Held while one is begun or ended."""
        self._writing = threading.Lock()
        """Held while a view is changed."""
        self._process: subprocess.Popen[str] | None = None
        self._model = ""

    def offer(self, model: str) -> dict[str, Any]:
        """What would come for a model, asked of its publishers now (``WeightsOffer``). Raises ApiError."""
        self._allowed()
        spec = self._spec(model)
        if status(spec).available:
            raise ApiError(Code.NOT_READY, f"{spec.label} is here already; there is nothing to download.")
        words = self._words(spec, "--facts", "--json")
        try:
            done = subprocess.run(
                words,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=OFFER_SECONDS - 10,
                stdin=subprocess.DEVNULL,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ApiError(
                Code.FETCH_FAILED, f"The publishers of {spec.label} did not answer this backend; try again later."
            ) from None
        if done.returncode:
            raise ApiError(Code.FETCH_FAILED, _why((done.stdout + done.stderr).splitlines()))
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def start(self, model: str, commits: Mapping[str, str]) -> DownloadView:
        """Begin what was agreed to, or go on with it; where it is under way, how far it is. Raises ApiError."""
        self._allowed()
        spec = self._spec(model)
        wanted = {source.repository for source in lacking(spec)}
        if missing := sorted(wanted - set(commits)):
            raise ApiError(
                Code.BAD_REQUEST, f"commits: must name the commit of {missing[0]} that was agreed to.", "commits"
            )
        agreed = [f"--commit={repository}@{commits[repository]}" for repository in sorted(wanted)]
        with self._turn:
            under_way = self._views.get(self._model)
            if under_way is not None and not under_way.ended:
                if self._model == model:
                    return under_way
                raise ApiError(Code.NOT_READY, f"This backend downloads {self._model} just now; try again afterwards.")
            try:
                self._process = subprocess.Popen(
                    self._words(spec, "--yes", "--quiet", "--progress-lines", *agreed), stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                    start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                raise ApiError(Code.SERVER_ERROR, f"The download cannot be started: {error}.") from error
            self._model = model
            view = self._views[model] = DownloadView(model, Status.IN_PROGRESS, label="Asking the Hub")
            threading.Thread(target=self._follow, args=(self._process, model), daemon=True).start()
        return view

    def view(self, model: str) -> DownloadView:
        """How far a model's download is, or how it has ended. Raises ApiError."""
        self._allowed()
        self._spec(model)
        view = self._views.get(model)
        if view is None:
            raise ApiError(
                Code.NOT_FOUND,
                f"No download of {model} was begun since this backend started. What had come is kept: begin it again.",
            )
        return view

    def cancel(self, model: str) -> DownloadView:
        """Stop a model's download; what has come stays. Raises ApiError."""
        view = self.view(model)
        with self._turn:
            if not view.ended and self._model == model:
                self._end(Status.CANCELLED)
        return self._views[model]

    def under_way(self) -> DownloadView | None:
        """The one that is coming now."""
        view = self._views.get(self._model)
        return None if view is None or view.ended else view

    def stop(self) -> None:
        """The server ends."""
        with self._turn:
            if self.under_way() is not None:
                self._end(Status.CANCELLED)

    def _end(self, how: Status) -> None:
        process, model = self._process, self._model
        assert process is not None
        with self._writing:
            self._views[model] = replace(self._views[model], status=how)
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _follow(self, process: subprocess.Popen[str], model: str) -> None:
        """Take in what a fetch prints, to its end."""
        said: list[str] = []
        assert process.stdout is not None
        for line in process.stdout:
            line = line.rstrip()
            head, _, rest = line.partition(" ")
            if head != "progress":
                said = [*said[-50:], line]
                continue
            share, _, label = rest.partition(" ")
            self._tell(process, model, progress=100 * float(share), label=label)
        if process.wait():
            self._tell(process, model, status=Status.FAILED, message=_why(said))
        else:
            self._tell(process, model, status=Status.COMPLETED, progress=100.0)

    def _tell(self, process: subprocess.Popen[str], model: str, **changes: Any) -> None:
        with self._writing:
            view = self._views[model]
            # A cancelled one has nothing to say any more.
            if process is self._process and not view.ended:
                self._views[model] = replace(view, **changes)

    def _allowed(self) -> None:
        if self._config.cluster:
            raise ApiError(
                Code.NOT_ALLOWED,
                "This backend runs models on the nodes of a cluster: run 'maquette models fetch' on these.",
            )
        if not self._config.downloads:
            raise ApiError(
                Code.NOT_ALLOWED,
                "This backend does not let clients download models: whoever runs it starts it with --allow-downloads, "
                "or runs 'maquette models fetch' there.",
            )

    def _spec(self, model: str) -> ModelSpec:
        try:
            spec = model_spec(model, self._config.models)
        except ModelError:
            raise ApiError(Code.NOT_FOUND, f"This backend has no model '{model[:40]}'.") from None
        if not spec.sources:
            raise ApiError(Code.NOT_FOUND, f"{spec.label} has no published weights to download.")
        return spec

    def _words(self, spec: ModelSpec, *words: str) -> list[str]:
        folders = [f"--models={folder}" for folder in self._config.models]
        return [sys.executable, "-m", "maquette.backend.cli", "models", "fetch", spec.id, *folders, *words]


def _why(said: Sequence[str]) -> str:
    errors = [line.removeprefix("maquette: ") for line in said if line.startswith("maquette: ")]
    return (errors or list(said) or ["the download ended without a word; the backend's log may have more"])[-1]
