"""A skeleton's joints named by hand: what each may be, what is missing, and the scheme that is made of the choice.

A choice is a joint of the file for each part of the body: SMPL's joints, but of the trunk only the lowest joint
(``spine``) and the one that carries the arms (``chest``), and of the neck only its base. What lies between them in the
tree belongs to them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from ..catalogue.rig import LIMB_ROLES
from .bvh import BvhClip
from .naming import SIDES, TRIPLES, match, plain_names, schemes
from .skeletons import SkeletonMap, UnknownSkeleton, common_joint, line_up, map_skeleton

TRUNK = ("head", "neck", "chest", "spine", "pelvis")
LIMBS = ("collar", "shoulder", "elbow", "wrist", "hand", "hip", "knee", "ankle", "foot")
PARTS = (*TRUNK, *(f"{side}_{limb}" for limb in LIMBS for side in SIDES))
"""What can be chosen, from above."""
NEEDED = frozenset(("head", "spine", "pelvis", *LIMB_ROLES))

_WORDS = {
    "head": "head|skull",
    "pelvis": "pelvis|hips|root",
    "hip": "thigh|upperleg|upleg|uleg|femur|hip",
    "knee": "shin|calf|lowerleg|lowleg|knee|tibia",
    "ankle": "ankle|foot",
    "foot": "toe|ball",
    "collar": "clav|collar|scapula",
    "shoulder": "upperarm|uparm|uarm|shldr|shoulder|bicep|humerus",
    "elbow": "forearm|lowerarm|lowarm|farm|elbow|ulna|radius",
    "wrist": "wrist|palm|hand",
    "hand": "knuckle|mid|finger",
}
"""Words within a name that say which part a joint may be."""


def guess_parts(clip: BvhClip) -> tuple[str, dict[str, int]]:
    """What explains a skeleton ("" where nothing does), and a joint for each part as far as it can be told."""
    try:
        found = map_skeleton(clip)
    except UnknownSkeleton:
        return "", _likely(clip)
    return found.label, parts_of(found)


def parts_of(found: SkeletonMap) -> dict[str, int]:
    """The choice that a map stands for."""
    parts = {role: joint for role, joint in found.joints.items() if role in PARTS}
    parts |= {"spine": found.spine[0], "chest": found.spine[-1]}
    return parts | ({"neck": found.neck[0]} if found.neck else {})


def scheme_of(labels: Sequence[str], parents: Sequence[int], parts: Mapping[str, str]) -> dict[str, list[str]]:
    """The joints of a scheme (see ``catalogue.rig.Scheme``) that says what was chosen.

    Args:
        labels: of all joints (``joint_labels``); parents: their parents.
        parts: label by part; nothing is wrong with them (``faults_of``).
    """
    where = {part: list(labels).index(label) for part, label in parts.items() if label}
    chosen = {part: [joint] for part, joint in where.items() if part not in ("chest", "spine", "neck")}
    chosen["spine"] = _between(where["spine"], where.get("chest", where["spine"]), parents)
    if "neck" in where:
        chosen["neck"] = [j for j in _between(where["neck"], where["head"], parents) if j != where["head"]]
    return {role: [labels[j] for j in chosen[role]] for role in sorted(chosen, key=_order)}


def faults_of(parts: Mapping[str, str]) -> list[str]:
    """What is wrong with a choice of labels: parts that are needed and missing, and joints chosen twice."""
    told = [f"{part_label(part)} is not chosen" for part in PARTS if part in NEEDED and not parts.get(part)]
    owners: dict[str, list[str]] = {}
    for part in PARTS:
        if label := parts.get(part):
            owners.setdefault(label, []).append(part)
    for label, owned in owners.items():
        if len(owned) > 1 and not set(owned) <= {"pelvis", "spine", "chest"}:
            told.append(f"{' and '.join(map(part_label, owned))} are both {label}")
    return told


def part_label(part: str) -> str:
    """``left_hip`` for the animator."""
    return part.replace("_", " ").title()


def mirror_joints(clip: BvhClip) -> list[int]:
    """For each joint its like on the other side, by name, else by the tree's shape; -1 where there is none."""
    names, parents = plain_names(clip.names), clip.parents
    children = [[int(c) for c in np.flatnonzero(parents == j)] for j in range(len(names))]
    shapes: list[tuple] = [()] * len(names)
    for joint in reversed(range(len(names))):
        shapes[joint] = tuple(sorted(shapes[c] for c in children[joint]))
    out: list[int] = []
    for joint, (side, rest) in enumerate(names):
        other = (SIDES[side == "left"], rest)
        alike = [j for j, name in enumerate(names) if name == other] if side else []
        above = int(parents[joint])
        if len(alike) != 1 and above >= 0:
            if out[above] >= 0:
                place, there = children[above].index(joint), children[out[above]]
                alike = there[place : place + 1] if len(there) == len(children[above]) else []
            else:
                alike = [j for j in children[above] if j != joint and shapes[j] == shapes[joint] and not side]
        out.append(alike[0] if len(alike) == 1 else -1)
    return out


