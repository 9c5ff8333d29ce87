"""The quality levels that ship, and files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from maquette.backend.catalogue.quality import STANDARD, QualityLevel, list_quality
from maquette.backend.catalogue.reader import CatalogueError


def test_the_levels_that_ship_go_from_cheap_to_dear() -> None:
    levels = list_quality()
    assert list(levels) == ["draft", STANDARD, "fine"]
    assert all(level.label and level.description for level in levels.values())
    assert levels["standard"].steps == 1.0 and not levels["standard"].carried and levels["fine"].steps > 1.0


def test_a_level_is_a_file_and_has_a_place_of_its_own(tmp_path: Path) -> None:
    text = 'label = "Quick"\ndescription = "At once"\ncarried = true\norder = 7\n'
    (tmp_path / "quick.toml").write_text(text)
    assert list_quality(tmp_path) == {"quick": QualityLevel("quick", "Quick", "At once", 7, carried=True)}
    (tmp_path / "quicker.toml").write_text(text)
    with pytest.raises(CatalogueError, match=r"quicker\.toml: order is 7, as quick's"):
        list_quality(tmp_path)
