"""Several videos of one shot beside each other, in step: as planes before the camera, or as strips."""

from __future__ import annotations

import math
from collections.abc import Sequence

import bpy

from ...backend.shot import ShotError
from ..camera.timeline import camera_spans
from .colour import colour_notice
from .depth import plane_depths
from .overlay import redraw
from .plane import Cell, add_backdrop, add_label, add_plane, show_between
from .playback import Playback, load_image
from .show import WAYS, playback_of, show_in_sequencer
from .views import add_strip, remove_screens

MOST = 16
"""Videos that can be shown together: more are too small to compare."""

_LABEL = 0.055
"""Height of a label's line over that of the picture."""
_GAP = 0.97
"""Of a cell, what the video fills: the rest is the gap."""


def cells(films: Sequence[float], picture: float) -> list[Cell]:
    """Where each video and its label go, so that all are as large as they can be.

    Args:
        films: width over height of each video as it shows.
        picture: width over height of the camera's picture.

    Returns:
        One cell a video, row by row from the top left.
    """
    count = len(films)
    widest = max(films)

    def height(columns: int) -> float:
        """Of the widest video, over that of the picture."""
        rows = math.ceil(count / columns)
        return min(1 / rows - _LABEL, picture / columns / widest)

    columns = max(range(1, count + 1), key=lambda number: (round(height(number), 6), -number))
    rows = math.ceil(count / columns)
    found = []
    for index, film in enumerate(films):
        row, column = divmod(index, columns)
        # The last row may be short: it stands in the middle.
        across = min(count - row * columns, columns)
        tall = min(1 / rows - _LABEL, picture / columns / film) * _GAP
        x = (column + 0.5 - across / 2) / columns
        y = 0.5 - (row + 0.5) / rows + _LABEL / 2
        found.append(Cell(x, y, tall * film / picture, tall))
    return found


def name_of(record: bpy.types.PropertyGroup) -> str:
    """What a video is called beside others."""
    return record.model_label or record.model or record.name


def labels(records: Sequence[bpy.types.PropertyGroup]) -> list[str]:
    """A label for each video; videos of one model are told apart by their seed, else by their name."""
    names = [name_of(record) for record in records]
    seeds = [f"{name}, seed {record.seed}" for name, record in zip(names, records, strict=True)]
    found = []
    for name, seeded, record in zip(names, seeds, records, strict=True):
        if names.count(name) == 1:
            found.append(name)
        else:
            found.append(seeded if seeds.count(seeded) == 1 else f"{name}, {record.name}")
    return found


def show_side_by_side(scene: bpy.types.Scene, records: Sequence[bpy.types.PropertyGroup], mode: str) -> list[str]:
    """Show results beside each other, each on the frames of its shot, in place of what was shown in that way.

    Args:
        records: entries of ``scene.maquette.results``, at most ``MOST``.
        mode: ``PLANE`` or ``STRIP``.

    Returns:
        Sentences for the animator.

    Raises:
        ShotError: too few or too many, or one cannot be shown; says why. Nothing has changed then.
    """
    if not 2 <= len(records) <= MOST:
        raise ShotError("results", f"{len(records)} chosen; tick 2 to {MOST} videos")
    playbacks = [playback_of(scene, record) for record in records]
    render = scene.render
    picture = render.resolution_x * render.pixel_aspect_x / (render.resolution_y * render.pixel_aspect_y)
    # A video has the shape of its shot's pixels.
    shape = render.pixel_aspect_x / render.pixel_aspect_y
    places = cells([p.film.width * shape / p.film.height for p in playbacks], picture)
    notices = [] if len({p.start for p in playbacks}) == 1 else ["The videos begin on different frames of the scene"]
    if mode == "PLANE":
        notices += _planes(scene, records, playbacks, places)
    else:
        for way in WAYS:
            remove_screens(scene, way)
        for name, playback, place in zip(labels(records), playbacks, places, strict=True):
            add_strip(scene, playback, mute=False, place=place, label=name)
        show_in_sequencer(scene)
    for record, playback in zip(records, playbacks, strict=True):
        record.fps, record.frame_count = playback.film.fps, playback.film.frames
    scene.maquette.beside = True
    redraw()
    return notices


def _planes(
    scene: bpy.types.Scene,
    records: Sequence[bpy.types.PropertyGroup],
    playbacks: Sequence[Playback],
    places: Sequence[Cell],
) -> list[str]:
    start = min(p.start for p in playbacks)
    duration = max(p.start + p.duration for p in playbacks) - start
    cameras = camera_spans(scene, start, start + duration - 1, records[0].camera)
    if not cameras:
        raise ShotError("camera", "the scene has none to show the videos to; add a camera and make it active")
    depths = plane_depths(scene, cameras, "FRONT", 0.0, start, duration)
    for way in WAYS:
        remove_screens(scene, way)
    for camera, spans in cameras.items():
        behind = add_backdrop(scene, camera, playbacks[0], depths[camera])
        behind.hide_render = not scene.maquette.plane_renders
        if len(cameras) > 1:
            show_between(behind, spans)
    for name, playback, place in zip(labels(records), playbacks, places, strict=True):
        image = load_image(playback, scene)
        for camera, spans in cameras.items():
            shown = [
                add_plane(scene, camera, playback, image, depths[camera], place),
                add_label(scene, camera, playback, name, depths[camera], place, _LABEL),
            ]
            for obj in shown:
                obj.hide_render = not scene.maquette.plane_renders
            for obj in shown if len(cameras) > 1 else ():
                show_between(obj, spans)
    return colour_notice(scene, "on the planes") if scene.maquette.plane_renders else []
