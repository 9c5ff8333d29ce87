"""Where films lie: they move beside their .blend file when it gets a place, and everything that plays them follows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import bpy

from .. import folders
from ..screen.overlay import overlay
from ..screen.views import strips_of

_BESIDE = (".json",)
"""Endings of the files that lie beside a film and go where it goes."""


def moved(film: Path, folder: Path) -> Path:
    """Move a film that has no home into ``folder``, with what lies beside it; returns where it is then.

    A film that lies anywhere else, or that cannot be moved, stays where it is.
    """
    if film.parent.resolve() not in {home.resolve() for home in folders.homeless_folders()} - {folder.resolve()}:
        return film
    target, number = folder / film.name, 1
    while target.exists():
        number += 1
        target = folder / f"{film.stem}_{number}{film.suffix}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.move(film, target)
        for ending in _BESIDE:
            if film.with_suffix(ending).is_file():
                shutil.move(film.with_suffix(ending), target.with_suffix(ending))
    except OSError as error:
        print(f"Maquette: {film} cannot be moved to {folder}: {error}")
        return target if target.exists() and not film.exists() else film
    return target


def settle(blend: Path) -> int:
    """Move the open file's films beside it, as it is about to be saved as ``blend``; returns how many."""
    folder, count = folders.results_folder_at(blend), 0
    for scene in bpy.data.scenes:
        for item in scene.maquette.results if scene.library is None else ():
            film = folders.absolute(item.filepath)
            if film.is_file() and (now := moved(film, folder)) != film:
                _follow(film, now, blend)
                count += 1
    return count


def find_moved(places: Iterable[Path]) -> int:
    """Let entries of lists whose film is gone, and all that plays it, point to where it is now; returns how many."""
    places, count = list(places), 0
    for scene in bpy.data.scenes:
        for item in scene.maquette.results if scene.library is None else ():
            film = folders.absolute(item.filepath)
            if film.is_file():
                continue
            found = next((place / film.name for place in places if (place / film.name).is_file()), None)
            if found is not None:
                _follow(film, found, Path(bpy.data.filepath) if bpy.data.filepath else None)
                count += 1
    return count


def leave_extension() -> int:
    """Bring films that older versions kept in the add-on's own folder to the user's videos: uninstalling deletes it.

    Returns:
        How many; their files find them again, see ``find_moved``.
    """
    old, films = folders.user_folder("results"), 0
    for film in sorted(old.glob("*.mp4")):
        films += moved(film, folders.videos_folder()) != film
    return films


def _follow(old: Path, new: Path, blend: Path | None) -> None:
    """Point everything in the file that plays ``old`` to ``new``, relative to ``blend`` where that is below it."""
    stored = str(new)
    if blend is not None and new.is_relative_to(blend.parent):
        stored = "//" + os.path.relpath(new, blend.parent).replace(os.sep, "/")
    # While the file has no place, only its saving makes paths relative; those of the list Blender does not know.
    plain = stored if bpy.data.filepath else str(new)
    for owner in _players():
        if folders.absolute(owner.filepath) == old:
            owner.filepath = plain
    for scene in bpy.data.scenes:
        for item in scene.maquette.results if scene.library is None else ():
            if folders.absolute(item.filepath) == old:
                item.filepath = stored
    overlay.forget()


def unsettle(blend: Path) -> None:
    """A copy was saved as ``blend`` and the open file has no place yet: paths in its lists are made whole again."""
    for scene in bpy.data.scenes:
        for item in scene.maquette.results if scene.library is None else ():
            if item.filepath.startswith("//"):
                item.filepath = str(blend.parent / item.filepath[2:])


def _players() -> Iterator[Any]:
    """Images and strips that play films."""
    yield from (image for image in bpy.data.images if image.source == "MOVIE" and image.library is None)
    for scene in bpy.data.scenes:
        if scene.sequence_editor is not None:
            yield from (strip for strip in strips_of(scene.sequence_editor) if strip.type == "MOVIE")
