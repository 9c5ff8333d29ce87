"""Where the add-on writes: its own folder, and the folder of results. Never anywhere else."""

from __future__ import annotations

import os
import re
import sys
import uuid
from pathlib import Path
from typing import Protocol

import bpy

ADDON = __name__.rsplit(".", 2)[0]
"""The extension's package, ``bl_ext.<repository>.maquette``."""

_ids: dict[str, str] = {}
"""Ids given in this file, by the scene's name."""

RESULTS_BESIDE_BLEND = "maquette"
"""Folder beside a saved .blend file that takes its results."""


class Preferences(Protocol):
    """What the animator has set in the add-on's preferences."""

    mode: str
    address: str
    token: str
    results_folder: str
    local_python: str


def preferences() -> Preferences:
    """The add-on's preferences."""
    return bpy.context.preferences.addons[ADDON].preferences


def user_folder(*parts: str) -> Path:
    """A folder of the add-on's own, made if missing; it survives updates of the extension.

    Raises:
        OSError: it cannot be made.
    """
    folder = Path(bpy.utils.extension_path_user(ADDON, path="", create=True)).joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def client_id() -> str:
    """Who this installation is to a backend: a UUID made once, so that its jobs stay its own."""
    path = user_folder() / "client_id"
    try:
        return str(uuid.UUID(path.read_text("ascii").strip()))
    except (OSError, ValueError):
        made = str(uuid.uuid4())
        path.write_text(made, "ascii")
        return made


def results_folder() -> Path:
    """Where finished videos of the open file go.

    The folder chosen in the preferences; else ``maquette`` beside the .blend file; else, while the file has not
    been saved, one among the user's videos. Never the add-on's own, which goes when the add-on is uninstalled.

    Raises:
        OSError: it cannot be made.
    """
    folder = result_folders()[0]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"The results folder {folder} cannot be made ({error.strerror}): choose another in the add-on's preferences"
        ) from error
    return folder


def result_folders() -> list[Path]:
    """Every folder that may hold results of the open file, the one in use first. They need not exist."""
    chosen = preferences().results_folder.strip()
    folders = []
    # A folder relative to an unsaved file means nothing yet.
    if chosen and (bpy.data.filepath or not chosen.startswith("//")):
        folders.append(Path(bpy.path.abspath(chosen)))
    if bpy.data.filepath:
        folders.append(Path(bpy.data.filepath).parent / RESULTS_BESIDE_BLEND)
    folders += homeless_folders()
    return list(dict.fromkeys(folders))


def results_folder_at(blend: Path) -> Path:
    """Where finished videos of the open file go once it is saved as ``blend``."""
    chosen = preferences().results_folder.strip()
    if chosen.startswith("//"):
        return blend.parent / chosen[2:]
    return Path(chosen) if chosen else blend.parent / RESULTS_BESIDE_BLEND


def homeless_folders() -> list[Path]:
    """Folders of videos whose file had no place when they arrived; the second is where older versions kept them."""
    return [videos_folder(), user_folder("results")]


def videos_folder() -> Path:
    """The add-on's folder among the user's videos, or in the user's home where there are none. It need not exist."""
    home = Path.home()
    videos = home / ("Movies" if sys.platform == "darwin" else "Videos")
    if sys.platform.startswith("linux"):
        try:
            said = (home / ".config" / "user-dirs.dirs").read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            said = ""
        if found := re.search(r'^\s*XDG_VIDEOS_DIR="(.+)"', said, re.MULTILINE):
            videos = Path(found[1].replace("$HOME", str(home)))
    return videos / "Maquette" if videos.is_dir() and videos != home else home / "Maquette Videos"


def portable(path: str | os.PathLike[str]) -> str:
    """``path`` relative to the .blend file when it lies at or below its folder, so that both can move together."""
    path = Path(path)
    if bpy.data.filepath and path.is_relative_to(Path(bpy.data.filepath).parent):
        return bpy.path.relpath(str(path))
    return str(path)


def absolute(path: str) -> Path:
    """The file that a path means as the .blend file keeps it."""
    return Path(bpy.path.abspath(path)).resolve()


def scene_id(scene: bpy.types.Scene) -> str:
    """The scene's lasting id. A scene that shares its id with an earlier copy gets one of its own."""
    own = scene.maquette.uid
    shared = own and any(other != scene and other.maquette.uid == own for other in bpy.data.scenes)
    if not own or shared:
        own = scene.maquette.uid = uuid.uuid4().hex
    _ids[scene.name] = own
    return own


def keep_ids() -> None:
    """Give scenes their ids back that an undo has taken: a job may be under way for them."""
    taken = {scene.maquette.uid for scene in bpy.data.scenes}
    for scene in bpy.data.scenes:
        own = _ids.get(scene.name, "")
        if own and not scene.maquette.uid and own not in taken:
            scene.maquette.uid = own


def forget_ids() -> None:
    """Another file: its scenes have ids of their own."""
    _ids.clear()


def scene_of(uid: str) -> bpy.types.Scene | None:
    """The scene of that id in the open file."""
    return next((scene for scene in bpy.data.scenes if uid and scene.maquette.uid == uid), None)


def stem(scene: bpy.types.Scene) -> str:
    """A file name for what the scene makes: that of the .blend file, or of the scene while it is unsaved."""
    name = Path(bpy.data.filepath).stem if bpy.data.filepath else scene.name
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "shot"
