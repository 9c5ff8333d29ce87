"""Show a finished video in the scene, on the frames of its shot."""

from __future__ import annotations

from pathlib import Path

import bpy

from ...backend.shot import ShotError
from ..camera.timeline import camera_spans
from ..capture.media import probe_film, resolve
from .depth import plane_depths
from .plane import add_plane, show_between
from .playback import Playback, film_rate, load_image, stored_path
from .views import add_camera_background, add_strip, has_strips, remove_screens

_MUTED_STRIPS_REST = (4, 5, 0)
"""From here on a render passes over a sequencer whose strips are all muted; 4.2 renders it black."""


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
        mode: ``PLANE`` (fills the camera's view), ``BACKGROUND`` (the camera's background image), ``STRIP`` (in the
            sequencer) or ``ALL``, which mutes the strip so that rendering still shows the scene.
        placement: where the plane stands: ``FRONT``, ``CHARACTERS``, ``BEHIND`` or ``DEPTH``.
        depth: metres, for ``DEPTH``.
        replace: take away what was loaded in the same way before.

    Returns:
        Sentences for the animator.

    Raises:
        ShotError: the file is missing, half written or no film, or there is no camera to show it to. Nothing has
            changed then.
    """
    playback = playback_of(scene, record)
    film, key = playback.film, playback.key
    ways = {"PLANE", "BACKGROUND", "STRIP"} if mode == "ALL" else {mode}
    viewed = bool(ways & {"PLANE", "BACKGROUND"})
    cameras = camera_spans(scene, playback.start, playback.start + playback.duration - 1, record.camera)
    if viewed and not cameras:
        raise ShotError("camera", "the scene has none to show the video to; add a camera and make it active")

    notices = []
    if record.frame_count and record.frame_count != film.frames:
        notices.append(f"The video has {film.frames} frames, its shot {record.frame_count}")
    depths = {}
    if "PLANE" in ways:
        depths = plane_depths(scene, cameras, placement, depth, playback.start, playback.duration)
        notices += colour_notice(scene)

    for way in ways:
        remove_screens(scene, way, None if replace else key)
    if viewed:
        image = load_image(playback)
        for camera, spans in cameras.items():
            if "PLANE" in ways:
                plane = add_plane(scene, camera, playback, image, depths[camera])
                if len(cameras) > 1:
                    show_between(plane, spans)
            if "BACKGROUND" in ways:
                add_camera_background(camera, playback, image)
    if "STRIP" in ways:
        others = has_strips(scene)
        add_strip(scene, playback, mute=mode == "ALL")
        if mode == "ALL" and bpy.app.version < _MUTED_STRIPS_REST and not others and scene.render.use_sequencer:
            scene.render.use_sequencer = False
            notices.append(
                "This Blender renders muted strips as black, so Output > Post Processing > Sequencer was turned off; "
                "turn it on to render the strip"
            )
        show_in_sequencer(scene)

    record.fps, record.frame_count = film.fps, film.frames
    if record.camera is None and cameras:
        record.camera = next(iter(cameras))
    return notices


def playback_of(scene: bpy.types.Scene, record: bpy.types.PropertyGroup) -> Playback:
    """The film of a result and where it plays in the scene.

    Raises:
        ShotError: the file is missing, half written or no film.
    """
    film = probe_film(resolve(record.filepath, "video", "video"), "video")
    fps = scene.render.fps / scene.render.fps_base
    rate = film_rate(film.fps, fps, max(record.frame_step, 1))
    return Playback(film, stored_path(film.path), record.job or str(film.path), record.frame_start, rate)


def colour_notice(scene: bpy.types.Scene) -> list[str]:
    """What the scene's view transform does to a video on a plane, if anything."""
    transform = scene.view_settings.view_transform
    if transform == "Standard":
        return []
    return [
        f"The scene's view transform is {transform}, which changes the video's colours on the plane; set it to "
        "Standard to see them as they are"
    ]


def show_in_sequencer(scene: bpy.types.Scene) -> None:
    """Let the workspace's sequencer show the scene where it shows none, from Blender 5.0 on."""
    workspace = bpy.context.workspace
    if workspace is not None and getattr(workspace, "sequencer_scene", scene) is None:
        workspace.sequencer_scene = scene


def record_of(scene: bpy.types.Scene, path: Path, job: str) -> bpy.types.PropertyGroup:
    """The scene's entry for a video, by its job or file; a new one takes its timing from the scene."""
    results = scene.maquette.results
    for record in results:
        if (job and record.job == job) or Path(bpy.path.abspath(record.filepath)).resolve() == path.resolve():
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
