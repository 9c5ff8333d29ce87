"""A foreign skeleton's motion on SMPL's joints.

Rest poses differ in two ways. Large differences (arms down instead of out) are another pose of the same body; they are
taken out by the smallest turn that lays the target's rest bone along the source's. Small ones (a collar a little
lower, a foot a little flatter) are another build; there rest goes to rest, so that a neutral source gives a neutral
body. Limb bones are always laid exactly along the source's. Letters: T frames, J source joints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .bvh import BvhClip
from .kinematics import (
    JOINT,
    SMPL_PARENTS,
    angle_between,
    blend,
    frame_of,
    matrix_to_axis_angle,
    place,
    swing,
    to_global,
    to_local,
    unit,
)
from .skeletons import SkeletonMap, map_skeleton
from .types import MotionError
from .upright import describe_up, detect_up, turn_to_z

if TYPE_CHECKING:
    from ..bodies import BodyModel

LARGE = np.radians(35.0)
"""Angle between rest bones from which on they are another pose rather than another build."""

LIMBS = tuple(
    (f"{side}_{upper}", f"{side}_{lower}")
    for side in ("left", "right")
    for upper, lower in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
)
"""Bones laid exactly along the source's: from joint, to joint."""


@dataclass(frozen=True, eq=False)
class Retarget:
    """A motion on SMPL-24 joints, world Z up, metres; not yet on the floor.

    Attributes:
        poses: (T,24,3) axis-angle in radians.
        trans: (T,3) metres.
        notes: what was detected.
        bones_deg: mean angle between matched bones of source and body, by bone name (see ``bone_errors``).
        apart_deg: the same for bones whose rest geometry has no counterpart.
    """

    poses: np.ndarray
    trans: np.ndarray
    notes: tuple[str, ...]
    bones_deg: dict[str, float]
    apart_deg: dict[str, float]


def retarget(clip: BvhClip, body: BodyModel, *, up: str | None = None) -> Retarget:
    """Carry a BVH motion over to a body.

    Args:
        clip: the parsed file.
        body: any SMPL-family body; its first 22 joints and hands are used.
        up: the file's up axis (``Y``, ``-Z``...); None detects it.

    Raises:
        MotionError: when the skeleton is not understood.
    """
    skeleton = map_skeleton(clip)
    rest = body.smpl_joints(body.joints_rest()).astype(float)

    turns, places = clip.world()
    joints = skeleton.joints
    neck = _first_above(skeleton)
    hips = [joints["left_hip"], joints["right_hip"]]
    ankles = [joints["left_ankle"], joints["right_ankle"]]
    uprights = places[:, neck] - places[:, ankles].mean(axis=1)
    axis, told = (up, True) if up else detect_up(uprights, "Y")
    to_z = turn_to_z(axis)
    turns, places = to_z @ turns, places @ to_z.T
    zero = clip.zero_pose()

    aligned = _alignments(clip, skeleton, zero, rest)
    source = _source_turns(skeleton, turns)
    goal = np.empty((len(turns), 24, 3, 3))
    for j in range(24):
        goal[:, j] = source[j] @ aligned[j]
    for upper, lower in LIMBS:
        _lay(goal, rest, JOINT[upper], JOINT[lower], places[:, joints[lower]] - places[:, joints[upper]])

    legs = _leg_length(clip, skeleton)
    scale = _rest_leg(rest) / legs
    middle = place(goal, rest, np.zeros(3))[:, [1, 2]].mean(axis=1)
    trans = scale * places[:, hips].mean(axis=1) - middle
    local = to_local(goal)
    local[:, [JOINT["left_hand"], JOINT["right_hand"]]] = np.eye(3)

    matched, apart = bone_errors(skeleton, places, place(to_global(local), rest, trans), zero, rest)
    unit_name = _unit_name(legs)
    notes = (
        f"skeleton: {skeleton.label}, {len(clip.names)} joints",
        f"up axis {axis} as given" if up else describe_up(axis, told),
        f"legs are {legs:.4g} units long ({unit_name}); translation scaled by {scale:.4g} to the body's legs",
    )
    return Retarget(matrix_to_axis_angle(local), trans, notes, matched, apart)


