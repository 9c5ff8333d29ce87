"""A scene's jobs against a backend of the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..fake_backend import FakeBackend
from ..scene.job_scene import Bench


@pytest.fixture
def bench(bench: Bench, backend: FakeBackend, tmp_path: Path) -> Bench:
    bench.preferences.address = f"http://{backend.address}/"
    bench.preferences.results_folder = str(tmp_path / "results")
    return bench
