"""Finished videos: what is known of each lies beside it on disk, and the scene's list is filled from there.

A video that arrives while its file is closed, or whose entry is undone, therefore comes back by itself the next
time the file is looked at.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import bpy

from ...backend.shot import ShotError
from .. import folders
from ..screen import switch
from ..screen.grid import show_side_by_side
from ..screen.previews import give_way
from ..screen.show import load_result
from . import models, shelf
from . import options as own_options
from .view import tell


@dataclass(frozen=True)
class Record:
    """What is known of one video.

    Attributes:
        scene: id of the scene it belongs to (``folders.scene_id``).
        scene_name, blend: for people; where it was made.
        job: the backend's id.
        frame_start, frame_step: scene frame of the video's first frame, and scene frames from one to the next.
        frame_count, fps: of the shot that was sent.
        camera: name of the camera object.
        model, model_label, seed: what made it: the model's id, its name as people know it, the seed.
        comparison: shared by the videos that several models made from one captured shot; empty for others.
        created: when it arrived, as ``2026-01-31 12:00``.
        notes: what the capture and the backend had to say.
        listed: whether it belongs into the list of results.
        take: counts the scene's presses of Generate from 1; 0 when it is not known.
        starred: whether the animator has marked it.
        settings: what was set when it was asked for, by the names of the scene's properties; see ``REUSED``.
    """

    scene: str
    scene_name: str = ""
    blend: str = ""
    job: str = ""
    frame_start: int = 1
    frame_step: int = 1
    frame_count: int = 0
    fps: float = 24.0
    camera: str = ""
    model: str = ""
    model_label: str = ""
    comparison: str = ""
    seed: int = 0
    created: str = ""
    notes: tuple[str, ...] = ()
    listed: bool = True
    take: int = 0
    starred: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


REUSED = (
    "prompt", "model", "quality", "seed", "steps", "guidance", "background", "background_path", "render_engine",
    "upscale",
)  # fmt: skip
"""The scene's settings that a video remembers, so that it can be made again or gone on from."""


def describe(scene: bpy.types.Scene, part: range | None = None) -> Record:
    """What a video of the scene as it stands will be, or of part of its frames."""
    shot = scene.maquette
    frames = range(scene.frame_start, scene.frame_end + 1, scene.frame_step) if part is None else part
    return Record(
        scene=folders.scene_id(scene),
        scene_name=scene.name,
        blend=bpy.data.filepath,
        frame_start=frames.start,
        frame_step=scene.frame_step,
        frame_count=len(frames),
        fps=scene.render.fps / scene.render.fps_base / scene.frame_step,
        camera=scene.camera.name if scene.camera else "",
        model=shot.model,
        model_label=models.find(shot.model).label,
        seed=shot.seed,
        take=1 + max((item.take for item in shot.results), default=0),
        settings={name: getattr(shot, name) for name in REUSED}
        | {"options": [(each.model, each.option, each.stored) for each in shot.options if each.stored]},
    )


def film_name(stem: str, record: Record | None, model: str = "") -> str:
    """What a video's file is called: the scene, the take, the model where there are several, and the time."""
    take = f"take{record.take:02d}" if record is not None and record.take else ""
    return "_".join(filter(None, (stem, take, model, datetime.now().strftime("%Y-%m-%d_%H-%M"))))


def now() -> str:
    """This moment as a record has it."""
    return datetime.now().strftime("%Y-%m-%d %H:%M")


def store(video: str | Path, record: Record) -> None:
    """Write down beside the video what is known of it.

    Raises:
        OSError: the file cannot be written.
    """
    path = _sidecar(Path(video))
    temporary = path.with_suffix(".json.new")
    temporary.write_text(json.dumps(asdict(record), indent=1), "utf-8")
    temporary.replace(path)


def read(video: str | Path) -> Record | None:
    """What is known of a video; None when nothing is."""
    try:
        return from_json(json.loads(_sidecar(Path(video)).read_text("utf-8")))
    except (OSError, ValueError):
        return None


