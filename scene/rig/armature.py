"""Motion of any humanoid armature of the scene, and of files that Blender imports as armatures.

Shape letters: T frames, J bones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np

from ...backend.motions.bvh import BvhClip
from ...backend.motions.kinematics import to_local
from ...backend.motions.skeletons import UnknownSkeleton, map_skeleton
from ...backend.motions.types import MotionError
from ..keys import scene_fps
from ..stage import open_stage, scene_kept
from .bodies import find_body
from .joints import rest_clip

FORMATS = (".fbx", ".glb", ".gltf")
"""Files that Blender's own importers make armatures of."""
_PERSON = 15
"""Bones from which on an armature may be a person's."""


def foreign_armature(obj: bpy.types.Object | None) -> bpy.types.Object | None:
    """The armature that ``obj`` is, or that moves it as a mesh, unless it is that of a body."""
    if obj is None or find_body(obj) is not None:
        return None
    if obj.type == "ARMATURE":
        return obj
    return obj.find_armature() if obj.type == "MESH" else None


def frames_of(armature: bpy.types.Object, scene: bpy.types.Scene) -> tuple[int, int]:
    """First and last frame of an armature's action, else of the scene."""
    data = armature.animation_data
    if data is not None and data.action is not None:
        first, last = data.action.frame_range
        return int(np.floor(first)), int(np.ceil(last))
    return scene.frame_start, scene.frame_end


def sample_armature(
    scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, armature: bpy.types.Object, first: int, last: int
) -> BvhClip:
    """An armature's bones over the frames ``first`` to ``last``, as constraints and drivers leave them.

    Places are in the world, Z up, in Blender's units; turns are relative to the rest pose. The scene stays as it is.
    """
    count = len(armature.data.bones)
    flat = np.empty(count * 16, dtype=np.float32)
    matrices = np.empty((last - first + 1, count, 4, 4))
    with scene_kept(scene, view_layer) as keeper:
        stage = open_stage(scene, view_layer, keeper.changes, [armature])
        for index, frame in enumerate(range(first, last + 1)):
            evaluated = armature.evaluated_get(stage.at(frame))
            evaluated.pose.bones.foreach_get("matrix", flat)
            world = np.array(evaluated.matrix_world, dtype=np.float64)
            matrices[index] = world @ flat.reshape(-1, 4, 4).transpose(0, 2, 1)
    clip = rest_clip(armature)
    rests = np.array([bone.matrix_local.to_3x3() for bone in armature.data.bones], dtype=np.float64)
    axes = matrices[..., :3, :3]
    axes = axes / np.maximum(np.linalg.norm(axes, axis=-2, keepdims=True), 1e-12)
    turns, heads = axes @ np.swapaxes(rests, -1, -2), matrices[..., :3, 3]
    parents = np.asarray(clip.parents)
    above = np.maximum(parents, 0)
    gaps = np.einsum("tjba,tjb->tja", turns[:, above], heads - heads[:, above])
    translations = np.where(parents[:, None] >= 0, gaps, heads)
    rate = scene_fps(scene)
    return replace(clip, rotations=to_local(turns, parents.tolist()), translations=translations, frame_time=1 / rate)


