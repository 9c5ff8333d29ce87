"""A foreign skeleton's motion on SMPL's joints.

Where the file's zero pose is a person, rest poses differ in two ways. Large differences (arms down instead of out) are
another pose of the same body; they are taken out by the smallest turn that lays the target's rest bone along the
source's. Small ones (a collar a little lower, a foot a little flatter) are another build; there rest goes to rest, so
that a neutral source gives a neutral body. Where it is none, ``reference`` finds each joint's axes from the frames.
Limb bones are always laid exactly along the source's. Letters: T frames, J source joints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .bvh import BvhClip
from .kinematics import (
    JOINT,
    angle_between,
    blend,
    matrix_to_axis_angle,
    place,
    swing,
    to_local,
)
from .reference import body_trunk, joint_axes, trunk_bend, trunk_places
from .skeletons import SIDES, SkeletonMap, map_skeleton
from .types import MotionError
from .upright import describe_up, detect_up, turn_to_z
from .zero_pose import body_axes, is_person, legs_up, posed_parts, source_axes

if TYPE_CHECKING:
    from ..bodies import BodyModel

LARGE = np.radians(35.0)
"""Angle between rest bones from which on they are another pose rather than another build."""
FOOT = np.radians(80.0)
"""The same for feet, whose soles both lie on the ground: in some skeletons the ball lies right under the ankle."""
TRUNK = np.radians(25.0)
"""The same for the bend between pelvis and chest."""

LIMBS = tuple(
    (f"{side}_{upper}", f"{side}_{lower}")
    for side in SIDES
    for upper, lower in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
)
"""Bones laid exactly along the source's: from joint, to joint."""

_LIMB_NAMES = tuple(f"{side} {bone}" for side in SIDES for bone in ("thigh", "shin", "upper arm", "forearm"))


@dataclass(frozen=True, eq=False)
class Link:
    """What of a retarget is the same in every frame, so that a body can follow a skeleton that is still edited.

    A joint's goal is the turn of its first part times that part's axes, then a share of the shortest way to the same of
    its second part; limbs are then laid by the smallest turn along the source's bone. The middle of the body's hips is
    ``scale`` times that of the source's.

    Attributes:
        parts: for each SMPL joint one or two of (source joint, its axes (3,3), share).
        limbs: SMPL joint -> the source's joints between which its bone lies.
        hips: the source's left and right hip.
        scale: from the source's units to metres.
    """

    parts: tuple[tuple[tuple[int, np.ndarray, float], ...], ...]
    limbs: dict[int, tuple[int, int]]
    hips: tuple[int, int]
    scale: float


@dataclass(frozen=True, eq=False)
class Retarget:
    """A motion on SMPL-24 joints, world Z up, metres; not yet on the floor.

    Attributes:
        poses: (T,24,3) axis-angle in radians.
        trans: (T,3) metres.
        notes: what was detected.
        source: (T,3) metres of each of the source's joints, by SMPL name, in the body's world; and ``neck``.
        errors: angle in degrees (T,) between each visible line of source and body, by its name (see ``line_errors``).
        link: how the source's joints move the body's in any frame.
    """

    poses: np.ndarray
    trans: np.ndarray
    notes: tuple[str, ...]
    source: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]
    link: Link


