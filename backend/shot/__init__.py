"""The Shot: what travels from Blender to a backend (numpy only)."""

from .file import FORMAT_VERSION, load_shot, save_shot
from .keypoints import (
    BODY_KEYPOINTS,
    FACE_KEYPOINTS,
    KEYPOINT_NAMES,
    LEFT_HAND_KEYPOINTS,
    RIGHT_HAND_KEYPOINTS,
    KeypointState,
)
from .types import (
    SMPL_JOINT_NAMES,
    SMPL_PARENTS,
    UPSCALE_FACTORS,
    Background,
    BodyPose,
    Character,
    Clay,
    Clip,
    Keypoints,
    Media,
    Mesh,
    Reference,
    Settings,
    Shot,
    ShotError,
    Track,
)
from .validate import validate