def from_json(data: Any) -> Record | None:
    """A record as JSON has it, None when it is none; entries of later versions are passed over."""
    plain = Record(scene="")
    if not isinstance(data, dict) or not isinstance(data.get("scene"), str):
        return None
    try:
        known = {f.name: type(getattr(plain, f.name))(data[f.name]) for f in fields(Record) if f.name in data}
    except (TypeError, ValueError):
        return None
    return replace(plain, **known)


def add_to_list(scene: bpy.types.Scene, video: str | Path, record: Record) -> int:
    """Put the video on the scene's list, or find it there; returns its index and makes it the active one."""
    shot = scene.maquette
    path = Path(video)
    index = _index(scene, path)
    if index < 0:
        item = shot.results.add()
        item.name = f"Take {record.take}" if record.take else path.stem
        item.take = record.take
        item.filepath = folders.portable(path)
        item.job, item.model, item.seed = record.job, record.model, record.seed
        item.frame_start, item.frame_step, item.frame_count = record.frame_start, record.frame_step, record.frame_count
        item.fps, item.created = record.fps, record.created
        item.model_label, item.comparison = record.model_label, record.comparison
        item.starred = record.starred
        camera = bpy.data.objects.get(record.camera)
        item.camera = camera if camera is not None and camera.type == "CAMERA" else None
        index = len(shot.results) - 1
    with switch.standing_still():
        shot.active_result = index
    return index


def put_away(video: Path, record: Record, load: bool) -> tuple[str, tuple[str, ...]]:
    """Keep a video that has arrived: beside its file what is known of it, on its scene's list, and in the scene.

    Args:
        load: whether to show it in the scene, in the ways that the scene asks for.

    Returns:
        What to tell the animator, and what else they may want to know.

    Raises:
        ShotError: it is kept and listed, but cannot be shown.
    """
    try:
        store(video, record)
    except OSError as error:
        print(f"Maquette: what is known of {video} could not be written beside it: {error}")
    scene = folders.scene_of(record.scene)
    if scene is not None and bpy.data.filepath:
        # The file may have been given its place while the job was under way.
        video = shelf.moved(video, folders.results_folder_at(Path(bpy.data.filepath)))
    if scene is None:
        where = f"{record.scene_name} in {Path(record.blend).name}" if record.blend else record.scene_name
        return f"The video for {where or 'another file'} is ready: it will be in the results list there ({video})", ()
    item = scene.maquette.results[add_to_list(scene, video, record)]
    if not load or scene.maquette.show_as == "OFF":
        return f"{video.name} is in the results list", ()
    give_way(record.scene)
    return f"{video.name} is loaded", tuple(_show(scene, item))


def show_together(uid: str, videos: list[Path]) -> list[str]:
    """Show videos that several models made of one shot, in the ways that the scene asks for, as one undo step.

    Args:
        uid: of the scene they belong to; where it is not open, nothing is done.

    Returns:
        Sentences for the animator.

    Raises:
        ShotError: they cannot be loaded.
    """
    scene = folders.scene_of(uid)
    if scene is None or scene.maquette.show_as == "OFF":
        return []
    items = [scene.maquette.results[index] for path in videos if (index := _index(scene, path)) >= 0]
    way = scene.maquette.show_as
    if len(items) == 1 or way not in ("PLANE", "STRIP"):
        return _show(scene, items[0]) if items else []
    with _in_scene(scene):
        notes = show_side_by_side(scene, items, way)
        if not bpy.app.background:
            bpy.ops.ed.undo_push(message="Show Videos Side by Side")
    return notes


def follow_switch(scene: bpy.types.Scene) -> None:
    """The switch of how results are shown has been turned, or another result chosen: show it, or say why not."""
    try:
        for notice in switch.follow(scene):
            tell("WARNING", notice)
    except ShotError as error:
        tell("ERROR", str(error))


