"""From one body family's joints to another's.

All families share SMPL's first 22 joints. Above them SMPL has the two hands as one joint each, SMPL-H 15 finger joints
a hand, SMPL-X jaw and eyes before those, SUPR toes after. Taking a motion to a family with fewer joints drops what it
has no joint for; the other way those joints stay at rest.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .types import FAMILY_JOINTS, BodyMotion, MotionError

if TYPE_CHECKING:
    from ..bodies import BodyModel

BODY_JOINTS = 22
HANDS: dict[str, slice] = {"smplh": slice(22, 52), "smplx": slice(25, 55), "supr": slice(25, 55)}
"""Finger joints, left before right, fifteen each: index, middle, pinky, ring, thumb."""
FACE: dict[str, slice] = {"smplx": slice(22, 25), "supr": slice(22, 25)}
"""Jaw, left eye, right eye."""

PELVIS_REST: dict[str, tuple[float, float, float]] = {
    "smpl": (-0.002, -0.223, 0.028),
    "smplh": (-0.002, -0.223, 0.028),
    "smplx": (0.003, -0.351, 0.012),
    "supr": (0.003, -0.351, 0.012),
}
"""About where the pelvis lies in the mean body of each family, metres, canonical frame. Stands in where the licensed
body is not at hand; an error here moves a whole clip by a constant few centimetres, before it is put on the floor."""

_WORTH_TELLING = 5e-4
"""Of a path's length: what rounds to no change at all is not told."""


def to_family(motion: BodyMotion, family: str) -> BodyMotion:
    """The same motion with the joints of another family; body, fingers and face go to their counterparts.

    ``trans`` keeps its meaning only within the family's own body; use ``to_body`` to place it for another.
    """
    if family not in FAMILY_JOINTS:
        raise MotionError("family", f"'{family}' is none of {', '.join(FAMILY_JOINTS)}")
    if family == motion.family:
        return motion
    poses = np.zeros((motion.frames, FAMILY_JOINTS[family], 3), np.float32)
    poses[:, :BODY_JOINTS] = motion.poses[:, :BODY_JOINTS]
    if family == "smpl":
        dropped = motion.poses.shape[1] - BODY_JOINTS
        note = f"{dropped} joints of hands and face have no counterpart in SMPL's 24 and were left out"
        note = note if np.any(motion.poses[:, BODY_JOINTS:]) else ""
    else:
        for parts in (HANDS, FACE):
            if family in parts and motion.family in parts:
                poses[:, parts[family]] = motion.poses[:, parts[motion.family]]
        note = ""
    return replace(motion, poses=poses, family=family, betas=None, body="").noting(note)


def embed_smpl24(poses: np.ndarray, body: BodyModel) -> np.ndarray:
    """Poses (T,J,3) of a body from SMPL-24 poses (T,24,3); joints that SMPL lacks stay at rest."""
    out = np.zeros((len(poses), FAMILY_JOINTS[body.family], 3), np.float32)
    count = 24 if body.family == "smpl" else BODY_JOINTS
    out[:, :count] = poses[:, :count]
    return out


def to_smpl24(motion: BodyMotion) -> BodyMotion:
    """The same motion on SMPL's 24 joints: the first 22 as they are, the hands at rest with the wrists."""
    return to_family(motion, "smpl")


def to_body(
    motion: BodyMotion, body: BodyModel, *, keep_shape: bool | None = None, follow: bool = False, lift: bool = True
) -> BodyMotion:
    """The same motion for a body: its joints, the pelvis where it was, the soles on the floor.

    Strides keep fitting the ground where the two bodies' legs differ: the path is scaled by what makes standing feet
    slide least (between 0.7 and 1.4; 1 where the body walks too little to tell).

    Args:
        motion: of any family.
        body: to play it.
        keep_shape: whether the motion's betas are meant for this body; None keeps them where the motion was fitted to
            it, or where families agree and the body is not one of Maquette's own.
        follow, lift: see ``floor``.
    """
    from .ground import floor, stride_scale

    if motion.body and motion.body == body.id:
        return motion
    same = motion.family == body.family
    if keep_shape is None:
        keep_shape = same and not motion.body and not body.id.startswith("maquette")
    betas = motion.betas if keep_shape else None
    if betas is not None and len(betas) > body.shapedirs.shape[2]:
        betas = betas[: body.shapedirs.shape[2]]
    note = ""
    if motion.betas is not None and np.any(motion.betas) and betas is None:
        note = "the file's shape belongs to another body and was left out"
    source = _pelvis_rest(motion)
    turned = to_family(motion, body.family)
    shape = np.zeros(body.shapedirs.shape[2], np.float32)
    if betas is not None:
        shape[: len(betas)] = betas
    rest = np.asarray(body.joints_rest(shape), float)[0]
    if keep_shape:
        return replace(turned, betas=betas, body=body.id).noting(note)
    pelvis = motion.trans.astype(float) + source
    moved = replace(turned, betas=betas, body=body.id, trans=(pelvis - rest).astype(np.float32)).noting(note)
    scale, told = stride_scale(moved, body)
    if told:
        start = pelvis[:1] * (1, 1, 0)
        moved = replace(moved, trans=((pelvis - start) * scale + start - rest).astype(np.float32))
        if abs(scale - 1) >= _WORTH_TELLING:
            moved = moved.noting(f"path scaled by {scale:.3f} so that standing feet do not slide")
    return floor(moved, body, follow=follow, lift=lift)


def _pelvis_rest(motion: BodyMotion) -> np.ndarray:
    """(3,) where the pelvis of the motion's own body rests, in its canonical frame."""
    from ..bodies import BodyError, load_body

    if motion.body:
        try:
            own = load_body(motion.body)
            return np.asarray(own.joints_rest(None if motion.betas is None else motion.betas), float)[0]
        except (BodyError, OSError):
            pass  # a body file that is no longer there; the family's mean is near enough, for the floor is found anew
    return np.array(PELVIS_REST[motion.family])
