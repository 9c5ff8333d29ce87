"""The zero pose of a foreign skeleton: whether its turns can be taken relative to it, as a person's, and what it poses.

Letters: T frames, J source joints.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from .kinematics import JOINT, angle_between, frame_of, swing, unit
from .skeletons import SIDES, SkeletonMap

FLAT = np.radians(7.0)
"""Pitch of standing feet from which on their build differs from the body's."""
_MIRRORED = np.radians(20.0)
"""Angle by which a bone at rest may differ from the other side's."""
_POSED = np.radians(10.0)
"""Angle between the zero pose's collar or neck and the usual one from which on the zero pose is no neutral one."""
_CORNERS = ("left_hip", "right_hip", "left_shoulder", "right_shoulder")


def source_axes(zero: np.ndarray, skeleton: SkeletonMap) -> np.ndarray:
    """(3,3) axes of the source in its zero pose (J,3)."""
    return _frame(np.array([zero[skeleton.joints[c]] for c in _CORNERS]), zero[skeleton.neck_base])


def body_axes(rest: np.ndarray) -> np.ndarray:
    """(3,3) axes of the body at rest (24,3)."""
    return _frame(rest[[JOINT[c] for c in _CORNERS]], rest[JOINT["neck"]])


def _frame(corners: np.ndarray, neck: np.ndarray) -> np.ndarray:
    side = unit(corners[0] - corners[1]) + unit(corners[2] - corners[3])
    return frame_of(side, neck - corners[:2].mean(axis=0))


def is_person(skeleton: SkeletonMap, zero: np.ndarray) -> bool:
    """Whether joint places (J,3) are a person at rest: legs straight below, arms straight beside or hanging, head up.

    Both sides mirror each other, which no frame of a motion does.
    """
    joints = skeleton.joints

    def bone(upper: str, lower: str) -> np.ndarray:
        return zero[joints[lower]] - zero[joints[upper]]

    hips, shoulders = bone("right_hip", "left_hip"), bone("right_shoulder", "left_shoulder")
    base = zero[skeleton.neck_base]
    up = base - 0.5 * (zero[joints["left_hip"]] + zero[joints["right_hip"]])
    across = angle_between(hips, up)
    if min(map(np.linalg.norm, (hips, shoulders, up))) < 1e-9 or abs(across - np.pi / 2) > np.radians(40):
        return False
    axes = frame_of(hips, up)
    left, up, ahead = axes.T
    bends = [angle_between(hips, shoulders) < np.radians(35), angle_between(zero[joints["head"]] - base, up) < 1.1]
    mirrored: list[np.ndarray] = []
    trunk = [zero[j] for j in (*skeleton.spine, skeleton.neck_base)]
    bends += [np.linalg.norm(b - a) < 1e-6 or angle_between(b - a, up) < 1.1 for a, b in pairwise(trunk)]
    for side, outward in zip(SIDES, (left, -left), strict=True):
        thigh, shin = bone(f"{side}_hip", f"{side}_knee"), bone(f"{side}_knee", f"{side}_ankle")
        upper, fore = bone(f"{side}_shoulder", f"{side}_elbow"), bone(f"{side}_elbow", f"{side}_wrist")
        arm = unit(upper + fore)
        bends += [angle_between(thigh, -up) < 0.9, angle_between(thigh, shin) < 0.7, angle_between(upper, fore) < 1.0]
        bends += [arm @ up < 0.6, arm @ outward > -0.3, min(map(np.linalg.norm, (thigh, shin, upper, fore))) > 1e-9]
        mirrored.append(
            np.array([unit(thigh), unit(shin), unit(upper), unit(fore)]) @ axes * (1 if side == "left" else -1, 1, 1)
        )
        if f"{side}_foot" in joints:
            toes = bone(f"{side}_ankle", f"{side}_foot")
            bends.append(float(toes @ ahead) > -0.5 * float(np.linalg.norm(toes)))
    return all(bends) and bool(angle_between(*mirrored).max() < _MIRRORED)


