"""docs/models.md, and the figures of memory in the descriptions, are what the networks say."""

from __future__ import annotations

from types import ModuleType

import pytest
from maquette.backend.catalogue.models import ModelSpec, find_specs
from maquette.backend.models.memory.footprint import GB, NetworkFootprint
from maquette.backend.models.weights.sizes import gpu_gigabytes, parts_of_components

from ...conftest import ROOT, load_script


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    module = load_script("tools/models_table.py")
    counted: dict[str, tuple[NetworkFootprint, ...]] = {}

    def once(spec: ModelSpec) -> tuple[NetworkFootprint, ...]:
        if spec.id not in counted:
            counted[spec.id] = parts_of_components(spec)
        return counted[spec.id]

    vars(module)["parts_of_components"] = once
    return module


def test_the_document_is_current(tool):
    written = (ROOT / "docs" / "models.md").read_text("utf-8")
    assert written == tool.document(), "run: make models-table"


@pytest.mark.parametrize("spec", [spec for spec in find_specs().values() if spec.sources], ids=lambda spec: spec.id)
def test_figures_said_without_files_agree_with_the_networks(tool, spec):
    parts = tool.parts_of_components(spec)
    assert spec.memory["weights_gb"] == pytest.approx(sum(part.weights for part in parts) / GB, rel=0.05)
    sizes = gpu_gigabytes(spec, parts)
    assert sizes is not None
    assert spec.memory.get("least_gb", sizes[0]) == pytest.approx(sizes[1], rel=0.1)
