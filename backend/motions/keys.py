"""Which keys of a record hold a body's parameters: read by their words, for every tracker names them its own way.

GLAMR's ``smpl_orient_world`` is a root's turn in the world, EasyMocap's ``Th`` a translation. Of several that say the
same, the one in the world counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

FULL_COUNTS = {24: "smpl", 22: "smplh", 52: "smplh", 55: "smplx", 75: "supr"}
"""Family by the joints of a whole pose."""
BODY_COUNTS = {21: "smplx", 23: "smpl"}
"""Family by the joints of a pose without its root."""
LATENTS = 32

_NOISE = {"smpl", "smplx", "smplh", "pred", "predicted", "opt", "optimized", "est", "param", "params", "aa", "final",
          "ik"}  # fmt: skip
_SPACES = {"world": 2, "global": 2, "w": 2, "cam": 0, "camera": 0, "incam": 0, "c": 0}
_WORDS: dict[str, tuple[set[str], ...]] = {
    "poses": ({"poses"}, {"full", "pose"}, {"fullpose"}, {"pose"}, {"thetas"}, {"theta"}, {"rotmat"},
              {"pose", "fullposes"}),
    "root": ({"orient"}, {"root", "orient"}, {"orientation"}, {"root", "orientation"}, {"body", "orient"},
             {"root", "pose"}, {"root", "poses"}, {"root", "rot"}, {"root", "rotation"}, {"pelvis", "rotation"},
             {"rot"}, {"rh"}),
    "body": ({"body", "pose"}, {"body", "poses"}, {"pose"}, {"poses"}, {"thetas"}),
    "trans": ({"trans"}, {"transl"}, {"translation"}, {"root", "trans"}, {"root", "transl"}, {"root", "translation"},
              {"body", "trans"}, {"body", "transl"}, {"pelvis", "trans"}, {"pelvis", "transl"}, {"pose", "trans"},
              {"pelvis", "translation"}, {"root", "position"}, {"root", "pos"}, {"root", "loc"}, {"pelvis", "position"},
              {"position"}, {"location"}, {"trajectory"}, {"th"}, {"camera"}),
    "betas": ({"betas"}, {"beta"}, {"shape"}, {"shapes"}, {"body", "shape"}, {"shape", "betas"}),
}  # fmt: skip
"""What the words of a key mean, apart from ``_NOISE`` and the space, which ``_SPACES`` ranks; likelier ones first."""
_SURE = ({"trans"}, {"transl"}, {"translation"})
"""Words of a translation whatever its shape, so that a wrong one is told of."""


@dataclass(frozen=True)
class Keys:
    """The keys of one record; "" for what it lacks.

    Attributes:
        poses: all joints in one array.
        root, body: the root's turn, and the joints below it. Beside ``poses``, ``root`` stands for its first joint.
        trans, betas: translation and shape.
        world: whether the root is said to turn in the world.
        lead: dimensions of the pose before its joints, such as (T,).
    """

    poses: str = ""
    root: str = ""
    body: str = ""
    trans: str = ""
    betas: str = ""
    world: bool = False
    lead: tuple[int, ...] = ()

    @property
    def any(self) -> bool:
        """Whether there is a pose."""
        return bool(self.poses or self.body)


def find_keys(record: Mapping[str, Any]) -> Keys:
    """The keys of a record that hold a body's parameters."""
    ranked: dict[str, list[tuple[int, int, str, tuple[int, ...]]]] = {role: [] for role in _WORDS}
    for key, value in record.items():
        words = {w.lower() for w in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", key)} - _NOISE
        core = words - _SPACES.keys() or {key.lower()}
        roles = [(role, options.index(core)) for role, options in _WORDS.items() if core in options]
        if not roles or value is None:
            continue
        shape = shape_of(value)
        for role, place in roles:
            # "global_orient" is the model's own name of the root's turn and says nothing about its space.
            told = words & _SPACES.keys() - ({"global"} if role == "root" else set())
            space = max((_SPACES[w] for w in told), default=1)
            if _fits(role, shape, value):
                ranked[role].append((-space, place, key, shape))
    full, root, body = (min(ranked[role], default=None) for role in ("poses", "root", "body"))
    if root and body and not (full and full[0] < root[0]):
        pose, keys = body, {"root": root[2], "body": body[2]}
    elif full:
        above = root is not None and root[0] <= full[0] and root[2] != full[2]
        pose, keys = full, {"poses": full[2], "root": root[2] if root and above else ""}
    else:
        return Keys()
    first = min(root[0], pose[0]) if root and keys["root"] else pose[0]
    lead = pose_lead(pose[3], (*BODY_COUNTS, *FULL_COUNTS)) or ()
    frames = prod(lead)
    trans = sorted(
        (not fits, space != first, space, place, key)
        for space, place, key, shape in ranked["trans"]
        if (fits := prod(shape) in (3, 3 * frames, 3 * lead[0] if lead else 3) and shape[-1:] == (3,))
        or _WORDS["trans"][place] in _SURE
    )
    betas = min(ranked["betas"], default=(0, 0, ""))[2]
    return Keys(**keys, trans=trans[0][-1] if trans else "", betas=betas, world=first == -2, lead=lead)


def _fits(role: str, shape: tuple[int, ...], value: Any) -> bool:
    """Whether an array of this shape can be what its words say."""
    if role == "root":
        return shape[-1:] in ((3,), (9,))
    if role == "poses":
        return pose_lead(shape, FULL_COUNTS) is not None and not are_positions(value)
    if role == "body":
        return shape[-1:] == (LATENTS,) or pose_lead(shape, BODY_COUNTS) is not None
    return role == "betas" or bool(shape)


def pose_lead(shape: tuple[int, ...], counts: Mapping[int, str] | tuple[int, ...]) -> tuple[int, ...] | None:
    """Dimensions of rotations before their joints, or None where the shape is not for any of ``counts`` joints.

    Axis-angle (...,3J) or (...,J,3); matrices (...,9J) or (...,J,3,3). Dimensions of one before a rotation's own, as in
    (T,24,1,3), are passed over.
    """
    for inside in (2, 1):  # matrices, then vectors
        if shape[-inside:] == (3,) * inside:
            inner = shape[:-inside]
            while inner and inner[-1] == 1:
                inner = inner[:-1]
            if inner and inner[-1] in counts:
                return inner[:-1]
    if shape[-1:] == (3,):
        return None
    return shape[:-1] if shape and any(shape[-1] in (3 * count, 9 * count) for count in counts) else None


def are_positions(value: Any) -> bool:
    """Whether an array (...,24,3) or (...,22,3) holds joint positions rather than axis-angle vectors of the same shape.

    Positions give legs and arms of a person's proportions, as long on the left as on the right; vectors longer than a
    full turn are no rotations.
    """
    shape = shape_of(value)
    if shape[-2:] not in ((24, 3), (22, 3)):
        return False
    joints = np.asarray(value, np.float64).reshape(-1, shape[-2], 3)
    joints = np.where(np.isfinite(joints), joints, 0)
    if not len(joints):
        return False
    if np.abs(joints).max() > 7:
        return True
    lengths = _limbs(joints)
    return bool(lengths.min() > 0.12 and lengths.max() < 0.7 and _of_a_person(lengths))


def looks_like_joints(joints: np.ndarray) -> bool:
    """Whether (...,J,3), of which the first 22 are SMPL's joints, is a person of any size rather than other points."""
    joints = np.asarray(joints, np.float64).reshape(-1, *joints.shape[-2:])
    lengths = _limbs(joints[np.isfinite(joints).all(axis=(1, 2))]) if joints.size else np.zeros(8)
    return bool(lengths.min() > 0 and _of_a_person(lengths))


def _limbs(joints: np.ndarray) -> np.ndarray:
    """Median lengths of thighs, shins, upper arms and forearms, left before right."""
    bones = ((1, 4), (2, 5), (4, 7), (5, 8), (16, 18), (17, 19), (18, 20), (19, 21))
    return np.array([np.median(np.linalg.norm(joints[:, b] - joints[:, a], axis=-1)) for a, b in bones])


def _of_a_person(lengths: np.ndarray) -> bool:
    even = all(0.8 < a / b < 1.25 for a, b in zip(lengths[::2], lengths[1::2], strict=True))
    return even and 1.1 < lengths[:4].sum() / lengths[4:].sum() < 2.5


def shape_of(value: Any) -> tuple[int, ...]:
    """Shape of an array, or of nested lists of numbers; () for anything else."""
    if isinstance(value, np.ndarray):
        return value.shape
    if isinstance(value, (list, tuple)):
        try:
            return np.asarray(value, float).shape
        except (TypeError, ValueError):
            return ()
    return ()