def keep_star(item: bpy.types.PropertyGroup) -> None:
    """Write down beside the video whether it is starred."""
    path = folders.absolute(item.filepath)
    record = read(path)
    if record is None or record.starred == item.starred:
        return
    try:
        store(path, replace(record, starred=item.starred))
    except OSError as error:
        tell("WARNING", f"The star cannot be written down beside {path.name}: {error.strerror}")


def reuse(scene: bpy.types.Scene, index: int) -> None:
    """Set the scene as it was set when a video was asked for.

    Raises:
        ShotError: nothing is known about that, or a setting cannot be set any more; says which.
    """
    shot, item = scene.maquette, scene.maquette.results[index]
    record = read(folders.absolute(item.filepath))
    known = record.settings if record is not None else {}
    if not known:
        raise ShotError("result", f"how '{item.name}' was made is not written down beside its file")
    left = []
    for name in REUSED:
        if name in known:
            try:
                setattr(shot, name, known[name])
            except (TypeError, ValueError):
                left.append(shot.bl_rna.properties[name].name)
    own_options.ensure(scene, shot.model)
    for model, option, stored in known.get("options", ()):
        for each in shot.options:
            if (each.model, each.option) == (model, option):
                each.stored = stored
    if left:
        raise ShotError("result", f"this version knows no such {' or '.join(left)}; the rest is set as it was")


def take_off_list(scene: bpy.types.Scene, index: int) -> Path:
    """Take a video off the list, for good; its file stays. Returns the file's path.

    Raises:
        OSError: this cannot be written down; the list is as it was.
    """
    shot = scene.maquette
    path = Path(bpy.path.abspath(shot.results[index].filepath))
    record = read(path)
    if record is not None:
        store(path, replace(record, listed=False))
    shot.results.remove(index)
    with switch.standing_still():
        shot.active_result = max(0, min(shot.active_result, len(shot.results) - 1))
    return path


def sync() -> int:
    """Put videos that are on disk but not on their scene's list there; returns how many."""
    scenes = {scene.maquette.uid: scene for scene in bpy.data.scenes if scene.maquette.uid}
    if not scenes:
        return 0
    shelf.find_moved(folders.result_folders())
    known = {uid: {folders.absolute(item.filepath) for item in scene.maquette.results} for uid, scene in scenes.items()}
    found: list[tuple[str, Path, Record]] = []
    for folder in folders.result_folders():
        for sidecar in folder.glob("*.json") if folder.is_dir() else ():
            video = sidecar.with_suffix(".mp4")
            record = read(video)
            if record is None or not record.listed or record.scene not in scenes or not video.is_file():
                continue
            if folders.absolute(str(video)) not in known[record.scene]:
                found.append((record.created, video, record))
    for _, video, record in sorted(found, key=lambda entry: entry[:2]):
        add_to_list(scenes[record.scene], video, record)
    return len(found)


def _sidecar(video: Path) -> Path:
    return video.with_suffix(".json")


def _index(scene: bpy.types.Scene, path: Path) -> int:
    """Where a video stands on the scene's list, or -1."""
    files = [folders.absolute(item.filepath) for item in scene.maquette.results]
    return files.index(path.resolve()) if path.resolve() in files else -1


def _in_scene(scene: bpy.types.Scene) -> contextlib.AbstractContextManager[None]:
    """A context in which ``scene`` is the current one, whichever the window shows."""
    windows = bpy.context.window_manager.windows
    window = next((window for window in windows if window.scene == scene), windows[0] if windows else None)
    layer = window.view_layer if window is not None and window.scene == scene else scene.view_layers[0]
    given = {"window": window} if window is not None else {}
    return bpy.context.temp_override(**given, scene=scene, view_layer=layer)


def _show(scene: bpy.types.Scene, item: bpy.types.PropertyGroup) -> list[str]:
    """Load a result in the ways the scene asks for, as one undo step; returns what the animator may want to know.

    Raises:
        ShotError: it cannot be loaded.
    """
    with _in_scene(scene):
        notes = load_result(scene, item, scene.maquette.show_as, placement=scene.maquette.plane_place)
        if not bpy.app.background:
            bpy.ops.ed.undo_push(message="Load Generated Video")
    return notes
