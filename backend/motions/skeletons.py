"""Which joint of a foreign skeleton stands for which SMPL joint: naming schemes first, the tree's shape otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise, takewhile
from pathlib import Path

import numpy as np

from ..catalogue.reader import CatalogueError, list_presets
from ..catalogue.rig import REQUIRED, Scheme
from .bvh import BvhClip
from .types import MotionError

_CHAINS = ("spine", "neck")


@dataclass(frozen=True)
class SkeletonMap:
    """Joint indices of a BvhClip by SMPL role.

    Attributes:
        label: the naming scheme, for the animator.
        joints: SMPL joint name (``pelvis``, ``head``, ``left_hip``...) -> index.
        spine: indices above the pelvis upwards; the last carries the collars.
        neck: indices between the spine and the head; may be empty.
    """

    label: str
    joints: dict[str, int]
    spine: tuple[int, ...]
    neck: tuple[int, ...]


def map_skeleton(clip: BvhClip) -> SkeletonMap:
    """Find SMPL's joints in a skeleton.

    The scheme of ``presets/skeletons`` with the most joints found wins; where none has all required joints, the
    shape of the tree decides (two pairs of mirrored limbs and a head), with sides read from the names.

    Raises:
        MotionError: naming the joints that were not found and the joints that the file has.
    """
    best: SkeletonMap | None = None
    nearest: tuple[int, str, list[str]] = (-1, "", [])
    for scheme in _schemes(Scheme.FOLDER):
        for names in _spellings(clip.names):
            found, missing = _match(scheme.joints, names)
            if not missing and _is_chain(found, clip.parents) and (best is None or _count(found) > _count(best)):
                best = SkeletonMap(scheme.label, found.joints, found.spine, found.neck)
            elif missing and len(found.joints) > nearest[0]:
                nearest = (len(found.joints), scheme.label, missing)
    if best is not None:
        return best
    guess = _by_shape(clip)
    if guess is not None:
        return guess
    listed = ", ".join(clip.names[:12]) + (" ..." if len(clip.names) > 12 else "")
    raise MotionError(
        "skeleton",
        f"its joints ({listed}) match no known naming; nearest is {nearest[1]}, which also needs "
        f"{', '.join(nearest[2][:6])}. Add a file to presets/skeletons that names them",
    )


@cache
def _schemes(folder: Path) -> tuple[Scheme, ...]:
    """Raises MotionError that names a file that cannot be read."""
    try:
        return tuple(list_presets(Scheme, folder).values())
    except CatalogueError as error:
        raise MotionError("skeleton", str(error)) from error


def _plain(name: str) -> str:
    """A joint's name without namespace, separators and case."""
    return re.sub(r"[\s_.\-]", "", name.rsplit(":", 1)[-1]).lower()


def _spellings(names: tuple[str, ...]) -> list[dict[str, int]]:
    """Name -> index, as written and without a prefix that all joints share."""
    plain = [_plain(n) for n in names]
    spellings = [{n: i for i, n in reversed(list(enumerate(plain)))}]
    shared = takewhile(lambda letters: len(set(letters)) == 1, zip(*plain, strict=False))
    prefix = "".join(letters[0] for letters in shared)
    if prefix and len(plain) > 1:
        spellings.append({n[len(prefix) :]: i for i, n in reversed(list(enumerate(plain)))})
    return spellings


def _match(wanted: Mapping[str, tuple[str, ...]], names: dict[str, int]) -> tuple[SkeletonMap, list[str]]:
    joints: dict[str, int] = {}
    chains: dict[str, tuple[int, ...]] = {"spine": (), "neck": ()}
    missing: list[str] = []
    for role, options in wanted.items():
        hits = [names[_plain(o)] for o in options if _plain(o) in names]
        if role in _CHAINS:
            # A scheme with more trunk joints than the file has is another scheme.
            complete = len(hits) == len(options)
            chains[role] = tuple(hits) if complete else ()
            if not complete and role == "spine":
                missing.append("/".join(options))
        elif hits:
            joints[role] = hits[0]
        elif role in REQUIRED:
            missing.append("/".join(options))
    return SkeletonMap("", joints, chains["spine"], chains["neck"]), missing


def _count(found: SkeletonMap) -> int:
    return len(found.joints) + len(found.spine) + len(found.neck)


def _is_chain(found: SkeletonMap, parents: np.ndarray) -> bool:
    """Whether each limb and the trunk run from parent to descendant."""
    joints = found.joints
    chains: list[tuple[int, ...]] = [(joints["pelvis"], *found.spine, *found.neck, joints["head"])]
    for side in ("left", "right"):
        chains.append(tuple(joints[f"{side}_{limb}"] for limb in ("hip", "knee", "ankle")))
        chains.append(tuple(joints[f"{side}_{limb}"] for limb in ("shoulder", "elbow", "wrist")))
    return all(upper in _ancestors(lower, parents) for c in chains for upper, lower in pairwise(c))


