"""Write test files in the layouts that the importers read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from maquette.backend.bodies.rotations import axis_angle_to_matrix
from maquette.backend.motions.bvh import BvhClip
from maquette.backend.motions.kinematics import SMPL_PARENTS, to_global, to_local
from maquette.backend.shot.types import SMPL_JOINT_NAMES

AXES = "XYZ"


def euler(matrix: np.ndarray, order: str) -> np.ndarray:
    """Angles (...,3) in degrees, in the order of the axes, with R = R_order[0] R_order[1] R_order[2]."""
    i, j, k = (AXES.index(a) for a in order)
    sign = 1.0 if (i, j, k) in ((0, 1, 2), (1, 2, 0), (2, 0, 1)) else -1.0
    second = np.arcsin(np.clip(sign * matrix[..., i, k], -1, 1))
    first = np.arctan2(-sign * matrix[..., j, k], matrix[..., k, k])
    third = np.arctan2(-sign * matrix[..., i, j], matrix[..., i, i])
    return np.degrees(np.stack([first, second, third], axis=-1))


def bvh_text(
    names: Sequence[str],
    parents: Sequence[int],
    offsets: np.ndarray,
    local: np.ndarray,
    root: np.ndarray,
    *,
    order: str = "ZXY",
    frame_time: float = 1 / 30,
    newline: str = "\n",
    indent: str = "\t",
) -> str:
    """A BVH file from local rotations (T,J,3,3), offsets (J,3) and the root's path (T,3)."""
    children: dict[int, list[int]] = {j: [k for k, p in enumerate(parents) if p == j] for j in range(len(names))}
    lines = ["HIERARCHY"]
    visited: list[int] = []

    def write(joint: int, depth: int) -> None:
        visited.append(joint)
        pad = indent * depth
        lines.append(f"{pad}{'ROOT' if parents[joint] < 0 else 'JOINT'} {names[joint]}")
        lines.append(pad + "{")
        lines.append(f"{pad}{indent}OFFSET " + " ".join(f"{v:.7f}" for v in offsets[joint]))
        turn = " ".join(f"{a}rotation" for a in order)
        place = "Xposition Yposition Zposition " if parents[joint] < 0 else ""
        lines.append(f"{pad}{indent}CHANNELS {6 if place else 3} {place}{turn}")
        for child in children[joint]:
            write(child, depth + 1)
        if not children[joint]:
            lines.extend(
                [f"{pad}{indent}End Site", f"{pad}{indent}{{", f"{pad}{indent}{indent}OFFSET 0 1 0", f"{pad}{indent}}}"]
            )
        lines.append(pad + "}")

    write(0, 0)
    lines += ["MOTION", f"Frames: {len(local)}", f"Frame Time: {frame_time:.6f}"]
    angles = euler(local, order)
    for t in range(len(local)):
        row = [*root[t]]
        for joint in visited:
            row.extend(angles[t, joint])
        lines.append(" ".join(f"{v:.6f}" for v in row))
    return newline.join(lines) + newline


WORDS = {
    "mixamo": "Hips Spine Spine1 Spine2 Neck Head UpLeg Leg Foot ToeBase Shoulder Arm ForeArm Hand HandMiddle1",
    "mvn": "Hips Chest Chest2 Chest3 Neck Head Hip Knee Ankle Toe Collar Shoulder Elbow Wrist Finger",
    "daz": "hip abdomen abdomen2 chest neck head Thigh Shin Foot Toe Collar Shldr Forearm Hand Mid1",
    "nonsense": "a b c d e f g h i j k m n o p",
}
SIDES = {
    "Left": lambda side, rest: side.capitalize() + rest,
    "l_": lambda side, rest: f"{side[0]}_{rest}",
    ".L": lambda side, rest: f"{rest}.{side[0].upper()}",
    "lThigh": lambda side, rest: side[0] + rest[:1].upper() + rest[1:],
    "none": lambda side, rest: f"{rest}{'AB'[side == 'left']}",
}


def named(words: str, sides: str, prefix: str = "") -> list[str]:
    roles = ["pelvis", "spine1", "spine2", "spine3", "neck", "head", "hip", "knee", "ankle", "foot"]
    roles += ["collar", "shoulder", "elbow", "wrist", "hand"]
    names = dict(zip(roles, WORDS[words].split(), strict=True))
    out = []
    for name in SMPL_JOINT_NAMES:
        side, _, rest = name.rpartition("_")
        out.append(prefix + (SIDES[sides](side, names[rest]) if side else names[rest]))
    return out


