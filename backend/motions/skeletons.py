"""Which joint of a foreign skeleton stands for which SMPL joint: naming schemes first, the tree's shape otherwise.

Names tell limbs and head; the trunk is whatever the tree holds between them, so that no joint's turn is lost.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np

from ..catalogue.reader import CatalogueError, list_presets
from ..catalogue.rig import LIMB_ROLES, Scheme
from .bvh import BvhClip
from .kinematics import angle_between
from .types import MotionError

SIDES = ("left", "right")
_STRAIGHT = np.radians(3.0)
"""A joint that never bends by more holds no limb's hinge."""
_UNLIKE = 2.5
"""How many times as long as the other one of a limb's two bones may be."""
_FOOT = 0.15
"""How much of a shin's length a foot measures at least; some files end in sites of no meaning."""
TRIPLES = (("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist"))
_LEFT = {"l", "left", "lft", "lf", "lt", "links", "gauche", "izquierda", "izq", "sinistra", "左"}
_RIGHT = {"r", "right", "rgt", "rt", "rg", "rechts", "droite", "droit", "derecha", "der", "destra", "右"}

_Name = tuple[str, str]
"""A joint's side (``left``, ``right`` or "") and the rest of its name."""
_NAMELESS: _Name = ("", "")
"""What an end site is called."""


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
        return sorted({k for j in (*self.joints.values(), *self.spine, *self.neck) for k in _line(j, parents)})


def map_skeleton(clip: BvhClip) -> SkeletonMap:
    """Find SMPL's joints in a skeleton.

    The scheme of ``presets/skeletons`` that explains most joints wins; where none has all limbs, the shape of the tree
    decides: two pairs of mirrored limbs and a head. Sides are then read from the names, else from where the toes point
    and the knees bend.

    Raises:
        MotionError: naming the joints that were not found and the joints that the file has.
    """
    names = plain_names(clip.names)
    best: SkeletonMap | None = None
    most = -1.0
    nearest: tuple[int, str, list[str]] = (-1, "", [])
    for scheme, wanted in _schemes(Scheme.FOLDER):
        joints, missing, explained = _match(wanted, names, clip.parents)
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
    raise MotionError(
        "skeleton",
        f"its joints ({listed}) match no known naming; nearest is {nearest[1]}, which also needs "
        f"{', '.join(nearest[2][:6])}. Add a file to presets/skeletons that names them",
    )


@cache
def _schemes(folder: Path) -> tuple[tuple[Scheme, dict[str, list[_Name]]], ...]:
    """Schemes, each with its plain names by role. Raises MotionError that names a file that cannot be read."""
    try:
        return tuple((scheme, _plain_scheme(scheme)) for scheme in list_presets(Scheme, folder).values())
    except CatalogueError as error:
        raise MotionError("skeleton", str(error)) from error


def plain_names(names: Sequence[str]) -> list[_Name]:
    """Names without namespace, separators, case and what nearly all share; the side apart, however it is spelled."""
    words = [_words(re.split(r"[:|]", name)[-1]) for name in names]
    known = {word for line in words for word in line}

    def sided(line: list[str]) -> tuple[str, list[str]]:
        for index, word in enumerate(line):
            for side, spellings, letter, other in (("left", _LEFT, "l", "r"), ("right", _RIGHT, "r", "l")):
                if word in spellings:
                    return side, line[:index] + line[index + 1 :]
                rest = ""
                if len(word) > 2 and word[0] == letter and other + word[1:] in known:
                    rest = word[1:]
                elif len(word) > 2 and word[-1] == letter and word[:-1] + other in known:
                    rest = word[:-1]
                rest = word.replace(side, "", 1) if side in word else rest
                if rest:
                    return side, [*line[:index], rest, *line[index + 1 :]]
        return "", line

    lines = [sided(line) for line in words]
    told = sum(map(bool, words))
    while True:
        first, count = max(Counter(rest[0] for _, rest in lines if rest).items(), key=lambda kv: kv[1], default=("", 0))
        if told < 4 or count < 0.85 * told:
            return [(side, "".join(rest)) for side, rest in lines]
        lines = [(side, rest[1:] if rest[:1] == [first] else rest) for side, rest in lines]


