"""``maquette jobs``: look at a server's jobs in its folder, and delete old ones."""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from .database import StoreInUse, read_copy
from .files import JobFiles
from .job_row import JobRow, make_row, readable
from .jobs import JobStore
from .serve import default_data_folder
from .upkeep import prune


class JobsError(Exception):
    """What was asked for cannot be done; the message says why and what to do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``maquette jobs``."""
    parser.description = "Works on a server's folder. A server may run meanwhile where nothing is changed."
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="every job, oldest first")
    listing.set_defaults(run=_list)
    showing = verbs.add_parser("show", help="all that is known of one job, and where its files are")
    showing.set_defaults(run=_show)
    removing = verbs.add_parser("remove", help="delete jobs that have ended, with their results")
    removing.set_defaults(run=_remove)
    pruning = verbs.add_parser("prune", help="delete old results; 'maquette serve' does so by itself with --keep-days")
    pruning.add_argument("--keep-days", type=float, metavar="N", help="keep those that are not older")
    pruning.add_argument("--keep-gigabytes", type=float, metavar="N", help="keep the newest that fit")
    pruning.set_defaults(run=_prune)
    for verb in (showing, removing):
        verb.add_argument("job", nargs="+" if verb is removing else None, metavar="ID", help="as 'list' shows it")  # type: ignore[arg-type]
    for verb in (removing, pruning):
        verb.add_argument("--yes", action="store_true", help="do it; without this it only says what would go")
    for verb in (listing, showing, removing, pruning):
        verb.add_argument("--data", type=Path, metavar="DIR", help="the server's folder (default: the user's)")


def _list(args: argparse.Namespace) -> int:
    folder = _folder(args)
    files = JobFiles(folder)
    total = 0
    for job in _read(folder):
        size = files.size(job.id)
        total += size
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.created_at))
        print(f"{job.id}  {when}  {job.status:<11}  {size / 1e6:9.1f} MB  {job.model:<14}  {_line(job.name)}")
    print(f"{total / 1e9:.2f} GB in {folder}")
    aside = list(files.set_aside.iterdir()) if files.set_aside.is_dir() else []
    if aside:
        print(f"{len(aside)} folders of jobs that the store does not know are in {files.set_aside}")
    return 0


def _show(args: argparse.Namespace) -> int:
    folder = _folder(args)
    job = _one(_read(folder), args.job)
    for name, value in vars(job).items():
        if value is not None and name not in ("seq", "upload_key", "again", "eta", "eta_at"):
            shown = "; ".join(value) if isinstance(value, tuple) else str(getattr(value, "message", value))
            print(f"{name:<17} {_line(time.ctime(float(shown)) if name.endswith('_at') else shown)}")
    for path in sorted(JobFiles(folder).folder(job.id).rglob("*")):
        if path.is_file():
            print(f"{'file':<17} {path} ({path.stat().st_size} bytes)")
    return 0


def _remove(args: argparse.Namespace) -> int:
    with _open(_folder(args)) as (store, files):
        jobs = [_one(store.all_jobs(), name) for name in args.job]
        if waiting := [job.id for job in jobs if not job.ended]:
            raise JobsError(f"{waiting[0]} has not ended; cancel it first")
        for job in jobs:
            if args.yes:
                store.delete(job.id)
                files.remove(job.id)
        return _told([job.id for job in jobs], args.yes)


def _prune(args: argparse.Namespace) -> int:
    if args.keep_days is None and args.keep_gigabytes is None:
        raise JobsError("Say what to keep: --keep-days N, --keep-gigabytes N, or both")
    with _open(_folder(args)) as (store, files):
        return _told(prune(store, files, args.keep_days, args.keep_gigabytes, really=args.yes), args.yes)


def _told(gone: list[str], really: bool) -> int:
    for name in gone:
        print(name)
    print(f"{len(gone)} jobs {'deleted' if really else 'would be deleted; --yes does it'}")
    return 0


def _folder(args: argparse.Namespace) -> Path:
    folder = args.data or default_data_folder()
    if not (folder / "jobs.sqlite").is_file():
        raise JobsError(f"{folder} holds no jobs; --data names the folder of a server")
    return folder


def _read(folder: Path) -> list[JobRow]:
    with tempfile.TemporaryDirectory(prefix="maquette-jobs-") as copy:
        try:
            with closing(read_copy(folder / "jobs.sqlite", Path(copy))) as db:
                return [make_row(row) for row in db.execute("SELECT * FROM jobs ORDER BY seq") if readable(row)]
        except sqlite3.Error as error:
            raise JobsError(f"The jobs in {folder} cannot be read just now ({error}); try again") from error


@contextmanager
def _open(folder: Path) -> Iterator[tuple[JobStore, JobFiles]]:
    try:
        store = JobStore(folder / "jobs.sqlite")
    except StoreInUse as error:
        raise JobsError(
            f"A server works on {folder}: stop it first, or let it delete by itself (maquette serve --keep-days N)"
        ) from error
    try:
        yield store, JobFiles(folder)
    finally:
        store.close()


def _one(jobs: list[JobRow], name: str) -> JobRow:
    found = [job for job in jobs if job.id == name or (len(name) >= 6 and job.id.endswith(name))]
    if len(found) != 1:
        raise JobsError(
            f"There {'is no job' if not found else 'are several jobs'} {name}; 'maquette jobs list' has them"
        )
    return found[0]


def _line(text: str) -> str:
    """On one line, whatever a sender has written into a name."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
