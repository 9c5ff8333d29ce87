"""``maquette jobs`` and ``maquette doctor``."""

from __future__ import annotations

import re
import shutil
import socket
from pathlib import Path

import pytest
from maquette.backend.cli import main
from maquette.backend.models.weights import check
from maquette.backend.server import doctor
from maquette.backend.server.files import JobFiles
from maquette.backend.server.jobs import JobStore
from maquette.backend.wire import JobError, VideoPlan


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A server's folder: a job that is done, one that failed, one that waits."""
    store, files = JobStore(tmp_path / "jobs.sqlite"), JobFiles(tmp_path)
    for name in ("done", "failed\x1b[31m", "waiting"):
        job = store.create("a", name, "isa-nano", 4, VideoPlan(8, 8, 1, 24.0), ["fitted"], max_queue=9)
        files.folder(job.id).mkdir()
        files.shot(job.id).write_bytes(bytes(2_000_000))
        if name != "waiting":
            store.claim()
            store.finish(job.id, name[:6].replace("done", "completed"), error=JobError("x", "It broke.", None))
    store.close()
    (files.set_aside / "vid_lost").mkdir(parents=True)
    return tmp_path


def ids(data: Path) -> list[str]:
    return sorted(path.name for path in (data / "jobs").iterdir())


def test_list_and_show(data: Path, capsys: pytest.CaptureFixture[str]):
    held = JobStore(data / "jobs.sqlite")
    assert main(["jobs", "list", "--data", str(data)]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert [line.split()[3] for line in lines[:3]] == ["completed", "failed", "queued"] and "2.0 MB" in lines[0]
    assert "\x1b" not in out and "1 folders of jobs that the store does not know" in lines[-1]
    failed = lines[1].split()[0]
    assert main(["jobs", "show", failed[-8:], "--data", str(data)]) == 0
    out = capsys.readouterr().out
    assert "It broke." in out and "fitted" in out and f"{failed}/job.shot (2000000 bytes)" in out
    assert main(["jobs", "show", "nonsense", "--data", str(data)]) == 2
    assert "'maquette jobs list' has them" in capsys.readouterr().err
    held.close()


def test_remove(data: Path, capsys: pytest.CaptureFixture[str]):
    store = JobStore(data / "jobs.sqlite")
    jobs = {job.status: job.id for job in store.all_jobs()}
    store.close()
    assert main(["jobs", "remove", jobs["completed"], "--data", str(data)]) == 0
    assert "--yes does it" in capsys.readouterr().out and len(ids(data)) == 3
    assert main(["jobs", "remove", jobs["completed"], jobs["queued"], "--data", str(data), "--yes"]) == 2
    assert "has not ended" in capsys.readouterr().err and len(ids(data)) == 3
    assert main(["jobs", "remove", jobs["completed"], "--data", str(data), "--yes"]) == 0
    assert ids(data) == sorted([jobs["failed"], jobs["queued"]])


def test_prune(data: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["jobs", "prune", "--data", str(data), "--yes"]) == 2
    assert "--keep-days N" in capsys.readouterr().err
    assert main(["jobs", "prune", "--keep-days", "1", "--data", str(data), "--yes"]) == 0
    assert len(ids(data)) == 3
    assert main(["jobs", "prune", "--keep-gigabytes", "0.003", "--data", str(data), "--yes"]) == 0
    assert len(ids(data)) == 2 and "1 jobs deleted" in capsys.readouterr().out
    assert main(["jobs", "list", "--data", str(data / "nowhere")]) == 2
    assert "holds no jobs" in capsys.readouterr().err


def findings(data: Path, port: int = 0) -> dict[str, doctor.Finding]:
    return {finding.what: finding for finding in doctor.examine(data, port)}


def test_doctor(data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(check, "check", lambda _: [])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = findings(data, taken.getsockname()[1])
    assert found["Python"].good and found["packages"].good and found["jobs"].told.startswith("3 in")
    assert found["port"].good is None and "choose another with --port" in found["port"].cure
    assert found["folders set aside"].good is None and any(what.startswith("model ") for what in found)
    for finding in found.values():
        assert finding.good is True or finding.cure, finding
        assert not re.search(r"\.\.$|\s$", finding.cure)
    (data / "jobs.sqlite").write_bytes(b"x" * 9000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    monkeypatch.setattr(doctor, "_weights", lambda: 1 / 0)
    monkeypatch.setattr(doctor, "_PACKAGES", ("numpy", "no-such-package"))
    assert main(["doctor", "--data", str(data), "--port", "0"]) == 1
    out = capsys.readouterr().out
    assert "is damaged" in out and "missing: no-such-package" in out and "ZeroDivisionError" in out
    assert "pip install 'maquette[backend]'" in out and "3 of these must be put right first" in out
