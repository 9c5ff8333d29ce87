"""The 128 spots that pose maps are drawn from, in one order for every model.

OpenPose's 18 of the body, 21 of each hand (wrist, then four a finger from its root to its tip), and the 68 of the face
in iBUG's order (jaw, brows, nose, eyes, lips). Left and right are the person's own.
"""

from __future__ import annotations

from enum import IntEnum

BODY_NAMES: tuple[str, ...] = (
    "nose",
    "neck",
    "right_shoulder",
    "right_elbow",
    "right_wrist",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "right_hip",
    "right_knee",
    "right_ankle",
    "left_hip",
    "left_knee",
    "left_ankle",
    "right_eye",
    "left_eye",
    "right_ear",
    "left_ear",
)
"""OpenPose's 18, in its own order."""

FINGERS: tuple[str, ...] = ("thumb", "index", "middle", "ring", "little")

HAND_NAMES: tuple[str, ...] = ("wrist", *(f"{finger}_{i}" for finger in FINGERS for i in range(1, 5)))
"""The 21 of one hand: ``thumb_1`` is nearest to the wrist, ``thumb_4`` the tip."""

KEYPOINT_NAMES: tuple[str, ...] = (
    *BODY_NAMES,
    *(f"left_hand_{name}" for name in HAND_NAMES),
    *(f"right_hand_{name}" for name in HAND_NAMES),
    *(f"face_{i}" for i in range(68)),
)
"""All 128."""

BODY_KEYPOINTS = slice(0, 18)
LEFT_HAND_KEYPOINTS = slice(18, 39)
RIGHT_HAND_KEYPOINTS = slice(39, 60)
FACE_KEYPOINTS = slice(60, 128)


class KeypointState(IntEnum):
    """How the camera sees a keypoint."""

    ABSENT = 0
    """The body has none."""
    HIDDEN = 1
    """Behind something else, or outside the picture."""
    SELF_OCCLUDED = 2
    """Behind the own body."""
    VISIBLE = 3
