"""Going through a scene's frames and leaving it as it was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import bpy

_BONE_CHANNELS = ("location", "rotation_quaternion", "rotation_euler", "rotation_axis_angle", "scale")


@contextmanager
def frame_kept(scene: bpy.types.Scene, objects: Iterable[bpy.types.Object] = ()) -> Iterator[None]:
    """Return to the current frame afterwards, whatever happens.

    Going to another frame makes Blender forget what was posed there but not keyed. For ``objects`` (and the
    shape keys of meshes) such values are put back.
    """
    frame, subframe = scene.frame_current, scene.frame_subframe
    before = [(owner, name, _copy(getattr(owner, name))) for owner, name in _channels(objects)]
    try:
        yield
    finally:
        scene.frame_set(frame, subframe=subframe)
        for owner, name, value in before:
            if _copy(getattr(owner, name)) != value:
                setattr(owner, name, value)


def _copy(value):
    return value if isinstance(value, float) else tuple(value)


def _channels(objects: Iterable[bpy.types.Object]) -> Iterator[tuple[bpy.types.bpy_struct, str]]:
    for obj in dict.fromkeys(objects):
        for name in _BONE_CHANNELS:
            yield obj, name
        for bone in obj.pose.bones if obj.pose is not None else ():
            for name in _BONE_CHANNELS:
                yield bone, name
        keys = getattr(obj.data, "shape_keys", None)
        for key in keys.key_blocks if keys is not None else ():
            yield key, "value"


def scene_fps(scene: bpy.types.Scene) -> float:
    """Frames per second of a scene."""
    return scene.render.fps / scene.render.fps_base


def picture_size(scene: bpy.types.Scene) -> tuple[int, int]:
    """Width and height of the rendered picture in pixels, as Blender truncates them."""
    render = scene.render
    percentage = render.resolution_percentage
    return max(render.resolution_x * percentage // 100, 1), max(render.resolution_y * percentage // 100, 1)
