from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests of a module that leave it as they found it."""
    with Server(tmp_path_factory.mktemp("server"), "--max-upload", "1") as server:
        yield server


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own, to stop and to kill."""
    with Server(tmp_path) as server:
        yield server
