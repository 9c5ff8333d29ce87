"""The file's shots as a render farm is to make them."""

from __future__ import annotations

from pathlib import Path

import bpy

from ...backend.farm.bundle import write_bundle
from ...backend.farm.job import CHUNK, Capture, Film, Job, Source, distinct, make_films
from ...backend.shot import ShotError
from ..camera.timeline import camera_spans, shot_frames
from . import model_checks, shots


def performers(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    """Who performs in the scene."""
    return [obj for obj in scene.objects if obj.type == "MESH" and obj.maquette.is_character]


def shots_of_file() -> list[tuple[bpy.types.Scene, int, int]]:
    """Every shot of the file: its scene, first and last frame. Markers' cameras cut a scene into several.

    Scenes without a character or a camera make none.
    """
    found = []
    for scene in bpy.data.scenes:
        if performers(scene):
            found += [(scene, first, last) for first, last in _cuts(scene)]
    return found


def parts(scene: bpy.types.Scene) -> list[range | None]:
    """Frames of each shot of a scene (see ``shots_of_file``); None where it is one, or where its capture will say what
    is wrong with its range."""
    try:
        cuts = _cuts(scene)
    except ShotError:
        cuts = []
    return [range(first, last + 1, scene.frame_step) for first, last in cuts] if len(cuts) > 1 else [None]


def submit(flavour: str, folder: Path, gpus: int = 1, chunk: int = CHUNK) -> tuple[int, str]:
    """Write the bundle of all shots of the file.

    Args:
        gpus, chunk: see ``Job`` and ``make_films``.

    Returns:
        The number of films, and how they are shared out and the bundle is given to the farm.

    Raises:
        FarmError, BackendProblem, ShotError: see ``write_bundle``, ``recipients`` and ``shot_frames``.
        OSError: it cannot be written.
    """
    found = shots_of_file()
    parts = [sum(one[0] == scene for one in found) > 1 for scene, _, _ in found]
    names = distinct(
        f"{scene.name}-{first}-{last}" if cut else scene.name
        for (scene, first, last), cut in zip(found, parts, strict=True)
    )
    captures = tuple(
        Capture(name, scene.name, first, last) for name, (scene, first, last) in zip(names, found, strict=True)
    )
    films: list[Film] = []
    for name, (scene, first, last) in zip(names, found, strict=True):
        models = [model.id for model in shots.recipients(scene).able] if len(model_checks.makers(scene)) > 1 else []
        seeds = shots.seeds(scene) if scene.maquette.seeds > 1 else ()
        source = Source(name, len(range(first, last + 1, scene.frame_step)), scene.maquette.quality)
        films += make_films([source], models, seeds, chunk=chunk)
    blend = Path(bpy.data.filepath)
    job = Job(name=f"Maquette {blend.stem}", captures=captures, films=tuple(films), blend=blend, gpus=gpus)
    return len(films), write_bundle(flavour, folder, job)


def _cuts(scene: bpy.types.Scene) -> list[tuple[int, int]]:
    """First and last frame of each part that one camera sees.

    Raises:
        ShotError: the scene's range is empty, or has too many frames.
    """
    try:
        frames = shot_frames(scene)
    except ShotError as error:
        told = str(error).removeprefix(f"{error.field}: ")
        raise ShotError(error.field, f"{told} (scene {scene.name})") from error
    start, end = frames[0], frames[-1]
    spans = camera_spans(scene, start, end)
    seen = sorted((frame, camera.name) for camera, each in spans.items() for frame, active in each if active)
    starts = [frame for number, (frame, camera) in enumerate(seen) if not number or seen[number - 1][1] != camera]
    return list(zip(starts, [*(frame - 1 for frame in starts[1:]), end], strict=True)) if starts else []
