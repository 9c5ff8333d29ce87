"""A body's motion keyed on an animator's own armature: its bones turn as the body's joints, its rest pose stays.

Shape letters: T frames.
"""

from __future__ import annotations

from dataclasses import replace

import bpy
import numpy as np
from mathutils import Matrix, Quaternion, Vector

from ...backend.bodies import BodyModel
from ...backend.motions import BodyMotion
from ...backend.motions.bvh import BvhClip
from ...backend.motions.onto_skeleton import SkeletonMotion, onto_skeleton
from .. import keys
from .bodies import RigError
from .characters import armatures_of
from .joints import rest_clip
from .motion import Imported

_LIMITS = ("LIMIT_", "MAINTAIN_VOLUME", "COPY_SCALE")
"""Constraints, by the beginning of their type, that do not move a bone by themselves."""


def key_armature(
    scene: bpy.types.Scene,
    armature: bpy.types.Object,
    motion: BodyMotion,
    body: BodyModel,
    first: int,
    *,
    from_here: bool = False,
) -> Imported:
    """Key an armature from frame ``first``, one key a frame; each bone keeps its rotation mode.

    Args:
        scene: its meshes tell where the armature's soles are.
        armature: which bones are which of a body is found by their names, else by their tree.
        motion: of ``body``, at the scene's rate.
        body: the body's model.
        first: frame of the first key.
        from_here: begin where the armature stands now, instead of where the motion says.

    Raises:
        RigError: the armature cannot be keyed, or constraints move its bones.
        MotionError: its bones are not understood; UnknownSkeleton where they can be named by hand.
    """
    if armature.library is not None or armature.data.library is not None:
        raise RigError(armature.name, "is linked from another file; make a library override of it first")
    placed = np.array(armature.matrix_world, dtype=np.float64)
    if abs(np.linalg.det(placed[:3, :3])) < 1e-18:
        raise RigError(armature.name, "is scaled to nothing; set its scale to 1")
    clip = _placed_clip(armature, placed)
    made = onto_skeleton(clip, motion, body, _ground(scene, armature, clip))
    names = {joint: clip.names[joint] for joint in sorted(made.turns)}
    _refuse_held(armature, [armature.pose.bones[name] for name in names.values()])
    for name in (names[joint] for joint in made.places):
        bone = armature.data.bones[name]
        if bone.use_connect and not any(above.name in names.values() for above in bone.parent_recursive):
            raise RigError(
                armature.name,
                f"its bone {name} cannot leave its parent; turn off Connected in Bone > Relations",
            )
    shift = np.zeros(3)
    if from_here:
        heads = [np.array(armature.matrix_world @ armature.pose.bones[clip.names[j]].head) for j in made.hip_joints]
        shift[:2] = (0.5 * sum(heads) - made.hips[0])[:2]
    curves = _curves(armature, placed, names, made, shift)
    notes = [f"bones of {armature.name}: {made.label}"]
    if keys.has_keys(armature):
        notes.append(f"the former action of {armature.name} is kept in the file")
    frames = first + np.arange(motion.frames, dtype=np.float64)
    keys.write_keys(armature, frames, curves, action_name=motion.name)
    return Imported(first, first + motion.frames - 1, tuple(notes))


def _placed_clip(armature: bpy.types.Object, placed: np.ndarray) -> BvhClip:
    """The rest skeleton where the armature object stands, in the world."""
    clip = rest_clip(armature)
    roots = np.asarray(clip.parents)[:, None] < 0
    offsets = clip.offsets @ placed[:3, :3].T + np.where(roots, placed[:3, 3], 0.0)
    return replace(clip, offsets=offsets, translations=offsets[None])


def _ground(scene: bpy.types.Scene, armature: bpy.types.Object, clip: BvhClip) -> float:
    """Height of the soles at rest: of the meshes on the armature, else of its lowest bone."""
    lowest = []
    for obj in scene.objects:
        if obj.type == "MESH" and len(obj.data.vertices) and armature in armatures_of(obj):
            flat = np.empty(3 * len(obj.data.vertices), dtype=np.float32)
            obj.data.vertices.foreach_get("co", flat)
            matrix = np.array(obj.matrix_world, dtype=np.float64)
            lowest.append(float((flat.reshape(-1, 3) @ matrix[2, :3]).min() + matrix[2, 3]))
    if lowest:
        return min(lowest)
    tails = [(armature.matrix_world @ bone.tail_local).z for bone in armature.data.bones]
    return min(*tails, float(clip.world()[1][0, :, 2].min()))


