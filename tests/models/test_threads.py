from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from maquette.backend.models.threads import share_cores


def test_torchs_threads_sleep_while_they_wait():
    """As the OpenMP that comes with torch tells it itself."""
    found = importlib.util.find_spec("torch")
    assert found is not None and found.origin is not None
    (library,) = Path(found.origin).parent.glob("lib/lib*omp.*")
    code = (
        "import ctypes; from maquette.backend.models.threads import share_cores\n"
        f"share_cores(); ctypes.CDLL({str(library)!r})"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "OMP_DISPLAY_ENV": "TRUE"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    if "OMP_" not in done.stderr:
        pytest.skip("this torch has no OpenMP that displays its settings")
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr


def test_what_the_user_has_set_stays(tmp_path: Path):
    quota = tmp_path / "cpu.max"
    quota.write_text("100000 100000\n")
    environment = {"OMP_WAIT_POLICY": "ACTIVE", "OMP_NUM_THREADS": "64"}
    share_cores(environment, quota)
    assert environment == {"OMP_WAIT_POLICY": "ACTIVE", "OMP_NUM_THREADS": "64"}


@pytest.mark.parametrize(
    ("text", "threads"),
    [("250000 100000\n", "2"), ("50000 100000\n", "1"), ("max 100000\n", None), ("6400000 100000", None), ("", None)],
)
def test_a_containers_share_bounds_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text, threads):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    quota = tmp_path / "cpu.max"
    quota.write_text(text)
    environment: dict[str, str] = {}
    share_cores(environment, quota)
    assert environment.get("OMP_NUM_THREADS") == threads
    # The server has set this; its engines share it.
    share_cores(environment, quota, parts=4)
    assert environment["OMP_NUM_THREADS"] == str(max(1, int(threads or 64) // 4))
