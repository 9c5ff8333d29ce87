"""A body that follows an armature while that is edited: by constraints alone, which need no add-on to render.

Between both stands a hidden armature, the link, with a bone for each joint that turns as the joint's goal says (see
``backend.motions.retarget.Link``); the body's bones copy these. With k a bone of the source, R its rest axes, C the
axes of the joint within it and B the rest axes of the body's bone:

    Child Of k, turns only, with the inverse       R^T C B  ->  the bone turns as the joint must
    Copy Location of k, Damped Track to the next joint   ->  a limb's bone, and with it the one aimed by it, lies along
                                                             the source's
    Copy Location of both hips, in the link's own space  ->  their middle, scaled and moved by the link's object

Keys that the body has stay, and move it again once it is unlinked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import bpy
import numpy as np
from mathutils import Matrix

from ...backend.motions.kinematics import JOINT, swing
from ...backend.motions.retarget import Link
from .bodies import Rig, RigError

NAME = "Maquette Live"
"""Name of the constraints on the body's bones."""
_SOURCE = "maquette_live_source"
_HIPS, _ROOT = "hips", "root"
_AIMED = " aimed"
_STILL = (JOINT["left_hand"], JOINT["right_hand"])
"""Joints that keep the pose that they have."""


def link_of(mesh: bpy.types.Object) -> bpy.types.Object | None:
    """The hidden armature through which a body follows another one; None where it follows none."""
    armature = mesh.parent
    for bone in armature.pose.bones if armature is not None and armature.type == "ARMATURE" else ():
        for constraint in bone.constraints:
            if constraint.name.startswith(NAME) and constraint.target is not None:
                return constraint.target
    return None


def followed(mesh: bpy.types.Object) -> bpy.types.Object | None:
    """The armature that a body follows; None where it follows none that is in a scene."""
    link = link_of(mesh)
    source = link.get(_SOURCE) if link is not None else None
    return source if source is not None and source.users_scene else None


def follow(
    context: bpy.types.Context, rig: Rig, rest: np.ndarray, source: bpy.types.Object, link: Link, shift: np.ndarray
) -> bpy.types.Object:
    """Let a body follow an armature from now on, instead of what it followed before.

    Args:
        rig: the body's.
        rest: (J,3) the joints of its shape at rest, canonical.
        source: the armature, whose bones in order are the link's joints.
        link: how they move the body.
        shift: (3,) metres by which the body stands off the scaled place of the source.

    Returns:
        The hidden armature between both.
    """
    if source == rig.armature:
        raise RigError(source.name, "is the body's own armature; choose another one")
    release(rig)
    rest = np.asarray(rest, dtype=np.float64)
    made = _build(context, f"{rig.mesh.name} Follows {source.name}", rig, rest, link)
    made[_SOURCE] = source
    own = Matrix.Translation(shift.tolist()) @ Matrix.Scale(link.scale, 4)
    made.matrix_world = own
    bones = source.data.bones
    for joint, parts in _moved(rig, link):
        for order, (index, axes, share) in enumerate(parts):
            bone = bones[index]
            helper = made.pose.bones[_name(rig, joint, order)]
            aim = _aim(rig, joint, rest, link)
            turned = np.array(bone.matrix_local.to_3x3().normalized()).T @ axes @ aim
            _child_of(helper, source, bone.name, Matrix(turned.tolist()).to_4x4() @ own.inverted())
            if joint in link.limbs:
                _copy_location(helper, source, bone.name)
                track = helper.constraints.new("DAMPED_TRACK")
                track.target, track.subtarget = source, bones[link.limbs[joint][1]].name
                track.track_axis = "TRACK_Y"
            copy = rig.armature.pose.bones[rig.bones[joint]].constraints.new("COPY_ROTATION")
            copy.name, copy.target, copy.influence = NAME, made, share
            copy.subtarget = helper.name + _AIMED if joint in link.limbs else helper.name
    index, axes, _ = link.parts[0][0]
    hips = made.pose.bones[_HIPS]
    turned = np.array(bones[index].matrix_local.to_3x3().normalized()).T @ axes @ rig.rests[0]
    _child_of(hips, source, bones[index].name, Matrix(turned.tolist()).to_4x4() @ own.inverted())
    for hip, share in zip(link.hips, (1.0, 0.5), strict=True):
        copy = _copy_location(hips, source, bones[hip].name)
        copy.influence, copy.owner_space = share, "POSE"
    _copy_location(rig.armature.pose.bones[rig.root], made, _ROOT).name = NAME
    return made