def _order(role: str) -> tuple[int, str]:
    trunk = ("pelvis", "spine", "neck", "head")
    return (trunk.index(role), "") if role in trunk else (len(trunk), role)


def _between(low: int, high: int, parents: Sequence[int] | np.ndarray) -> list[int]:
    """Joints from one up to another below it in the tree; both alone where the tree does not join them."""
    line = line_up(high, np.asarray(parents))
    return line[: line.index(low) + 1][::-1] if low in line else [low, high]


def _likely(clip: BvhClip) -> dict[str, int]:
    """Parts of a skeleton that nothing explains as a whole: by single names, the tree between them, and the mirror."""
    names, parents = plain_names(clip.names), clip.parents
    parts: dict[str, int] = {}

    def take(part: str, joint: int) -> None:
        if part in PARTS and part not in ("spine", "neck") and part not in parts and joint not in parts.values():
            parts[part] = joint

    known = [(match(wanted, names, parents)[0], wanted) for _, wanted in schemes([])]
    known.sort(key=lambda one: -len(one[0]))
    for joints, wanted in known:
        for part, joint in joints.items():
            take(part, joint)
        spine, neck = (
            [names.index(name) for name in wanted.get(role, ()) if name in names] for role in ("spine", "neck")
        )
        if spine:
            parts.setdefault("spine", spine[0])
            parts.setdefault("chest", spine[-1])
        if neck:
            parts.setdefault("neck", neck[0])
    for part in PARTS:
        side, _, limb = part.rpartition("_")
        hits = [j for j, name in enumerate(names) if name[0] == side and re.search(_WORDS.get(limb, "$^"), name[1])]
        hits = [j for j in hits if j not in parts.values()]
        if hits:
            take(part, min(hits, key=lambda j: len(names[j][1])))
    for side in SIDES:
        for triple in TRIPLES:
            _fill_limb(parts, [f"{side}_{name}" for name in triple], clip)
    mirrors = mirror_joints(clip)
    for one, other in (SIDES, SIDES[::-1]):
        for limb in LIMBS:
            joint = mirrors[parts[f"{one}_{limb}"]] if f"{one}_{limb}" in parts else -1
            if joint >= 0:
                take(f"{other}_{limb}", joint)
    _fill_trunk(parts, parents)
    return parts


def _fill_limb(parts: dict[str, int], triple: Sequence[str], clip: BvhClip) -> None:
    """The one joint of a limb that is missing, by its bones."""
    upper, middle, lower = (parts.get(part, -1) for part in triple)
    lengths = np.linalg.norm(clip.offsets, axis=-1)
    if upper >= 0 and lower >= 0 and middle < 0 and upper in line_up(lower, clip.parents):
        chain = _between(upper, lower, clip.parents)
        along = np.cumsum(lengths[chain[1:]])
        if len(chain) > 2:
            parts[triple[1]] = chain[1 + int(np.argmin(np.abs(along[:-1] - 0.5 * along[-1])))]
    elif middle >= 0 and upper < 0 and (above := int(clip.parents[middle])) not in (-1, *parts.values()):
        parts[triple[0]] = above
    elif middle >= 0 and lower < 0:
        below = [int(j) for j in np.flatnonzero(clip.parents == middle) if int(j) not in parts.values()]
        if below:
            parts[triple[2]] = max(below, key=lambda j: lengths[j])


def _fill_trunk(parts: dict[str, int], parents: np.ndarray) -> None:
    """Pelvis, spine, chest and neck by the limbs that hang on them."""
    for part, one, other in (("pelvis", "left_hip", "right_hip"), ("chest", "left_shoulder", "right_shoulder")):
        if one in parts and other in parts and part not in parts:
            joint = common_joint(parts[one], parts[other], parents)
            if joint >= 0:
                parts[part] = joint
    if "pelvis" in parts and "chest" in parts and "spine" not in parts:
        chain = _between(parts["pelvis"], parts["chest"], parents)
        parts["spine"] = chain[min(1, len(chain) - 1)]
    if "chest" in parts and "head" in parts and "neck" not in parts:
        neck = _between(parts["chest"], parts["head"], parents)[1:-1]
        if neck and neck[0] not in parts.values():
            parts["neck"] = neck[0]
