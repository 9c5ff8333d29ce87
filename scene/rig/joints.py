"""SMPL's 24 joints from the bones of any humanoid armature whose naming presets/skeletons knows.

Shape letters: T frames, J bones.
"""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np

from ...backend.motions.bvh import BvhClip
from ...backend.motions.skeletons import SkeletonMap, map_skeleton
from ...backend.motions.types import MotionError
from ...backend.shot import SMPL_JOINT_NAMES

_HAND = 0.4
"""Length of the hand to its middle knuckle over that of the forearm, where no finger bone tells."""


@dataclass(frozen=True, eq=False)
class JointReader:
    """Reads SMPL-24 joints: a fixed linear combination of bone heads.

    Attributes:
        armature: the armature object.
        weights: (24,J) float64; row j mixes the heads of the armature's J pose bones into joint j.
    """

    armature: bpy.types.Object
    weights: np.ndarray

    def read(self, depsgraph: bpy.types.Depsgraph) -> np.ndarray:
        """(24,3) float64 world."""
        evaluated = self.armature.evaluated_get(depsgraph)
        heads = np.empty(len(evaluated.pose.bones) * 3, dtype=np.float32)
        evaluated.pose.bones.foreach_get("head", heads)
        local = self.weights @ heads.reshape(-1, 3).astype(np.float64)
        matrix = np.array(evaluated.matrix_world, dtype=np.float64)
        return local @ matrix[:3, :3].T + matrix[:3, 3]


def joint_reader(armature: bpy.types.Object) -> JointReader | None:
    """A reader for an armature, or None when its bones are not those of a known humanoid."""
    bones = armature.data.bones
    names = [bone.name for bone in bones]
    plain = {name.lower(): index for index, name in enumerate(names)}
    weights = np.zeros((len(SMPL_JOINT_NAMES), len(names)))
    if all(name in plain for name in SMPL_JOINT_NAMES):
        for row, name in enumerate(SMPL_JOINT_NAMES):
            weights[row, plain[name]] = 1.0
        return JointReader(armature, weights)
    try:
        found = map_skeleton(rest_clip(armature))
    except MotionError:
        return None
    return JointReader(armature, weights) if _fill(weights, found) else None


def rest_clip(armature: bpy.types.Object) -> BvhClip:
    """The rest skeleton, in the form in which skeletons are mapped; Blender lists parents first."""
    bones = armature.data.bones
    order = {bone.name: index for index, bone in enumerate(bones)}
    heads = np.array([bone.head_local for bone in bones], dtype=np.float64).reshape(-1, 3)
    parents = np.array([order[bone.parent.name] if bone.parent else -1 for bone in bones], dtype=np.int64)
    offsets = heads - np.where(parents[:, None] >= 0, heads[parents], 0.0)
    count = len(bones)
    return BvhClip(
        names=tuple(order),
        parents=parents,
        offsets=offsets,
        sites=np.zeros((0, 3)),
        site_parents=np.zeros(0, dtype=np.int64),
        rotations=np.broadcast_to(np.eye(3), (1, count, 3, 3)),
        translations=offsets[None],
        frame_time=0.0,
    )


def _fill(weights: np.ndarray, found: SkeletonMap) -> bool:
    """Fill ``weights``; False when a joint can be neither found nor placed between others."""
    rows = {name: index for index, name in enumerate(SMPL_JOINT_NAMES)}

    def mix(name: str, *parts: tuple[str | int, float]) -> None:
        row = np.zeros(weights.shape[1])
        for part, share in parts:
            if isinstance(part, str):
                row += share * weights[rows[part]]
            else:
                row[part] += share
        weights[rows[name]] = row

    for name, index in found.joints.items():
        if name in rows:
            mix(name, (index, 1.0))
    # SMPL has three spine joints: take them evenly from a longer chain, and between neighbours from a shorter one.
    chain = [found.joints["pelvis"], *found.spine]
    places = np.linspace(0, len(chain) - 1, 4)[1:] if len(chain) != 4 else np.array([1.0, 2.0, 3.0])
    for name, place in zip(("spine1", "spine2", "spine3"), places, strict=True):
        low = min(int(place), len(chain) - 2)
        mix(name, (chain[low], 1 - (place - low)), (chain[low + 1], place - low))
    if found.neck:
        mix("neck", (found.neck[0], 1.0))
    else:
        mix("neck", ("spine3", 0.5), ("head", 0.5))
    for side in ("left", "right"):
        if f"{side}_collar" not in found.joints:
            mix(f"{side}_collar", ("spine3", 0.6), (f"{side}_shoulder", 0.4))
        if f"{side}_hand" not in found.joints:
            mix(f"{side}_hand", (f"{side}_wrist", 1 + _HAND), (f"{side}_elbow", -_HAND))
        if f"{side}_foot" not in found.joints:
            return False
    return True
