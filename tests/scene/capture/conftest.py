"""What most captures of the tests begin with."""

from __future__ import annotations

import pytest

from ..builders import add_camera, add_performer, module, small_scene


@pytest.fixture
def capture(addon):
    return module(addon, "scene.capture.shot")


@pytest.fixture
def error(addon):
    return module(addon, "backend.shot").ShotError


@pytest.fixture
def dancer(addon):
    small_scene()
    mesh = add_performer()
    mesh.maquette.reference_source = "NONE"
    add_camera()
    return mesh


@pytest.fixture
def scene(addon):
    scene = small_scene(frames=3)
    add_performer(frames=(1, 3)).maquette.reference_source = "NONE"
    add_camera((0, -6, 1))
    return scene