def _ancestors(joint: int, parents: np.ndarray) -> list[int]:
    """From the joint's parent to the root."""
    line = []
    while parents[joint] >= 0:
        joint = int(parents[joint])
        line.append(joint)
    return line


_SIDES = (("left", re.compile(r"(^|[^a-z])l($|[^a-z])|left")), ("right", re.compile(r"(^|[^a-z])r($|[^a-z])|right")))


def _side(name: str) -> str:
    """``left``, ``right`` or "" from a joint's name, such as LeftArm, l_thigh, hand.R or LHipJoint."""
    short = name.rsplit(":", 1)[-1]
    lower = short.lower()
    for side, pattern in _SIDES:
        if pattern.search(lower):
            return side
    if re.match(r"[lr][A-Z]", short) or re.match(r"[LR][A-Z][a-z]", short):
        return "left" if lower[0] == "l" else "right"
    return ""


def _by_shape(clip: BvhClip) -> SkeletonMap | None:
    """Map by the tree: the pair of limbs nearest the root are legs, the next pair arms, what is left above the head.

    In each limb the two longest successive bones are thigh and shin, or upper arm and forearm.
    """
    parents, names = clip.parents, clip.names
    depth = [len(_ancestors(j, parents)) for j in range(len(names))]
    children: dict[int, list[int]] = {j: [int(c) for c in np.flatnonzero(parents == j)] for j in range(len(names))}
    sides = [_side(n) for n in names]
    # Limb roots: sided joints whose parent has no side.
    roots = [j for j in range(len(names)) if sides[j] and (parents[j] < 0 or not sides[int(parents[j])])]
    limbs: dict[tuple[int, str], list[int]] = {}
    for j in roots:
        chain = _longest(j, children, clip.offsets)
        if len(chain) >= 3:
            limbs[(depth[j], sides[j])] = chain
    levels = sorted({d for d, _ in limbs if (d, "left") in limbs and (d, "right") in limbs})
    if len(levels) < 2:
        return None
    joints: dict[str, int] = {}
    for level, triple, before, after in (
        (levels[0], ("hip", "knee", "ankle"), "", "foot"),
        (levels[1], ("shoulder", "elbow", "wrist"), "collar", "hand"),
    ):
        for side in ("left", "right"):
            chain = limbs[(level, side)]
            lengths = [np.linalg.norm(clip.offsets[c]) for c in chain[1:]]
            first = int(np.argmax([a + b for a, b in pairwise(lengths)]))
            for role, joint in zip(triple, chain[first : first + 3], strict=True):
                joints[f"{side}_{role}"] = joint
            if before and first > 0:
                joints[f"{side}_{before}"] = chain[first - 1]
            if len(chain) > first + 3:
                joints[f"{side}_{after}"] = chain[first + 3]
    pelvis = int(parents[limbs[(levels[0], "left")][0]])
    chest = int(parents[limbs[(levels[1], "left")][0]])
    if pelvis < 0 or chest < 0 or pelvis not in _ancestors(chest, parents):
        return None
    trunk = [j for j in reversed([chest, *_ancestors(chest, parents)]) if pelvis in _ancestors(j, parents)]
    above = [c for c in children[chest] if not sides[c]]
    if not above or not trunk:
        return None
    upper = _longest(max(above, key=lambda c: len(_longest(c, children, clip.offsets))), children, clip.offsets)
    upper = [j for j in upper if not sides[j]]
    named = [j for j in upper if "head" in names[j].lower()]
    head = named[0] if named else upper[min(1, len(upper) - 1)]
    joints |= {"pelvis": pelvis, "head": head}
    return SkeletonMap("shape of the skeleton", joints, tuple(trunk), tuple(upper[: upper.index(head)]))


def _longest(joint: int, children: dict[int, list[int]], offsets: np.ndarray) -> list[int]:
    """The chain below a joint, the joint first, that is longest in space (fingers and twist joints lose)."""
    best: dict[int, tuple[float, int]] = {}
    order = [joint]
    for j in order:
        order.extend(children[j])
    for j in reversed(order):
        best[j] = max(((float(np.linalg.norm(offsets[c])) + best[c][0], c) for c in children[j]), default=(0.0, -1))
    chain = [joint]
    while best[chain[-1]][1] >= 0:
        chain.append(best[chain[-1]][1])
    return chain
