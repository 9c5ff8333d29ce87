"""The shot's camera written for other programs: JSON, COLMAP, Alembic and FBX.

Alembic and FBX are written by Blender's own exporters, from one camera that is baked for it: whatever moves, cuts
between or zooms the scene's cameras, and however their sensors are fitted, it is one camera with a key a frame.

Shape letters: T frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix

from ...backend.shot import Clip, ShotError
from ...backend.shot.camera_files import write_camera_json, write_colmap
from ..keys import Channel, channels_of, write_keys
from ..stage import Changes, open_stage, scene_kept, shown_layer
from .matrices import CameraView, clip_fps, read_camera
from .timeline import shot_frames

BAKED = "ShotCamera"
"""Name of the camera in an Alembic or FBX file."""
_MOVES = 1e-6


@dataclass(frozen=True, eq=False)
class ShotCamera:
    """What the shot is seen through.

    Attributes:
        frames: T frames of the scene.
        images: T file names, as Blender names the pictures that it renders.
        views: T cameras.
        clip: rate, size and matrices (float64) of the same.
    """

    frames: range
    images: list[str]
    views: list[CameraView]
    clip: Clip


def read_shot_camera(scene: bpy.types.Scene) -> ShotCamera:
    """The camera in every frame of the shot; the scene is as before.

    Raises:
        ShotError: there is no camera, it cannot be used, or the frame range is empty.
    """
    frames = shot_frames(scene)
    layer = shown_layer(scene)
    cameras = [obj for obj in scene.objects if obj.type == "CAMERA"]
    views: list[CameraView] = []
    with scene_kept(scene, layer) as keeper:
        stage = open_stage(scene, layer, keeper.changes, cameras)
        for frame in frames:
            views.append(read_camera(stage.scene, stage.at(frame)))
    clip = Clip(
        clip_fps(scene),
        views[0].width,
        views[0].height,
        np.stack([view.viewmat for view in views]),
        np.stack([view.K for view in views]),
    )
    return ShotCamera(frames, [_picture(scene, frame) for frame in frames], views, clip)


def _picture(scene: bpy.types.Scene, frame: int) -> str:
    if scene.render.is_movie_format:
        return f"{frame:04d}.png"
    return Path(scene.render.frame_path(frame=frame)).name.replace(" ", "_")


def export_camera(scene: bpy.types.Scene, path: Path, kind: str) -> list[str]:
    """Write the shot's camera.

    Args:
        path: the file, or for ``COLMAP`` the folder.
        kind: ``JSON``, ``COLMAP``, ``ALEMBIC`` or ``FBX``.

    Returns:
        Sentences for the animator about what the format, or a program that reads it, does not keep.

    Raises:
        ShotError: the camera cannot be used, or this Blender does not write that format.
        OSError: the file cannot be written.
    """
    if kind in _MISSING and not _CALLS[kind][0]():
        raise ShotError("format", _MISSING[kind])
    camera = read_shot_camera(scene)
    if kind == "JSON":
        write_camera_json(path, camera.clip, camera.views[0].name, camera.frames, camera.images)
    elif kind == "COLMAP":
        write_colmap(path, camera.clip, camera.frames, camera.images)
    else:
        _check_writable(path)
        with _baked(scene, camera) as stage, bpy.context.temp_override(scene=stage, view_layer=stage.view_layers[0]):
            _CALLS[kind][1](str(path), stage)
        return _lost(camera, kind)
    return []


def _check_writable(path: Path) -> None:
    """Raise OSError where a file cannot be written; Blender's exporters say so in their own ways."""
    known = path.exists()
    path.open("ab").close()
    if not known:
        path.unlink()


def _has(group: str, name: str) -> bool:
    return name in dir(getattr(bpy.ops, group))


def _alembic(path: str, scene: bpy.types.Scene) -> None:
    bpy.ops.wm.alembic_export(
        filepath=path, start=scene.frame_start, end=scene.frame_end, flatten=True, evaluation_mode="VIEWPORT"
    )


def _fbx(path: str, _scene: bpy.types.Scene) -> None:
    bpy.ops.export_scene.fbx(
        filepath=path, object_types={"CAMERA"}, bake_anim=True, bake_anim_use_nla_strips=False,
        bake_anim_use_all_actions=False, bake_anim_simplify_factor=0.0,
    )  # fmt: skip


