"""The axes of a foreign skeleton's joints, found from its frames, where its zero pose is no person (see ``zero_pose``).

In many files every bone lies along one axis, and only the frames are a person: bones tell two of three angles exactly,
and the twist about a bone is that which best explains, over all frames, the hinges of elbows and knees, the line of
the hips and shoulders, and an upright head. Joints that lie in line in the zero pose share their twist.

Letters: T frames, J source joints, K frames looked at.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from .kinematics import (
    JOINT,
    angle_between,
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    nearest_rotation,
    swing,
    unit,
)
from .skeletons import SIDES, SkeletonMap
from .zero_pose import FLAT, standing_frames

X, Y, Z = np.eye(3)
_FRAMES = 400
"""Frames looked at, at most."""
_STRAIGHT = np.radians(25.0)
_AGREE = np.radians(60.0)
"""Joints in line keep a common twist unless the frames contradict it by more than this."""
_SHARED = 0.1
"""How much of its neighbours' twist a joint takes over; what it shows itself counts fully."""


def joint_axes(
    skeleton: SkeletonMap, turns: np.ndarray, places: np.ndarray, zero: np.ndarray, rest: np.ndarray
) -> np.ndarray:
    """(J,3,3): the axes of each joint, in its own frame, along which the body's canonical axes lie at rest.

    ``turns @ axes`` are the global turns from the body's rest pose; bones then lie exactly along the source's.

    Args:
        skeleton: of the source.
        turns, places: (T,J,3,3) and (T,J,3) of the source, Z up.
        zero: (J,3) places in the zero pose.
        rest: (24,3) the body's joints at rest.
    """
    return _Evidence(skeleton, turns, places, zero, rest).axes()


def trunk_bend(skeleton: SkeletonMap, axes: np.ndarray) -> float:
    """Radians by which pelvis and chest are bent forwards or backwards against each other in the zero pose.

    Args:
        axes: (J,3,3) of ``joint_axes``.
    """
    bent = axes[skeleton.spine[-1]].T @ axes[skeleton.joints["pelvis"]]
    return abs(float(np.arctan2(bent[2, 1], bent[1, 1])))


def trunk_places(skeleton: SkeletonMap, places: np.ndarray) -> np.ndarray:
    """(1+S,) where pelvis and spine joints lie along the trunk by the lengths of its bones: 0 to 1 at the last."""
    chain = [skeleton.joints["pelvis"], *skeleton.spine]
    bones = np.median(np.linalg.norm(np.diff(places[:, chain], axis=1), axis=-1), axis=0)
    along = np.concatenate([[0.0], np.cumsum(bones)])
    return along / along[-1] if along[-1] > 1e-9 else np.linspace(0, 1, len(chain))