def bone_errors(
    skeleton: SkeletonMap, source: np.ndarray, target: np.ndarray, zero: np.ndarray, rest: np.ndarray
) -> tuple[dict[str, float], dict[str, float]]:
    """Mean angle in degrees between a source bone and the body's, over all frames.

    A bone's direction is that from its joint to its mapped child, in the world. Matched bones are those that both
    skeletons have: thighs, shins, upper arms, forearms, the trunk (middle of the hips to the first joint of the neck)
    and the shoulder line and hip line (right to left). The others keep the body's own build at rest (hip offsets,
    single spine bones, neck, collars, feet, hands) and so differ by the angle between the two rest poses; they are the
    second dictionary.

    Args:
        skeleton: of the source.
        source: (T,J,3) its joints, in the world.
        target: (T,24,3) the body's joints, in the same world.
        zero: (J,3) source joints in the zero pose; rest: (24,3) the body's. Bones without length in either are left
            out.
    """
    joints = skeleton.joints

    def angle(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.degrees(angle_between(a, b)).mean())

    matched: dict[str, float] = {}
    for upper, lower in LIMBS:
        bone = source[:, joints[lower]] - source[:, joints[upper]]
        matched[upper] = angle(bone, target[:, JOINT[lower]] - target[:, JOINT[upper]])
    neck = _first_above(skeleton)
    hips = source[:, [joints["left_hip"], joints["right_hip"]]]
    trunk = source[:, neck] - hips.mean(axis=1)
    matched["trunk"] = angle(trunk, target[:, JOINT["neck"]] - target[:, 1:3].mean(axis=1))
    matched["hip line"] = angle(hips[:, 0] - hips[:, 1], target[:, 1] - target[:, 2])
    arms = source[:, joints["left_shoulder"]] - source[:, joints["right_shoulder"]]
    matched["shoulder line"] = angle(arms, target[:, JOINT["left_shoulder"]] - target[:, JOINT["right_shoulder"]])

    apart: dict[str, float] = {}
    pairs = [("neck", "head"), ("pelvis", "left_hip"), ("pelvis", "right_hip")]
    for side in ("left", "right"):
        pairs += [(f"{side}_collar", f"{side}_shoulder"), (f"{side}_ankle", f"{side}_foot")]
        pairs += [(f"{side}_wrist", f"{side}_hand")]
    known = {**joints, "neck": neck}
    for upper, lower in pairs:
        if upper not in known or lower not in known or known[upper] == known[lower]:
            continue
        if np.linalg.norm(zero[known[lower]] - zero[known[upper]]) < 1e-6:
            continue
        bone = source[:, known[lower]] - source[:, known[upper]]
        apart[f"{upper}-{lower}"] = angle(bone, target[:, JOINT[lower]] - target[:, JOINT[upper]])
    if len(skeleton.spine) == 3:
        chain = ("pelvis", "spine1", "spine2", "spine3")
        ids = (joints["pelvis"], *skeleton.spine)
        for k in range(3):
            bone = source[:, ids[k + 1]] - source[:, ids[k]]
            apart[f"{chain[k]}-{chain[k + 1]}"] = angle(
                bone, target[:, JOINT[chain[k + 1]]] - target[:, JOINT[chain[k]]]
            )
    return matched, apart


def _first_above(skeleton: SkeletonMap) -> int:
    """The joint at the base of the neck."""
    return skeleton.neck[0] if skeleton.neck else skeleton.joints["head"]


def _leg_length(clip: BvhClip, skeleton: SkeletonMap) -> float:
    zero, joints = clip.zero_pose(), skeleton.joints
    total = 0.0
    for side in ("left", "right"):
        for upper, lower in (("hip", "knee"), ("knee", "ankle")):
            total += 0.5 * float(np.linalg.norm(zero[joints[f"{side}_{lower}"]] - zero[joints[f"{side}_{upper}"]]))
    if total < 1e-6:
        raise MotionError("skeleton", "its legs have no length: every OFFSET is zero. Export it with its bones")
    return total


