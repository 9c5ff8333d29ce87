"""What determines the frames of a scene, read without evaluating any of them.

Animated values count by their F-curves at a frame, everything else by what it is set to. What neither says (a
simulation, what a driver reads elsewhere) is not noticed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from .marks import is_screen
from .stage import animatable, curves_of

Key = tuple[str, str, int]
"""Of an F-curve: its datablock, data path and index."""
_Keyed = list[tuple[str, int, bytes]]

_SCENE, _ANIMATION = "settings", " animation"
_SIMPLE = {"BOOLEAN", "INT", "FLOAT", "ENUM", "STRING"}
_PLACE = ("location", "rotation_quaternion", "rotation_euler", "rotation_axis_angle", "scale")
_OBJECT = (
    *_PLACE, "delta_location", "delta_rotation_euler", "delta_scale", "rotation_mode", "hide_render", "parent_type",
    "parent_bone", "color",
)  # fmt: skip
_RENDER = (
    "resolution_x",
    "resolution_y",
    "resolution_percentage",
    "pixel_aspect_x",
    "pixel_aspect_y",
    "fps",
    "fps_base",
)
_SHOT = ("background", "background_path", "render_engine")
_UNSEEN = {"name", "tag", "is_active", "use_fake_user", "use_extra_user", "active", "select"}
_SHOWN = {"show_render", "show_viewport"}
"""The only properties of that beginning that are about the picture and not about the editor."""


@dataclass(frozen=True, eq=False)
class Print:
    """A scene as it is set at one moment.

    Attributes:
        still: what does not move, a digest of each datablock.
        curves: what is keyed, a digest of each curve's keys.
        owners: the keyed datablocks by name; good only until the scene changes.
    """

    still: dict[str, bytes]
    curves: dict[Key, bytes]
    owners: dict[str, bpy.types.ID]

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


class Printer:
    """Reads prints of one scene after the other; digests of datablocks that have not changed are kept."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[frozenset[tuple[str, int]], bytes]] = {}
        self._keyed: dict[str, tuple[frozenset[str], _Keyed]] = {}

    def changed(self, ids: Iterable[bpy.types.ID]) -> None:
        """Datablocks that Blender says have changed."""
        for datablock in ids:
            self._kept.pop(_name(datablock), None)
            if isinstance(datablock, bpy.types.Action):
                self._keyed = {k: v for k, v in self._keyed.items() if datablock.name_full not in v[0]}

    def forget(self) -> None:
        """Another file."""
        self._kept.clear()
        self._keyed.clear()

    def read(self, scene: bpy.types.Scene) -> Print:
        """The scene as it is now. Takes a few milliseconds for a body with keys on all its joints."""
        curves: dict[Key, bytes] = {}
        owners: dict[str, bpy.types.ID] = {}
        still = {_SCENE: _digest(_of_scene(scene))}
        everything = animatable(scene)
        moved: dict[str, set[tuple[str, int]]] = {}
        for datablock in everything:
            if isinstance(datablock, bpy.types.Object) and is_screen(datablock):
                continue
            animation, name = datablock.animation_data, _name(datablock)
            paths = moved.setdefault(name, set())
            if animation is None:
                continue
            strips = [strip for track in animation.nla_tracks if not track.mute for strip in track.strips]
            owners[name] = datablock
            for path, index, digest in self._curves(name, animation):
                paths.add((path, index))
                if digest:
                    curves[name, path, index] = digest
            for driver in animation.drivers:
                paths.add((driver.data_path, driver.array_index))
            if strips or animation.drivers:
                # Strips play their curves at other times: any change of them counts for all frames.
                told = [tuple(_simple(strip, set())) for strip in strips]
                told += [(d.data_path, d.driver.expression, d.mute) for d in animation.drivers]
                told += [digest for key, digest in curves.items() if strips and key[0] == name]
                still[name + _ANIMATION] = _digest(told)
        for datablock in everything:
            name = _name(datablock)
            if name in moved and not isinstance(datablock, bpy.types.Scene):
                keyed = frozenset(moved[name])
                known = self._kept.get(name)
                if known is None or known[0] != keyed:
                    known = self._kept[name] = (keyed, _digest(_of_datablock(datablock, keyed)))
                still[name] = known[1]
        return Print(still, curves, owners)

    def _curves(self, name: str, animation: bpy.types.AnimData) -> _Keyed:
        """The curves of a datablock: path, index, and digest or nothing where it is muted."""
        strips = [strip.action for track in animation.nla_tracks for strip in track.strips]
        actions = frozenset(action.name_full for action in (animation.action, *strips) if action is not None)
        known = self._keyed.get(name)
        if known is None or known[0] != actions:
            found = [(c.data_path, c.array_index, b"" if c.mute else _of_curve(c)) for c in curves_of(animation)]
            known = self._keyed[name] = (actions, found)
        return known[1]

    @staticmethod
    def at(found: Print, frames: range, only: Iterable[bpy.types.ID] | None = None) -> FramePrints:
        """What a print, just read, says of some frames.

        Args:
            only: the datablocks that matter; all when None.
        """
        names = None if only is None else frozenset(map(_name, only))
        still, keys = _chosen(found, names)
        values = found.values(keys, frames)
        return FramePrints(frames, still, {key: (found.curves[key], values[key]) for key in keys}, names)


