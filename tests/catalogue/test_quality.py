"""The quality levels that ship, and files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from maquette.backend.catalogue.quality import STANDARD, QualityLevel, read_levels


def test_the_levels_that_ship_go_from_cheap_to_dear() -> None:
    levels = read_levels()
    assert [level.id for level in levels] == ["draft", "standard", "fine"]
    assert STANDARD in {level.id for level in levels}
    assert len({level.order for level in levels}) == len(levels)
    assert all(level.label and level.description for level in levels)
    assert levels[1].steps == 1.0 and not levels[1].carried and levels[2].steps > 1.0


def test_a_level_is_a_file(tmp_path: Path) -> None:
    text = 'id = "quick"\nlabel = "Quick"\ndescription = "At once"\ncarried = true\norder = 7\n'
    (tmp_path / "quick.toml").write_text(text)
    assert read_levels(tmp_path) == [QualityLevel("quick", "Quick", "At once", carried=True, order=7)]


@pytest.mark.parametrize("text", ["id = ", 'id = "a"\nspeed = 3\n', 'id = "a"\n', "\xff"])
def test_a_file_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"bad\.toml: not a readable quality level"):
        read_levels(tmp_path)
