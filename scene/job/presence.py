"""How much of the picture a character takes now, and in how many frames of the last capture it was hidden."""

from __future__ import annotations

import bpy
import numpy as np

from ...backend.shot import Shot, ShotError
from ...backend.shot.cameras import project
from ..camera.matrices import read_camera

_SEEN = 0.02
"""Share of a character's points below which it is hidden."""
_hidden: dict[tuple[str, str], tuple[int, int]] = {}


def note(scene: bpy.types.Scene, shot: Shot) -> None:
    """Take in a captured shot: frames in which each character is hidden, or outside the picture."""
    for character in shot.characters:
        gone = np.asarray(character.visibility).mean(axis=1) < _SEEN
        _hidden[scene.maquette.uid, character.name] = int(gone.sum()), len(gone)


def hidden(scene: bpy.types.Scene, obj: bpy.types.Object) -> tuple[int, int]:
    """Frames of the last capture in which a character was hidden, and all of them; (0, 0) where there was none."""
    return _hidden.get((scene.maquette.uid, obj.name), (0, 0))


def share(scene: bpy.types.Scene, obj: bpy.types.Object) -> float | None:
    """How much of the picture the rectangle around a mesh takes at the frame that shows; None where nobody can tell.

    The scene is taken as its window has evaluated it.
    """
    depsgraph = bpy.context.view_layer.depsgraph
    if depsgraph is None or depsgraph.scene.original != scene or scene.camera is None:
        return None
    try:
        view = read_camera(scene, depsgraph)
        evaluated = obj.evaluated_get(depsgraph)
        mesh = evaluated.data
        flat = np.empty(3 * len(mesh.vertices), dtype=np.float32)
        mesh.attributes["position"].data.foreach_get("vector", flat)
    except (ShotError, AttributeError, KeyError, ReferenceError):
        return None
    matrix = np.array(evaluated.matrix_world, dtype=np.float64)
    world = flat.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]
    depth = world @ view.viewmat[2, :3] + view.viewmat[2, 3]
    world = world[depth > view.clip_start]
    if not len(world):
        return 0.0
    places = project(world, view.viewmat, view.K)[0]
    size = (view.width, view.height)
    low, high = np.clip(places.min(axis=0), 0, size), np.clip(places.max(axis=0), 0, size)
    return float(np.prod((high - low) / size))


def playing() -> bool:
    """Whether a window plays its scene."""
    return any(window.screen.is_animation_playing for window in bpy.context.window_manager.windows)
