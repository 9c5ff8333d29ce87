"""Which joint of a foreign skeleton stands for which SMPL joint: naming schemes first, the tree's shape otherwise.

Names tell limbs and head; the trunk is whatever the tree holds between them, so that no joint's turn is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from ..catalogue.reader import CatalogueError
from .bvh import BvhClip
from .kinematics import angle_between
from .naming import SIDES, TRIPLES, Name, match, own_scheme, plain_names, schemes
from .types import MotionError

_STRAIGHT = np.radians(3.0)
"""A joint that never bends by more holds no limb's hinge."""
_UNLIKE = 2.5
"""How many times as long as the other one of a limb's two bones may be."""
_FOOT = 0.15
"""How much of a shin's length a foot measures at least; some files end in sites of no meaning."""


class UnknownSkeleton(MotionError):
    """Joints that neither a scheme nor the shape of their tree explains; the animator can name them by hand."""


@dataclass(frozen=True)
class SkeletonMap:
    """Joint indices of a BvhClip by SMPL role.

    Attributes:
        label: the naming scheme, for the animator.
        joints: SMPL joint name (``pelvis``, ``head``, ``left_hip``...) -> index.
        spine: indices above the pelvis upwards; the last carries the collars. At least one.
        neck: indices between the spine and the head; may be empty.
    """

    label: str
    joints: dict[str, int]
    spine: tuple[int, ...]
    neck: tuple[int, ...]

    @property
    def neck_base(self) -> int:
        """The joint at the base of the neck."""
        return self.neck[0] if self.neck else self.joints["head"]

    def among(self, keep: Sequence[int]) -> SkeletonMap:
        """The same map of a clip that holds only these joints."""
        index = {old: new for new, old in enumerate(keep)}
        joints = {role: index[j] for role, j in self.joints.items()}
        spine, neck = (tuple(index[j] for j in chain) for chain in (self.spine, self.neck))
        return SkeletonMap(self.label, joints, spine, neck)

    def lines(self, parents: np.ndarray) -> list[int]:
        """All joints of the map and their ancestors, ascending."""
        return sorted({k for j in (*self.joints.values(), *self.spine, *self.neck) for k in line_up(j, parents)})


def map_skeleton(clip: BvhClip) -> SkeletonMap:
    """Find SMPL's joints in a skeleton.

    A scheme of the user's own whose joints are all there is followed to the letter. Else the scheme that explains most
    joints wins; where none has all limbs, the shape of the tree decides: two pairs of mirrored limbs and a head. Sides
    are then read from the names, else from where the toes point and the knees bend.

    Raises:
        UnknownSkeleton: naming the joints that were not found and the joints that the file has.
    """
    if found := own_scheme(clip.names, clip.parents):
        return as_chosen(found[0].label, found[1], clip)
    names = plain_names(clip.names)
    best: SkeletonMap | None = None
    most = -1.0
    nearest: tuple[int, str, list[str]] = (-1, "", [])
    faults: list[CatalogueError] = []
    for scheme, wanted in schemes(faults):
        joints, missing, explained = match(wanted, names, clip.parents)
        if missing:
            if len(joints) > nearest[0]:
                nearest = (len(joints), scheme.label, missing)
            continue
        found = _with_trunk(scheme.label, joints, clip, names)
        if found is not None and explained > most:
            best, most = found, explained
    best = best or _by_shape(clip)
    if best is not None:
        return best
    told = [name for name in clip.names if name]
    listed = ", ".join(told[:12]) + (" ..." if len(told) > 12 else "")
    raise UnknownSkeleton(
        "skeleton",
        f"its joints ({listed}) match no known naming; nearest is {nearest[1]}, which also needs "
        f"{', '.join(nearest[2][:6])}. Say with Map Bones in Blender which is which, or by a file like those of "
        f"presets/skeletons{''.join(f'; {fault}' for fault in faults)}",
    )


def as_chosen(label: str, chosen: Mapping[str, Sequence[int]], clip: BvhClip) -> SkeletonMap:
    """The map of joints that someone has chosen, by role of a scheme; a foot that is not named is looked for."""
    joints = {role: found[0] for role, found in chosen.items() if role not in ("spine", "neck")}
    for side in SIDES:
        foot = joints.get(f"{side}_foot", _foot(joints[f"{side}_ankle"], -1, clip))
        if foot >= 0:
            joints[f"{side}_foot"] = foot
    return SkeletonMap(label, joints, tuple(chosen["spine"]), tuple(chosen.get("neck", ())))


def line_up(joint: int, parents: np.ndarray) -> list[int]:
    """The joint and its ancestors up to the root."""
    line = [joint]
    while parents[line[-1]] >= 0:
        line.append(int(parents[line[-1]]))
    return line


def common_joint(first: int, second: int, parents: np.ndarray) -> int:
    """The nearest common ancestor of two joints; -1 where they have none."""
    above = set(line_up(first, parents))
    return next((joint for joint in line_up(second, parents) if joint in above), -1)


