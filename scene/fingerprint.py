"""What determines the frames of a scene, read without evaluating any of them.

Animated values count by their F-curves at a frame, everything else by what it is set to (``digest.py``). What neither
says, such as a simulation, is a doubt: it is not noticed when it changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from .digest import Reading, curve_parts, scene_doubts
from .stage import curves_of

Key = tuple[str, str, int]
"""Of an F-curve: its datablock, data path and index."""

_SCENE, _ANIMATION = "settings", " animation"
_SHAPES = (bpy.types.Curve, bpy.types.Image, bpy.types.Key, bpy.types.Lattice, bpy.types.Mesh, bpy.types.MetaBall)
"""Datablocks that take long to read; Blender says of them that they change whenever a frame deforms them."""


@dataclass(frozen=True, eq=False)
class Print:
    """A scene as it is set at one moment.

    Attributes:
        still: what does not move, a digest of each datablock.
        curves: what is keyed, a digest of each curve's keys.
        named: the datablocks that each of them points to.
        doubts: why frames may differ by more than this says.
        owners: the keyed datablocks by name; good only until the scene changes.
    """

    still: dict[str, bytes]
    curves: dict[Key, bytes]
    named: dict[str, frozenset[str]]
    doubts: set[str]
    owners: dict[str, bpy.types.ID]

    def whole(self, *more: Any) -> bytes | None:
        """A digest of all of it and of whatever else must be the same; None in doubt."""
        if self.doubts:
            return None
        found = hashlib.blake2b(repr(more).encode(), digest_size=32)
        for key, part in (*sorted(self.still.items()), *sorted(self.curves.items())):
            found.update(repr(key).encode() + part)
        return found.digest()

    def reach(self, ids: Iterable[bpy.types.ID]) -> frozenset[str]:
        """Names of some datablocks and of all that they depend on."""
        found: set[str] = set()
        todo = [name_of(datablock) for datablock in ids]
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += self.named.get(name, ())
        return frozenset(found)

    def values(self, keys: Iterable[Key], frames: range) -> dict[Key, np.ndarray]:
        """The values (F,) of some curves at some frames."""
        wanted, found = set(keys), {}
        for name in {key[0] for key in wanted}:
            animation = self.owners[name].animation_data  # type: ignore[attr-defined]
            for curve in curves_of(animation):
                key = (name, curve.data_path, curve.array_index)
                if key in wanted and not curve.mute:
                    found[key] = np.array([curve.evaluate(frame) for frame in frames], dtype=np.float32)
        return found

    def at(self, frames: range, only: frozenset[str] | None = None) -> FramePrints:
        """What it says of some frames, just after it was read.

        Args:
            only: names of the datablocks that matter; all of them when None.
        """
        still, keys = _chosen(self, only)
        values = self.values(keys, frames)
        return FramePrints(frames, still, {key: (self.curves[key], values[key]) for key in keys}, only)


@dataclass(frozen=True, eq=False)
class FramePrints:
    """What determines some frames.

    Attributes:
        frames: of the scene.
        still: see ``Print``.
        curves: of each curve its digest and its values (F,) at the frames.
        only: names of the datablocks that matter; all of them when None.
    """

    frames: range
    still: dict[str, bytes]
    curves: dict[Key, tuple[bytes, np.ndarray]]
    only: frozenset[str] | None = None

    def current(self, now: Print) -> np.ndarray:
        """(F,) bool, the frames that are still determined as they were."""
        same = np.ones(len(self.frames), dtype=bool)
        still, keys = _chosen(now, self.only)
        if self.still != still or self.curves.keys() != keys:
            return ~same
        other = [key for key, (digest, _) in self.curves.items() if digest != now.curves[key]]
        for key, values in now.values(other, self.frames).items():
            same &= np.isclose(values, self.curves[key][1], rtol=1e-5, atol=1e-6)
        return same


@dataclass(frozen=True, eq=False)
class _Kept:
    """A datablock as it was read while ``written`` was what its curves write."""

    written: frozenset[tuple[str, int]]
    still: bytes
    named: tuple[bpy.types.ID, ...]
    doubts: tuple[str, ...]


_Keyed = dict[tuple[str, int], bytes]
"""Digests of curves by data path and index."""


class Printer:
    """Reads prints of one scene after the other; what Blender does not say has changed is not read again.

    Attributes:
        parts: read so far.
    """

    def __init__(self) -> None:
        self.parts = 0
        self._kept: dict[str, _Kept] = {}
        self._keyed: dict[str, tuple[list[str], _Keyed]] = {}

    def changed(self, ids: Iterable[bpy.types.ID], moved: bool = False) -> None:
        """Datablocks that Blender says have changed.

        Args:
            moved: whether it says so because of another frame.
        """
        for datablock in ids:
            if not (moved and isinstance(datablock, _SHAPES)):
                self._kept.pop(name_of(datablock), None)
            if isinstance(datablock, bpy.types.Action):
                self._keyed = {k: v for k, v in self._keyed.items() if datablock.name_full not in v[0]}

    def forget(self) -> None:
        """Another file."""
        self._kept.clear()
        self._keyed.clear()

    def read(self, scene: bpy.types.Scene) -> Print:
        """The scene as it is now. Takes milliseconds where little has changed; see ``steps`` for the first time."""
        steps = self.steps(scene)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    def steps(self, scene: bpy.types.Scene) -> Generator[None, None, Print]:
        """``read``, with pauses. Datablocks that are gone by then are left out."""
        found = Print({}, {}, {}, set(scene_doubts(scene)), {})
        todo: list[bpy.types.ID] = [scene]
        seen = {scene.as_pointer()}
        while todo:
            datablock = todo.pop()
            if not _alive([datablock]):
                continue
            kept = yield from self._one(datablock, found)
            if not _alive(kept.named):
                continue
            for other in kept.named:
                if other.as_pointer() not in seen:
                    seen.add(other.as_pointer())
                    todo.append(other)
        return found

    def _one(self, datablock: bpy.types.ID, found: Print) -> Generator[None, None, _Kept]:
        name = name_of(datablock)
        called = _SCENE if isinstance(datablock, bpy.types.Scene) else name
        keyed, strips = self._curves(name, datablock)
        kept = self._kept.get(name)
        if kept is None or kept.written != keyed.keys() or not _alive(kept.named):
            reading, digest = Reading(datablock), hashlib.blake2b(digest_size=16)
            for part in reading.parts():
                digest.update(part if isinstance(part, bytes) else repr(part).encode())
                self.parts += 1
                if reading.divided:
                    yield
            named = tuple({other.as_pointer(): other for other in reading.named}.values())
            kept = _Kept(frozenset(keyed), digest.digest(), named, tuple(reading.doubts))
            if not isinstance(datablock, (bpy.types.Collection, bpy.types.Scene)):  # Not all is told of them.
                self._kept[name] = kept
            yield
        found.still[called] = kept.still
        found.named[name] = frozenset(map(name_of, kept.named))
        found.doubts.update(kept.doubts)
        if keyed:
            found.owners[name] = datablock
            found.curves.update({(name, *key): value for key, value in keyed.items()})
        if strips:
            # Strips play their curves at other times: any change of them counts for all frames.
            found.still[name + _ANIMATION] = repr(sorted(keyed.items())).encode()
        return kept

    def _curves(self, name: str, datablock: bpy.types.ID) -> tuple[_Keyed, bool]:
        """The curves that write to a datablock, and whether strips play some of them."""
        animation = getattr(datablock, "animation_data", None)
        if animation is None:
            return {}, False
        strips = [strip.action for track in animation.nla_tracks for strip in track.strips]
        actions = [action.name_full for action in (animation.action, *strips) if action is not None]
        known = self._keyed.get(name)
        if known is None or known[0] != actions:
            made = {(c.data_path, c.array_index): _of_curve(c) for c in curves_of(animation) if not c.mute}
            known = self._keyed[name] = (actions, made)
        return known[1], bool(strips)


def _of_curve(curve: bpy.types.FCurve) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in curve_parts(curve):
        digest.update(part if isinstance(part, bytes) else repr(part).encode())
    return digest.digest()


def _alive(ids: Iterable[bpy.types.ID]) -> bool:
    try:
        return all(datablock.name_full for datablock in ids)
    except ReferenceError:
        return False


def name_of(datablock: bpy.types.ID) -> str:
    """What a datablock is called in prints."""
    return f"{type(datablock).__name__} {datablock.name_full}"


def _chosen(found: Print, names: frozenset[str] | None) -> tuple[dict[str, bytes], set[Key]]:
    """What a print says of some datablocks and of the scene's own settings."""
    if names is None:
        return found.still, set(found.curves)
    still = {k: v for k, v in found.still.items() if k.removesuffix(_ANIMATION) in names or k == _SCENE}
    return still, {key for key in found.curves if key[0] in names}
