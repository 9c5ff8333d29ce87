"""A body's motion on a foreign skeleton that rests as a person: ``retarget`` the other way.

Letters: T frames, J joints of the skeleton.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from .bvh import BvhClip
from .ground import soles
from .kinematics import JOINT, axis_angle_to_matrix, blend, place, swing, to_global
from .reference import body_trunk, trunk_places
from .retarget import LIMBS, leg_length, rest_alignments
from .skeletons import SIDES, SkeletonMap, common_joint, line_up, map_skeleton
from .types import BodyMotion, MotionError
from .zero_pose import is_person

if TYPE_CHECKING:
    from ..bodies import BodyModel


_LEG, _ARM = ("hip", "knee", "ankle", "foot"), ("collar", "shoulder", "elbow", "wrist")


@dataclass(frozen=True, eq=False)
class SkeletonMotion:
    """What moves a skeleton as a body moves. World Z up, in the skeleton's units.

    Attributes:
        label: the naming scheme by which the skeleton was understood.
        turns: joint -> (T,3,3) its turn from rest, in the world. Joints that are not named rest on their parents.
        places: joint -> (T,3) where it must be: the one above all others, and any that hangs on no part of the body
            that it belongs to.
        hips: (T,3) the middle of the hips, whose joints are ``hip_joints``.
    """

    label: str
    turns: dict[int, np.ndarray]
    places: dict[int, np.ndarray]
    hips: np.ndarray
    hip_joints: tuple[int, int]


def onto_skeleton(clip: BvhClip, motion: BodyMotion, body: BodyModel, ground: float) -> SkeletonMotion:
    """Carry a body's motion over to a skeleton. Limbs lie exactly along the body's, and its path is scaled to its legs.

    Args:
        clip: the skeleton; its first frame shows it at rest in the world, Z up.
        motion: of ``body``, its soles on z = 0.
        body: any SMPL-family body.
        ground: height of the skeleton's soles at rest.

    Raises:
        MotionError: when the skeleton is not understood, or is no person at rest.
    """
    skeleton = map_skeleton(clip)
    zero = clip.world()[1][0]
    joints = skeleton.joints
    if not is_person(skeleton, zero):
        raise MotionError(
            "rest pose",
            "the skeleton does not rest as a person who stands with straight limbs; pose it so and apply that as its "
            "rest pose (Pose > Apply)",
        )
    rest = body.smpl_joints(body.joints_rest(motion.betas)).astype(float)
    goal = _body_turns(motion)
    aligned = rest_alignments(clip, skeleton, zero, rest, {})
    reached = place(goal, rest, motion.trans.astype(float))
    named = {name: goal[:, JOINT[name]] @ aligned[JOINT[name]].T for name in JOINT}
    turns = _trunk_turns(skeleton, zero, rest, named)
    for side in SIDES:
        for limb in (*_LEG, *_ARM):
            if (joint := joints.get(f"{side}_{limb}")) is not None:
                turns[joint] = named[f"{side}_{limb}"]
    for upper, lower in LIMBS:
        joint = joints[upper]
        bone = turns[joint] @ (zero[joints[lower]] - zero[joint])
        turns[joint] = swing(bone, reached[:, JOINT[lower]] - reached[:, JOINT[upper]]) @ turns[joint]

    scale = leg_length(joints, zero[None]) / leg_length(JOINT, rest[None])
    hips = scale * reached[:, 1:3].mean(axis=1)
    hips[:, 2] += _ankle_height(zero[:, 2], joints) - ground - scale * _body_ankle_height(body, motion, rest)
    pair = joints["left_hip"], joints["right_hip"]
    pelvis = joints["pelvis"]
    at = {pelvis: hips - turns[pelvis] @ (zero[list(pair)].mean(axis=0) - zero[pelvis])}
    base = pelvis
    for joint in list(turns):
        base = common_joint(base, joint, clip.parents) if base >= 0 else base
    base = base if base >= 0 else pelvis
    turns[base] = turns[pelvis]
    places = {base: at[pelvis] + turns[pelvis] @ (zero[base] - zero[pelvis])}
    for joint, above in _body_parents(skeleton).items():
        at[joint] = at[above] + turns[above] @ (zero[joint] - zero[above])
        holder = next((j for j in line_up(joint, clip.parents)[1:] if j in turns), -1)
        if holder != above and {holder, above} != {base, pelvis}:
            places[joint] = at[joint]
    return SkeletonMotion(skeleton.label, turns, places, hips, pair)


def _body_parents(skeleton: SkeletonMap) -> dict[int, int]:
    """The joint on which each one hangs in a body, from the pelvis outwards."""
    joints, chest = skeleton.joints, skeleton.spine[-1]
    chains = [[joints["pelvis"], *skeleton.spine], [chest, *skeleton.neck, joints["head"]]]
    for side in SIDES:
        for start, names in ((joints["pelvis"], _LEG), (chest, _ARM)):
            chains.append([start, *(joints[f"{side}_{name}"] for name in names if f"{side}_{name}" in joints)])
    return {lower: upper for chain in chains for upper, lower in pairwise(chain) if upper != lower}


def _body_turns(motion: BodyMotion) -> np.ndarray:
    """(T,24,3,3) of SMPL's joints in the world; hands turn with their wrists."""
    local = np.broadcast_to(np.eye(3), (motion.frames, 24, 3, 3)).copy()
    local[:, :22] = axis_angle_to_matrix(motion.poses[:, :22].astype(float))
    return to_global(local)


def _trunk_turns(
    skeleton: SkeletonMap, zero: np.ndarray, rest: np.ndarray, named: dict[str, np.ndarray]
) -> dict[int, np.ndarray]:
    """Turns of pelvis, spine, neck and head: between those of the body's joints, by where they lie along the trunk."""

    def between(names: list[str], positions: np.ndarray, position: float) -> np.ndarray:
        after = int(np.clip(np.searchsorted(positions, position), 1, len(names) - 1))
        part = (position - positions[after - 1]) / (positions[after] - positions[after - 1])
        return blend(named[names[after - 1]], named[names[after]], float(np.clip(part, 0.0, 1.0)))

    spine = ["pelvis", "spine1", "spine2", "spine3"]
    along = body_trunk(rest)[1]
    where = trunk_places(skeleton, zero[None])[1:]
    turns = {j: between(spine, along, p) for j, p in zip(skeleton.spine, where, strict=True)}
    count = len(skeleton.neck) + 1
    halves = np.array([0.0, 0.5, 1.0])
    for k, joint in enumerate(skeleton.neck):
        turns[joint] = between(["spine3", "neck", "head"], halves, (k + 1) / count)
    return turns | {skeleton.joints[name]: named[name] for name in ("pelvis", "head")}


def _ankle_height(heights: np.ndarray, joints: dict[str, int]) -> float:
    return 0.5 * float(heights[joints["left_ankle"]] + heights[joints["right_ankle"]])


def _body_ankle_height(body: BodyModel, motion: BodyMotion, rest: np.ndarray) -> float:
    """Metres from the body's soles to its ankles at rest."""
    found = soles(body, motion.betas)
    lowest = body.joints_rest(motion.betas)[found.joints, 1] + found.offsets[:, 1]
    return _ankle_height(rest[:, 1], JOINT) - float(lowest.min())
