"""Keys in bulk, the same call on every Blender version.

Blender 4.2 and 4.3 keep F-curves in the action itself; from 4.4 they lie in the channel bag of a slot. Whoever
writes keys calls ``write_keys`` and never learns of it.

Shape letters: T frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

_INTERPOLATION = {"CONSTANT": 0, "LINEAR": 1, "BEZIER": 2}
_AUTO_CLAMPED = 4


@dataclass(frozen=True, eq=False)
class Channel:
    """The keys of one property over time.

    Attributes:
        path: RNA path from the datablock, such as ``location``.
        index: element of an array property; 0 for a single value.
        values: (T,) one per frame.
        group: name of the channel group that the animator sees; "" for none.
    """

    path: str
    index: int
    values: np.ndarray
    group: str = ""


def channels_of(path: str, values: np.ndarray, group: str = "") -> list[Channel]:
    """One channel per column of ``values`` (T,K)."""
    return [Channel(path, index, values[:, index], group) for index in range(values.shape[1])]


def scene_fps(scene: bpy.types.Scene) -> float:
    """Frames of the scene per second."""
    return scene.render.fps / scene.render.fps_base


def has_keys(owner: bpy.types.ID) -> bool:
    """Whether a datablock is animated by an action of its own."""
    return owner.animation_data is not None and owner.animation_data.action is not None


def write_keys(
    owner: bpy.types.ID,
    frames: np.ndarray,
    channels: Sequence[Channel],
    *,
    action_name: str,
    interpolation: str = "LINEAR",
) -> bpy.types.Action:
    """Animate a datablock with a new action.

    An action that it had before is kept in the file (with a fake user), so that nothing keyed is lost.

    Args:
        owner: object, camera, shape keys ... that gets the keys.
        frames: (T,) frame numbers, ascending; they may be fractions.
        channels: what to key; every ``values`` is (T,).
        action_name: of the new action.
        interpolation: ``CONSTANT``, ``LINEAR`` or ``BEZIER``.
    """
    frames = np.asarray(frames, dtype=np.float32)
    for channel in channels:
        if channel.values.shape != frames.shape:
            raise ValueError(f"{channel.path}[{channel.index}]: {channel.values.shape} keys for {frames.shape} frames")
    animation = owner.animation_data or owner.animation_data_create()
    if animation.action is not None:
        animation.action.use_fake_user = True
    action = bpy.data.actions.new(action_name)
    try:
        container = _assign(owner, animation, action)
        for channel in channels:
            _write(_new_curve(container, channel), frames, channel.values, _INTERPOLATION[interpolation])
    except Exception:
        bpy.data.actions.remove(action)
        raise
    # Keys written in bulk do not tell the scene that it must evaluate them.
    owner.update_tag(refresh={"TIME"})
    return action


def curves(owner: bpy.types.ID) -> list[bpy.types.FCurve]:
    """The F-curves that animate a datablock through its action; empty when it has none."""
    animation = owner.animation_data
    if animation is None or animation.action is None:
        return []
    action: Any = animation.action
    if not hasattr(action, "layers"):
        return list(action.fcurves)
    slot = animation.action_slot
    found: list[bpy.types.FCurve] = []
    for layer in action.layers:
        for strip in layer.strips:
            bag = strip.channelbag(slot) if slot is not None else None
            found.extend(bag.fcurves if bag is not None else ())
    return found


def _assign(owner: bpy.types.ID, animation: bpy.types.AnimData, action: Any) -> Any:
    """Put the action on the datablock; returns what has ``fcurves`` (the action or its channel bag)."""
    animation.action = action
    if not hasattr(action, "layers"):
        return action
    slot = action.slots.new(id_type=owner.id_type, name=owner.name)
    animation.action_slot = slot
    strip = action.layers.new("Layer").strips.new(type="KEYFRAME")
    return strip.channelbag(slot, ensure=True)


def _new_curve(container: Any, channel: Channel) -> bpy.types.FCurve:
    if isinstance(container, bpy.types.Action):
        return container.fcurves.new(channel.path, index=channel.index, action_group=channel.group)
    if "group_name" in bpy.types.ActionChannelbagFCurves.bl_rna.functions["new"].parameters:
        return container.fcurves.new(channel.path, index=channel.index, group_name=channel.group)
    curve = container.fcurves.new(channel.path, index=channel.index)
    if channel.group:
        curve.group = container.groups.get(channel.group) or container.groups.new(channel.group)
    return curve


def _write(curve: bpy.types.FCurve, frames: np.ndarray, values: np.ndarray, interpolation: int) -> None:
    count = len(frames)
    points = curve.keyframe_points
    points.add(count)
    points.foreach_set("co", np.column_stack([frames, values]).astype(np.float32).ravel())
    # Enums lie in the file as bytes; arrays of bytes are copied whole, others one by one.
    points.foreach_set("interpolation", np.full(count, interpolation, dtype=np.uint8))
    for side in ("handle_left_type", "handle_right_type"):
        points.foreach_set(side, np.full(count, _AUTO_CLAMPED, dtype=np.uint8))
    curve.update()
