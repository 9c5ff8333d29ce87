"""A body's motion as an FBX file, by Blender's exporter: a plain skeleton of the body's joints, without skin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bpy
import numpy as np

from ...backend.bodies import BodyModel
from ...backend.bodies.rotations import axis_angle_to_matrix, axis_angle_to_quat, matrix_to_axis_angle
from ...backend.motions import BodyMotion, MotionError
from .. import keys
from .armature import blender_operator, without
from .build import UPRIGHT
from .channels import continuous
from .follow import editing


def write_fbx(context: bpy.types.Context, path: Path, motion: BodyMotion, body: BodyModel) -> None:
    """Write a motion of this body, at the scene's rate, from the time zero on; the scene stays as it is.

    Raises:
        MotionError: this Blender has no FBX exporter, or it failed.
    """
    export = blender_operator("export_scene", "fbx")
    if export is None:
        raise MotionError(
            "file", f"'{path.name}' cannot be written: this Blender has no FBX exporter. {without('FBX')}"
        )
    with _skeleton(context, motion, body):
        try:
            export(
                filepath=str(path),
                use_selection=True,
                object_types={"ARMATURE"},
                add_leaf_bones=False,
                bake_anim_use_all_bones=True,
                bake_anim_use_nla_strips=False,
                bake_anim_use_all_actions=False,
                bake_anim_simplify_factor=0.0,
            )
        except RuntimeError as error:
            raise MotionError("file", f"Blender cannot write '{path.name}': {str(error).strip()}") from error


@contextmanager
def _skeleton(context: bpy.types.Context, motion: BodyMotion, body: BodyModel) -> Iterator[None]:
    """The motion on an armature of its own, which alone is selected and goes again after the block."""
    scene, layer = context.scene, context.view_layer
    active, selected = layer.objects.active, [obj for obj in layer.objects if obj.select_get()]
    ranged = scene.frame_start, scene.frame_end
    data = bpy.data.armatures.new(motion.name)
    armature = bpy.data.objects.new(motion.name, data)
    made: list[bpy.types.ID] = [armature, data]
    try:
        scene.collection.objects.link(armature)
        armature.matrix_world = UPRIGHT
        shape = np.zeros(body.shapedirs.shape[2], dtype=np.float32)
        if motion.betas is not None:
            shape[: len(motion.betas)] = motion.betas[: len(shape)]
        rest = np.asarray(body.joints_rest(shape), dtype=np.float64)
        with editing(context, armature):
            bones = []
            for joint, (name, parent) in enumerate(zip(body.joint_names, body.parents, strict=True)):
                bone = data.edit_bones.new(name)
                # All rest with the body's own axes, so that its poses are theirs.
                bone.head, bone.tail = rest[joint], rest[joint] + (0, 0.05, 0)
                bone.parent = bones[parent] if parent >= 0 else None
                bones.append(bone)
        made.append(_key(armature, motion, body, rest))
        for obj in layer.objects:
            obj.select_set(obj == armature)
        layer.objects.active = armature
        scene.frame_start, scene.frame_end = 0, motion.frames - 1
        yield
    finally:
        bpy.data.batch_remove(made)
        scene.frame_start, scene.frame_end = ranged
        for obj in layer.objects:
            obj.select_set(obj in selected)
        layer.objects.active = active


def _key(armature: bpy.types.Object, motion: BodyMotion, body: BodyModel, rest: np.ndarray) -> bpy.types.Action:
    poses, upright = motion.poses.astype(np.float64), np.array(UPRIGHT.to_3x3())
    poses[:, 0] = matrix_to_axis_angle(upright.T @ axis_angle_to_matrix(poses[:, 0]))
    places = (motion.trans + rest[0]) @ upright - rest[0]
    turns = continuous(axis_angle_to_quat(poses))
    curves = []
    for joint, name in enumerate(body.joint_names):
        bone = armature.pose.bones[name]
        bone.rotation_mode = "QUATERNION"
        curves += keys.channels_of(bone.path_from_id("rotation_quaternion"), turns[:, joint], name)
        if joint == 0:
            curves += keys.channels_of(bone.path_from_id("location"), places, name)
    return keys.write_keys(armature, np.arange(motion.frames, dtype=np.float64), curves, action_name=motion.name)
