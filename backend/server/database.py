"""The jobs' file: one holder at a time, its versions, and what becomes of a damaged one. Nothing is given up without a
copy."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

log = logging.getLogger("maquette.store")

VERSION = 3
"""Of the layout, in SQLite's ``user_version``; files of version 1 have none there."""

_TABLES = """
CREATE TABLE jobs (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  client TEXT NOT NULL,
  status TEXT NOT NULL,
  name TEXT NOT NULL,
  model TEXT NOT NULL,
  created_at REAL NOT NULL,
  started_at REAL,
  finished_at REAL,
  stage TEXT,
  step INTEGER,
  stage_steps INTEGER,
  steps INTEGER NOT NULL,
  progress REAL NOT NULL DEFAULT 0,
  eta REAL,
  eta_at REAL,
  notes TEXT NOT NULL,
  plan TEXT NOT NULL,
  error TEXT,
  attempts INTEGER NOT NULL DEFAULT 0,
  cancel_requested INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX jobs_by_status ON jobs (status, seq);
CREATE INDEX jobs_by_client ON jobs (client, seq);
CREATE TABLE timings (model TEXT PRIMARY KEY, head REAL, step REAL, tail REAL);
"""
"""Version 1. A new file is made by the same steps that bring an old one up to date."""

_STEPS = {
    # The key of an upload; whether a job goes back to its place, before all others; when each client had its turn.
    1: """
ALTER TABLE jobs ADD COLUMN upload_key TEXT;
ALTER TABLE jobs ADD COLUMN again INTEGER NOT NULL DEFAULT 0;
CREATE UNIQUE INDEX jobs_by_key ON jobs (client, upload_key) WHERE upload_key IS NOT NULL;
CREATE TABLE turns (client TEXT PRIMARY KEY, turn INTEGER NOT NULL);
""",
    # Which of its client's jobs a job comes before.
    2: """
ALTER TABLE jobs ADD COLUMN urgency INTEGER NOT NULL DEFAULT 3;
""",
}
"""What makes version n + 1 of version n."""

_COLUMNS = {1: tuple(line.split()[0] for line in _TABLES.split(");")[0].splitlines()[2:])}
_COLUMNS[2] = (*_COLUMNS[1], "upload_key", "again")
_COLUMNS[3] = (*_COLUMNS[2], "urgency")


class StoreInUse(Exception):
    """Another process works on the same folder."""


class StoreBroken(Exception):
    """The store cannot be used as it is; nothing was changed."""


def open_database(path: Path, readable: Callable[[sqlite3.Row], bool]) -> sqlite3.Connection:
    """Take hold of the store until the connection is closed, however the process ends.

    One of an earlier version is copied beside itself and brought up to date. A damaged one is kept under another name;
    what can be read of it goes into the new one.

    Args:
        readable: whether a row of ``jobs`` makes sense.

    Raises:
        StoreInUse: another process holds it.
        StoreBroken: it is of a later version or of an unknown layout.
        sqlite3.Error, OSError: it cannot be opened or written, on a full disk for instance.
    """
    try:
        db = _hold(path)
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):
            raise StoreInUse(str(path)) from error
        if not _is_damage(error):
            raise
        return _mended(path, readable, str(error))
    try:
        problem = _problem(db, path, readable)
        if not problem:
            _update(db, path)
            return db
    except BaseException:
        db.close()
        raise
    db.close()
    return _mended(path, readable, problem)


def read_copy(path: Path, folder: Path) -> sqlite3.Connection:
    """A copy in ``folder`` of a store that a server may hold just now, to read.

    Raises:
        StoreBroken, StoreInUse, sqlite3.Error, OSError: as ``open_database``.
    """
    for ending in ("", "-wal"):
        source = path.with_name(path.name + ending)
        if source.exists():
            (folder / source.name).write_bytes(source.read_bytes())
    level = log.level
    # What is done to the copy concerns nobody.
    log.setLevel(logging.CRITICAL)
    try:
        return open_database(folder / path.name, lambda _: True)
    finally:
        log.setLevel(level)


def _hold(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=3.0, check_same_thread=False, isolation_level=None)
    db.row_factory = sqlite3.Row
    try:
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("BEGIN EXCLUSIVE")
        db.execute("COMMIT")
    except BaseException:
        db.close()
        raise
    return db


