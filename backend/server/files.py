"""The folders of the jobs: nothing half-written is ever taken for a result."""

from __future__ import annotations

import os
import shutil
import threading
import zipfile
from pathlib import Path

RESERVE = 64 << 20
"""Bytes that a new job must leave free on the disk, for the store, the logs and everybody else."""

BALLAST = 4 << 20
"""Bytes held in a file that is given up when the disk is full all the same, so that the store can still be written:
how a job ended, and that an old one was deleted."""


class JobFiles:
    """Where a server keeps its files.

    ``incoming/`` holds uploads on their way, ``jobs/<id>/`` one job: ``job.shot``, ``preview.png`` and ``result/``
    with ``video.mp4`` and ``frames.npy``, (T,H,W,3) uint8. ``result`` is renamed into place once it is complete.
    ``set-aside/`` holds the folders of jobs that the store does not know: nothing is ever deleted there.

    Raises:
        OSError: the folders cannot be made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.incoming = root / "incoming"
        self.jobs = root / "jobs"
        self.set_aside = root / "set-aside"
        self._ballast = root / "ballast"
        self._zipping = threading.Lock()
        for folder in (self.incoming, self.jobs):
            folder.mkdir(parents=True, exist_ok=True)

    def folder(self, job_id: str) -> Path:
        """The folder of a job."""
        return self.jobs / job_id

    def shot(self, job_id: str) -> Path:
        """What was sent."""
        return self.folder(job_id) / "job.shot"

    def preview(self, job_id: str) -> Path:
        """The newest preview."""
        return self.folder(job_id) / "preview.png"

    def video(self, job_id: str) -> Path:
        """The finished film."""
        return self.folder(job_id) / "result" / "video.mp4"

    def frames_zip(self, job_id: str) -> Path:
        """The finished frames as PNGs in one file; made, in place of the raw ones, when it is first asked for.

        The file is not there when the raw frames are not.

        Raises:
            OSError: it cannot be written; nothing is left behind.
        """
        import numpy as np

        from ..media import encode_png, read_mp4_metadata

        folder = self.folder(job_id)
        raw, target, part = folder / "result" / "frames.npy", folder / "frames.zip", folder / "frames.zip.part"
        with self._zipping:
            if target.exists() or not (raw.exists() and self.video(job_id).exists()):
                return target
            try:
                metadata = read_mp4_metadata(self.video(job_id))
                # Stored: PNGs do not shrink further.
                with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
                    for i, frame in enumerate(np.load(raw, mmap_mode="r"), 1):
                        archive.writestr(f"{i:05d}.png", encode_png(np.asarray(frame), metadata, level=1).data)
                os.replace(part, target)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
            raw.unlink()
        return target

    def adopt(self, upload: Path, job_id: str) -> None:
        """Make an upload a job's shot."""
        self.folder(job_id).mkdir()
        os.replace(upload, self.shot(job_id))

    def size(self, job_id: str) -> int:
        """Bytes of everything of a job."""
        return sum(path.stat().st_size for path in self.folder(job_id).rglob("*") if path.is_file())

    def remove(self, job_id: str) -> None:
        """Delete everything of a job."""
        shutil.rmtree(self.folder(job_id), ignore_errors=True)

    def there(self) -> bool:
        """Whether the folders can be reached; those of a disk that is unplugged cannot."""
        return self.jobs.is_dir()

    def clean(self, known: set[str]) -> list[str]:
        """At start: remove what a server that died left half-done.

        Returns:
            Names of the folders of jobs that nobody knows; they are in ``set_aside`` now, with all that they hold.
        """
        unknown = []
        for path in self.incoming.iterdir():
            if not path.is_dir():
                path.unlink(missing_ok=True)
        for folder in self.jobs.iterdir():
            if folder.name in known:
                shutil.rmtree(folder / "result.part", ignore_errors=True)
                (folder / "frames.zip.part").unlink(missing_ok=True)
                continue
            self.set_aside.mkdir(exist_ok=True)
            target = self.set_aside / folder.name
            while target.exists():
                target = target.with_name(f"{target.name}-again")
            os.replace(folder, target)
            unknown.append(folder.name)
        return unknown

    def hold_ballast(self) -> None:
        """Lay the ballast by, if there is room for it."""
        if self._ballast.exists() or not self.has_room(BALLAST):
            return
        try:
            self._ballast.write_bytes(b"\0" * BALLAST)
        except OSError:
            self._ballast.unlink(missing_ok=True)

    def drop_ballast(self) -> bool:
        """Give the ballast up; returns whether that freed anything."""
        if not self._ballast.exists():
            return False
        self._ballast.unlink(missing_ok=True)
        return True

    def has_room(self, bytes_needed: int) -> bool:
        """Whether the disk takes that much and keeps a reserve."""
        return shutil.disk_usage(self.root).free >= bytes_needed + RESERVE