def retarget(clip: BvhClip, body: BodyModel, *, up: str | None = None, shape: np.ndarray | None = None) -> Retarget:
    """Carry a BVH motion over to a body.

    Args:
        clip: the parsed file.
        body: any SMPL-family body; its first 22 joints and hands are used.
        up: the file's up axis (``Y``, ``-Z``...); None detects it.
        shape: (S,) the body's; its bones' lengths and directions are then those of the result.

    Raises:
        MotionError: when the skeleton is not understood.
    """
    count = len(clip.names)
    clip = clip.with_sites()  # in some files a limb ends in one
    whole = map_skeleton(clip)
    rest = body.smpl_joints(body.joints_rest(shape)).astype(float)
    # Fingers and faces of long clips need not be followed.
    keep = whole.lines(clip.parents)
    skeleton = whole.among(keep)
    turns, places = clip.part(keep).world()
    # Of the file's own turns nothing more is needed, and long clips hold much.
    clip = replace(clip, rotations=clip.rotations[:1].copy(), translations=clip.translations[:1].copy())
    joints = skeleton.joints
    hips = [joints["left_hip"], joints["right_hip"]]
    ankles = [joints["left_ankle"], joints["right_ankle"]]
    uprights = places[:, skeleton.neck_base] - places[:, ankles].mean(axis=1)
    axis, told = (up, True) if up else detect_up(uprights, "Y")
    to_z = turn_to_z(axis)
    turns, places = to_z @ turns, places @ to_z.T

    legs = leg_length(joints, places)
    zero = clip.zero_pose()[keep]
    axes = joint_axes(skeleton, turns, places, zero, rest)
    stands = is_person(skeleton, zero) and trunk_bend(skeleton, axes) < TRUNK
    aligned = np.broadcast_to(np.eye(3), (24, 3, 3))
    posed: dict[str, np.ndarray] = {}
    perhaps: dict[str, np.ndarray] = {}
    if stands:
        posed, perhaps = posed_parts(skeleton, turns, places, zero, rest)
        aligned = rest_alignments(clip, whole, clip.zero_pose(), rest, posed)
        axes = np.broadcast_to(np.eye(3), axes.shape)
    else:
        turns = turns @ axes
    carriers = _carriers(skeleton, places, rest)
    goal = _source_turns(carriers, turns) @ aligned
    for upper, lower in LIMBS:
        _lay(goal, rest, JOINT[upper], JOINT[lower], places[:, joints[lower]] - places[:, joints[upper]])

    scale = leg_length(JOINT, rest[None]) / legs
    middle = place(goal, rest, np.zeros(3))[:, [1, 2]].mean(axis=1)
    trans = scale * places[:, hips].mean(axis=1) - middle
    for side in SIDES:
        goal[:, JOINT[f"{side}_hand"]] = goal[:, JOINT[f"{side}_wrist"]]
    reached = place(goal, rest, trans)
    local = to_local(goal)
    poses = np.stack([matrix_to_axis_angle(local[:, j]) for j in range(24)], axis=1)
    unit_name = _unit_name(legs)
    notes = (
        f"skeleton: {skeleton.label}, {count} joints",
        f"up axis {axis} as given" if up else describe_up(axis, told),
        f"legs are {legs:.4g} units long ({unit_name}); translation scaled by {scale:.4g} to the body's legs",
        *(() if stands else ("the file's zero pose is no person; the joints' axes were found from the frames",)),
    )
    errors = line_errors(skeleton, places, reached, zero if stands else None, rest, {**posed, **perhaps})
    known = {**joints, "neck": skeleton.neck_base}
    source = {name: scale * places[:, index] for name, index in known.items()}
    parts = [
        tuple((keep[k], axes[k] @ aligned[joint], share) for k, share in ((first, 1.0), (second, part)) if share)
        for joint, (first, second, part) in enumerate(carriers)
    ]
    limbs = {JOINT[a]: (keep[joints[a]], keep[joints[b]]) for a, b in LIMBS}
    link = Link(tuple(parts), limbs, (keep[hips[0]], keep[hips[1]]), scale)
    return Retarget(poses, trans, notes, source, errors, link)


