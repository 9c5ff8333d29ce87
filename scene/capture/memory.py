"""What was captured before, for as long as nothing that it depends on has changed: shots, and pictures frame by frame.

Two things must agree that nothing has: all that can be read (``fingerprint.py``), and that Blender has told of no
change whose kind that could miss. A file opened, an undo or a redo forgets everything.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import bpy

from ...backend.shot import Media, Shot
from ..camera.timeline import shot_frames
from ..digest import file_state
from ..fingerprint import FramePrints, Print, Printer
from ..stage import STAGE, shown_layer
from . import render
from .wants import Wants

_MOST = 2
"""Shots kept."""
_MOST_PICTURES = 24
"""Series of pictures kept, each of a few frames or a shot's."""
_MOST_PARTS = 40_000
"""A file of more parts takes longer to read than its frames."""
_SHAPES = (bpy.types.Curve, bpy.types.Image, bpy.types.Key, bpy.types.Lattice, bpy.types.Mesh, bpy.types.MetaBall)
"""Datablocks that hold more than their properties: a change of them that Blender tells of is believed unseen."""


@dataclass(frozen=True, eq=False)
class _Known:
    key: bytes
    shot: Shot
    notices: tuple[str, ...]


_known: list[_Known] = []
_series: list[tuple[object, FramePrints, Sequence[Media]]] = []
"""What the pictures are of, what they were made from, and they, newest last."""
_changes = 0
_frame: tuple[str, float] = ("", 0.0)


def printed(scene: bpy.types.Scene) -> Generator[None, None, Print]:
    """What determines a scene's capture, read anew, with pauses."""
    printer = Printer()
    steps = printer.steps(scene)
    while printer.parts <= _MOST_PARTS:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
        yield
    return Print({}, {}, {}, {"too much to read"}, {})


def key_of(found: Print, scene: bpy.types.Scene, wants: Wants, part: range | None = None) -> bytes | None:
    """What a capture of a scene depends on as it is now, besides the model's own settings; None when that is not known.

    Args:
        found: of the scene, just read.
        wants, part: as for ``capture_steps``.
    """
    shot = scene.maquette
    # A model's options go into the shot and change nothing that is read.
    asked: list[Any] = [getattr(wants, field.name) for field in fields(wants) if field.name != "options"]
    asked += [
        shown_layer(scene).name,
        tuple(shot_frames(scene)),
        part,
        render.film_side(scene),
        render.shot_side(scene),
    ]
    if shot.background in ("PICTURE", "VIDEO"):
        asked.append(file_state(bpy.path.abspath(shot.background_path)))
    asked += [(spot.name, spot.object.name_full if spot.object else "", spot.vertex) for spot in shot.tracks]
    return found.whole(asked)


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


def pictures(of: object, now: Print) -> dict[int, Media]:
    """The pictures of something that would be made the same again, by their frames."""
    found: dict[int, Media] = {}
    for other, prints, media in _series if not now.doubts else ():
        if other == of:
            holds = prints.current(now).tolist()
            found |= {f: m for f, m, same in zip(prints.frames, media, holds, strict=True) if same}
    return found


class Recall:
    """The pictures that are known when a capture begins.

    Attributes:
        made: series of pictures, for ``keep_pictures`` once nothing has changed meanwhile.
    """

    def __init__(self, found: Print) -> None:
        """
        Args:
            found: of the scene, just read: begin all series before the scene can change.
        """
        self.made: list[tuple[object, FramePrints, Sequence[Media]]] = []
        self._found = found
        self._begun: dict[str, tuple[object, FramePrints, dict[int, Media]]] = {}

    def begin(self, name: str, of: object, ids: Iterable[bpy.types.ID], frames: range) -> None:
        """Look which pictures of some frames are known.

        Args:
            name: of the series in this capture.
            of: what makes another series of it, besides the frames and ``ids``.
            ids: the datablocks that the pictures depend on.
        """
        prints = self._found.at(frames, self._found.reach(ids))
        self._begun[name] = ((name, of), prints, pictures((name, of), self._found))

    def known(self, name: str) -> dict[int, Media]:
        """The pictures of a series that are known, by their frames."""
        return self._begun[name][2] if name in self._begun else {}

    def note(self, name: str, made: Sequence[Media]) -> None:
        """Take in the pictures of a series, one for each of its frames."""
        if name in self._begun:
            self.made.append((*self._begun[name][:2], made))


def keep_pictures(made: Iterable[tuple[object, FramePrints, Sequence[Media]]]) -> None:
    """Keep pictures; the oldest go."""
    for series in made:
        _series[:] = [old for old in _series if old[0] != series[0] or old[1].frames != series[1].frames] + [series]
    del _series[:-_MOST_PICTURES]


def forget() -> None:
    """Forget all of it."""
    global _changes
    _changes += 1
    _known.clear()
    _series.clear()


def changes() -> int:
    """A number that is another one after anything was told of that a capture under way may have seen half of."""
    return _changes


def changed(scene: bpy.types.Scene, depsgraph: bpy.types.Depsgraph) -> bool:
    """Blender has evaluated a scene after a change, or at another frame, which it returns."""
    global _changes
    if STAGE in scene:
        return False
    if moved(scene):
        return True  # What is keyed has changed with the frame, whatever it is.
    for update in depsgraph.updates:
        of = update.id
        if isinstance(of, bpy.types.Image) or (isinstance(of, _SHAPES) and update.is_updated_geometry):
            forget()
        elif isinstance(of, bpy.types.Object) and update.is_updated_transform and not _follows(of):
            _changes += 1
    return False


def _follows(obj: bpy.types.Object) -> bool:
    """Whether keys, constraints or something above it move an object: then a capture's own frames move it, too."""
    animation = obj.original.animation_data
    keyed = animation is not None and (animation.action is not None or len(animation.drivers) or animation.nla_tracks)
    return bool(keyed) or obj.parent is not None or len(obj.constraints) > 0


def moved(scene: bpy.types.Scene) -> bool:
    """Take note of the frame; returns whether it is another one than at the last call."""
    global _frame
    last, _frame = _frame, (scene.name, scene.frame_current_final)
    return _frame != last
