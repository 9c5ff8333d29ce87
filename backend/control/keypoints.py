"""Poses as a detector would find them: 2-D keypoints with a confidence, from the true visibility (no torch).

Shape letters: T frames, K the 128 keypoints of ``KEYPOINT_NAMES``, N surface points, H W image.

A detector is confident where a spot shows, unsure where the own body hides it, and finds next to nothing where
something else does. A scene knows which is the case.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..shot import (
    BODY_KEYPOINTS,
    FACE_KEYPOINTS,
    KEYPOINT_NAMES,
    LEFT_HAND_KEYPOINTS,
    RIGHT_HAND_KEYPOINTS,
    SMPL_JOINT_NAMES,
    Character,
    Clip,
    Keypoints,
    KeypointState,
    ShotError,
)
from ..shot.cameras import project
from .pose_drawing import THRESHOLD

SELF_OCCLUDED_CONFIDENCE = 0.5
"""Above the threshold, so that a limb behind the own body is drawn, but dim."""

_CONFIDENCE = np.zeros(len(KeypointState))
_CONFIDENCE[KeypointState.SELF_OCCLUDED] = SELF_OCCLUDED_CONFIDENCE
_CONFIDENCE[KeypointState.VISIBLE] = 1.0

_NECK = KEYPOINT_NAMES.index("neck")
_SHOULDERS = [KEYPOINT_NAMES.index(f"{side}_shoulder") for side in ("right", "left")]
_FRONT = [KEYPOINT_NAMES.index(name) for name in ("nose", "right_eye", "left_eye")]
_HAND_ROOTS = tuple(
    (KEYPOINT_NAMES.index(f"{side}_wrist"), KEYPOINT_NAMES.index(f"{side}_hand_wrist"), hand)
    for side, hand in (("left", LEFT_HAND_KEYPOINTS), ("right", RIGHT_HAND_KEYPOINTS))
)
"""Wrist of the body, wrist of the hand, all of the hand."""

_FACIAL = np.isin(np.arange(len(KEYPOINT_NAMES)), _FRONT)
_FACIAL[FACE_KEYPOINTS] = True
"""Nose, eyes and face."""

_FROM_JOINTS = tuple(
    (KEYPOINT_NAMES.index(name), SMPL_JOINT_NAMES.index(name))
    for name in KEYPOINT_NAMES[BODY_KEYPOINTS]
    if name in SMPL_JOINT_NAMES
)
"""(keypoint, joint) of what both name: neck, shoulders, elbows, wrists, hips, knees and ankles."""

_TOES = [SMPL_JOINT_NAMES.index(f"{side}_foot") for side in ("left", "right")]

_NEAREST = 8
"""Surface points that tell whether what they surround shows, and where it goes from one pose to another."""

_NOWHERE = -1.0
"""Where points lie that are not to be drawn: outside of the map."""


@dataclass(frozen=True, eq=False)
class Pose2D:
    """What pose maps are drawn from.

    Attributes:
        points: (T,K,2) float64, fractions of the picture's width and height, x right, y down.
        confidence: (T,K) float64, 0 for what is not drawn.
    """

    points: np.ndarray
    confidence: np.ndarray

    @property
    def drawn(self) -> np.ndarray:
        """(T,18) bool, body keypoints that are drawn."""
        return self.confidence[:, BODY_KEYPOINTS] > THRESHOLD


def project_pose(
    keypoints: Keypoints, viewmats: np.ndarray, Ks: np.ndarray, box: tuple[float, float, float, float]
) -> Pose2D:
    """Keypoints as a detector would find them in a picture, without its errors.

    The neck is the middle of the shoulders, in the picture, and certain when both are drawn, as in DWPose.
    When nose and eyes are all hidden by the own head, the person looks away: nose, eyes and face are left out, as a
    detector leaves them out, and not drawn dimly through the head.

    Args:
        keypoints: (T,K,3) world and (T,K) states.
        viewmats: (T,4,4) world to OpenCV camera. Ks: (T,3,3) pixels.
        box: left, top, width and height in those pixels of what the map shows.
    """
    keypoints = _with_hand_roots(keypoints)
    uv, _ = project(keypoints.points.astype(np.float64), viewmats.astype(np.float64), Ks.astype(np.float64))
    left, top, width, height = box
    points = (uv - (left, top)) / (width, height)
    inside = ((points >= 0) & (points < 1)).all(axis=-1)  # false for NaN, behind the camera
    confidence = np.where(inside, _CONFIDENCE[keypoints.state], 0.0)
    present = (keypoints.state[:, _FRONT] != KeypointState.ABSENT).any(axis=1, keepdims=True)
    away = present & (confidence[:, _FRONT] < 1).all(axis=1, keepdims=True)
    confidence = np.where(away & _FACIAL, 0.0, confidence)
    shoulders = (confidence[:, _SHOULDERS] > THRESHOLD).all(axis=1)
    points[:, _NECK] = points[:, _SHOULDERS].mean(axis=1)
    confidence[:, _NECK] = shoulders
    return Pose2D(np.where(confidence[..., None] > 0, points, _NOWHERE), confidence)


def character_keypoints(character: Character, field: str) -> tuple[Keypoints, list[str]]:
    """A character's keypoints, or what its joints tell of them, and notes for the animator.

    Args:
        field: dotted path of the character.

    Raises:
        ShotError: neither keypoints nor joints.
    """
    if character.keypoints is not None:
        return character.keypoints, []
    if character.joints is None:
        raise ShotError(
            f"{field}.keypoints",
            f"{character.name} has neither keypoints nor joints, so that no pose can be drawn; use a body whose bones "
            "Maquette knows (SMPL, Mixamo, Rigify, ...), and send the shot again",
        )
    frames = len(character.joints)
    points = np.zeros((frames, len(KEYPOINT_NAMES), 3), np.float32)
    state = np.full((frames, len(KEYPOINT_NAMES)), KeypointState.ABSENT, np.uint8)
    for keypoint, joint in _FROM_JOINTS:
        points[:, keypoint] = character.joints[:, joint]
        near = nearest_points(character.points[0], character.joints[0, joint])
        state[:, keypoint] = skin_state(character.visibility[:, near])
    note = (
        f"{character.name} has joints but no keypoints: its pose is drawn from neck to ankles, without face and hands"
    )
    return Keypoints(points, state), [note]


def project_toes(character: Character, clip: Clip) -> np.ndarray:
    """The balls of the left and the right foot (T,2,2), fractions of the picture; NaN outside of it, and where no joint
    tells them."""
    if character.joints is None:
        return np.full((clip.frames, 2, 2), np.nan)
    uv, _ = project(
        character.joints[:, _TOES].astype(np.float64), clip.viewmats.astype(np.float64), clip.Ks.astype(np.float64)
    )
    toes = uv / (clip.width, clip.height)
    inside = ((toes >= 0) & (toes < 1)).all(axis=-1, keepdims=True)
    return np.where(inside, toes, np.nan)


def _with_hand_roots(keypoints: Keypoints) -> Keypoints:
    """Hands that have fingers but no wrist of their own begin at the body's wrist."""
    points, state = keypoints.points.copy(), keypoints.state.copy()
    for wrist, root, fingers in _HAND_ROOTS:
        lone = (state[:, root] == KeypointState.ABSENT) & (state[:, fingers] != KeypointState.ABSENT).any(axis=1)
        points[lone, root], state[lone, root] = points[lone, wrist], state[lone, wrist]
    return Keypoints(points, state)


def nearest_points(points: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Indices of the points (N,3) nearest to ``at`` (3,)."""
    return np.argsort(np.linalg.norm(points - at, axis=1), kind="stable")[:_NEAREST]


def skin_state(visibility: np.ndarray) -> np.ndarray:
    """States (T,) of something inside the body by whether any of the skin around it (T,n) shows."""
    return np.where(visibility.any(axis=1), KeypointState.VISIBLE, KeypointState.SELF_OCCLUDED)
