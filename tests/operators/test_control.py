"""Export Control Film as the animator calls it, with a stand-in for the backend's Python."""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import bpy
import pytest

from ..scene.builders import add_box, add_camera, add_performer, small_scene

_PYTHON = """#!{python}
import json, shutil, sys, time
from pathlib import Path
arguments = sys.argv[1:]
Path({record!r}).write_text(json.dumps(arguments))
shutil.copy(arguments[3], {shot!r})
print("progress 0.5000 Drawing", flush=True)
exec({body!r})
"""


class Stand:
    """The scene, and what the backend's Python was asked."""

    def __init__(self, addon: Any, folder: Path) -> None:
        self.folder = folder
        self.module = lambda name: importlib.import_module(f"{addon.__name__}.{name}")
        self.control = self.module("scene.job.control")
        self.preferences = bpy.context.preferences.addons[addon.__name__].preferences
        small_scene(frames=3)
        mesh = add_performer(frames=(1, 3))
        mesh.maquette.reference_source = "RENDER"
        bpy.context.scene.maquette.background = "SCENE"
        add_camera()
        add_box("Wall", 1.0, (1.0, 2.0, 0.5))

    def backend(self, body: str = "print('Note: told')") -> None:
        """Install a Python that does this once it was asked."""
        path = self.folder / "python"
        record, shot = str(self.folder / "asked.json"), str(self.folder / "asked.shot")
        path.write_text(_PYTHON.format(python=sys.executable, record=record, shot=shot, body=body))
        path.chmod(0o755)
        self.preferences.local_python = str(path)

    @property
    def asked(self) -> list[str]:
        return json.loads((self.folder / "asked.json").read_text())

    @property
    def shot(self) -> Any:
        return self.module("backend.shot").load_shot(self.folder / "asked.shot")

    def until_done(self) -> tuple[str, str]:
        end = time.monotonic() + 60
        while self.control.beside.busy() and time.monotonic() < end:
            self.control.beside.poll()
            time.sleep(0.02)
        return self.control.beside.outcome()


@pytest.fixture
def stand(addon, tmp_path):
    made = Stand(addon, tmp_path)
    yield made
    made.control.beside.close()
    made.preferences.local_python = ""


def test_one_film_is_a_file_and_needs_no_rendering(stand):
    stand.backend()
    path = stand.folder / "depth"
    assert bpy.ops.maquette.export_control_film(filepath=str(path), kinds={"depth"}, wait=True) == {"FINISHED"}
    assert stand.asked[:3] == ["-m", "maquette.backend.cli", "control"]
    given = " ".join(stand.asked[4:])
    assert f"--kind depth --output {path}.mp4 --format mp4 --multiple 2 --depth disparity" in given
    assert "--size" not in given and "--fps" not in given
    shot = stand.shot
    assert {m.name for m in shot.meshes} == {"Dancer", "Wall"} and shot.background.kind == "none"
    assert shot.clay is None and shot.characters[0].reference is None
    assert not list((stand.module("scene.folders").user_folder("control")).glob("*.shot")), "the shot is taken away"
    assert len(bpy.data.scenes) == 1


def test_several_films_go_into_a_folder_with_what_they_need(stand):
    stand.backend()
    path = stand.folder / "films.mp4"
    result = bpy.ops.maquette.export_control_film(
        filepath=str(path), kinds={"clay", "masks"}, format="png", width=832, fps=16.0, invert=True, wait=True
    )
    given = " ".join(stand.asked[4:])
    assert result == {"FINISHED"} and "--kind clay --kind masks" in given
    assert f"--output {stand.folder / 'films'} --format png" in given and "--size 832x555 --fps 16" in given
    assert "--invert" in given
    shot = stand.shot
    assert shot.clay is not None and shot.background.kind != "none" and shot.characters[0].reference is not None


def test_the_window_does_not_wait_and_can_cancel(stand):
    stand.backend("time.sleep(60)")
    assert bpy.ops.maquette.export_control_film(filepath=str(stand.folder / "f"), kinds={"depth"}) == {"FINISHED"}
    assert stand.control.beside.busy() and not bpy.ops.maquette.export_control_film.poll()
    end = time.monotonic() + 60
    while stand.control.beside.report.label != "Drawing" and time.monotonic() < end:
        stand.control.beside.poll()
    assert stand.control.beside.report.share == 0.5
    assert bpy.ops.maquette.cancel_control_film() == {"FINISHED"}
    assert stand.until_done() == ("WARNING", "Control films cancelled; what was finished stays")


def test_what_the_backend_says_is_reported(stand):
    stand.backend("print('maquette: depth: too near', file=sys.stderr); sys.exit(2)")
    with pytest.raises(RuntimeError, match="depth: too near"):
        bpy.ops.maquette.export_control_film(filepath=str(stand.folder / "f"), kinds={"depth"}, wait=True)
    stand.backend()
    bpy.ops.maquette.export_control_film(filepath=str(stand.folder / "f"), kinds={"depth"})
    assert stand.until_done() == ("INFO", "Control films written to f.mp4. told")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kinds": {"masks"}, "format": "exr"}, "Masks: pictures, not quantities"),
        ({"kinds": set()}, "No film is chosen"),
        ({"kinds": {"depth"}, "filepath": "/nowhere/at/all/f"}, "no such folder"),
    ],
)
def test_what_cannot_be_exported(stand, changes, words):
    stand.backend()
    with pytest.raises(RuntimeError, match=words):
        bpy.ops.maquette.export_control_film(**{"filepath": str(stand.folder / "f"), **changes})
    assert not (stand.folder / "asked.json").exists()


def test_without_a_backend_on_this_computer(stand):
    stand.preferences.local_python = str(stand.folder / "none")
    with pytest.raises(RuntimeError, match="none is installed.*maquette control"):
        bpy.ops.maquette.export_control_film(filepath=str(stand.folder / "f"), kinds={"depth"})


def test_is_in_the_export_menu(addon):
    functions = bpy.types.TOPBAR_MT_file_export._dyn_ui_initialize()
    assert sum(f.__module__.endswith("operators.control") for f in functions) == 1


def test_a_matte_of_the_chosen_video(stand):
    scene = bpy.context.scene
    with pytest.raises(RuntimeError, match="poll"):
        bpy.ops.maquette.export_matte(filepath=str(stand.folder / "m"))
    item = scene.maquette.results.add()
    item.filepath, item.frame_start, item.frame_count, item.frame_step = str(stand.folder / "f.mp4"), 1, 2, 2
    with pytest.raises(RuntimeError, match="is not there any more"):
        stand.backend()
        bpy.ops.maquette.export_matte(filepath=str(stand.folder / "m"))
    (stand.folder / "f.mp4").write_bytes(b"film")
    assert bpy.ops.maquette.export_matte(filepath=str(stand.folder / "m"), wait=True) == {"FINISHED"}
    assert stand.asked[2] == "matte" and stand.control.beside.outcome()[1].startswith("Matte written to m.mov")
    assert stand.asked[4:7] == [str(stand.folder / "f.mp4"), "--output", str(stand.folder / "m.mov")]
    assert stand.shot.clip.frames == 2 and stand.shot.characters[0].reference is None
    assert (scene.frame_start, scene.frame_end, scene.frame_step) == (1, 3, 1)
    bpy.ops.maquette.export_matte(filepath=str(stand.folder / "m"), format="png", wait=True)
    assert stand.asked[6] == str(stand.folder / "m")
