"""The 128 keypoints of a character: where they are, and what the camera sees of them.

On a body whose model tells where its face and hands carry keypoints they are read off its skin; everything else comes
from the bones. A rig without eye bones gets nose, eyes and ears from its head bone, at the places that they have on the
embedded body's mean shape, in units of the head's height (from the head's joint to the crown); such a rig has no face.

Shape letters: K the 128 keypoints, B the 60 that bones can give (body and hands), J bones, V vertices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import bpy
import numpy as np

from ...backend.bodies import Landmarks, load_body
from ...backend.bodies.types import BodyError
from ...backend.shot import SMPL_JOINT_NAMES, Keypoints
from ...backend.shot.keypoints import FACE_KEYPOINTS, KEYPOINT_NAMES, KeypointState
from ..rig.bodies import body_source, is_body
from ..rig.joints import JointReader
from .bones import eye_bones, finger_bones
from .mesh import MeshReading
from .visibility import WORN_MARGIN, Sight, VisibilityQuery

COUNT = len(KEYPOINT_NAMES)
BONES = FACE_KEYPOINTS.start
_NUMBER = {name: index for index, name in enumerate(KEYPOINT_NAMES)}
_ROW = {name: index for index, name in enumerate(SMPL_JOINT_NAMES)}
_LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")

HEAD_SPOTS = {"nose": (0.0, 0.017, 0.800), "left_eye": (0.201, 0.266, 0.622), "left_ear": (0.535, 0.170, -0.022)}
"""From the head's joint, in heights of the head: to the left, up, and to the front."""
HEAD_SHARE = 0.0885
"""Height of the head over that of the body, where no skin tells."""
EYEBALL = 0.08
"""Radius of an eyeball in heights of the head (12 mm of 150 mm)."""
FINGERTIP = 0.9
"""Length of a finger's last segment over the one before, where no bone tells."""

LIMB_SHARE = 0.7
"""The skin before a joint is the limb's own as far as this share of all directions leads out of the rest pose."""
FINGER_MARGIN = 1.3
"""How thick a finger may be, from its outer joints to the tip, over what is measured at its joints."""
SKIN_MARGIN = 3e-3
"""Of the character's height, that keypoints may lie deeper than measured (5 mm for a grown-up)."""
_MOST_MARGIN = 0.09
_ON_SKIN = 1e-3


@dataclass(eq=False)
class KeypointReader:
    """Reads one character's keypoints, frame after frame.

    Attributes:
        armature: the armature object.
        weights: (B,J) float64, share of each bone's head in a keypoint.
        hung: (B,) int, bone that a keypoint is fixed to, or -1.
        offsets: (B,4) float64, where on that bone, homogeneous.
        skin: keypoints on the skin, which come before those of the bones; None for other meshes.
        vertices: V of the mesh that ``skin`` belongs to.
        present: (K,) bool.
        own, worn: (K,) metres that the own body, and what it wears, may be before each.
    """

    armature: bpy.types.Object
    weights: np.ndarray
    hung: np.ndarray
    offsets: np.ndarray
    skin: Landmarks | None
    vertices: int
    present: np.ndarray
    own: np.ndarray
    worn: np.ndarray

    def read(self, depsgraph: bpy.types.Depsgraph, reading: MeshReading) -> np.ndarray:
        """(K,3) float64 world; 0 where there is none.

        Args:
            reading: the mesh at the frame that ``depsgraph`` has evaluated.
        """
        bones = bone_matrices(self.armature, depsgraph)
        points = np.zeros((COUNT, 3))
        points[:BONES] = self.weights @ bones[:, :3, 3]
        fixed = np.flatnonzero(self.hung >= 0)
        points[fixed] = np.einsum("kij,kj->ki", bones[self.hung[fixed], :3], self.offsets[fixed])
        if self.skin is not None and len(reading.vertices) == self.vertices:
            on_skin = self.skin.apply(reading.vertices).astype(np.float64)
            on_skin = on_skin @ reading.matrix[:3, :3].T + reading.matrix[:3, 3]
            points = np.where(self.skin.present[:, None], on_skin, points)
        points[~self.present] = 0.0
        return points

    def targets(self, points: np.ndarray, owner: int, margin: float) -> VisibilityQuery:
        """What to ask the occluders about keypoints (K,3); the absent ones are asked about in vain."""
        return VisibilityQuery(
            points, np.full(COUNT, owner), np.full(COUNT, margin), self.own, self.worn, np.ones(COUNT, dtype=bool)
        )

    def states(self, sight: Sight) -> np.ndarray:
        """(K,) uint8 of what the camera sees of ``targets``."""
        state = np.where(sight.seen, KeypointState.VISIBLE, KeypointState.SELF_OCCLUDED)
        state = np.where(sight.hidden & ~sight.seen, KeypointState.HIDDEN, state)
        return np.where(self.present, state, KeypointState.ABSENT).astype(np.uint8)


