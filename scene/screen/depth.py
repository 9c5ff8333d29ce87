"""How far from the camera the video's plane stands."""

from __future__ import annotations

from collections.abc import Iterable

import bpy
import numpy as np

from ...backend.shot import ShotError
from ..rig.characters import find_characters
from ..stage import open_stage, scene_kept, shown_layer

_BEFORE = 1.1
"""Of the near plane: as close as the camera sees safely."""
_BEHIND = 1.05


def plane_depths(
    scene: bpy.types.Scene,
    cameras: Iterable[bpy.types.Object],
    placement: str,
    depth: float,
    start: int,
    duration: int,
) -> dict[bpy.types.Object, float]:
    """Metres from each camera to its plane.

    Args:
        placement: ``FRONT``, ``CHARACTERS``, ``BEHIND`` or ``DEPTH``.
        depth: for ``DEPTH``.
        start, duration: scene frames that the video plays on.

    Raises:
        ShotError: the plane would lie outside what the camera sees, or there is no character to place it by.
    """
    cameras = list(cameras)
    if placement == "DEPTH":
        found = dict.fromkeys(cameras, depth)
    elif placement == "FRONT":
        found = {camera: camera.data.clip_start * _BEFORE for camera in cameras}
    else:
        found = _by_characters(scene, cameras, placement == "BEHIND", range(start, start + duration))
    for camera, value in found.items():
        if not camera.data.clip_start < value < camera.data.clip_end:
            raise ShotError(
                "depth",
                f"at {value:.2f} m the plane is outside what '{camera.name}' sees ({camera.data.clip_start:g} m to "
                f"{camera.data.clip_end:g} m); choose another depth or change the camera's clipping",
            )
    return found


def _by_characters(
    scene: bpy.types.Scene, cameras: list[bpy.types.Object], behind: bool, frames: range
) -> dict[bpy.types.Object, float]:
    layer = shown_layer(scene)
    characters = find_characters(scene, layer)
    far: dict[bpy.types.Object, list[float]] = {camera: [] for camera in cameras}
    with scene_kept(scene, layer) as keeper:
        stage = open_stage(scene, layer, keeper.changes, [*characters, *cameras])
        for frame in frames:
            depsgraph = stage.at(frame)
            for camera in cameras:
                view = np.linalg.inv(
                    np.array(camera.evaluated_get(depsgraph).matrix_world.normalized(), dtype=np.float64)
                )
                for character in characters:
                    evaluated = character.evaluated_get(depsgraph)
                    box = np.array(evaluated.bound_box, dtype=np.float64)
                    world = np.array(evaluated.matrix_world, dtype=np.float64)
                    place = view @ world @ np.concatenate([box.T, np.ones((1, 8))])
                    far[camera].append(float((-place[2]).max() if behind else -place[2].mean()))
    if behind:
        return {c: max(max(values) * _BEHIND, c.data.clip_start * _BEFORE) for c, values in far.items()}
    return {c: max(float(np.mean(values)), c.data.clip_start * _BEFORE) for c, values in far.items()}
