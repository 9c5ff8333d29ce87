"""Which joint of a motion file or armature is which of the body, while the animator chooses (Map Bones).

The choice lives in the window manager and becomes a preset of the animator's own, which importing finds by itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bpy

from ...backend.catalogue.rig import write_scheme
from ...backend.motions import BodyMotion, MotionError
from ...backend.motions.bones import PARTS, faults_of, guess_parts, mirror_joints, scheme_of
from ...backend.motions.bvh import BvhClip, parse_bvh
from ...backend.motions.naming import joint_labels, own_scheme
from ...backend.motions.reading import read_data
from ...backend.motions.types import WARNING
from ..folders import ADDON
from .armature import FORMATS, imported_armature
from .joints import rest_clip

_LINES = "degrees from the file's"


def own_folder() -> Path:
    """Where the animator's own presets of skeletons lie; it need not exist."""
    return Path(bpy.utils.extension_path_user(ADDON, path="", create=False)) / "skeletons"


def remember(
    context: bpy.types.Context,
    source: str | bpy.types.Object,
    settings: Mapping[str, Any],
    outcome: BodyMotion | MotionError,
) -> None:
    """Note what was brought in last and how that went, so that its bones can be mapped.

    Args:
        source: a file or an armature; motions that come from no skeleton are not noted.
        settings: of the operator, to bring it in again.
        outcome: the motion that it gave, or why it gave none.
    """
    view = context.window_manager.maquette.bones
    of_skeleton = isinstance(outcome, MotionError) or "bones_deg" in (outcome.source_error or {})
    view.is_armature = not isinstance(source, str)
    view.source = (source if isinstance(source, str) else source.name) if of_skeleton else ""
    if isinstance(outcome, MotionError):
        view.trouble = f"The joints of {Path(view.source).name} fit nothing known"
        view.settings = json.dumps(settings)
        return
    worst = [note.removeprefix(WARNING) for note in outcome.notes if _LINES in note]
    view.trouble = f"{worst[0][:1].upper()}{worst[0][1:]}: are its bones the right ones?" if worst else ""
    # Again on the body that has it now.
    view.settings = json.dumps({**settings, "target": "ACTIVE"})


def read_joints(context: bpy.types.Context) -> None:
    """List the joints of the source and guess what each is, unless that was done for it.

    Raises:
        MotionError: it cannot be read, or has no joints.
        OSError: the file cannot be opened.
    """
    view = context.window_manager.maquette.bones
    if view.read == f"{view.is_armature} {view.source}":
        return
    clip = _clip(context, view)
    labels, mirrors = joint_labels(clip.names, clip.parents), mirror_joints(clip)
    view.read = ""
    view.joints.clear()
    for label, parent, mirror in zip(labels, clip.parents, mirrors, strict=True):
        joint = view.joints.add()
        joint.name, joint.parent = label, int(parent)
        joint.depth = view.joints[joint.parent].depth + 1 if parent >= 0 else 0
        joint.mirror = labels[mirror] if mirror >= 0 else ""
    view.told, guessed = guess_parts(clip)
    view.parts.clear()
    for part in PARTS:
        row = view.parts.add()
        row.name = part
    for part, joint in guessed.items():
        view.parts[part].joint = labels[joint]
    own = own_scheme(clip.names, clip.parents)
    view.preset = own[0].id if own and (own_folder() / f"{own[0].id}.toml").exists() else ""
    view.label = own[0].label if own and view.preset else Path(view.source).stem
    view.read = f"{view.is_armature} {view.source}"


def chosen(view: bpy.types.PropertyGroup) -> dict[str, str]:
    """The label of the joint that stands for each part; "" where none does."""
    return {row.name: row.joint for row in view.parts}


def faults(view: bpy.types.PropertyGroup) -> list[str]:
    """What is wrong with the choice."""
    known = {joint.name for joint in view.joints}
    strange = [row.joint for row in view.parts if row.joint and row.joint not in known]
    told = [f"there is no joint {name}" for name in strange]
    return [*told, *faults_of(chosen(view)), *([] if view.label.strip() else ["the preset has no name"])]


def save(view: bpy.types.PropertyGroup) -> Path:
    """Write the choice as a preset of the animator's own; that which explained these joints before is replaced."""
    labels, parents = [joint.name for joint in view.joints], [joint.parent for joint in view.joints]
    label = view.label.strip()
    joints = scheme_of(labels, parents, chosen(view))
    path = write_scheme(own_folder(), label, joints, view.preset)
    view.preset = path.stem
    return path


def follow_left(row: bpy.types.PropertyGroup, anyhow: bool = False) -> None:
    """Fill a part of the right side, where it is empty or ``anyhow``, with the mirror of the left one, ``row``."""
    view = bpy.context.window_manager.maquette.bones
    if not row.name.startswith("left_") or row.joint not in view.joints:
        return
    right, mirror = view.parts.get(row.name.replace("left", "right", 1)), view.joints[row.joint].mirror
    if right is not None and mirror and (anyhow or not right.joint):
        right.joint = mirror


def _clip(context: bpy.types.Context, view: bpy.types.PropertyGroup) -> BvhClip:
    if view.is_armature:
        armature = bpy.data.objects.get(view.source)
        if armature is None or armature.type != "ARMATURE":
            raise MotionError("armature", f"'{view.source}' is not in the scene any more; make an armature active")
        return rest_clip(armature)
    path = Path(view.source)
    if path.suffix.lower() in FORMATS:
        with imported_armature(context, path, unknown=True) as (armature, _):
            return rest_clip(armature)
    kind, data = read_data(path)
    if kind != "bvh":
        raise MotionError("file", f"'{path.name}' holds no skeleton whose bones could be mapped")
    return parse_bvh(data).with_sites()