def as_keypoints(points: list[np.ndarray], states: list[np.ndarray]) -> Keypoints:
    """Readings of T frames as the part of a Shot."""
    return Keypoints(np.stack(points).astype(np.float32), np.stack(states))


def bone_matrices(armature: bpy.types.Object, depsgraph: bpy.types.Depsgraph) -> np.ndarray:
    """(J,4,4) float64, each pose bone to the world."""
    evaluated = armature.evaluated_get(depsgraph)
    flat = np.empty(len(evaluated.pose.bones) * 16, dtype=np.float32)
    evaluated.pose.bones.foreach_get("matrix", flat)
    local = flat.reshape(-1, 4, 4).transpose(0, 2, 1).astype(np.float64)
    return np.array(evaluated.matrix_world, dtype=np.float64) @ local


def keypoint_reader(
    obj: bpy.types.Object,
    joints: JointReader,
    depsgraph: bpy.types.Depsgraph,
    reading: MeshReading,
    to_canonical: np.ndarray,
    height: float,
    notices: list[str],
) -> KeypointReader:
    """A reader for a character that stands in its rest pose.

    Args:
        obj: the mesh object.
        joints: its joints.
        depsgraph: evaluated with the character at rest.
        reading: its mesh there.
        to_canonical: (3,3) from the world to the canonical frame: left, up, front.
        height: metres.
        notices: a sentence is added when a body's own keypoints cannot be had.
    """
    skin = _skin_of(obj, notices)
    if skin is not None and not (len(obj.data.vertices) == len(reading.vertices) == skin[1]):
        notices.append(
            f"'{obj.name}': its mesh is not its body's any more; it has no face keypoints, and hands only by its bones"
        )
        skin = None
    bones = bone_matrices(joints.armature, depsgraph)
    spots = _Spots(len(bones), bones)
    _body(spots, joints)
    placed = reading.vertices.astype(np.float64) @ reading.matrix[:3, :3].T + reading.matrix[:3, 3]
    plain_only = is_body(obj)
    _head(spots, joints, placed @ to_canonical.T, to_canonical, height, plain_only)
    _hands(spots, joints, plain_only)

    present = np.zeros(COUNT, dtype=bool)
    present[:BONES] = spots.present
    if skin is not None:
        present |= skin[0].present
    for side in ("left", "right"):
        wrist = _NUMBER[f"{side}_hand_wrist"]
        present[wrist] = present[wrist + 1 : wrist + 21].any()
    reader = KeypointReader(
        joints.armature,
        spots.weights,
        spots.hung,
        spots.offsets,
        skin[0] if skin is not None else None,
        skin[1] if skin is not None else 0,
        present,
        np.zeros(COUNT),
        np.zeros(COUNT),
    )
    points = reader.read(depsgraph, reading)
    own = _depth_in_skin(obj, depsgraph, reading, points, present, height)
    for first in (_NUMBER["left_hand_thumb_1"], _NUMBER["right_hand_thumb_1"]):
        # A tip lies on the pad of its finger: it is seen from the nail's side as well.
        finger = own[first : first + 20].reshape(5, 4)
        finger[:, 1:] = FINGER_MARGIN * finger[:, 1:3].max(axis=1, keepdims=True)
    own = np.minimum(own, _MOST_MARGIN * height) + SKIN_MARGIN * height
    # Seen from the side, the middle between the shoulders lies behind the nearer one, and is the neck all the same.
    shoulders = points[_NUMBER["left_shoulder"]] - points[_NUMBER["right_shoulder"]]
    own[_NUMBER["neck"]] = max(own[_NUMBER["neck"]], 0.65 * float(np.linalg.norm(shoulders)))
    reader.own, reader.worn = own, own + WORN_MARGIN * height
    return reader


