"""Export Shot as the animator calls it."""

from __future__ import annotations

import importlib

import bpy
import pytest

from ..scene.builders import add_camera, add_performer, small_scene


@pytest.fixture
def shots(addon):
    small_scene(frames=3)
    mesh = add_performer(frames=(1, 3))
    mesh.maquette.reference_source = "NONE"
    add_camera()
    return importlib.import_module(addon.__name__ + ".backend.shot")


def test_writes_a_shot_that_loads(shots, tmp_path):
    path = tmp_path / "dance.shot"
    assert bpy.ops.maquette.export_shot(filepath=str(path)) == {"FINISHED"}
    shot = shots.load_shot(path)
    assert shot.clip.frames == 3 and [c.name for c in shot.characters] == ["Dancer"]
    assert list(tmp_path.iterdir()) == [path]


def test_the_models_own_options_go_along(addon, shots, tmp_path):
    scene = bpy.context.scene
    option = {"type": "float", "default": 0.5, "min": 0, "max": 1}
    backends = importlib.import_module(addon.__name__ + ".scene.job.backends")
    backends.show_models([{"id": "m", "available": True, "options": {"strength": option, "other": option}}])
    bpy.ops.maquette.choose_model(model="m")
    scene.maquette.options[0].as_float = 0.75
    bpy.ops.maquette.export_shot(filepath=str(tmp_path / "dance.shot"))
    settings = shots.load_shot(tmp_path / "dance.shot").settings
    assert settings.model == "m" and dict(settings.options) == {"strength": 0.75}


def test_says_what_is_missing_and_writes_nothing(shots, tmp_path):
    bpy.context.scene.camera = None
    with pytest.raises(RuntimeError, match="camera: the scene has none; add a camera"):
        bpy.ops.maquette.export_shot(filepath=str(tmp_path / "no.shot"))
    assert not list(tmp_path.iterdir())


def test_says_where_it_cannot_write(shots, tmp_path):
    with pytest.raises(RuntimeError, match="cannot be written"):
        bpy.ops.maquette.export_shot(filepath=str(tmp_path / "missing" / "no.shot"))
    assert len(bpy.data.scenes) == 1


def test_is_in_the_export_menu(addon):
    functions = [
        f for f in bpy.types.TOPBAR_MT_file_export._dyn_ui_initialize() if f.__module__.endswith("operators.shot")
    ]
    assert len(functions) == 1
