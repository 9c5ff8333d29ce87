from __future__ import annotations

from collections.abc import Iterator

import pytest

from .double import Double, running


@pytest.fixture
def double() -> Iterator[Double]:
    with running(Double()) as double:
        yield double