@contextmanager
def imported_armature(
    context: bpy.types.Context, path: Path, clip: int = 0, keep: bool = False, unknown: bool = False
) -> Iterator[tuple[bpy.types.Object, tuple[str, ...]]]:
    """An FBX or glTF file's armature, brought in by Blender's importer and gone again after the block, unless kept.

    Args:
        path: the file.
        clip: which of its actions.
        keep: leave what was imported in the scene.
        unknown: where no armature is known to be a person's, take the one of most bones.

    Yields:
        The armature with that action, and sentences for the animator.

    Raises:
        MotionError: where Blender cannot read it, or it holds no humanoid armature or no such action.
    """
    if context.mode != "OBJECT":
        raise MotionError("file", f"'{path.name}' is imported by Blender, which needs Object Mode; switch to it")
    scene, layer = context.scene, context.view_layer
    before = {kind: set(getattr(bpy.data, kind)) for kind in _KINDS}
    active, selected = layer.objects.active, [obj for obj in layer.objects if obj.select_get()]
    kept = {name: getattr(scene, name) for name in ("frame_start", "frame_end", "frame_current")}
    rate = scene.render.fps, scene.render.fps_base

    def new(kind: str) -> list[bpy.types.ID]:
        return [item for item in getattr(bpy.data, kind) if item not in before[kind]]

    done = False
    try:
        _import(path)
        for name, value in kept.items():
            setattr(scene, name, value)
        scene.render.fps, scene.render.fps_base = rate
        armatures = [obj for obj in new("objects") if obj.type == "ARMATURE"]
        armature = next((obj for obj in armatures if _is_humanoid(obj)), None)
        if armature is None and unknown:
            armature = max(armatures, key=lambda obj: len(obj.data.bones), default=None)
        if armature is None:
            found = ", ".join(obj.name for obj in armatures[:6]) or "no armature"
            wrong, cure = MotionError, ""
            if any(len(obj.data.bones) >= _PERSON for obj in armatures):
                wrong, cure = UnknownSkeleton, "; if one is, say with Map Bones which bone is which"
            raise wrong("skeleton", f"'{path.name}' holds no armature of a person ({found}){cure}")
        actions = sorted(new("actions"), key=lambda action: action.name)
        note = _choose(armature, actions, clip, path)
        yield armature, note
        done = True
    finally:
        if not (keep and done):
            for kind in _KINDS:
                bpy.data.batch_remove(new(kind))
            layer.update()
            for obj in layer.objects:
                obj.select_set(obj in selected)
            layer.objects.active = active


_KINDS = ("objects", "collections", "actions", "meshes", "armatures", "cameras", "lights", "materials", "images")


def _import(path: Path) -> None:
    if path.suffix.lower() != ".fbx":
        run = blender_operator("import_scene", "gltf")
    else:  # Before 4.5 there is only the add-on
        run = blender_operator("wm", "fbx_import") or blender_operator("import_scene", "fbx")
    if run is None:
        kind = "FBX" if path.suffix.lower() == ".fbx" else "glTF"
        raise MotionError("file", f"'{path.name}' cannot be read: this Blender has no {kind} importer. {without(kind)}")
    try:
        run(filepath=str(path))
    except RuntimeError as error:
        raise MotionError("file", f"Blender cannot read '{path.name}': {str(error).strip()}") from error


def blender_operator(group: str, name: str) -> Callable[..., set[str]] | None:
    """An operator of Blender's or of an add-on that comes with it; None where this Blender lacks it or it is off."""
    operators = getattr(bpy.ops, group)
    return getattr(operators, name) if name in dir(operators) else None


def without(kind: str) -> str:
    """What to do where Blender lacks its importer or exporter of FBX or glTF."""
    return (
        f"Turn on the add-on '{kind} format' in Edit > Preferences > Add-ons; where it is not listed, use the Blender "
        "from blender.org, which brings it along"
    )


def _is_humanoid(armature: bpy.types.Object) -> bool:
    try:
        map_skeleton(rest_clip(armature))
    except MotionError:
        return False
    return True


def _choose(armature: bpy.types.Object, actions: list[bpy.types.Action], clip: int, path: Path) -> tuple[str, ...]:
    """Give the armature one of several actions."""
    if len(actions) < 2 and not clip:
        return ()
    if clip >= len(actions):
        raise MotionError("clip", f"{clip} does not exist: '{path.name}' holds {len(actions)} actions")
    data = armature.animation_data or armature.animation_data_create()
    for track in data.nla_tracks:
        track.mute = True
    data.action = actions[clip]
    if getattr(data, "action_suitable_slots", None) and data.action_slot is None:
        data.action_slot = data.action_suitable_slots[0]
    return (f"the file holds {len(actions)} actions; this is number {clip} ({actions[clip].name})",)