class _Spots:
    """Keypoints of body and hands while they are found on the bones."""

    def __init__(self, count: int, bones: np.ndarray) -> None:
        self.bones = bones
        self.weights = np.zeros((BONES, count))
        self.hung = np.full(BONES, -1)
        self.offsets = np.zeros((BONES, 4))

    @property
    def present(self) -> np.ndarray:
        return self.weights.any(axis=1) | (self.hung >= 0)

    def mix(self, name: str, weights: np.ndarray) -> None:
        """Make a keypoint a mean of the bones' heads."""
        self.weights[_NUMBER[name]] = weights

    def head_of(self, name: str, bone: int) -> None:
        """Put a keypoint at the head of a bone."""
        self.weights[_NUMBER[name], bone] = 1.0

    def fix(self, name: str, bone: int, place: np.ndarray) -> None:
        """Fix a keypoint to a bone, at a place (3,) of the world in the rest pose."""
        self.hung[_NUMBER[name]] = bone
        self.offsets[_NUMBER[name]] = np.linalg.solve(self.bones[bone], np.append(place, 1.0))


def _body(spots: _Spots, joints: JointReader) -> None:
    for side in ("left", "right"):
        for limb in _LIMBS:
            spots.mix(f"{side}_{limb}", joints.weights[_ROW[f"{side}_{limb}"]])
        spots.mix(f"{side}_hand_wrist", joints.weights[_ROW[f"{side}_wrist"]])
    spots.mix("neck", (joints.weights[_ROW["left_shoulder"]] + joints.weights[_ROW["right_shoulder"]]) / 2)


def _head(
    spots: _Spots, joints: JointReader, skin: np.ndarray, to_canonical: np.ndarray, height: float, plain_only: bool
) -> None:
    """Nose, eyes and ears; ``skin`` are the mesh's vertices (V,3) in the canonical frame, save for the origin."""
    weights = joints.weights[_ROW["head"]]
    head = int(weights.argmax())
    joint = to_canonical @ (weights @ spots.bones[:, :3, 3])
    above = skin[np.hypot(*(skin - joint)[:, [0, 2]].T) < 0.1 * height, 1] - joint[1]
    size = float(above.max(initial=0.0))
    if not 0.5 * HEAD_SHARE < size / height < 2.5 * HEAD_SHARE:
        size = HEAD_SHARE * height
    spot = {name: np.array(place) for name, place in HEAD_SPOTS.items()}
    for name in ("eye", "ear"):
        spot[f"right_{name}"] = spot[f"left_{name}"] * (-1, 1, 1)
    places = {name: joint + size * place for name, place in spot.items()}

    names = [bone.name for bone in joints.armature.data.bones]
    eyes = eye_bones(names, plain_only=plain_only)
    if eyes:
        found = {side: to_canonical @ spots.bones[names.index(bone), :3, 3] for side, bone in eyes.items()}
        middle = (found["left"] + found["right"]) / 2
        near = np.linalg.norm(middle - joint) < 1.5 * size and found["left"][0] - found["right"][0] > 0.1 * size
        if near:
            shift = middle + (0, 0, EYEBALL * size) - (places["left_eye"] + places["right_eye"]) / 2
            places = {name: place + shift for name, place in places.items()}
            for side, centre in found.items():
                places[f"{side}_eye"] = centre + (0, 0, EYEBALL * size)
    for name, place in places.items():
        spots.fix(name, head, to_canonical.T @ place)