def _with_trunk(label: str, joints: Mapping[str, int], clip: BvhClip, names: Sequence[Name]) -> SkeletonMap | None:
    """Limbs and head with all that the tree holds between and beyond them; None where they make no body."""
    parents, joints = clip.parents, dict(joints)
    for side in SIDES:
        for triple in TRIPLES:
            chain = [joints[f"{side}_{name}"] for name in triple]
            if not all(upper in line_up(lower, parents)[1:] for upper, lower in pairwise(chain)):
                return None
    hips = common_joint(joints["left_hip"], joints["right_hip"], parents)
    chest = common_joint(joints["left_shoulder"], joints["right_shoulder"], parents)
    base = common_joint(hips, chest, parents) if min(hips, chest) >= 0 else -1
    if base < 0 or (hips in joints.values() and hips == joints["left_hip"]):
        return None
    trunk = line_up(chest, parents)
    spine = trunk[: trunk.index(base)][::-1] or [chest]
    while len(spine) > 1 and names[spine[-1]][1].startswith("neck"):
        spine.pop()  # Biped hangs its collars on the neck
    head = line_up(joints["head"], parents)
    fork = next((joint for joint in head if joint in spine or joint == base), -1)
    if fork < 0 or joints["head"] == fork:
        return None
    pelvis = joints.get("pelvis", hips)
    if pelvis not in line_up(hips, parents):
        pelvis = hips
    # A root far from the hips is no pelvis of theirs.
    pelvis = hips if pelvis == base != hips else pelvis
    for side in SIDES:
        above = [j for j in line_up(joints[f"{side}_shoulder"], parents)[1:] if chest in line_up(j, parents)[1:]]
        if above:
            joints.setdefault(f"{side}_collar", above[-1])
        foot = _foot(joints[f"{side}_ankle"], joints.pop(f"{side}_foot", -1), clip)
        if foot >= 0:
            joints[f"{side}_foot"] = foot
    neck = head[1 : head.index(fork)][::-1]
    return SkeletonMap(
        label, {**joints, "pelvis": pelvis}, tuple(spine), tuple(neck[_neck_base(neck, joints["head"], clip, names) :])
    )


def _foot(ankle: int, ball: int, clip: BvhClip) -> int:
    """The joint that a foot points to: ``ball`` (-1: unknown) or, where the ankle is too near, beyond; else -1."""
    zero = clip.zero_pose()
    shin = np.linalg.norm(clip.offsets[ankle])
    while True:
        if ball >= 0 and np.linalg.norm(zero[ball] - zero[ankle]) > _FOOT * shin:
            return ball
        below = np.flatnonzero(clip.parents == (ball if ball >= 0 else ankle))
        if not len(below):
            return -1
        ball = int(below[np.argmax(np.linalg.norm(zero[below] - zero[ankle], axis=-1))])


def _neck_base(neck: Sequence[int], head: int, clip: BvhClip, names: Sequence[Name]) -> int:
    """Which of the joints between chest and head is the base of the neck: the first called so, else half way up."""
    named = [k for k, joint in enumerate(neck) if names[joint][1].startswith("neck")]
    if named or not neck:
        return named[0] if named else 0
    along = np.cumsum(np.linalg.norm(clip.translations[0, [*neck, head]], axis=-1))
    return int(np.argmax(along[:-1] >= 0.4 * along[-1])) if along[-2] >= 0.4 * along[-1] else len(neck) - 1