def release(rig: Rig) -> bool:
    """Let a body follow nothing; its own keys move it again. Returns whether it followed something."""
    links = set()
    for bone in rig.armature.pose.bones:
        for constraint in list(bone.constraints):
            if constraint.name.startswith(NAME):
                links.add(constraint.target)
                bone.constraints.remove(constraint)
    for link in links:
        if link is not None and _SOURCE in link:
            bpy.data.batch_remove([link, link.data])
    return bool(links)


def _moved(rig: Rig, link: Link) -> Iterator[tuple[int, tuple[tuple[int, np.ndarray, float], ...]]]:
    for joint, parts in enumerate(link.parts):
        # The hands of SMPL are fingers of its successors.
        if joint not in _STILL and joint < len(rig.bones):
            yield joint, parts


def _aim(rig: Rig, joint: int, rest: np.ndarray, link: Link) -> np.ndarray:
    """(3,3) the rest axes of a joint's bone, turned for limbs so that y points to the next joint of the shaped body."""
    if joint not in link.limbs:
        return rig.rests[joint]
    end = int(np.flatnonzero(rig.parents == joint)[0])
    return swing(rig.rests[joint][:, 1], rest[end] - rest[joint]) @ rig.rests[joint]


def _name(rig: Rig, joint: int, order: int) -> str:
    return rig.bones[joint] + ("", " second")[order]


def _copy_location(bone: bpy.types.PoseBone, target: bpy.types.Object, name: str) -> bpy.types.Constraint:
    copy = bone.constraints.new("COPY_LOCATION")
    copy.target, copy.subtarget = target, name
    return copy


def _child_of(bone: bpy.types.PoseBone, source: bpy.types.Object, target: str, inverse: Matrix) -> None:
    child = bone.constraints.new("CHILD_OF")
    child.target, child.subtarget = source, target
    for axis in "xyz":
        setattr(child, f"use_location_{axis}", False)
        setattr(child, f"use_scale_{axis}", False)
    child.set_inverse_pending = False
    child.inverse_matrix = inverse


def _build(context: bpy.types.Context, name: str, rig: Rig, rest: np.ndarray, link: Link) -> bpy.types.Object:
    """The link's armature, all of whose bones rest at its origin with its axes."""
    data = bpy.data.armatures.new(name)
    made = bpy.data.objects.new(name, data)
    collection = rig.armature.users_collection[0] if rig.armature.users_collection else context.scene.collection
    collection.objects.link(made)
    with editing(context, made):

        def add(bone_name: str, head: np.ndarray) -> bpy.types.EditBone:
            bone = data.edit_bones.new(bone_name)
            bone.head, bone.tail = head, head + (0, 0.05, 0)
            return bone

        for joint, parts in _moved(rig, link):
            for order in range(len(parts)):
                bone = add(_name(rig, joint, order), np.zeros(3))
                if joint in link.limbs:
                    aimed = add(bone.name + _AIMED, np.zeros(3))
                    aimed.matrix = Matrix((_aim(rig, joint, rest, link).T @ rig.rests[joint]).tolist()).to_4x4()
                    aimed.parent = bone
        parent = add(_HIPS, np.zeros(3))
        between = rest[0] - rest[[JOINT["left_hip"], JOINT["right_hip"]]].mean(axis=0)
        # The bone above is of the world's scale, whatever the link's.
        add(_ROOT, rig.rests[0].T @ between).parent = parent
    made.hide_viewport = made.hide_render = True
    return made


@contextmanager
def editing(context: bpy.types.Context, armature: bpy.types.Object) -> Iterator[None]:
    """An armature in Edit Mode; mode and active object are the animator's again afterwards."""
    layer = context.view_layer
    active = layer.objects.active
    mode = active.mode if active is not None else "OBJECT"
    if mode != "OBJECT":
        bpy.ops.object.mode_set(mode="OBJECT")
    try:
        layer.objects.active = armature
        bpy.ops.object.mode_set(mode="EDIT")
        try:
            yield
        finally:
            bpy.ops.object.mode_set(mode="OBJECT")
    finally:
        layer.objects.active = active
        if mode != "OBJECT":
            bpy.ops.object.mode_set(mode=mode)