def line_errors(
    skeleton: SkeletonMap,
    source: np.ndarray,
    target: np.ndarray,
    zero: np.ndarray | None,
    rest: np.ndarray,
    posed: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Angles in degrees (T,) between each line that a viewer sees of the source and the body's.

    Lines are thighs, shins, upper arms, forearms, trunk (middle of the hips to the base of the neck), hip line and
    shoulder line (right to left), collars, neck, feet and hands, as far as the source has them.

    Args:
        skeleton: of the source.
        source: (T,J,3) its joints, in the world.
        target: (T,24,3) the body's joints, in the same world.
        zero: (J,3) source joints in its zero pose, where that is a person; rest: (24,3) the body's. Collars, neck, feet
            and hands keep the body's own build: the angle between the two rest poses, as far as a build can explain it,
            is taken off. None: nothing is taken off.
        posed: what of that zero pose is no build; see ``posed_parts``.
    """
    known = {**skeleton.joints, "neck": skeleton.neck_base}
    pairs = dict(zip(_LIMB_NAMES, LIMBS, strict=True))
    pairs |= {"hip line": ("right_hip", "left_hip"), "shoulder line": ("right_shoulder", "left_shoulder")}
    built = {"neck": ("neck", "head")}
    for side in SIDES:
        for name, pair in (
            ("collar", ("collar", "shoulder")),
            ("foot", ("ankle", "foot")),
            ("hand", ("wrist", "hand")),
        ):
            built[f"{side} {name}"] = (f"{side}_{pair[0]}", f"{side}_{pair[1]}")

    def line(places: np.ndarray, upper: int, lower: int) -> np.ndarray:
        return places[..., lower, :] - places[..., upper, :]

    out: dict[str, np.ndarray] = {}
    for name, (upper, lower) in {**pairs, **built}.items():
        if upper not in known or lower not in known or known[upper] == known[lower]:
            continue
        mine, theirs = (known[upper], known[lower]), (JOINT[upper], JOINT[lower])
        bones = line(source, *mine)
        if np.linalg.norm(bones, axis=-1).min() < 1e-6:
            continue
        out[name] = np.degrees(angle_between(bones, line(target, *theirs)))
        if zero is not None and name in built:
            turn = source_axes(zero, skeleton) @ body_axes(rest).T
            neutral = (posed or {}).get(upper, np.eye(3)).T @ line(zero, *mine)
            build = angle_between(neutral, turn @ line(rest, *theirs))
            out[name] = np.maximum(0.0, out[name] - np.degrees(min(build, FOOT if "foot" in name else LARGE)))
    hips = [skeleton.joints["left_hip"], skeleton.joints["right_hip"]]
    trunk = source[:, skeleton.neck_base] - source[:, hips].mean(axis=1)
    out["trunk"] = np.degrees(angle_between(trunk, target[:, JOINT["neck"]] - target[:, 1:3].mean(axis=1)))
    return out


def leg_length(joints: Mapping[str, int], places: np.ndarray) -> float:
    """From hip to ankle, the mean of both legs, in places (T,J,3). Raises MotionError where that is nothing."""
    total = 0.0
    for side in SIDES:
        for upper, lower in (("hip", "knee"), ("knee", "ankle")):
            bone = places[:, joints[f"{side}_{lower}"]] - places[:, joints[f"{side}_{upper}"]]
            total += 0.5 * float(np.median(np.linalg.norm(bone, axis=-1)))
    if total < 1e-6:
        raise MotionError("skeleton", "its legs have no length: every OFFSET is zero. Export it with its bones")
    return total


def _unit_name(legs: float) -> str:
    """The likeliest unit of a file whose legs are that long: adults' measure 0.7 to 1 metre from hip to ankle."""
    sizes = {"metres": 1.0, "decimetres": 0.1, "inches": 0.0254, "centimetres": 0.01, "millimetres": 0.001}
    name = min(sizes, key=lambda n: abs(np.log(legs * sizes[n] / 0.83)))
    return name if 0.6 < legs * sizes[name] / 0.83 < 1.6 else "unit unknown"


def rest_alignments(
    clip: BvhClip, skeleton: SkeletonMap, zero: np.ndarray, rest: np.ndarray, posed: Mapping[str, np.ndarray]
) -> np.ndarray:
    """(24,3,3): for each SMPL joint the turn from its rest to the source's zero pose; ``posed`` see ``posed_parts``."""
    joints = skeleton.joints
    whole = source_axes(zero, skeleton) @ body_axes(rest).T
    out = np.broadcast_to(whole, (24, 3, 3)).copy()

    def bend(joint: str, child: str, source: np.ndarray, always: bool = False) -> None:
        mine = out[JOINT[joint]] @ (rest[JOINT[child]] - rest[JOINT[joint]])
        if always or angle_between(mine, source) > LARGE:
            out[JOINT[joint]] = swing(mine, source) @ out[JOINT[joint]]
        elif joint in posed:
            out[JOINT[joint]] = posed[joint] @ out[JOINT[joint]]

    # A limb turns as a whole first: its two bones, each with a turn of its own from T-pose to hanging arms, would twist
    # against each other.
    for side in SIDES:
        for first, middle, last in (("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist")):
            upper, lower, end = f"{side}_{first}", f"{side}_{middle}", f"{side}_{last}"
            mine = whole @ (rest[JOINT[end]] - rest[JOINT[upper]])
            out[JOINT[upper]] = swing(mine, zero[joints[end]] - zero[joints[upper]]) @ whole
            out[JOINT[lower]] = out[JOINT[upper]]
    for upper, lower in LIMBS:
        bend(upper, lower, zero[joints[lower]] - zero[joints[upper]], always=True)
    bend("neck", "head", zero[joints["head"]] - zero[skeleton.neck_base])
    out[JOINT["head"]] = out[JOINT["neck"]]
    for side in SIDES:
        if f"{side}_collar" in joints:
            bone = zero[joints[f"{side}_shoulder"]] - zero[joints[f"{side}_collar"]]
            bend(f"{side}_collar", f"{side}_shoulder", bone)
        wrist, hand = JOINT[f"{side}_wrist"], JOINT[f"{side}_hand"]
        out[wrist] = out[JOINT[f"{side}_elbow"]]
        tip = _tip(clip, zero, joints[f"{side}_wrist"], joints.get(f"{side}_hand"))
        # Some writers end hands anywhere: no hand rests across its forearm.
        if angle_between(tip, zero[joints[f"{side}_wrist"]] - zero[joints[f"{side}_elbow"]]) < 2 * LARGE:
            bend(f"{side}_wrist", f"{side}_hand", tip)
        out[hand] = out[wrist]
        foot = _foot(clip, skeleton, side, zero, rest, whole, out[JOINT[f"{side}_knee"]])
        out[JOINT[f"{side}_ankle"]] = posed.get(f"{side}_ankle", np.eye(3)) @ foot
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
    # Legs tell better than the trunk which way is up for a foot.
    up, ankle = legs_up(zero, joints), joints[f"{side}_ankle"]
    whole = swing(whole @ legs_up(rest, JOINT), up) @ whole
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
    """(3,) from a joint to what it carries in the zero pose: ``known``, else its farthest descendant."""
    if known is not None and np.linalg.norm(zero[known] - zero[joint]) > 1e-6:
        return zero[known] - zero[joint]
    below = {joint}
    for j in range(joint + 1, len(clip.parents)):
        if int(clip.parents[j]) in below:
            below.add(j)
    gaps = zero[sorted(below)] - zero[joint]
    return gaps[int(np.argmax(np.linalg.norm(gaps, axis=-1)))]


def _carriers(skeleton: SkeletonMap, places: np.ndarray, rest: np.ndarray) -> list[tuple[int, int, float]]:
    """For each SMPL joint what stands for it in the source: two joints, and the part of the way between their turns."""
    joints = skeleton.joints
    trunk = [joints["pelvis"], *skeleton.spine]
    above = [skeleton.spine[-1], *skeleton.neck, joints["head"]]

    def along(chain: list[int], position: float) -> tuple[int, int, float]:
        low = min(int(position), len(chain) - 2)
        part = position - low
        return chain[low], chain[low + 1], part if part >= 1e-3 else 0.0

    out = {"pelvis": (joints["pelvis"], joints["pelvis"], 0.0)}
    where = trunk_places(skeleton, places)
    for name, place_ in zip(("spine1", "spine2", "spine3"), body_trunk(rest)[1][1:], strict=True):
        # Of joints in one place the last carries what is above.
        after = min(int(np.searchsorted(where, place_ - 1e-3, side="right")), len(where) - 1)
        gap = where[after] - where[after - 1]
        part = (place_ - where[after - 1]) / gap if gap > 1e-6 else 1.0
        out[name] = along(trunk, after - 1 + min(float(part), 1.0))
    out["neck"] = along(above, (len(above) - 1) / 2)
    out["head"] = (joints["head"], joints["head"], 0.0)
    for side in SIDES:
        for name, fallback in (
            ("hip", "pelvis"), ("knee", "hip"), ("ankle", "knee"), ("foot", "ankle"),
            ("collar", ""), ("shoulder", ""), ("elbow", ""), ("wrist", ""), ("hand", "wrist"),
        ):  # fmt: skip
            role = f"{side}_{name}"
            index = joints.get(role, joints.get(f"{side}_{fallback}", skeleton.spine[-1]))
            out[role] = (index, index, 0.0)
    return [out[name] for name in JOINT]


def _source_turns(carriers: Sequence[tuple[int, int, float]], turns: np.ndarray) -> np.ndarray:
    """For each SMPL joint the global turn (T,24,3,3) of what stands for it in the source."""
    out = np.empty((len(turns), 24, 3, 3))
    for joint, (first, second, part) in enumerate(carriers):
        out[:, joint] = blend(turns[:, first], turns[:, second], part) if part else turns[:, first]
    return out


def _lay(goal: np.ndarray, rest: np.ndarray, joint: int, child: int, bone: np.ndarray) -> None:
    """Turn a joint's goal (T,24,3,3) the little that lays its bone along the source's (T,3), twist joints and all."""
    now = goal[:, joint] @ (rest[child] - rest[joint])
    goal[:, joint] = swing(now, bone) @ goal[:, joint]


__all__ = ["LIMBS", "Link", "Retarget", "leg_length", "line_errors", "rest_alignments", "retarget"]
