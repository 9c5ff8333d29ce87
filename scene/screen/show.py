"""Show a finished video in the scene, on the frames of its shot."""

from __future__ import annotations

from pathlib import Path

import bpy

from ...backend.shot import ShotError
from ..camera.timeline import camera_spans
from ..capture.media import probe_film, resolve
from ..folders import absolute
from .colour import colour_notice
from .depth import plane_depths
from .overlay import overlay, redraw
from .plane import add_plane, show_between
from .playback import Playback, film_rate, load_image, stored_path
from .views import add_camera_background, add_strip, has_strips, remove_screens

_MUTED_STRIPS_REST = (4, 5, 0)
"""From here on a render passes over a sequencer whose strips are all muted; 4.2 renders it black."""

WAYS = ("PLANE", "BACKGROUND", "STRIP")
"""Ways of showing a result that put something into the scene."""


def load_result(
    scene: bpy.types.Scene,
    record: bpy.types.PropertyGroup,
    mode: str,
    *,
    placement: str = "FRONT",
    depth: float = 5.0,
    replace: bool = True,
) -> list[str]:
    """Show one of the scene's results.

    Args:
        record: an entry of ``scene.maquette.results``; its rate and number of frames are filled in from the file.
        mode: ``OVERLAY`` (drawn over the camera's frame), ``PLANE`` (fills the camera's view), ``BACKGROUND`` (the
            camera's background image), ``STRIP`` (in the sequencer) or ``ALL`` of the last three.
        placement: where the plane stands: ``FRONT``, ``CHARACTERS``, ``BEHIND`` or ``DEPTH``.
        depth: metres, for ``DEPTH``.
        replace: take away what shows results in whatever way; else only what shows this one in the same way.

    Returns:
        Sentences for the animator.

    Raises:
        ShotError: the file is missing, half written or no film, or there is no camera to show it to. Nothing has
            changed then.
    """
    playback = playback_of(scene, record)
    film, key = playback.film, playback.key
    ways = set(WAYS) if mode == "ALL" else {mode}
    viewed = bool(ways & {"OVERLAY", "PLANE", "BACKGROUND"})
    cameras = camera_spans(scene, playback.start, playback.start + playback.duration - 1, record.camera)
    if viewed and not cameras:
        raise ShotError("camera", "the scene has none to show the video to; add a camera and make it active")

    notices = []
    if record.frame_count and record.frame_count != film.frames:
        notices.append(f"The video has {film.frames} frames, its shot {record.frame_count}")
    depths = {}
    if "PLANE" in ways:
        depths = plane_depths(scene, cameras, placement, depth, playback.start, playback.duration)
        notices += colour_notice(scene, "on the plane") if scene.maquette.plane_renders else []

    for way in WAYS if replace else ways & set(WAYS):
        remove_screens(scene, way, None if replace else key)
    if "PLANE" in ways:
        image = load_image(playback, scene)
        for camera, spans in cameras.items():
            plane = add_plane(scene, camera, playback, image, depths[camera])
            plane.hide_render = not scene.maquette.plane_renders
            if len(cameras) > 1:
                show_between(plane, spans)
    if "BACKGROUND" in ways:
        image = load_image(playback)
        for camera in cameras:
            add_camera_background(camera, playback, image)
    if "STRIP" in ways:
        notices += _load_strip(scene, playback, mute=mode == "ALL")

    record.fps, record.frame_count = film.fps, film.frames
    if record.camera is None and cameras:
        record.camera = next(iter(cameras))
    scene.maquette.beside = False
    overlay.forget()
    redraw()
    return notices


def _load_strip(scene: bpy.types.Scene, playback: Playback, mute: bool) -> list[str]:
    """Put the film into the sequencer without its taking over the scene's renders; returns what to tell about it."""
    shot, others = scene.maquette, has_strips(scene)
    add_strip(scene, playback, mute)
    show_in_sequencer(scene)
    if others:
        if mute or not scene.render.use_sequencer:
            return []
        return ["The sequencer holds other strips, so that rendering shows it, and this video in it"]
    if scene.render.use_sequencer and (not mute or bpy.app.version < _MUTED_STRIPS_REST):
        scene.render.use_sequencer, shot.sequencer_was_on = False, True
    return []


def playback_of(scene: bpy.types.Scene, record: bpy.types.PropertyGroup) -> Playback:
    """The film of a result and where it plays in the scene.

    Raises:
        ShotError: the file is missing, half written or no film.
    """
    film = probe_film(resolve(record.filepath, "video", "video"), "video")
    fps = scene.render.fps / scene.render.fps_base
    rate = film_rate(film.fps, fps, max(record.frame_step, 1))
    return Playback(film, stored_path(film.path), record.job or str(film.path), record.frame_start, rate)


def show_in_sequencer(scene: bpy.types.Scene) -> None:
    """Let the workspace's sequencer show the scene where it shows none, from Blender 5.0 on."""
    workspace = bpy.context.workspace
    if workspace is not None and getattr(workspace, "sequencer_scene", scene) is None:
        workspace.sequencer_scene = scene


def record_of(scene: bpy.types.Scene, path: Path, job: str) -> bpy.types.PropertyGroup:
    """The scene's entry for a video, by its job or file; a new one takes its timing from the scene."""
    results = scene.maquette.results
    for record in results:
        if (job and record.job == job) or absolute(record.filepath) == path.resolve():
            record.job = job or record.job
            return record
    record = results.add()
    record.name = path.stem
    record.job = job
    record.filepath = stored_path(path)
    record.frame_start = scene.frame_start
    record.frame_step = scene.frame_step
    record.frame_count = 0
    record.model = scene.maquette.model
    record.seed = scene.maquette.seed
    return record
