"""docs/architecture.md names files that exist, and every room of the tree."""

from __future__ import annotations

import re

import pytest

from ..conftest import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
NAMED = sorted(
    set(re.findall(r"`((?:[\w.-]+/)+(?:[\w.-]+)?|[\w.-]+\.py)`", PAGE))
    - {"plan.py", "family.py", "build.py", "convert.py"}
)


def test_the_page_names_files() -> None:
    assert len(NAMED) > 50


@pytest.mark.parametrize("name", NAMED)
def test_what_is_named_exists(name: str) -> None:
    path = ROOT / name
    assert path.is_dir() if name.endswith("/") else path.is_file()


@pytest.mark.parametrize(("symbol", "name"), sorted({*re.findall(r"`(\w+)`(?: in| of)\s+`([\w/]+\.py)`", PAGE)}))
def test_what_is_named_in_a_file_is_defined_there(symbol: str, name: str) -> None:
    assert re.search(rf"^\s*(?:def |class )?{symbol}\b(?=[(:=\s])", (ROOT / name).read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("room", ["backend", "scene"])
def test_every_room_is_on_the_map(room: str) -> None:
    folders = [path.name for path in (ROOT / room).iterdir() if (path / "__init__.py").is_file()]
    assert folders
    missing = [name for name in folders if f"`{room}/{name}/`" not in PAGE]
    assert not missing
