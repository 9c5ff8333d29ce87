"""Tiny MTVCrafters with weights, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from maquette.backend.catalogue.models import ModelSpec

from .builders import TINY_7B, TINY_17B, tiny_spec, write_weights


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of descriptions with weights beside them."""
    folder = tmp_path_factory.mktemp("tiny_mtvcrafter")
    for text in (TINY_7B, TINY_17B):
        write_weights(tiny_spec(folder, text))
    return folder


@pytest.fixture(scope="session")
def tiny_7b(tiny_models: Path) -> ModelSpec:
    return tiny_spec(tiny_models, TINY_7B)


@pytest.fixture(scope="session")
def tiny_17b(tiny_models: Path) -> ModelSpec:
    return tiny_spec(tiny_models, TINY_17B)
