"""Shots captured before, for as long as nothing that they depend on has changed.

Two things must agree that nothing has: the digest of all that can be read (``imprint.py``), and that Blender has told
of no change whose kind the digest could miss. A file opened, an undo or a redo forgets everything.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import bpy

from ...backend.shot import Shot
from ..camera.timeline import shot_frames
from ..stage import STAGE, shown_layer
from . import render
from .imprint import file_state, imprint
from .wants import Wants

_MOST = 2
"""Shots kept."""
_SHAPES = (bpy.types.Curve, bpy.types.Image, bpy.types.Key, bpy.types.Lattice, bpy.types.Mesh, bpy.types.MetaBall)
"""Datablocks that hold more than their properties: a change of them that Blender tells of is believed unseen."""


@dataclass(frozen=True, eq=False)
class _Known:
    key: bytes
    shot: Shot
    notices: tuple[str, ...]


_known: list[_Known] = []
_changes = 0
_frame: tuple[str, float] = ("", 0.0)


def key_of(scene: bpy.types.Scene, wants: Wants, part: range | None = None) -> bytes | None:
    """What a capture of a scene depends on as it is now, besides the model's own settings; None when that is not known.

    Args:
        wants, part: as for ``capture_steps``.
    """
    shot = scene.maquette
    frames = shot_frames(scene) if part is None else part
    # A model's options go into the shot and change nothing that is read.
    asked: list[Any] = [getattr(wants, field.name) for field in fields(wants) if field.name != "options"]
    asked += [shown_layer(scene).name, tuple(frames), render.film_side(scene), render.shot_side(scene)]
    asked += [shot.points, shot.render_engine, shot.background]
    if shot.background in ("PICTURE", "VIDEO"):
        asked.append(file_state(bpy.path.abspath(shot.background_path)))
    asked += [(spot.name, spot.object.name_full if spot.object else "", spot.vertex) for spot in shot.tracks]
    return imprint(scene, asked)


def find(key: bytes | None, notices: list[str]) -> Shot | None:
    """The shot that was kept under a key; its notices are appended. Its settings for the model may be others."""
    for known in _known:
        if known.key == key:
            notices += known.notices
            return known.shot
    return None


def keep(key: bytes, shot: Shot, notices: list[str]) -> None:
    """Keep a shot; the oldest goes."""
    _known[:] = [known for known in _known if known.key != key][-_MOST + 1 :]
    _known.append(_Known(key, shot, tuple(notices)))


def forget() -> None:
    """Forget all shots."""
    global _changes
    _changes += 1
    _known.clear()


def changes() -> int:
    """A number that is another one after anything was told of that a capture under way may have seen half of."""
    return _changes


def changed(scene: bpy.types.Scene, depsgraph: bpy.types.Depsgraph) -> None:
    """Blender has evaluated a scene after a change, or at another frame."""
    global _changes
    if STAGE in scene:
        return
    if moved(scene):
        return  # What is keyed has changed with the frame, whatever it is.
    for update in depsgraph.updates:
        of = update.id
        if isinstance(of, bpy.types.Image) or (isinstance(of, _SHAPES) and update.is_updated_geometry):
            forget()
        elif isinstance(of, bpy.types.Object) and update.is_updated_transform:
            _changes += 1


def moved(scene: bpy.types.Scene) -> bool:
    """Take note of the frame; returns whether it is another one than at the last call."""
    global _frame
    last, _frame = _frame, (scene.name, scene.frame_current_final)
    return _frame != last
