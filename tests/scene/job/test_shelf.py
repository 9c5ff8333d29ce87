"""Where films lie: beside their file once it has a place, and found again wherever they have gone."""

from __future__ import annotations

import json
from pathlib import Path

import bpy
import numpy as np
import pytest

from ..builders import add_camera, module, small_scene, write_film


@pytest.fixture
def home(addon, tmp_path, monkeypatch):
    """A user's home with a folder of videos, and no results folder chosen."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    (tmp_path / "home" / "Videos").mkdir(parents=True)
    preferences = bpy.context.preferences.addons[addon.__name__].preferences
    before, preferences.results_folder = preferences.results_folder, ""
    yield tmp_path / "home"
    preferences.results_folder = before


@pytest.fixture
def scene(home):
    scene = small_scene(frames=3)
    add_camera()
    return scene


def arrive(addon, scene, folder, name="take", **known):
    """A film of the scene's that lies in a folder, listed as one that has just arrived."""
    library = module(addon, "scene.job.library")
    folder.mkdir(parents=True, exist_ok=True)
    film = write_film(folder / f"{name}.mp4", np.full((3, 3), 128))
    record = library.Record(
        scene=module(addon, "scene.folders").scene_id(scene), job=f"vid_{name}", frame_count=3, **known
    )
    library.put_away(film, record, load=True)
    return scene.maquette.results[scene.maquette.active_result]


def test_an_unsaved_files_films_go_to_the_users_videos(addon, scene, home):
    folders = module(addon, "scene.folders")
    assert folders.results_folder() == home / "Videos" / "Maquette"
    (home / "Videos" / "Maquette").rmdir()
    (home / "Videos").rmdir()
    assert folders.results_folder() == home / "Maquette Videos"
    (home / ".config").mkdir()
    (home / "Filme").mkdir()
    (home / ".config" / "user-dirs.dirs").write_text('XDG_VIDEOS_DIR="$HOME/Filme"\n')
    linux = folders.sys.platform.startswith("linux")
    assert folders.videos_folder() == (home / "Filme" / "Maquette" if linux else home / "Maquette Videos")


@pytest.mark.parametrize("way", ["PLANE", "STRIP", "BACKGROUND", "OVERLAY"])
def test_saving_first_moves_them_beside_the_file(addon, scene, home, tmp_path, way):
    scene.maquette.show_as = way
    arrive(addon, scene, home / "Videos" / "Maquette")
    blend = tmp_path / "work" / "walk.blend"
    blend.parent.mkdir()
    bpy.ops.wm.save_as_mainfile(filepath=str(blend))
    for _ in range(2):
        (item,) = bpy.context.scene.maquette.results
        assert item.filepath == "//maquette/take.mp4"
        film = blend.parent / "maquette" / "take.mp4"
        assert film.is_file() and film.with_suffix(".json").is_file()
        assert not list((home / "Videos" / "Maquette").iterdir())
        for image in bpy.data.images:
            assert image.source != "MOVIE" or Path(bpy.path.abspath(image.filepath)) == film
        editor = bpy.context.scene.sequence_editor
        for strip in module(addon, "scene.screen.views").strips_of(editor) if editor is not None else ():
            assert Path(bpy.path.abspath(strip.filepath)) == film
        # The same holds of what was written to the file, which can move with its films.
        bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
        if not (tmp_path / "moved").exists():
            (tmp_path / "work").rename(tmp_path / "moved")
            blend = tmp_path / "moved" / "walk.blend"
        bpy.ops.wm.open_mainfile(filepath=str(blend))


def test_a_copy_of_an_unsaved_file_loses_none(addon, scene, home, tmp_path):
    arrive(addon, scene, home / "Videos" / "Maquette")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "copy.blend"), copy=True)
    assert Path(scene.maquette.results[0].filepath).is_file()


def test_a_film_that_arrives_after_the_first_save_goes_beside_the_file(addon, scene, home, tmp_path):
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "walk.blend"))
    item = arrive(addon, bpy.context.scene, home / "Videos" / "Maquette")
    assert item.filepath == "//maquette/take.mp4" and (tmp_path / "maquette" / "take.mp4").is_file()


def test_films_of_one_name_are_all_kept(addon, scene, home, tmp_path):
    (tmp_path / "maquette").mkdir()
    (tmp_path / "maquette" / "take.mp4").write_bytes(b"another")
    arrive(addon, scene, home / "Videos" / "Maquette")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "walk.blend"))
    assert bpy.context.scene.maquette.results[0].filepath == "//maquette/take_2.mp4"
    assert (tmp_path / "maquette" / "take.mp4").read_bytes() == b"another"


def test_the_extensions_own_folder_is_emptied(addon, scene, home, tmp_path):
    """Uninstalling would delete it; files that play films from there find them again."""
    folders, shelf = module(addon, "scene.folders"), module(addon, "scene.job.shelf")
    item = arrive(addon, scene, folders.user_folder("results"), name="old")
    assert shelf.leave_extension() == 1
    assert not list(folders.user_folder("results").iterdir())
    module(addon, "scene.job.library").sync()
    assert len(scene.maquette.results) == 1
    assert Path(item.filepath) == home / "Videos" / "Maquette" / "old.mp4"


def test_a_folder_that_cannot_be_made_loses_nothing(addon, scene, home, tmp_path):
    (tmp_path / "maquette").write_text("in the way")
    arrive(addon, scene, home / "Videos" / "Maquette")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "walk.blend"))
    assert Path(bpy.path.abspath(bpy.context.scene.maquette.results[0].filepath)).is_file()


def test_a_film_remembers_how_it_was_made(addon, scene, home):
    library = module(addon, "scene.job.library")
    shot = scene.maquette
    shot.prompt, shot.seed, shot.quality = "A dance", 5, "fine"
    described = library.describe(scene)
    item = arrive(addon, scene, home / "Videos" / "Maquette", take=described.take, settings=described.settings)
    assert item.name == "Take 1" and library.describe(scene).take == 2
    shot.prompt, shot.seed, shot.quality = "Something else", 6, "draft"
    assert bpy.ops.maquette.reuse_settings() == {"FINISHED"}
    assert (shot.prompt, shot.seed, shot.quality) == ("A dance", 5, "fine")
    sidecar = Path(item.filepath).with_suffix(".json")
    data = json.loads(sidecar.read_text("utf-8"))
    data["settings"]["quality"] = "none such"
    sidecar.write_text(json.dumps(data), "utf-8")
    with pytest.raises(RuntimeError, match="Quality"):
        bpy.ops.maquette.reuse_settings()
    sidecar.unlink()
    with pytest.raises(RuntimeError, match="not written down"):
        bpy.ops.maquette.reuse_settings()


def test_a_star_is_kept_with_the_film(addon, scene, home):
    item = arrive(addon, scene, home / "Videos" / "Maquette")
    item.starred = True
    scene.maquette.results.clear()
    module(addon, "scene.job.library").sync()
    assert scene.maquette.results[0].starred


def test_names_say_scene_take_and_model(addon, scene):
    library = module(addon, "scene.job.library")
    name = library.film_name("walk", library.Record(scene="x", take=3), "isa-nano")
    assert name.startswith("walk_take03_isa-nano_20") and library.film_name("walk", None).startswith("walk_20")
