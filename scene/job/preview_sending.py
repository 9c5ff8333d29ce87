"""A preview's shot on its way to the backend, and its film on the way back."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import uuid
from concurrent.futures import Future
from pathlib import Path

from ...backend.client import Follower, FollowSpec, Report
from ...backend.client.owed import owe
from ...backend.shot import Shot, save_shot
from .. import aside, folders
from . import backends

_root: Path | None = None


def root() -> Path:
    """The folder of all previews of this session."""
    global _root
    if _root is None or not _root.is_dir():
        _root = Path(tempfile.mkdtemp(prefix="maquette-preview-"))
    return _root


def remove() -> None:
    """Remove all of them."""
    global _root
    if _root is not None:
        shutil.rmtree(_root, ignore_errors=True)
        _root = None


class Sending:
    """One shot, written beside the window's work and sent when a backend is there."""

    def __init__(self, shot: Shot) -> None:
        self._scratch = root() / uuid.uuid4().hex
        self._scratch.mkdir()
        self._path = self._scratch / "preview.shot"
        self._written: Future[None] = aside.run(save_shot, shot, self._path)
        self._follower: Follower | None = None

    def report(self) -> Report | str:
        """What the backend says, or what it waits for.

        Raises:
            ShotError, OSError: the shot cannot be written.
            BackendProblem: no backend can be reached.
        """
        if self._follower is None:
            if not self._written.done():
                return ""
            self._written.result()
            target = backends.target()
            if target is None:
                return backends.waiting_line()
            spec = FollowSpec(
                address=target.address,
                token=target.token,
                client_id=folders.client_id(),
                results=str(root()),
                shot=str(self._path),
                name="preview",
                owed=str(backends.owed_file()),
                forget=True,
            )
            self._follower = Follower.start(spec, self._scratch)
        return self._follower.report()

    @property
    def started(self) -> bool:
        """Whether the backend has it."""
        return self._follower is not None and bool(self._follower.report().job)

    def cancel(self) -> None:
        """Stop the job at the backend, too."""
        if self._follower is not None:
            self._follower.cancel()  # It ends by itself, and needs its folder until then.
        else:
            self.clean()

    def leave(self) -> None:
        """Blender ends: what cannot be told now is owed."""
        if self._follower is not None:
            with contextlib.suppress(OSError, backends.BackendProblem):
                if job := self._follower.report().job:
                    owe(backends.owed_file(), job)
            self._follower.leave()

    def clean(self) -> None:
        """Remove what was sent."""
        self._written.add_done_callback(lambda _: shutil.rmtree(self._scratch, ignore_errors=True))