def _chosen(found: Print, names: frozenset[str] | None) -> tuple[dict[str, bytes], set[Key]]:
    """What a print says of some datablocks and of the scene's own settings."""
    if names is None:
        return found.still, set(found.curves)
    still = {name: digest for name, digest in found.still.items() if name.removesuffix(_ANIMATION) in names}
    return still | {_SCENE: found.still[_SCENE]}, {key for key in found.curves if key[0] in names}


def _of_curve(curve: bpy.types.FCurve) -> bytes:
    points = curve.keyframe_points
    told: list[Any] = [curve.extrapolation, [tuple(_simple(modifier, set())) for modifier in curve.modifiers]]
    for name, size, kind in (("co", 2, np.float32), ("handle_left", 2, np.float32), ("handle_right", 2, np.float32)):
        values = np.empty(size * len(points), dtype=kind)
        points.foreach_get(name, values)
        told.append(values.tobytes())
    values = np.empty(len(points), dtype=np.int32)
    for name in ("interpolation", "easing"):
        points.foreach_get(name, values)
        told.append(values.tobytes())
    return _digest(told)


def _of_scene(scene: bpy.types.Scene) -> Iterator[Any]:
    yield from (getattr(scene.render, name) for name in _RENDER)
    yield from (getattr(scene.maquette, name) for name in _SHOT)
    yield scene.camera.name_full if scene.camera is not None else ""
    yield sorted((m.frame, m.camera.name_full) for m in scene.timeline_markers if m.camera is not None)
    if scene.maquette.render_engine == "SCENE":
        yield (scene.render.engine, *_simple(scene.view_settings, set()))


def _of_datablock(datablock: bpy.types.ID, keyed: frozenset[tuple[str, int]]) -> Iterator[Any]:
    whole = {path for path, _ in keyed}
    if isinstance(datablock, bpy.types.Object):
        yield from _of_object(datablock, keyed, whole)
        return
    if isinstance(datablock, bpy.types.Key):
        values = np.empty(len(datablock.key_blocks), dtype=np.float32)
        datablock.key_blocks.foreach_get("value", values)
        for index, block in enumerate(datablock.key_blocks):
            if f'key_blocks["{block.name}"].value' in whole:
                values[index] = 0
        yield values.tobytes()
        return
    yield from _simple(datablock, whole)
    if isinstance(datablock, bpy.types.Mesh):
        place = np.empty(3 * len(datablock.vertices), dtype=np.float32)
        if len(place):
            datablock.attributes["position"].data.foreach_get("vector", place)
        yield place.tobytes()
        for attribute in datablock.color_attributes:
            colours = np.empty(4 * len(attribute.data), dtype=np.float32)
            attribute.data.foreach_get("color", colours)
            yield colours.tobytes()
    tree = datablock if isinstance(datablock, bpy.types.NodeTree) else getattr(datablock, "node_tree", None)
    if tree is not None:
        yield from _of_nodes(tree, whole)