def _words(name: str) -> list[str]:
    """LeftUpLeg, left_up_leg and spine_01 as words in lower case, numbers without leading zeros."""
    found = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]", name)
    return [str(int(word)) if word.isdecimal() else word.lower() for word in found]


def _plain_scheme(scheme: Scheme) -> dict[str, list[_Name]]:
    listed = [(role, name) for role, options in scheme.joints.items() for name in options]
    out: dict[str, list[_Name]] = {}
    for (role, _), name in zip(listed, plain_names([name for _, name in listed]), strict=True):
        out.setdefault(role, []).append(name)
    return out


def _match(
    wanted: Mapping[str, list[_Name]], names: list[_Name], parents: np.ndarray
) -> tuple[dict[str, int], list[str], float]:
    """Joints by role, what is missing of limbs and head, and how many names the scheme explains.

    A wrist or ankle may be the nameless end of its limb.
    """
    where = {name: index for index, name in reversed(list(enumerate(names)))}
    joints: dict[str, int] = {}
    explained = 0.0
    for role, options in wanted.items():
        hits = [where[option] for option in options if option in where]
        if role in ("spine", "neck"):
            explained += len(hits) - 0.5 * (len(options) - len(hits))
        elif hits:
            joints[role] = hits[0]
            explained += 1
    for side in SIDES:
        for _, middle, last in TRIPLES:
            below = np.flatnonzero(parents == joints.get(f"{side}_{middle}", -2))
            ends = [int(j) for j in below if names[j] == _NAMELESS]
            if ends and f"{side}_{last}" not in joints:
                joints[f"{side}_{last}"] = ends[0]
    missing = [" ".join(wanted[role][0]).strip() for role in (*LIMB_ROLES, "head") if role not in joints]
    return joints, missing, explained


def _line(joint: int, parents: np.ndarray) -> list[int]:
    """The joint and its ancestors up to the root."""
    line = [joint]
    while parents[line[-1]] >= 0:
        line.append(int(parents[line[-1]]))
    return line


def _common(first: int, second: int, parents: np.ndarray) -> int:
    """The nearest common ancestor of two joints; -1 where they have none."""
    above = set(_line(first, parents))
    return next((joint for joint in _line(second, parents) if joint in above), -1)


def _with_trunk(label: str, joints: Mapping[str, int], clip: BvhClip, names: Sequence[_Name]) -> SkeletonMap | None:
    """Limbs and head with all that the tree holds between and beyond them; None where they make no body."""
    parents, joints = clip.parents, dict(joints)
    for side in SIDES:
        for triple in TRIPLES:
            chain = [joints[f"{side}_{name}"] for name in triple]
            if not all(upper in _line(lower, parents)[1:] for upper, lower in pairwise(chain)):
                return None
    hips = _common(joints["left_hip"], joints["right_hip"], parents)
    chest = _common(joints["left_shoulder"], joints["right_shoulder"], parents)
    base = _common(hips, chest, parents) if min(hips, chest) >= 0 else -1
    if base < 0 or (hips in joints.values() and hips == joints["left_hip"]):
        return None
    trunk = _line(chest, parents)
    spine = trunk[: trunk.index(base)][::-1] or [chest]
    while len(spine) > 1 and names[spine[-1]][1].startswith("neck"):
        spine.pop()  # Biped hangs its collars on the neck
    head = _line(joints["head"], parents)
    fork = next((joint for joint in head if joint in spine or joint == base), -1)
    if fork < 0 or joints["head"] == fork:
        return None
    pelvis = joints.get("pelvis", hips)
    if pelvis not in _line(hips, parents):
        pelvis = hips
    # A root far from the hips is no pelvis of theirs.
    pelvis = hips if pelvis == base != hips else pelvis
    for side in SIDES:
        above = [j for j in _line(joints[f"{side}_shoulder"], parents)[1:] if chest in _line(j, parents)[1:]]
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


def _neck_base(neck: Sequence[int], head: int, clip: BvhClip, names: Sequence[_Name]) -> int:
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
    names: Sequence[_Name], legs: Sequence[list[int]], arms: Sequence[list[int]], places: np.ndarray
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