def _by_shape(clip: BvhClip) -> SkeletonMap | None:
    """Map by the tree: of all mirrored pairs of limbs that turn the longest are legs, the next arms.

    Pairs that never turn (wings, skirts, props) come after them. In each limb the two longest successive bones are
    thigh and shin, or upper arm and forearm.
    """
    parents, names = clip.parents, plain_names(clip.names)
    children = [[int(c) for c in np.flatnonzero(parents == j)] for j in range(len(names))]
    lengths = np.median(np.linalg.norm(clip.translations, axis=-1), axis=0)
    places = clip.world()[1][:: max(1, len(clip.rotations) // 200)]
    turns = np.ptp(clip.rotations, axis=0).max(axis=(-1, -2)) > 1e-3
    limbs: list[tuple[tuple[bool, float], list[int], list[int]]] = []
    trunk = [int(np.flatnonzero(parents < 0)[0])]
    for joint in trunk:
        rest = list(children[joint])
        pairs = []
        for a, b in combinations(rest, 2):
            sides = {names[a][0], names[b][0]}
            one, two = _bending(_longest(a, children, lengths), _longest(b, children, lengths), places)
            if len(one) < 3:
                continue
            bones = _span((one, two), places)[1]
            alike = bool(np.all(np.ptp(bones, axis=0) < 0.1 * bones.max(axis=0)))
            if (sides == set(SIDES) or (len(sides) == 1 and alike)) and bones.sum(axis=1).min() > 0:
                moves = all(turns[chain[:-1]].any() for chain in (one, two))
                pairs.append(((moves, float(bones.sum(axis=1).min())), one, two))
        for pair in sorted(pairs, reverse=True):
            if pair[1][0] in rest and pair[2][0] in rest:
                limbs.append(pair)
                rest = [c for c in rest if c not in (pair[1][0], pair[2][0])]
        trunk.extend(rest)
    if len(limbs) < 2:
        return None
    legs, arms = sorted(limbs, reverse=True)[:2]
    joints: dict[str, int] = {}
    legs, arms = _sided(names, legs[1:], arms[1:], places)
    for pair, triple, before, after in ((legs, TRIPLES[0], "", "foot"), (arms, TRIPLES[1], "collar", "hand")):
        first = _span(pair, places)[0]
        for side, chain in zip(SIDES, pair, strict=True):
            for role, joint in zip(triple, chain[first : first + 3], strict=True):
                joints[f"{side}_{role}"] = joint
            if before and first > 0:
                joints[f"{side}_{before}"] = chain[first - 1]
            if len(chain) > first + 3:
                joints[f"{side}_{after}"] = chain[first + 3]
    chest = int(parents[arms[0][0]])
    above = [c for c in children[chest] if c not in (arms[0][0], arms[1][0])]
    if not above:
        return None
    chains = [_longest(c, children, lengths) for c in above]
    upper = max(chains, key=lambda chain: (bool(turns[chain].any()), len(chain)))
    upper = [j for j in upper if clip.names[j]] or upper
    named = [j for j in upper if "head" in names[j][1]]
    joints["head"] = named[0] if named else upper[min(1, len(upper) - 1)]
    return _with_trunk("shape of the skeleton", joints, clip, names)


def _longest(joint: int, children: Sequence[Sequence[int]], lengths: np.ndarray) -> list[int]:
    """The chain below a joint, the joint first, that is longest in space (fingers and twist joints lose)."""
    best: dict[int, tuple[float, int]] = {}
    order = [joint]
    for j in order:
        order.extend(children[j])
    for j in reversed(order):
        best[j] = max(((float(lengths[c]) + best[c][0], c) for c in children[j]), default=(0.0, -1))
    chain = [joint]
    while best[chain[-1]][1] >= 0:
        chain.append(best[chain[-1]][1])
    return chain


def _bending(one: list[int], two: list[int], places: np.ndarray) -> tuple[list[int], list[int]]:
    """A pair of chains, alike long, without the joints that bend in neither in (T,J,3): they share a bone's twist.

    A knee may never bend either: where a limb's two bones would be too unlike, the joint stays.
    """
    pair = np.array([chain[: min(len(one), len(two))] for chain in (one, two)])
    if len(places) < 2:
        return pair[0].tolist(), pair[1].tolist()
    k = 1
    while k < pair.shape[1] - 1:
        before, joint, after = (places[:, pair[:, i]] for i in (k - 1, k, k + 1))
        fewer = np.delete(pair, k, axis=1)
        ends = np.linalg.norm(after[0] - joint[0], axis=-1)
        straight = ends.min() > 0 and angle_between(joint - before, after - joint).max() < _STRAIGHT
        bones = _span(fewer.tolist(), places)[1] if straight and fewer.shape[1] > 2 else np.zeros((2, 2))
        if bones.max() < _UNLIKE * bones.min():
            pair, k = fewer, 1
        else:
            k += 1
    return pair[0].tolist(), pair[1].tolist()


def _span(pair: Sequence[Sequence[int]], places: np.ndarray) -> tuple[int, np.ndarray]:
    """Where in a pair of chains alike long the two longest successive bones of both begin, and these bones (2,2).

    From places (T,J,3).
    """
    bones = np.median(np.linalg.norm(np.diff(places[:, pair], axis=2), axis=-1), axis=0)
    first = int(np.argmax((bones[:, 1:] + bones[:, :-1]).min(axis=0)))
    return first, bones[:, first : first + 2]


def _sided(
    names: Sequence[Name], legs: Sequence[list[int]], arms: Sequence[list[int]], places: np.ndarray
) -> tuple[list[list[int]], list[list[int]]]:
    """Both pairs of limbs, left before right: by name where names tell, else by toes and knees."""
    told = {names[chain[0]][0] for chain in (*legs, *arms)} == set(SIDES)
    if told:
        first, second = (sorted(pair, key=lambda chain: names[chain[0]][0]) for pair in (legs, arms))
        return first, second
    s = _span(legs, places)[0]
    hips = [places[:, chain[s]] for chain in legs]
    shoulders = [places[:, chain[_span(arms, places)[0]]] for chain in arms]
    up = np.mean(shoulders, axis=0) - np.mean(hips, axis=0)
    ahead = np.zeros_like(up)
    for chain in legs:
        hip, knee, ankle = (places[:, j] for j in chain[s : s + 3])
        ahead += 4 * (knee - 0.5 * (hip + ankle))
        if len(chain) > s + 3:
            ahead += places[:, chain[-1]] - ankle
    left = np.cross(up, ahead)
    if np.sum(left * (hips[0] - hips[1])) < 0:
        legs = legs[::-1]
        hips = hips[::-1]
    if np.sum((hips[0] - hips[1]) * (shoulders[0] - shoulders[1])) < 0:
        arms = arms[::-1]
    return list(legs), list(arms)