def body_trunk(rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pelvis and spine of the body: places (4,3), and where they lie along the trunk (4,)."""
    chain = rest[[JOINT[n] for n in ("pelvis", "spine1", "spine2", "spine3")]]
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(chain, axis=0), axis=-1))])
    return chain, along / along[-1]


class _Evidence:
    """For each joint, directions of the body at rest and the same directions seen in the joint's own frame."""

    def __init__(
        self, skeleton: SkeletonMap, turns: np.ndarray, places: np.ndarray, zero: np.ndarray, rest: np.ndarray
    ) -> None:
        step = max(1, len(turns) // _FRAMES)
        self.skeleton, self.zero, self.rest = skeleton, zero, rest
        self.turns, self.places = turns[::step], places[::step]
        self.sums = {j: np.zeros((3, 3)) for j in {*skeleton.joints.values(), *skeleton.spine, *skeleton.neck}}
        self.bones: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # joint: its bone at rest, and in its own frame
        self.next: dict[int, int] = {}

    def axes(self) -> np.ndarray:
        joints, places = self.skeleton.joints, self.places
        hips = places[:, joints["left_hip"]] - places[:, joints["right_hip"]]
        shoulders = places[:, joints["left_shoulder"]] - places[:, joints["right_shoulder"]]
        self._trunk(unit(hips), unit(shoulders))
        for side, outward in zip(SIDES, (1.0, -1.0), strict=True):
            self._limb([f"{side}_{n}" for n in ("hip", "knee", "ankle")], X, 0.0)
            self._limb([f"{side}_{n}" for n in ("shoulder", "elbow", "wrist")], -outward * Y, 0.1)
        out = np.broadcast_to(np.eye(3), (self.turns.shape[1], 3, 3)).copy()
        solved = {j: self._solve(j, self.sums[j]) for j in self.sums}
        for group in self._groups(solved):
            total = sum(self.sums[j] for j in group)
            for j in group:
                # Pelvis and chest carry three bones, which tell all.
                share = 0.0 if j in (joints["pelvis"], self.skeleton.spine[-1]) else _SHARED
                out[j] = self._solve(j, self.sums[j] + share * total)
        for side in SIDES:
            self._end(out, f"{side}_elbow", f"{side}_wrist", f"{side}_hand", Y)
            self._end(out, f"{side}_knee", f"{side}_ankle", f"{side}_foot", X)
        self._level(out)
        for side in SIDES:
            if f"{side}_foot" in joints:
                ankle, foot = joints[f"{side}_ankle"], joints[f"{side}_foot"]
                seen = np.swapaxes(self.turns[:, foot], -1, -2) @ self.turns[:, ankle] @ out[ankle]
                out[foot] = _usual(seen)
        return out

    def _see(self, joint: int, body: np.ndarray, world: np.ndarray, weight: float) -> np.ndarray:
        """Add that the body's direction (3,) or (K,3) is seen as (K,3) in the world; its median in the joint's axes."""
        local = np.einsum("kba,kb->ka", self.turns[:, joint], world)
        self.sums[joint] += weight / len(local) * local.T @ np.broadcast_to(body, local.shape)
        return np.median(local, axis=0)

    def _bone(self, joint: int, end: int, body: np.ndarray, start: np.ndarray | None = None) -> None:
        """Add a bone: the body's (3,) and where the source has it."""
        begin = self.places[:, joint] if start is None else start
        gap = self.places[:, end] - begin
        if np.median(np.linalg.norm(gap, axis=-1)) > 1e-9:
            self.bones[joint] = (body, self._see(joint, unit(body), unit(gap), 4.0))
            self.next.setdefault(joint, end)

    def _trunk(self, hips: np.ndarray, shoulders: np.ndarray) -> None:
        skeleton, rest = self.skeleton, self.rest
        joints = skeleton.joints
        chain, along = body_trunk(rest)
        where = trunk_places(skeleton, self.places)

        def body_at(place: float) -> np.ndarray:
            return np.array([np.interp(place, along, chain[:, a]) for a in range(3)])

        pelvis = joints["pelvis"]
        middle = 0.5 * (self.places[:, joints["left_hip"]] + self.places[:, joints["right_hip"]])
        size = np.median(np.linalg.norm(self.places[:, skeleton.neck_base] - middle, axis=-1))
        self._see(pelvis, X, hips, 1.0)
        for place, joint in zip(where[1:], skeleton.spine, strict=True):
            gap = self.places[:, joint] - middle
            if joint == pelvis:
                continue
            if np.median(np.linalg.norm(gap, axis=-1)) > 0.15 * size or joint == skeleton.spine[-1]:
                self._bone(pelvis, joint, body_at(place) - rest[[1, 2]].mean(axis=0), middle)
                break
        if skeleton.spine[-1] == pelvis:  # no spine: the trunk is one bone
            self._bone(pelvis, skeleton.neck_base, rest[JOINT["neck"]] - rest[[1, 2]].mean(axis=0), middle)
        # Where the collars begin is fixed to the chest; shoulders shrug.
        collars = [self.places[:, joints.get(f"{side}_collar", skeleton.neck_base)] for side in SIDES]
        chest = collars[0] - collars[1]
        chest = unit(chest) if np.median(np.linalg.norm(chest, axis=-1)) > 0.02 * size else shoulders
        # Where arms and head hang on one joint, that one lies at the neck's base.
        one = skeleton.neck_base == joints["head"] and not any(f"{side}_collar" in joints for side in SIDES)
        top = rest[JOINT["head"]] - rest[JOINT["neck"]] + chain[-1] if one else rest[JOINT["neck"]]
        for k, joint in enumerate(skeleton.spine):
            last = k + 1 == len(skeleton.spine)
            end = skeleton.neck_base if last else skeleton.spine[k + 1]
            body = top - chain[-1] if last else body_at(where[k + 2]) - body_at(where[k + 1])
            if joint != pelvis:
                self._bone(joint, end, body)
                self._see(joint, X, (1 - where[k + 1]) * hips + where[k + 1] * chest, 1.0)
        upper = [*skeleton.neck, joints["head"]]
        for joint, end in zip(skeleton.neck, upper[1:], strict=True):
            self._bone(joint, end, rest[JOINT["head"]] - rest[JOINT["neck"]])
            self._see(joint, X, chest, 1.0)
        # A head is held level and looks where the shoulders face, on the whole.
        trunk = unit(self.places[:, skeleton.neck_base] - middle)
        stands = np.clip(trunk[:, 2:] - 0.5, 0, 1)
        self._see(joints["head"], Y, unit(stands * Z + (0.5 - np.minimum(stands, 0.5)) * trunk), 1.0)
        self._see(joints["head"], X, chest, 1.0)
        for side in SIDES:
            if f"{side}_collar" in joints:
                collar, shoulder = joints[f"{side}_collar"], joints[f"{side}_shoulder"]
                self._bone(collar, shoulder, rest[JOINT[f"{side}_shoulder"]] - rest[JOINT[f"{side}_collar"]])
                self._see(collar, Y, trunk, 1.0)
                self.next[collar] = shoulder

    def _limb(self, names: list[str], hinge: np.ndarray, still: float) -> None:
        """A limb of two bones, whose hinge at rest is ``hinge``; ``still`` weighs that it does not twist at all."""
        joints, rest = self.skeleton.joints, self.rest
        first, middle, last = (joints[n] for n in names)
        upper, lower = (unit(self.places[:, b] - self.places[:, a]) for a, b in ((first, middle), (middle, last)))
        axis = np.cross(upper, lower)
        side = names[0].split("_")[0]
        body = [unit(rest[JOINT[b]] - rest[JOINT[a]]) for a, b in pairwise(names)]
        # The body's own hinge, in the frames of both bones, at the bend that the source has in each frame.
        bends = np.radians(np.arange(150))
        hinged = axis_angle_to_matrix(hinge * bends[:, None])
        crossed = np.cross(body[0], hinged @ body[1])
        first_bend = int(np.argmin(angle_between(body[0], hinged @ body[1])))
        known = angle_between(body[0], hinged @ body[1])[first_bend:]
        bend = np.interp(angle_between(upper, lower), known, bends[first_bend:])
        crossed = np.stack([np.interp(bend, bends, crossed[:, a]) for a in range(3)], axis=-1)
        back = axis_angle_to_matrix(-hinge * bend[:, None])
        pairs = ((first, middle, body[0], crossed), (middle, last, body[1], (back @ crossed[..., None])[..., 0]))
        for joint, end, bone, axes in pairs:
            self._bone(joint, end, bone)
            self._see(joint, axes, axis, 2.0)
            if f"{side}_foot" in joints and not still:
                toes = unit(self.places[:, joints[f"{side}_foot"]] - self.places[:, last])
                across = np.cross(unit(rest[JOINT[f"{side}_foot"]] - rest[JOINT[names[2]]]), body[1])
                self._see(joint, across, np.cross(toes, lower), 0.6)
            if still:
                collar = joints.get(f"{side}_collar", self.skeleton.spine[-1])
                calm = self._carried(collar, bone, unit(self.places[:, end] - self.places[:, joint]))
                self._see(joint, hinge, calm @ hinge, still)

    def _carried(self, parent: int, body: np.ndarray, bone: np.ndarray) -> np.ndarray:
        """(K,3,3) a parent's turn and the smallest further one that lays the body's bone along ``bone`` (K,3)."""
        turn = self.turns[:, parent] @ self._solve(parent, self.sums[parent])
        return swing(turn @ body, bone) @ turn

    def _solve(self, joint: int, total: np.ndarray) -> np.ndarray:
        """(3,3) axes of a joint from its sum, its bone laid exactly."""
        axes = nearest_rotation(total)
        if joint in self.bones:
            body, local = self.bones[joint]
            axes = swing(axes @ body, local) @ axes
        return axes

    def _groups(self, solved: dict[int, np.ndarray]) -> list[list[int]]:
        """Joints that lie in line in the zero pose, and whose axes the frames do not find far apart."""
        group = {j: [j] for j in solved}
        for joint, end in self.next.items():
            if joint not in self.bones or end not in self.bones:
                continue
            mine = self.zero[end] - self.zero[joint]
            tip = self.next.get(end, -1)
            theirs = self.zero[tip] - self.zero[end] if tip >= 0 else mine
            if min(np.linalg.norm(mine), np.linalg.norm(theirs)) < 1e-9 or angle_between(mine, theirs) > _STRAIGHT:
                continue
            apart = np.arccos(np.clip((np.trace(solved[joint].T @ solved[end]) - 1) / 2, -1, 1))
            if apart < _AGREE and group[joint] is not group[end]:
                group[joint].extend(group[end])
                for j in group[end]:
                    group[j] = group[joint]
        return list({id(g): g for g in group.values()}.values())

    def _end(self, out: np.ndarray, before: str, name: str, tip: str, hinge: np.ndarray) -> None:
        """A hand or foot: its own bone where known, and no twist against the limb on the whole."""
        joints, rest = self.skeleton.joints, self.rest
        limb, joint = joints[before], joints[name]
        body = rest[JOINT[tip]] - rest[JOINT[name]]
        whole = self.turns[:, limb] @ out[limb]
        if tip in joints:
            self._bone(joint, joints[tip], body)
            self._see(joint, hinge, whole @ hinge, 2.0)
        else:
            for axis in np.eye(3):
                self._see(joint, axis, whole @ axis, 1.0)
        out[joint] = self._solve(joint, self.sums[joint])

    def _level(self, out: np.ndarray) -> None:
        """Pitch feet of another build than the body's so that soles are level where the ankles are lowest."""
        ankles = [self.skeleton.joints[f"{side}_ankle"] for side in SIDES]
        pitches = []
        for joint in ankles:
            turn = self.turns[standing_frames(self.places[:, joint, 2]), joint] @ out[joint]
            pitch = np.arctan2(turn[:, 2, 2], turn[:, 2, 1])
            if len(pitch) < 8 or np.median(np.abs(pitch - np.median(pitch))) > FLAT:
                return
            pitches.append(float(np.median(pitch)))
        pitch = float(np.mean(pitches))
        if abs(pitches[0] - pitches[1]) < FLAT < abs(pitch) < 4 * FLAT:
            for joint in ankles:
                out[joint] = out[joint] @ axis_angle_to_matrix(pitch * X)


def _usual(turns: np.ndarray) -> np.ndarray:
    """(3,3) the turn that most of (K,3,3) are near to: their mean under absolute instead of squared angles."""
    middle = nearest_rotation(turns.mean(axis=0))
    for _ in range(8):
        apart = np.linalg.norm(matrix_to_axis_angle(middle.T @ turns), axis=-1)
        middle = nearest_rotation(np.sum(turns / np.maximum(apart, 0.01)[:, None, None], axis=0))
    return middle
