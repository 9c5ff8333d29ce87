"""A BodyMotion on a body of the scene: its rate, its shape, its place, and then the keys.

Shape letters: T frames, J joints, S shape components.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import bpy
import numpy as np

from ...backend.bodies import BodyModel, load_body
from ...backend.motions import BodyMotion, MotionError, floor, resample
from .. import keys
from ..stage import open_stage, scene_kept
from .bodies import Rig, body_source
from .channels import BodyReader, pose_channels, read_body_pose, set_shape
from .follow import release

_LONGEST = 100_000
"""Frames that are keyed at most; an hour at 24 fps is 86,400."""


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes:
        first, last: frames that got keys.
        notes: sentences for the animator.
    """

    first: int
    last: int
    notes: tuple[str, ...]


def at_rate(motion: BodyMotion, fps: float) -> BodyMotion:
    """The motion at the scene's rate; its notes say so. Raises MotionError when it is too long to key."""
    frames = int(motion.duration * fps) + 1
    if frames > _LONGEST:
        raise MotionError(
            "frames", f"{frames} at {fps:g} fps are more than {_LONGEST}; cut the file, or correct its rate"
        )
    if abs(motion.fps - fps) <= 1e-6 * fps:
        return motion
    return resample(motion, fps)


def fit_shape(motion: BodyMotion, body: BodyModel, shape: np.ndarray) -> BodyMotion:
    """A motion without a shape of its own, for a body that the animator has given one: pelvis and soles in place.

    Args:
        motion: for ``body``.
        body: its model.
        shape: (S,) what its shape keys say.
    """
    if motion.betas is not None or not np.any(shape):
        return motion
    betas = np.zeros(body.shapedirs.shape[2], dtype=np.float32)
    betas[: len(shape)] = shape
    shift = body.joints_rest(np.zeros_like(betas))[0] - body.joints_rest(betas)[0]
    return floor(replace(motion, trans=motion.trans + shift, betas=betas), body)


def stand_on(rig: Rig, shape: np.ndarray, trans: np.ndarray, depsgraph: bpy.types.Depsgraph) -> np.ndarray:
    """``trans`` (T,3) moved over the ground so that the motion begins where the body stands now."""
    now = read_body_pose(rig.mesh, depsgraph).joints[0]
    start = rig.joints_rest(shape)[0] + trans[0]
    return trans + np.array([now[0] - start[0], now[1] - start[1], 0.0])


def read_motion(
    scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer, mesh: bpy.types.Object, first: int, last: int
) -> BodyMotion:
    """A body's motion over the frames ``first`` to ``last``, as it shows; the scene stays as it is.

    Raises RigError when the mesh is not a body.
    """
    reader = BodyReader(mesh)
    rig = reader.rig.armature
    # The drivers of its bones have the shape evaluated, too: the mesh need not be deformed.
    driven = rig.animation_data is not None and len(rig.animation_data.drivers) > 0
    with scene_kept(scene, view_layer) as keeper:
        stage = open_stage(scene, view_layer, keeper.changes, [rig] if driven else [mesh, rig])
        readings = [reader.read(stage.at(frame)) for frame in range(first, last + 1)]
    shape = np.median([reading.betas for reading in readings], axis=0).astype(np.float32)
    motion = BodyMotion(
        fps=keys.scene_fps(scene),
        poses=np.array([reading.poses for reading in readings]),
        trans=np.array([reading.trans for reading in readings]),
        betas=shape if np.any(shape) else None,
        family=load_body(body_source(mesh)).family,
        name=mesh.name,
        body=readings[0].body,
    )
    stretched = max(reading.error for reading in readings)
    return motion.noting(
        f"bones are stretched by up to {100 * stretched:.1f} cm; that is lost" if stretched > 1e-3 else ""
    )


def key_motion(
    rig: Rig,
    motion: BodyMotion,
    first: int,
    depsgraph: bpy.types.Depsgraph,
    *,
    from_body: bool = False,
) -> Imported:
    """Key a body from frame ``first``, one key a frame; the motion's shape is set where it has one.

    An armature that it followed it follows no more.

    Args:
        rig: the body's rig.
        motion: for this body, at the scene's rate.
        first: frame of the first key.
        depsgraph: of the scene as it stands.
        from_body: begin where the body stands now, instead of where the motion says.
    """
    notes = []
    shape = rig.betas()
    if motion.betas is not None:
        shape = np.zeros(len(rig.shape_keys))
        shape[: len(motion.betas)] = motion.betas[: len(shape)]
        limits = np.array([key.slider_max for key in rig.shape_keys])
        if (np.abs(shape) > limits).any():
            notes.append(f"the shape goes beyond what the shape keys hold ({limits.min():g}) and was limited")
            shape = np.clip(shape, -limits, limits)
    trans = stand_on(rig, shape, motion.trans, depsgraph) if from_body else motion.trans
    channels = pose_channels(rig, shape, motion.poses, trans)
    if release(rig):
        notes.append(f"{rig.mesh.name} follows no armature any more; it has keys of its own")
    if motion.betas is not None:
        set_shape(rig, shape)
    if keys.has_keys(rig.armature):
        notes.append(f"the former action of {rig.armature.name} is kept in the file")

    bones = rig.armature.pose.bones
    curves = []
    for index, name in enumerate(rig.bones):
        bones[name].rotation_mode = "QUATERNION"
        path = bones[name].path_from_id("rotation_quaternion")
        curves += keys.channels_of(path, channels.rotations[:, index], name)
    root = rig.root
    curves += keys.channels_of(bones[root].path_from_id("location"), channels.locations, root)
    frames = first + np.arange(motion.frames, dtype=np.float64)
    keys.write_keys(rig.armature, frames, curves, action_name=motion.name)
    return Imported(first, first + motion.frames - 1, tuple(notes))