def _hands(spots: _Spots, joints: JointReader, plain_only: bool) -> None:
    bones = joints.armature.data.bones
    number = {bone.name: index for index, bone in enumerate(bones)}
    parents = {bone.name: bone.parent.name if bone.parent else "" for bone in bones}
    for (side, finger), found in finger_bones(parents, plain_only=plain_only).items():
        label = f"{side}_hand_{finger}"
        chain = [number[name] for name in found.bones]
        segments = chain[:-1] if found.tip else chain
        if len(segments) < 2:
            continue
        last = segments[-1]
        heads = spots.bones[:, :3, 3]
        if found.tip:
            tip = heads[chain[-1]]
        else:
            before = heads[last] - heads[segments[-2]]
            tail = spots.bones[last] @ (0, bones[last].length, 0, 1)
            along = tail[:3] - heads[last]
            # Importers give the last bone of a chain any tail they like.
            straight = along @ before > 0.7 * np.linalg.norm(along) * np.linalg.norm(before)
            fits = 0.3 < np.linalg.norm(along) / max(float(np.linalg.norm(before)), 1e-9) < 2.0
            tip = tail[:3] if straight and fits else heads[last] + FINGERTIP * before
        for place, bone in enumerate(segments[:3], start=1):
            spots.head_of(f"{label}_{place}", bone)
        if len(segments) < 3:
            spots.fix(f"{label}_3", last, (heads[last] + tip) / 2)
        spots.fix(f"{label}_4", last, tip)


def _skin_of(obj: bpy.types.Object, notices: list[str]) -> tuple[Landmarks, int] | None:
    """A body's keypoints on its skin, and its number of vertices; None when it is no body or has none."""
    if not is_body(obj):
        return None
    source = body_source(obj)
    path = Path(source)
    try:
        stamp = path.stat().st_mtime_ns if path.is_file() else 0
        return _load_skin(source, stamp)
    except (BodyError, OSError) as error:
        notices.append(
            f"'{obj.name}': its face and hands are taken from its bones, as its body cannot be read: {error}"
        )
        return None


@lru_cache(maxsize=8)
def _load_skin(source: str, stamp: int) -> tuple[Landmarks, int] | None:
    """``stamp`` makes a file that has changed be read again."""
    body = load_body(source)
    return None if body.landmarks is None else (body.landmarks, len(body.v_template))


def _depth_in_skin(
    obj: bpy.types.Object,
    depsgraph: bpy.types.Depsgraph,
    reading: MeshReading,
    points: np.ndarray,
    present: np.ndarray,
    height: float,
) -> np.ndarray:
    """(K,) metres of the limb's own skin that may lie before each keypoint; 0 for those on the skin.

    A joint's limb is thicker to some sides than to others, and endless along itself: of the ways out in all directions,
    most are across.
    """
    evaluated = obj.evaluated_get(depsgraph)
    inverse, turn = np.linalg.inv(reading.matrix), reading.matrix[:3, :3]
    local = points @ inverse[:3, :3].T + inverse[:3, 3]
    directions = (_DIRECTIONS @ inverse[:3, :3].T).tolist()
    depth = np.zeros(COUNT)
    # The face, and what else hangs on the skin, needs no rays.
    for index in np.flatnonzero(present[:BONES]):
        start = local[index].tolist()
        near = evaluated.closest_point_on_mesh(start)
        if near[0] and np.linalg.norm(turn @ (np.array(near[1]) - local[index])) < _ON_SKIN * height:
            continue
        hits = [evaluated.ray_cast(start, direction)[:2] for direction in directions]
        places = np.array([place for hit, place in hits if hit]).reshape(-1, 3)
        # From outside, half of all ways or more lead nowhere.
        if len(places) > 0.8 * len(directions):
            depth[index] = np.quantile(np.linalg.norm((places - local[index]) @ turn.T, axis=1), LIMB_SHARE)
    return depth


def _sphere(count: int) -> np.ndarray:
    """(count,3) unit directions, evenly spread (a Fibonacci sphere)."""
    i = np.arange(count)
    z, angle = 1 - 2 * (i + 0.5) / count, np.pi * (1 + 5**0.5) * i
    return np.stack([np.sqrt(1 - z * z) * np.cos(angle), np.sqrt(1 - z * z) * np.sin(angle), z], axis=1)


_DIRECTIONS = _sphere(24)
