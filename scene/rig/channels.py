"""Between a body's parameters and the channels of its rig, both ways, exactly.

Parameters follow SMPL: ``poses[0]`` turns the canonical frame (Y up) into the world (Z up) about the shaped root
joint, then ``trans`` is added, so the root stands at ``joints_rest(betas)[0] + trans`` in the world. The armature
object may stand and turn anywhere: the root's channels take that into account.

Shape letters: T frames, J joints, S shape components.
"""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np

from ...backend.bodies.rotations import axis_angle_to_matrix, axis_angle_to_quat, matrix_to_axis_angle
from .bodies import Rig, RigError, load_rig


@dataclass(frozen=True, eq=False)
class BodyReading:
    """A rig's pose as body parameters.

    Attributes:
        body: id of the body model.
        betas: (S,) float32 shape.
        poses: (J,3) float32 axis-angle, each joint relative to its parent; the root's turns canonical to world.
        trans: (3,) float32 metres, world.
        joints: (J,3) float32 world, where the joints really stand.
        error: metres between ``joints`` and the joints of these parameters, the largest. Above 1e-3 the animator
            has stretched, scaled or moved bones as no such body can.
    """

    body: str
    betas: np.ndarray
    poses: np.ndarray
    trans: np.ndarray
    joints: np.ndarray
    error: float


class BodyReader:
    """Reads one body's parameters, frame after frame, from evaluated scenes."""

    def __init__(self, mesh: bpy.types.Object) -> None:
        """Raises RigError when the mesh is not a body or its rig is broken."""
        self.rig: Rig = load_rig(mesh)
        bones = self.rig.armature.pose.bones
        self._count = len(bones)
        self._indices = np.array([bones.find(name) for name in self.rig.bones])
        self._keys = [key.name for key in self.rig.shape_keys]

    def read(self, depsgraph: bpy.types.Depsgraph) -> BodyReading:
        """The parameters at the frame that ``depsgraph`` has evaluated."""
        rig = self.rig
        armature = rig.armature.evaluated_get(depsgraph)
        blocks = rig.mesh.data.shape_keys.evaluated_get(depsgraph).key_blocks
        betas = np.array([blocks[name].value for name in self._keys], dtype=np.float64)

        flat = np.empty(self._count * 16, dtype=np.float32)
        armature.pose.bones.foreach_get("matrix", flat)
        local = flat.reshape(-1, 4, 4).transpose(0, 2, 1)[self._indices].astype(np.float64)
        world = np.array(armature.matrix_world, dtype=np.float64) @ local
        turns = _orthonormal(world[:, :3, :3]) @ rig.rests.transpose(0, 2, 1)
        heads = world[:, :3, 3]

        rotations = turns.copy()
        children = rig.parents >= 0
        rotations[children] = turns[rig.parents[children]].transpose(0, 2, 1) @ turns[children]
        rest = rig.joints_rest(betas)
        expected = heads.copy()
        for joint in np.flatnonzero(children):
            parent = rig.parents[joint]
            expected[joint] = expected[parent] + turns[parent] @ (rest[joint] - rest[parent])
        return BodyReading(
            body=rig.mesh.maquette.body,
            betas=betas.astype(np.float32),
            poses=matrix_to_axis_angle(rotations).astype(np.float32),
            trans=(heads[0] - rest[0]).astype(np.float32),
            joints=heads.astype(np.float32),
            error=float(np.linalg.norm(expected - heads, axis=-1).max()),
        )


def read_body_pose(mesh: bpy.types.Object, depsgraph: bpy.types.Depsgraph) -> BodyReading:
    """The parameters of one body at the evaluated frame. Raises RigError when ``mesh`` is not a body."""
    return BodyReader(mesh).read(depsgraph)


def _orthonormal(axes: np.ndarray) -> np.ndarray:
    """Rotations (...,3,3) of matrices that may be scaled along their columns."""
    length = np.linalg.norm(axes, axis=-2, keepdims=True)
    return axes / np.maximum(length, 1e-12)


@dataclass(frozen=True, eq=False)
class PoseChannels:
    """What to write into a rig's bones.

    Attributes:
        rotations: (T,J,4) float64 unit quaternions (w,x,y,z) of each joint's bone, without sign flips over time.
        locations: (T,3) float64 of the root joint's bone.
    """

    rotations: np.ndarray
    locations: np.ndarray


def pose_channels(rig: Rig, betas: np.ndarray, poses: np.ndarray, trans: np.ndarray) -> PoseChannels:
    """Turn body parameters into bone channels, for the armature object as it stands now.

    Args:
        rig: the body's rig.
        betas: (S,) shape that the rig will have.
        poses: (T,J,3) axis-angle; trans: (T,3) metres.
    """
    poses = np.asarray(poses, dtype=np.float64)
    if poses.ndim != 3 or poses.shape[1:] != (len(rig.bones), 3):
        raise RigError("poses", f"shape {poses.shape} does not fit the body's {len(rig.bones)} joints")
    placed = np.array(rig.armature.matrix_world, dtype=np.float64) @ rig.frame
    if abs(np.linalg.det(placed[:3, :3])) < 1e-9:
        raise RigError(rig.armature.name, "is scaled to nothing; set its scale to 1")
    inverse = np.linalg.inv(placed)

    local = np.einsum("jba,tjb->tja", rig.rests, poses)
    turn = _orthonormal(placed[:3, :3]).T
    root = np.flatnonzero(rig.parents < 0)[0]
    rest = rig.rests[root]
    local[:, root] = matrix_to_axis_angle(rest.T @ turn @ axis_angle_to_matrix(poses[:, root]) @ rest)

    joint = rig.joints_rest(betas)[root]
    target = joint + np.asarray(trans, dtype=np.float64)
    locations = (target @ inverse[:3, :3].T + inverse[:3, 3] - joint) @ rest
    return PoseChannels(continuous(axis_angle_to_quat(local)), locations)


def continuous(quaternions: np.ndarray) -> np.ndarray:
    """Quaternions (T,...,4) with signs chosen so that neighbours in time never point apart."""
    dots = (quaternions[1:] * quaternions[:-1]).sum(axis=-1, keepdims=True)
    signs = np.cumprod(np.where(dots < 0, -1.0, 1.0), axis=0)
    return np.concatenate([quaternions[:1], quaternions[1:] * signs], axis=0)


def set_shape(rig: Rig, betas: np.ndarray) -> np.ndarray:
    """Set the shape keys to ``betas`` (S,), missing ones to 0, within their sliders. Returns what was set."""
    keys = rig.shape_keys
    values = np.zeros(len(keys))
    given = np.asarray(betas, dtype=np.float64)[: len(keys)]
    values[: len(given)] = given
    for index, key in enumerate(keys):
        values[index] = np.clip(values[index], key.slider_min, key.slider_max)
        key.value = values[index]
    return values