_CALLS = {
    "ALEMBIC": (lambda: bpy.app.build_options.alembic and _has("wm", "alembic_export"), _alembic),
    "FBX": (lambda: _has("export_scene", "fbx"), _fbx),
}
_MISSING = {
    "ALEMBIC": "this Blender was built without Alembic; choose FBX or JSON, or use a Blender from blender.org",
    "FBX": "Blender's FBX add-on is off; switch on 'FBX format' in Edit > Preferences > Add-ons, or choose Alembic",
}


def _lost(camera: ShotCamera, kind: str) -> list[str]:
    """What does not arrive everywhere."""
    Ks, notes = camera.clip.Ks, []
    if kind == "FBX" and np.ptp(Ks[:, :2, 2], axis=0).max() > _MOVES:
        notes.append("FBX holds one lens shift for all frames: that of the first was written; Alembic keeps them all")
    if kind == "ALEMBIC" and np.ptp(Ks[:, 0, 0]) > _MOVES:
        notes.append("The zoom is in the file, but Blender 4 does not read it from Alembic; it does from FBX")
    aspect = Ks[0, 0, 0] / Ks[0, 1, 1]
    if camera.clip.height * aspect > camera.clip.width:
        notes.append("Read into Blender again, set the camera's Sensor Fit to Horizontal: neither format keeps it")
    return notes


@contextmanager
def _baked(scene: bpy.types.Scene, camera: ShotCamera) -> Iterator[bpy.types.Scene]:
    """A scene of one camera, whose sensor is the picture, with a key a frame; it is removed when the block ends."""
    clip, first = camera.clip, camera.frames[0]
    changes = Changes()
    data = bpy.data.cameras.new(BAKED)
    changes.made(data)
    obj = bpy.data.objects.new(BAKED, data)
    changes.made(obj)
    stage = bpy.data.scenes.new(BAKED)
    changes.made(stage)
    try:
        stage.collection.objects.link(obj)
        stage.camera = obj
        stage.frame_start, stage.frame_end = first, first + clip.frames - 1
        stage.render.fps, stage.render.fps_base = scene.render.fps, scene.render.fps_base * scene.frame_step
        stage.render.resolution_x, stage.render.resolution_y = clip.width, clip.height
        stage.render.pixel_aspect_x = scene.render.pixel_aspect_x
        stage.render.pixel_aspect_y = scene.render.pixel_aspect_y
        frames = np.arange(first, first + clip.frames)
        changes.made(write_keys(obj, frames, _path(obj, clip.viewmats), action_name=BAKED))
        changes.made(write_keys(data, frames, _lens(data, camera), action_name=BAKED))
        data.clip_start, data.clip_end = camera.views[0].clip_start, camera.views[0].clip_end
        stage.frame_set(first)
        yield stage
    finally:
        changes.undo()


def _path(obj: bpy.types.Object, viewmats: np.ndarray) -> list[Channel]:
    """Keys of the camera object from its matrices (T,4,4)."""
    obj.rotation_mode = "QUATERNION"
    world = np.linalg.inv(viewmats) @ np.diag([1.0, -1.0, -1.0, 1.0])
    turns = np.array([Matrix(m[:3, :3].tolist()).to_quaternion() for m in world])
    # The nearer of the two quaternions of each turn: between frames the camera must not spin.
    flips = np.sum(turns[1:] * turns[:-1], axis=1) < 0
    turns[1:] *= np.where(np.cumsum(flips) % 2, -1.0, 1.0)[:, None]
    return [*channels_of("location", world[:, :3, 3]), *channels_of("rotation_quaternion", turns)]


def _lens(data: bpy.types.Camera, camera: ShotCamera) -> list[Channel]:
    """Keys of the lens. The sensor is as wide and high as the picture, so that nothing depends on how it is fitted."""
    clip, Ks = camera.clip, camera.clip.Ks
    data.sensor_fit = "HORIZONTAL"
    data.sensor_width = camera.views[0].lens * clip.width / Ks[0, 0, 0]
    aspect = Ks[:, 0, 0] / Ks[:, 1, 1]
    data.sensor_height = data.sensor_width * clip.height * aspect[0] / clip.width
    values = {
        "lens": Ks[:, 0, 0] * data.sensor_width / clip.width,
        "shift_x": 0.5 - Ks[:, 0, 2] / clip.width,
        "shift_y": (Ks[:, 1, 2] - clip.height / 2) * aspect / clip.width,
    }
    return [Channel(path, 0, value) for path, value in values.items()]
