"""The jobs' file: versions, damages, and that nothing is given up."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import pytest
from maquette.backend.server import database
from maquette.backend.server.database import StoreBroken, read_copy
from maquette.backend.server.files import JobFiles
from maquette.backend.server.job_row import make_row
from maquette.backend.server.jobs import JobStore
from maquette.backend.wire import VideoPlan

PLAN = VideoPlan(100, 100, 100, 24.0)


def names(path: Path) -> list[str]:
    store = JobStore(path)
    try:
        return [job.name for job in store.all_jobs()]
    finally:
        store.close()


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A closed store of 60 jobs, over several pages."""
    path = tmp_path / "jobs.sqlite"
    store = JobStore(path)
    for i in range(60):
        store.create("a", f"job {i}", "m", 10, PLAN, ["size snapped", "x" * 200], max_queue=100)
    store.close()
    return path


def version_1(path: Path, columns: str = "") -> None:
    """What a server before layouts had numbers has left."""
    with sqlite3.connect(path) as db:
        db.executescript(database._TABLES)
        if columns:
            db.execute(f"ALTER TABLE jobs ADD COLUMN {columns}")
        db.execute(
            "INSERT INTO jobs (id, client, status, name, model, created_at, steps, notes, plan) "
            "VALUES ('vid_1', 'a', 'completed', 'old', 'm', 1.0, 4, '[]', ?)",
            (json.dumps(asdict(PLAN)),),
        )
    db.close()


@pytest.mark.parametrize("columns", ["", "future TEXT NOT NULL DEFAULT 'x'"])
def test_an_old_store_is_brought_up_to_date_beside_a_copy(tmp_path: Path, columns: str):
    path = tmp_path / "jobs.sqlite"
    version_1(path, columns)
    assert names(path) == ["old"] == names(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (database.VERSION,)
    with closing(sqlite3.connect(tmp_path / "jobs.layout-1.sqlite")) as copy:
        assert copy.execute("SELECT name FROM jobs").fetchall() == [("old",)]
        assert copy.execute("PRAGMA user_version").fetchone() == (0,)
    store = JobStore(path)
    assert store.create("a", "new", "m", 4, PLAN, [], max_queue=9, upload_key="12345678").upload_key == "12345678"
    store.close()


def test_a_step_that_breaks_off_leaves_the_old_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "jobs.sqlite"
    version_1(path)
    monkeypatch.setitem(database._STEPS, 1, database._STEPS[1] + "; INSERT INTO nowhere VALUES (1)")
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        JobStore(path)
    monkeypatch.undo()
    assert names(path) == ["old"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("PRAGMA user_version=99", "written by a later Maquette .layout 99; this one reads up to 3.*Update"),
        ("ALTER TABLE jobs DROP COLUMN attempts", "layout that this Maquette does not know .it lacks attempts"),
    ],
)
def test_a_layout_that_is_not_known_is_refused_in_words(full: Path, change: str, words: str):
    with sqlite3.connect(full) as db:
        db.execute(change)
    db.close()
    before = full.read_bytes()
    with pytest.raises(StoreBroken, match=words):
        JobStore(full)
    assert full.read_bytes() == before and [p.name for p in full.parent.iterdir()] == ["jobs.sqlite"]


def damaged(how: str, good: bytes, rng: random.Random) -> bytes:
    data = bytearray(good)
    if how == "truncated":
        return bytes(data[: rng.randrange(2000, len(data) - 1)])
    if how == "no database":
        return b"not a database, certainly not one" * 50
    if how == "text of a row":
        at = good.rfind(b"size snapped")
        data[at - 3 : at + 2] = b"\xff\xfe\0\0\0"
    elif how == "zero page":
        at = 4096 * rng.randrange(1, len(good) // 4096)
        data[at : at + 4096] = bytes(4096)
    else:
        at = rng.randrange(len(good) - 200)
        data[at : at + 200] = rng.randbytes(200)
    return bytes(data)


@pytest.mark.parametrize("how", ["truncated", "no database", "text of a row", "zero page", "random"])
def test_a_damaged_store_is_kept_and_what_can_be_read_goes_on(full: Path, how: str, caplog: pytest.LogCaptureFixture):
    good = full.read_bytes()
    rng = random.Random(how)
    saved = []
    for round_ in range(4):
        folder = full.parent / str(round_)
        folder.mkdir()
        path = folder / "jobs.sqlite"
        bad = damaged(how, good, rng)
        path.write_bytes(bad)
        found = names(path)
        assert set(found) <= {f"job {i}" for i in range(60)} and len(found) == len(set(found))
        kept = list(folder.glob("jobs.damaged-*.sqlite"))
        if kept:
            assert [k.read_bytes() for k in kept] == [bad] and "is damaged" in caplog.text
        else:
            # Bytes that nobody uses, or a text that is still one.
            assert len(found) == 60
        assert names(path) == found, "the new one is whole"
        saved.append(len(found))
    if how == "text of a row":
        assert saved == [59] * 4
    elif how in ("zero page", "random"):
        assert max(saved) >= 30


def test_a_disk_in_trouble_is_no_damage(full: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(_: sqlite3.Connection, *__: object) -> str:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error

    monkeypatch.setattr(database, "_version", fails)
    with pytest.raises(sqlite3.OperationalError):
        JobStore(full)
    assert [p.name for p in full.parent.iterdir()] == ["jobs.sqlite"]
    monkeypatch.undo()
    assert len(names(full)) == 60


def test_a_copy_can_be_read_while_a_server_holds_the_store(full: Path, tmp_path: Path):
    store = JobStore(full)
    store.create("b", "new", "m", 4, PLAN, [], max_queue=100)
    (tmp_path / "copy").mkdir()
    db = read_copy(full, tmp_path / "copy")
    assert make_row(db.execute("SELECT * FROM jobs ORDER BY seq DESC").fetchone()).name == "new"
    db.close()
    store.close()


def test_folders_that_nobody_knows_are_set_aside_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    files = JobFiles(tmp_path)
    for _ in range(2):
        for name in ("vid_known", "vid_other"):
            (files.folder(name) / "result").mkdir(parents=True, exist_ok=True)
            files.video(name).write_bytes(b"film")
            (files.folder(name) / "result.part").mkdir()
        assert files.clean({"vid_known"}) == ["vid_other"]
        assert [p.name for p in files.jobs.iterdir()] == ["vid_known"]
        assert files.video("vid_known").exists() and not (files.folder("vid_known") / "result.part").exists()
    aside = sorted(p.name for p in files.set_aside.iterdir())
    assert aside == ["vid_other", "vid_other-again"]
    assert all((files.set_aside / name / "result" / "video.mp4").read_bytes() == b"film" for name in aside)
    assert files.there()
    shutil.rmtree(files.jobs)
    assert not files.there()


def test_the_lock_ends_with_its_holder(full: Path):
    pid = os.fork() if hasattr(os, "fork") else None
    if pid is None:
        pytest.skip("needs fork")
    if pid == 0:
        JobStore(full)
        os._exit(0)
    os.waitpid(pid, 0)
    assert len(names(full)) == 60
