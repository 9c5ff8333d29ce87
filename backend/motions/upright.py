"""Which way is up, told from the body itself, and the turn to Blender's Z up."""

from __future__ import annotations

import numpy as np

from .kinematics import angle_between, swing, unit
from .types import MotionError

AXES = ("X", "-X", "Y", "-Y", "Z", "-Z")

# Rows map the file's axes to Blender's; each is a turn, and Y up and -Y up put what faced the viewer towards -Y, as
# Blender's own importers do.
_TURNS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "Z": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "-Z": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
    "Y": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "-Y": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "X": ((0, 1, 0), (0, 0, 1), (1, 0, 0)),
    "-X": ((0, -1, 0), (0, 0, 1), (-1, 0, 0)),
}

LEVEL_LIMITS = (np.radians(10.0), np.radians(35.0))
"""Tilts that are taken for a camera's."""


def turn_to_z(axis: str) -> np.ndarray:
    """(3,3) turn that takes a file whose up axis is ``axis`` to Z up. Raises MotionError for no axis."""
    name = axis.strip().upper().lstrip("+")
    if name not in _TURNS:
        raise MotionError("up", f"'{axis}' is none of {', '.join(AXES)}")
    return np.array(_TURNS[name], dtype=float)


def detect_up(uprights: np.ndarray, expected: str) -> tuple[str, bool]:
    """The up axis of a motion, and whether the body told it.

    Args:
        uprights: (T,3) direction from feet (or pelvis) to neck in each frame, in the file's axes.
        expected: what files of this kind usually have; kept where the body stands too little to tell (lying, rolling,
            climbing through all directions).
    """
    mean = unit(uprights).mean(axis=0)
    strength = np.abs(mean)
    best = int(np.argmax(strength))
    second = np.sort(strength)[1]
    if strength[best] < 0.6 or strength[best] < 1.5 * second:
        return expected, False
    return ("-" if mean[best] < 0 else "") + "XYZ"[best], True


def describe_up(axis: str, told: bool) -> str:
    """The sentence for the animator."""
    if not told:
        return f"up axis not clear from the body; {axis} assumed, as usual for such files. Choose another with up="
    return f"up axis {axis} detected" + ("" if axis == "Z" else ", turned to Z")


def levelling(uprights: np.ndarray) -> tuple[np.ndarray, float]:
    """The turn (3,3) that takes a camera's tilt out of a motion, and its angle in radians (0: left as it is).

    A camera that looked up or down leaves the body it saw standing askew. Over a clip the body's own upright, taken
    where it is straight, stands for the vertical. A lean below 10 degrees may be posture and stays; so does one beyond
    35, which is no camera's.

    Args:
        uprights: (T,3) from the feet's middle to the neck, Z up already.
    """
    directions = unit(uprights)
    mean = unit(np.median(directions, axis=0))
    close = angle_between(directions, mean) < np.radians(20.0)
    if close.any():
        mean = unit(directions[close].mean(axis=0))
    vertical = np.array([0.0, 0.0, 1.0])
    tilt = float(angle_between(mean, vertical))
    if not LEVEL_LIMITS[0] <= tilt <= LEVEL_LIMITS[1]:
        return np.eye(3), 0.0
    return swing(mean, vertical), tilt
