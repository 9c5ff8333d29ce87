"""The stored examples of the reference models against ours, at their stated tolerance.

``make parity`` also runs ``LARGE``, and the controls: ours made wrong on purpose.
"""

from __future__ import annotations

import importlib
import zlib

import numpy as np
import pytest

from .fixtures import PARITY, Check, Fixture
from .recipe import recipe

MODULES = ("mtvcrafter_tokenizer", "mtvcrafter_dit", "mimicmotion", "mofa_networks")
LARGE = {"mtv_dit7b_wide", "mtv_dit17b_wide", "mofa_traj_controlnet"}
"""Of published widths, up to 3 GB of weights. The trajectory adapter is the landmark adapter without its landmarks."""


def checks() -> dict[str, Check]:
    """The check of every fixture, by its name."""
    found: dict[str, Check] = {}
    for name in MODULES:
        found.update(importlib.import_module(f"{__package__}.{name}").CHECKS)
    return found


needs_fixtures = pytest.mark.skipif(not PARITY.is_dir(), reason=f"no parity fixtures at {PARITY}")


@needs_fixtures
def test_every_fixture_has_a_check():
    assert {path.stem for path in PARITY.glob("*.safetensors")} == set(checks())


@needs_fixtures
@pytest.mark.parametrize("path", sorted(PARITY.glob("*.json")), ids=lambda path: path.stem)
def test_the_recipe_gives_the_stored_weights(path):
    fixture = Fixture.load(path.stem)
    for part, entry in fixture.sidecar.get("weights", {}).items():
        shapes = fixture.keys(part)
        assert len(shapes) == entry["n_keys"]
        for probe in entry["probe"]:
            values = recipe(probe["key"], shapes[probe["key"]], entry["SEED"])
            assert values.dtype == np.float32
            assert zlib.crc32(values.astype("<f4").tobytes()) == probe["crc32_of_float32_le_bytes"]


@needs_fixtures
@pytest.mark.parametrize("name", sorted(checks().keys() - LARGE))
def test_ours_agrees(name):
    rows = list(checks()[name](Fixture.load(name, controls=False)))
    assert rows
    failed = [row for row in rows if not row.passed]
    assert not failed, failed
