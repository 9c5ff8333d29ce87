"""A scene's jobs against a backend of the tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from ..fake_backend import FakeBackend, fake_backend
from ..scene.job_scene import Bench


@pytest.fixture
def backend() -> Iterator[FakeBackend]:
    with fake_backend() as made:
        yield made


@pytest.fixture
def bench(addon: ModuleType, backend: FakeBackend, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(addon)
    bench.preferences.address = f"http://{backend.address}/"
    bench.preferences.results_folder = str(tmp_path / "results")
    yield bench
    bench.jobs.close()