def _refuse_held(armature: bpy.types.Object, bones: list[bpy.types.PoseBone]) -> None:
    """Raise RigError where constraints turn or move bones that are to be keyed, or what they hang on."""
    keyed = {bone.name for bone in bones}
    over = {above.name for bone in bones for above in bone.parent_recursive}
    told = {}
    for bone in armature.pose.bones:
        for constraint in bone.constraints:
            if constraint.mute or constraint.influence == 0 or constraint.type.startswith(_LIMITS):
                continue
            held = {bone.name}
            if constraint.type in ("IK", "SPLINE_IK"):
                held |= {above.name for above in bone.parent_recursive[: (constraint.chain_count or 1000) - 1]}
            if held & (keyed | over):
                told[bone.name] = constraint.name
    if told:
        listed = ", ".join(f"{name} ({constraint})" for name, constraint in list(told.items())[:4])
        more = f" and {len(told) - 4} more" if len(told) > 4 else ""
        raise RigError(
            armature.name,
            f"is moved by constraints, which keys do not change: {listed}{more}. Mute them, or put the motion on a "
            "new body (Performer) and copy it from there",
        )


def _curves(
    armature: bpy.types.Object, placed: np.ndarray, names: dict[int, str], made: SkeletonMotion, shift: np.ndarray
) -> list[keys.Channel]:
    """Channels of the armature's bones, for the motion ``shift`` (3,) further.

    Bones that are not keyed stay on their parents as they are posed now.
    """
    data, pose = armature.data.bones, armature.pose.bones
    inverse = np.linalg.inv(placed)
    axes = placed[:3, :3] / np.linalg.norm(placed[:3, :3], axis=0)
    goals = {}
    for joint, name in names.items():
        rest = np.array(data[name].matrix_local.to_3x3(), dtype=np.float64)
        goals[name] = axes.T @ made.turns[joint] @ axes @ rest
    places = {
        names[joint]: (place + shift) @ inverse[:3, :3].T + inverse[:3, 3] for joint, place in made.places.items()
    }
    needed = [bone for bone in data if bone.name in goals or any(c.name in goals for c in bone.children_recursive)]
    turned: dict[str, list[Quaternion]] = {name: [] for name in goals}
    moved: dict[str, list[Vector]] = {name: [] for name in places if not data[name].use_connect}
    for frame in range(len(made.hips)):
        posed: dict[str, Matrix] = {}
        for bone in needed:
            name, above, basis = bone.name, bone.parent, pose[bone.name].matrix_basis
            frames = {"parent_matrix": posed[above.name], "parent_matrix_local": above.matrix_local} if above else {}
            if name in goals:
                goal = Matrix(goals[name][frame].tolist()).to_4x4()
                goal.translation = places[name][frame] if name in places else (0, 0, 0)
                local = bone.convert_local_to_pose(goal, bone.matrix_local, invert=True, **frames)
                place, _, size = basis.decompose()
                turned[name].append(local.to_quaternion())
                if name in moved:
                    place = local.to_translation()
                    moved[name].append(place)
                basis = Matrix.LocRotScale(place, turned[name][-1], size)
            posed[name] = bone.convert_local_to_pose(basis, bone.matrix_local, **frames)
    curves = []
    for name, quaternions in turned.items():
        if name in moved:
            curves += keys.channels_of(pose[name].path_from_id("location"), np.array(moved[name]), name)
        curves += _rotation(pose[name], quaternions)
    return curves


def _rotation(bone: bpy.types.PoseBone, quaternions: list[Quaternion]) -> list[keys.Channel]:
    """Channels of a bone's rotation in its own mode, without jumps over time."""
    mode, values = bone.rotation_mode, []
    if mode == "QUATERNION":
        for quaternion in quaternions:
            if values:
                quaternion.make_compatible(values[-1])
            values.append(quaternion)
        path = "rotation_quaternion"
    elif mode == "AXIS_ANGLE":
        for quaternion in quaternions:
            axis, angle = quaternion.to_axis_angle()
            values.append((angle, *axis))
        path = "rotation_axis_angle"
    else:
        for quaternion in quaternions:
            values.append(quaternion.to_euler(mode, values[-1]) if values else quaternion.to_euler(mode))
        path = "rotation_euler"
    return keys.channels_of(bone.path_from_id(path), np.array(values, dtype=np.float64), bone.name)
