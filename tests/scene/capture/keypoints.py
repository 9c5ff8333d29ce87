"""Names of keypoints, and how tests capture them."""

from __future__ import annotations

import bpy

from ..builders import module

FINGERS = ("thumb", "index", "middle", "ring", "little")


class Names:
    """Places of keypoints by name, and the states."""

    def __init__(self, addon):
        keypoints = module(addon, "backend.shot.keypoints")
        self.at = {name: index for index, name in enumerate(keypoints.KEYPOINT_NAMES)}
        self.state = keypoints.KeypointState
        self.body = keypoints.BODY_KEYPOINTS
        self.face = keypoints.FACE_KEYPOINTS
        self.left, self.right = keypoints.LEFT_HAND_KEYPOINTS, keypoints.RIGHT_HAND_KEYPOINTS


def captured(addon, notices=None, index=0):
    """The keypoints of one character."""
    wants = module(addon, "scene.capture.wants").Wants(keypoints=True, meshes=False, tracks=False, clay=False)
    shot = module(addon, "scene.capture.shot").capture_shot(bpy.context, wants=wants, notices=notices)
    return shot.characters[index].keypoints