def _version(db: sqlite3.Connection, path: Path) -> int:
    """Of the layout; 0 for an empty file. Raises StoreBroken."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    columns = {row["name"] for row in db.execute("PRAGMA table_info(jobs)")}
    if version > VERSION:
        raise StoreBroken(
            f"{path} was written by a later Maquette (layout {version}; this one reads up to {VERSION}). Update "
            "Maquette, or choose another folder with --data; nothing was changed"
        )
    if not version and not columns:
        return 0
    version = version or 1
    if missing := [name for name in _COLUMNS.get(version, ("jobs",)) if name not in columns]:
        raise StoreBroken(
            f"{path} has a layout that this Maquette does not know (it lacks {', '.join(missing[:3])}). Choose another "
            "folder with --data, or move the file away: results stay in the folder 'set-aside'; nothing was changed"
        )
    return version


def _problem(db: sqlite3.Connection, path: Path, readable: Callable[[sqlite3.Row], bool]) -> str:
    """What is damaged, or empty."""
    try:
        found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            return str(found)
        if not _version(db, path):
            return ""
        bad = sum(not readable(row) for row in db.execute("SELECT * FROM jobs"))
        return f"{bad} jobs cannot be read" if bad else ""
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise
        return str(error)


def _is_damage(error: sqlite3.Error) -> bool:
    """Whether what is in the file is wrong, rather than a disk that is full or away."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "decode" in str(error)


def _update(db: sqlite3.Connection, path: Path) -> None:
    version = _version(db, path)
    if version == VERSION:
        return
    if version:
        copy = path.with_name(f"{path.stem}.layout-{version}{path.suffix}")
        if not copy.exists():
            with sqlite3.connect(copy) as target:
                db.backup(target)
            target.close()
        log.warning("%s is brought from layout %d to %d; a copy of it is %s", path, version, VERSION, copy.name)
    _in_one_step(db, [] if version else [_TABLES], version or 1)


def _in_one_step(db: sqlite3.Connection, scripts: list[str], version: int) -> None:
    """Run ``scripts`` and the steps from ``version`` on; all of it or, when the process dies, nothing."""
    scripts = [*scripts, *(_STEPS[n] for n in range(version, VERSION)), f"PRAGMA user_version={VERSION}"]
    db.execute("BEGIN IMMEDIATE")
    try:
        for statement in ";".join(scripts).split(";"):
            db.execute(statement)
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def _mended(path: Path, readable: Callable[[sqlite3.Row], bool], problem: str) -> sqlite3.Connection:
    """A new store with what can be read of a damaged one, which is kept under another name."""
    stem = f"{path.stem}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
    kept = next(p for n in range(1000) if not (p := path.with_name(f"{stem}{f'-{n}' if n else ''}.sqlite")).exists())
    new = path.with_name(f"{path.name}.new")
    for ending in ("", "-wal", "-journal"):
        new.with_name(new.name + ending).unlink(missing_ok=True)
    jobs, timings = _salvaged(path, readable)
    db = sqlite3.connect(new, isolation_level=None)
    try:
        _in_one_step(db, [_TABLES], 1)
        db.execute("BEGIN")
        for table, rows in (("jobs", jobs), ("timings", timings)):
            for row in rows:
                names = [name for name in row.keys() if table != "jobs" or name in _COLUMNS[VERSION]]  # noqa: SIM118
                values = [row[name] for name in names]
                marks = ",".join("?" * len(names))
                db.execute(f"INSERT OR IGNORE INTO {table} ({','.join(names)}) VALUES ({marks})", values)
        db.execute("COMMIT")
    finally:
        db.close()
    for ending in ("-wal", "-shm", ""):
        beside = path.with_name(path.name + ending)
        if beside.exists():
            os.replace(beside, kept.with_name(kept.name + ending))
    os.replace(new, path)
    log.error(
        "%s is damaged (%s). It is kept as %s; %d jobs of it could be read and go on. The folders of the others are "
        "in 'set-aside'.",
        path, problem, kept.name, len(jobs),
    )  # fmt: skip
    return _hold(path)


def _salvaged(path: Path, readable: Callable[[sqlite3.Row], bool]) -> tuple[list[sqlite3.Row], list[sqlite3.Row]]:
    """The jobs and timings that can be read, from both ends up to the first damage."""
    jobs: dict[int, sqlite3.Row] = {}
    timings: list[sqlite3.Row] = []
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error:
        return [], []
    db.row_factory = sqlite3.Row
    db.text_factory = lambda raw: raw.decode("utf-8", "replace")
    for direction in ("ASC", "DESC"):
        for row in _until_broken(db, f"SELECT * FROM jobs ORDER BY seq {direction}"):
            if readable(row):
                jobs.setdefault(row["seq"], row)
    timings += _until_broken(db, "SELECT * FROM timings")
    db.close()
    return [jobs[seq] for seq in sorted(jobs)], timings


def _until_broken(db: sqlite3.Connection, sql: str) -> Iterator[sqlite3.Row]:
    try:
        yield from db.execute(sql)
    except sqlite3.Error:
        return