def _rest_leg(rest: np.ndarray) -> float:
    return 0.5 * sum(float(np.linalg.norm(rest[j + 3] - rest[j])) for j in (1, 2, 4, 5))


def _unit_name(legs: float) -> str:
    """The likeliest unit of a file whose legs are that long: adults' measure 0.7 to 1 metre from hip to ankle."""
    sizes = {"metres": 1.0, "decimetres": 0.1, "inches": 0.0254, "centimetres": 0.01, "millimetres": 0.001}
    name = min(sizes, key=lambda n: abs(np.log(legs * sizes[n] / 0.83)))
    return name if 0.6 < legs * sizes[name] / 0.83 < 1.6 else "unit unknown"


def _axes(corners: np.ndarray, neck: np.ndarray) -> np.ndarray:
    """(3,3) axes of a body at rest, from left and right hip, left and right shoulder (4,3), and neck (3,)."""
    side = unit(corners[0] - corners[1]) + unit(corners[2] - corners[3])
    return frame_of(side, neck - corners[:2].mean(axis=0))


def _alignments(clip: BvhClip, skeleton: SkeletonMap, zero: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """(24,3,3): for each SMPL joint the turn from its rest to the source's zero pose."""
    joints = skeleton.joints
    corners = ("left_hip", "right_hip", "left_shoulder", "right_shoulder")
    theirs = _axes(np.array([zero[joints[c]] for c in corners]), zero[_first_above(skeleton)])
    ours = _axes(np.array([rest[JOINT[c]] for c in corners]), rest[JOINT["neck"]])
    whole = theirs @ ours.T
    out = np.broadcast_to(whole, (24, 3, 3)).copy()

    def bend(joint: str, child: str, source: np.ndarray, always: bool = False) -> None:
        mine = out[JOINT[joint]] @ (rest[JOINT[child]] - rest[JOINT[joint]])
        if always or angle_between(mine, source) > LARGE:
            out[JOINT[joint]] = swing(mine, source) @ out[JOINT[joint]]

    # A limb turns as a whole first: its two bones, each with a turn of its own from T-pose to hanging arms, would twist
    # against each other.
    for side in ("left", "right"):
        for first, middle, last in (("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist")):
            upper, lower, end = f"{side}_{first}", f"{side}_{middle}", f"{side}_{last}"
            mine = whole @ (rest[JOINT[end]] - rest[JOINT[upper]])
            out[JOINT[upper]] = swing(mine, zero[joints[end]] - zero[joints[upper]]) @ whole
            out[JOINT[lower]] = out[JOINT[upper]]
    for upper, lower in LIMBS:
        bend(upper, lower, zero[joints[lower]] - zero[joints[upper]], always=True)
    bend("neck", "head", zero[joints["head"]] - zero[_first_above(skeleton)])
    out[JOINT["head"]] = out[JOINT["neck"]]
    for side in ("left", "right"):
        if f"{side}_collar" in joints:
            bone = zero[joints[f"{side}_shoulder"]] - zero[joints[f"{side}_collar"]]
            bend(f"{side}_collar", f"{side}_shoulder", bone)
        wrist, hand = JOINT[f"{side}_wrist"], JOINT[f"{side}_hand"]
        out[wrist] = out[JOINT[f"{side}_elbow"]]
        bend(f"{side}_wrist", f"{side}_hand", _tip(clip, zero, joints[f"{side}_wrist"], joints.get(f"{side}_hand")))
        out[hand] = out[wrist]
        out[JOINT[f"{side}_ankle"]] = _foot(clip, skeleton, side, zero, rest, whole, out[JOINT[f"{side}_knee"]])
        out[JOINT[f"{side}_foot"]] = out[JOINT[f"{side}_ankle"]]
    return out


def _foot(
    clip: BvhClip,
    skeleton: SkeletonMap,
    side: str,
    zero: np.ndarray,
    rest: np.ndarray,
    whole: np.ndarray,
    knee: np.ndarray,
) -> np.ndarray:
    """(3,3) turn of a foot from rest to the zero pose: flat sole to flat sole, toes to toes."""
    joints = skeleton.joints
    up, ankle = whole @ np.array([0.0, 1.0, 0.0]), joints[f"{side}_ankle"]
    shin = zero[ankle] - zero[joints[f"{side}_knee"]]
    toes = _tip(clip, zero, ankle, None)
    if angle_between(shin, -up) > LARGE or np.linalg.norm(toes) < 1e-6:
        return knee  # the zero pose does not stand on this foot: it follows the shin
    mine = whole @ (rest[JOINT[f"{side}_foot"]] - rest[JOINT[f"{side}_ankle"]])
    flat = [v - np.dot(v, up) * up for v in (mine, toes)]
    if np.linalg.norm(flat[1]) < 0.3 * np.linalg.norm(toes):
        return whole  # toes point straight down: the heading tells nothing
    return swing(flat[0], flat[1]) @ whole


def _tip(clip: BvhClip, zero: np.ndarray, joint: int, known: int | None) -> np.ndarray:
    """(3,) from a joint to what it carries in the zero pose: ``known``, else its farthest descendant or end site."""
    if known is not None and np.linalg.norm(zero[known] - zero[joint]) > 1e-6:
        return zero[known] - zero[joint]
    below = {joint}
    for j in range(joint + 1, len(clip.parents)):
        if int(clip.parents[j]) in below:
            below.add(j)
    ends = [zero[j] for j in below] + [
        zero[p] + o for p, o in zip(clip.site_parents, clip.sites, strict=True) if int(p) in below
    ]
    gaps = np.array(ends) - zero[joint]
    return gaps[int(np.argmax(np.linalg.norm(gaps, axis=-1)))]


def _source_turns(skeleton: SkeletonMap, turns: np.ndarray) -> list[np.ndarray]:
    """For each SMPL joint the global turn (T,3,3) of what stands for it in the source."""
    joints = skeleton.joints
    trunk = [joints["pelvis"], *skeleton.spine]
    above = [skeleton.spine[-1], *skeleton.neck, joints["head"]]

    def along(chain: list[int], position: float) -> np.ndarray:
        low = min(int(position), len(chain) - 2)
        part = position - low
        if part < 1e-6:
            return turns[:, chain[low]]
        return blend(turns[:, chain[low]], turns[:, chain[low + 1]], part)

    out: list[np.ndarray] = [turns[:, joints["pelvis"]]] * 24
    for k, name in enumerate(("spine1", "spine2", "spine3"), start=1):
        out[JOINT[name]] = along(trunk, k * len(skeleton.spine) / 3)
    out[JOINT["neck"]] = along(above, (len(above) - 1) / 2)
    out[JOINT["head"]] = turns[:, joints["head"]]
    for side in ("left", "right"):
        for name, fallback in (
            ("hip", "pelvis"), ("knee", "hip"), ("ankle", "knee"), ("foot", "ankle"),
            ("collar", ""), ("shoulder", ""), ("elbow", ""), ("wrist", ""), ("hand", "wrist"),
        ):  # fmt: skip
            role = f"{side}_{name}"
            index = joints.get(role, joints.get(f"{side}_{fallback}", skeleton.spine[-1]))
            out[JOINT[role]] = turns[:, index]
    return out


def _lay(goal: np.ndarray, rest: np.ndarray, joint: int, child: int, bone: np.ndarray) -> None:
    """Turn a joint's goal (T,24,3,3) the little that lays its bone along the source's (T,3), twist joints and all."""
    now = goal[:, joint] @ (rest[child] - rest[joint])
    goal[:, joint] = swing(now, bone) @ goal[:, joint]


__all__ = ["LIMBS", "SMPL_PARENTS", "Retarget", "bone_errors", "retarget"]