def _of_nodes(tree: bpy.types.NodeTree, whole: set[str]) -> Iterator[Any]:
    for node in tree.nodes:
        yield from _simple(node, {"location", "width", "height", "select", "hide", "location_absolute"})
        image = getattr(node, "image", None)
        if image is not None:
            yield image.name_full, image.filepath
        for number, socket in enumerate(node.inputs):
            if hasattr(socket, "default_value") and f'nodes["{node.name}"].inputs[{number}].default_value' not in whole:
                yield _plain(socket.default_value)
    yield from ((link.from_socket.path_from_id(), link.to_socket.path_from_id()) for link in tree.links)


def _of_object(obj: bpy.types.Object, keyed: frozenset[tuple[str, int]], whole: set[str]) -> Iterator[Any]:
    for name in _OBJECT:
        value = _plain(getattr(obj, name))
        if isinstance(value, tuple):
            value = tuple(v for index, v in enumerate(value) if (name, index) not in keyed)
        elif name in whole:
            continue
        yield name, value
    yield [other.name_full if other is not None else "" for other in (obj.parent, obj.data)]
    yield [slot.material.name_full if slot.material is not None else "" for slot in obj.material_slots]
    yield [v for row in obj.matrix_parent_inverse for v in row]
    for name in ("modifiers", "constraints"):
        yield from ((tuple(_simple(one, whole)), _target(one)) for one in getattr(obj, name))
    if obj.type == "MESH":
        yield from _of_character(obj)
    if obj.pose is not None:
        yield from _of_pose(obj.pose, keyed)


def _of_character(obj: bpy.types.Object) -> Iterator[Any]:
    marks = obj.maquette
    yield tuple(_simple(marks, set()))
    for entry in marks.references:
        yield tuple(_simple(entry, set()))
    pictures = [(marks.reference_image, marks.reference_match), *((one.image, one.match) for one in marks.references)]
    for image, match in pictures:
        yield tuple(_simple(match, set()))
        yield [found.name_full if found is not None else "" for found in (image, match.image)]


def _of_pose(pose: bpy.types.Pose, keyed: frozenset[tuple[str, int]]) -> Iterator[Any]:
    """Unkeyed channels of all bones."""
    bones = pose.bones
    place = {bone.name: index for index, bone in enumerate(bones)}
    for name, size in zip(_PLACE, (3, 4, 3, 4, 3), strict=True):
        values = np.empty((len(bones), size), dtype=np.float32)
        bones.foreach_get(name, values.reshape(-1))
        for path, index in keyed:
            bone, _, attribute = path.removeprefix('pose.bones["').partition('"].')
            if attribute == name and bone in place:
                values[place[bone], index] = 0
        yield values.tobytes()
    for bone in bones:
        yield from ((tuple(_simple(one, set())), _target(one)) for one in bone.constraints)


def _target(one: Any) -> tuple[str, ...]:
    found = (getattr(one, "target", None), getattr(one, "object", None))
    return tuple(each.name_full for each in found if each is not None)


def _simple(struct: Any, whole: set[str]) -> Iterator[Any]:
    """Everything about a struct that can be set and points to nothing, but for what is keyed."""
    for name, array in _names(type(struct)):
        if name not in whole:
            value = getattr(struct, name)
            yield _plain(value) if array else value


_known: dict[type, list[tuple[str, bool]]] = {}


def _names(kind: type) -> list[tuple[str, bool]]:
    if kind not in _known:
        _known[kind] = [
            (prop.identifier, getattr(prop, "is_array", False))
            for prop in kind.bl_rna.properties  # type: ignore[attr-defined]
            if prop.type in _SIMPLE
            and not prop.is_readonly
            and prop.identifier not in _UNSEEN
            and (not prop.identifier.startswith("show_") or prop.identifier in _SHOWN)
        ]
    return _known[kind]


def _plain(value: Any) -> Any:
    if isinstance(value, (str, bytes)) or not hasattr(value, "__len__"):
        return value
    return tuple(map(_plain, value))


def _name(datablock: bpy.types.ID) -> str:
    return f"{type(datablock).__name__} {datablock.name_full}"


def _digest(parts: Iterable[Any]) -> bytes:
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        found.update(part if isinstance(part, bytes) else repr(part).encode())
    return found.digest()
