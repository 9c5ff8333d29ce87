"""The families of bodies, and the one error that this package raises."""

from __future__ import annotations

from ..shot.types import SMPL_JOINT_NAMES

_FINGERS = tuple(f"{finger}{i}" for finger in ("index", "middle", "pinky", "ring", "thumb") for i in (1, 2, 3))
_HANDS = tuple(f"{side}_{finger}" for side in ("left", "right") for finger in _FINGERS)
JOINT_NAMES: dict[str, tuple[str, ...]] = {
    "smpl": SMPL_JOINT_NAMES,
    "smplh": (*SMPL_JOINT_NAMES[:22], *_HANDS),
    "smplx": (*SMPL_JOINT_NAMES[:22], "jaw", "left_eye", "right_eye", *_HANDS),
}
"""Joints of each family in its own order: 24, 52 and 55."""


class BodyError(ValueError):
    """A body that cannot be used, or asked for something it does not have.

    Attributes:
        field: the part at fault, such as ``weights`` or ``betas``.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
