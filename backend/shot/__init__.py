"""The Shot: what travels from Blender to a backend (numpy only)."""

from .file import FORMAT_VERSION, load_shot, save_shot
from .types import (
    SMPL_JOINT_NAMES,
    SMPL_PARENTS,
    Background,
    BodyPose,
    Character,
    Clip,
    Media,
    Reference,
    Settings,
    Shot,
    ShotError,
)
from .validate import validate

__all__ = [
    "FORMAT_VERSION",
    "SMPL_JOINT_NAMES",
    "SMPL_PARENTS",
    "Background",
    "BodyPose",
    "Character",
    "Clip",
    "Media",
    "Reference",
    "Settings",
    "Shot",
    "ShotError",
    "load_shot",
    "save_shot",
    "validate",
]
