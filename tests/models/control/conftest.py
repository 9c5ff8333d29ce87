"""Tiny models with weights, made once."""

from __future__ import annotations

import pytest
from maquette.backend.catalogue.models import ModelSpec

from .builders import tiny_spec, write_weights


@pytest.fixture(scope="session")
def tiny_vace(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    spec = tiny_spec(tmp_path_factory.mktemp("tiny_vace"))
    write_weights(spec)
    return spec


@pytest.fixture(scope="session")
def tiny_animate(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    spec = tiny_spec(tmp_path_factory.mktemp("tiny_animate"), "wan-animate-14b")
    write_weights(spec)
    return spec


@pytest.fixture(scope="session")
def tiny_ltx(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    spec = tiny_spec(tmp_path_factory.mktemp("tiny_ltx"), "ltx-2.3")
    write_weights(spec)
    return spec