def framed_clip(
    body, motion, names: Sequence[str], axes: np.ndarray, *, scale: float = 100.0, turn: np.ndarray | None = None
) -> BvhClip:
    """The motion of an SMPL-24 body as a skeleton whose joint j has the axes ``axes[j]`` (24,3,3) where the body rests.

    Its zero pose, in which all these axes agree, is that of no person unless they are all the same.
    """
    rest = body.joints_rest().astype(float)
    turn = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]) if turn is None else turn
    parents = np.array(SMPL_PARENTS)
    above = np.maximum(parents, 0)
    offsets = np.einsum("jba,jb->ja", axes[above], rest - rest[above]) * scale
    turns = turn @ to_global(axis_angle_to_matrix(motion.poses.astype(float))) @ axes
    translations = np.broadcast_to(offsets, (motion.frames, 24, 3)).copy()
    translations[:, 0] = (motion.trans + rest[0]) @ turn.T * scale
    none = np.zeros((0, 3)), np.zeros(0, int)
    return BvhClip(tuple(names), parents, offsets, *none, to_local(turns), translations, 1 / motion.fps)


def without_joints(clip: BvhClip, drop: Sequence[int], arms_on: int | None = None) -> BvhClip:
    """A clip of SMPL-24 without some joints: all others stay where they are in every frame.

    Args:
        drop: indices; what they carry hangs on the next joint above.
        arms_on: the joint that the upper arms hang on instead of the collars.
    """
    turns, places = clip.world()
    zero = clip.zero_pose()
    parents = [int(p) for p in clip.parents]
    for shoulder in (16, 17):
        parents[shoulder] = parents[shoulder] if arms_on is None else arms_on

    def above(joint: int) -> int:
        parent = parents[joint]
        return above(parent) if parent in drop else parent

    keep = [j for j in range(len(parents)) if j not in drop]
    holders = [above(j) for j in keep]
    local, moved, offsets = turns.copy(), places.copy(), zero.copy()
    for j, parent in zip(keep, holders, strict=True):
        if parent >= 0:
            back = np.swapaxes(turns[:, parent], -1, -2)
            local[:, j] = back @ turns[:, j]
            moved[:, j] = (back @ (places[:, j] - places[:, parent])[..., None])[..., 0]
            offsets[j] = zero[j] - zero[parent]
    index = {old: new for new, old in enumerate(keep)}
    return BvhClip(
        tuple(clip.names[j] for j in keep), np.array([index.get(p, -1) for p in holders]), offsets[keep],
        clip.sites, clip.site_parents, local[:, keep], moved[:, keep], clip.frame_time,
    )  # fmt: skip


def with_joint(clip: BvhClip, name: str, above: str, below: str = "", part: float = 0.5) -> BvhClip:
    """A clip with one more joint: on the bone from ``above`` to ``below``, or at the end of a new one."""
    names, new = [*clip.names, name], len(clip.names)
    parents = [*map(int, clip.parents), names.index(above) if above else -1]
    offsets = np.vstack([clip.offsets, [8.0, 3.0, 1.0]])
    frames = len(clip.rotations)
    translations = np.concatenate([clip.translations, np.broadcast_to(offsets[-1], (frames, 1, 3))], axis=1)
    rotations = np.concatenate([clip.rotations, np.broadcast_to(np.eye(3), (frames, 1, 3, 3))], axis=1)
    if below:
        child = names.index(below)
        parents[child] = new
        share = part if above else 0.0
        for array in (offsets, translations):
            array[..., new, :], array[..., child, :] = share * array[..., child, :], (1 - share) * array[..., child, :]
    order: list[int] = []
    while len(order) < len(names):
        order += [j for j in range(len(names)) if j not in order and (parents[j] < 0 or parents[j] in order)]
    place = {old: k for k, old in enumerate(order)}
    return BvhClip(
        tuple(names[j] for j in order), np.array([place.get(parents[j], -1) for j in order]), offsets[order],
        clip.sites, clip.site_parents, rotations[:, order], translations[:, order], clip.frame_time,
    )  # fmt: skip


def body_bvh(body, motion, names: Sequence[str], *, scale: float = 100.0, turn: np.ndarray | None = None, **how) -> str:
    """The motion of an SMPL-24 body as BVH; ``turn`` (3,3) takes the world to the file's axes, Y up by default."""
    rest = body.joints_rest().astype(float)
    offsets = (rest - rest[np.maximum(SMPL_PARENTS, 0)]) * scale
    local = axis_angle_to_matrix(motion.poses.astype(float))
    turn = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]) if turn is None else turn
    local[:, 0] = turn @ local[:, 0]
    root = (motion.trans + rest[0]) @ turn.T * scale
    return bvh_text(names, SMPL_PARENTS, offsets, local, root, **how)