def posed_parts(
    skeleton: SkeletonMap, turns: np.ndarray, places: np.ndarray, zero: np.ndarray, rest: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What a person's zero pose (J,3) holds as no frame does: by SMPL name the turn (3,3) from neutral to zero pose.

    A collar, neck or foot may point another way in the zero pose than the body's at rest because it is built so, or
    because it is posed so: shrugged, bent, pointed. It is posed where frames agree on another direction, and that one
    is nearer to the body's. Feet are compared where they stand, others relative to the chest.

    Args:
        skeleton: of the source.
        turns, places: (T,J,3,3) and (T,J,3) of the source, Z up.
        zero: (J,3) places in the zero pose.
        rest: (24,3) the body's joints at rest.

    Returns:
        The parts that are posed; and feet that are so by less than can be told from a build.
    """
    joints, chest = skeleton.joints, skeleton.spine[-1]
    to_zero = source_axes(zero, skeleton) @ body_axes(rest).T
    up = legs_up(zero, joints)
    posed: dict[str, np.ndarray] = {}
    perhaps: dict[str, np.ndarray] = {}

    def note(name: str, tip: str, line: np.ndarray, usual: np.ndarray, spread: float, least: float) -> None:
        body = to_zero @ (rest[JOINT[tip]] - rest[JOINT[name]])
        apart = float(angle_between(line, usual))
        nearer = float(angle_between(line, body)) - float(angle_between(usual, body))
        if spread < FLAT and nearer > 0.5 * apart:
            (posed if apart > least else perhaps)[name] = swing(usual, line)

    pairs = [("neck", "head", skeleton.neck_base)]
    pairs += [(f"{s}_collar", f"{s}_shoulder", joints[f"{s}_collar"]) for s in SIDES if f"{s}_collar" in joints]
    for name, tip, start in pairs:
        lines = unit(places[:, joints[tip]] - places[:, start])
        lines = np.einsum("tba,tb->ta", turns[:, chest], lines)
        usual = unit(np.median(lines, axis=0))
        spread = float(np.median(angle_between(lines, usual)))
        note(name, tip, unit(zero[joints[tip]] - zero[start]), usual, spread, _POSED)
    for side in SIDES:
        ankle, foot = joints[f"{side}_ankle"], joints.get(f"{side}_foot")
        line = unit(zero[foot] - zero[ankle]) if foot is not None else np.zeros(3)
        ahead = line - (line @ up) * up
        if np.linalg.norm(ahead) < 0.05:
            continue  # no toes, or right under the ankle
        stands = standing_frames(places[:, ankle, 2])
        slopes = np.arcsin(np.clip(unit(places[stands, foot] - places[stands, ankle])[:, 2], -1, 1))
        slope = float(np.median(slopes))
        usual = np.cos(slope) * unit(ahead) + np.sin(slope) * up
        spread = float(np.median(np.abs(slopes - slope)))
        note(f"{side}_ankle", f"{side}_foot", line, usual, spread, FLAT)
    for part in ("collar", "ankle"):
        # A pose of one side alone is no rest pose.
        both = [f"{side}_{part}" for side in SIDES]
        if not all(name in posed for name in both):
            perhaps |= {name: posed.pop(name) for name in both if name in posed}
    return posed, {name: turn for name, turn in perhaps.items() if "ankle" in name}


def legs_up(places: np.ndarray, joints: Mapping[str, int]) -> np.ndarray:
    """(3,) from the middle of the ankles to that of the hips, of places (J,3)."""
    hips, ankles = (places[[joints[f"{side}_{name}"] for side in SIDES]].mean(axis=0) for name in ("hip", "ankle"))
    return unit(hips - ankles)


def standing_frames(heights: np.ndarray) -> np.ndarray:
    """(T,) bool: in which frames an ankle with these heights (T,) is low enough to stand."""
    floor = np.percentile(heights, 3)
    return heights <= floor + 0.1 * (np.median(heights) - floor)
