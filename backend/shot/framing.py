"""How a performance lies in the camera that MTVCrafter knows, and what an animator can do where it does not.

Shape letters: T frames, J joints (24, SMPL's order), W H picture in pixels.

The model's camera is OpenCV's (x right, y down, z forward, origin at the camera's centre, millimetres) with 55 degrees
over the larger side of the picture and its axis through the middle. Its training set saw people about 1.8 m away.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from .cameras import project, to_camera
from .types import SMPL_JOINT_NAMES

TRAINED_ANGLE = math.radians(55.0)
"""Field of view over the larger side of the picture, in radians."""

TRAINED_DISTANCE = (1.8, 2.1)
"""Where the pelvis should be, in metres along the camera's axis."""

TRAINED_SPEED = (4.0, 37.0)
"""Median speed of a joint in the published sample clips, millimetres per frame."""

OUTSIDE = 3.0
"""A coordinate this many standard deviations from the training mean lies outside the training set."""

_PUBLISHED = Path(__file__).resolve().parents[2] / "presets" / "models" / "mtvcrafter" / "motion_statistics.json"
_SAME_ANGLE = 0.02
_FEW_OUTSIDE = 0.005
_FEW_OFF_PICTURE = 0.1
_AXES = ("sideways", "in height", "in depth")


@dataclass(frozen=True, eq=False)
class MotionStatistics:
    """Normalisation of joints: ``(joint - mean) / std``.

    Attributes:
        mean, std: (24,3) float32 millimetres per joint and axis.
    """

    mean: np.ndarray
    std: np.ndarray

    def __post_init__(self) -> None:
        for name, value in (("mean", self.mean), ("std", self.std)):
            if np.shape(value) != (len(SMPL_JOINT_NAMES), 3) or not np.isfinite(value).all():
                raise ValueError(f"{name}: expected finite millimetres of shape (24, 3), got shape {np.shape(value)}")
        if (np.asarray(self.std) <= 0).any():
            raise ValueError("std: every standard deviation must be above 0")


@lru_cache(maxsize=4)
def read_statistics(path: Path = _PUBLISHED) -> MotionStatistics:
    """Statistics from a JSON file with ``mean_mm`` and ``std_mm``; those of MTVCrafter's published weights by default.

    A tokenizer's ``config.json`` is such a file; where it leaves them open, it means the published ones.

    Raises:
        ValueError: the file is not JSON, or the tables have another shape.
    """
    table = json.loads(path.read_text("utf-8"))
    if table.get("mean_mm") is None and path != _PUBLISHED:
        return read_statistics()
    return MotionStatistics(np.asarray(table["mean_mm"], np.float32), np.asarray(table["std_mm"], np.float32))


def trained_focal(width: int, height: int) -> float:
    """Focal length in pixels of the model's camera for a picture of this size."""
    return max(width, height) / (2 * math.tan(TRAINED_ANGLE / 2))


def picture_angle(K: np.ndarray, width: int, height: int) -> float:
    """Field of view in radians over the larger side of the picture, of intrinsics (3,3) in its pixels."""
    focal, side = (K[0, 0], width) if width >= height else (K[1, 1], height)
    return 2 * math.atan(side / (2 * float(focal)))


def trained_lens(
    sensor_width: float,
    sensor_height: float,
    sensor_fit: str,
    width: int,
    height: int,
    pixel_aspect_x: float = 1.0,
    pixel_aspect_y: float = 1.0,
) -> float:
    """Focal length in millimetres that gives a Blender camera 55 degrees over the larger side of its picture.

    Args:
        sensor_width, sensor_height: in millimetres, as Blender has them.
        sensor_fit: ``AUTO``, ``HORIZONTAL`` or ``VERTICAL``.
        width, height: picture in pixels.
        pixel_aspect_x, pixel_aspect_y: shape of a pixel.
    """
    wide, tall = pixel_aspect_x * width, pixel_aspect_y * height
    horizontal = sensor_fit == "HORIZONTAL" or (sensor_fit == "AUTO" and wide >= tall)
    sensor = sensor_height if sensor_fit == "VERTICAL" else sensor_width
    return sensor * max(wide, tall) / ((wide if horizontal else tall) * 2 * math.tan(TRAINED_ANGLE / 2))


def camera_joints(joints: np.ndarray, viewmats: np.ndarray) -> np.ndarray:
    """Joints as the camera sees them, whatever its lens.

    Args:
        joints: (T,24,3) world, metres.
        viewmats: (T,4,4) world to OpenCV camera.

    Returns:
        (T,24,3) float32 millimetres.
    """
    metres = to_camera(np.asarray(joints, np.float64), np.asarray(viewmats, np.float64))
    return (1000.0 * metres).astype(np.float32)


def refocused(joints_mm: np.ndarray, Ks: np.ndarray, width: int, height: int) -> np.ndarray:
    """Move joints to where the model's camera sees them as large, and in the same place, as the shot's camera does.

    An estimator that assumes 55 degrees would read a longer lens as a nearer person: the pelvis goes to ``s`` times
    its depth, ``s`` the ratio of focal lengths, and the body keeps its own depth and size. A lens shift moves the
    body sideways. With 55 degrees and a centred axis nothing changes.

    Args:
        joints_mm: (T,24,3) as ``camera_joints`` gives them.
        Ks: (T,3,3) pixels of the ``width`` x ``height`` picture.

    Returns:
        (T,24,3) float32 millimetres.
    """
    joints = np.asarray(joints_mm, np.float64)
    Ks = np.asarray(Ks, np.float64)
    trained = trained_focal(width, height)
    pelvis_T = joints[:, 0, 2]
    scale_T = trained / np.sqrt(Ks[:, 0, 0] * Ks[:, 1, 1])
    moved = joints.copy()
    moved[..., 2] += (pelvis_T * (scale_T - 1))[:, None]
    for axis, middle in ((0, width / 2), (1, height / 2)):
        moved[..., axis] += ((Ks[:, axis, 2] - middle) * pelvis_T * scale_T / trained)[:, None]
    return moved.astype(np.float32)


def model_joints(joints: np.ndarray, viewmats: np.ndarray, Ks: np.ndarray, width: int, height: int) -> np.ndarray:
    """What MTVCrafter takes: world joints (T,24,3) in metres to (T,24,3) float32 millimetres of its own camera."""
    return refocused(camera_joints(joints, viewmats), Ks, width, height)


def z_scores(joints_mm: np.ndarray, statistics: MotionStatistics | None = None) -> np.ndarray:
    """Standard deviations between each coordinate and the training mean, (T,24,3) float32."""
    known = statistics or read_statistics()
    return (np.asarray(joints_mm, np.float32) - known.mean) / known.std


@dataclass(frozen=True)
class Framing:
    """How far a performance lies from what MTVCrafter was trained on.

    Attributes:
        angle: field of view in degrees over the picture's larger side, of the first frame.
        distance: median depth of the pelvis in metres, in the shot's camera.
        model_distance: the same in the model's 55-degree camera.
        outside: share of coordinates more than 3 standard deviations from the training mean.
        worst_joint, worst_axis, worst_score: the coordinate furthest out: joint, axis (0 x, 1 y, 2 z) and z-score.
        off_picture: share of joints outside the picture.
        behind: share of joints at or behind the camera.
        speed: median speed of a joint in the model's camera, millimetres per frame; 0 for one frame.
        busy_speed: the speed that one joint in ten exceeds.
    """

    angle: float
    distance: float
    model_distance: float
    outside: float
    worst_joint: str
    worst_axis: int
    worst_score: float
    off_picture: float
    behind: float
    speed: float
    busy_speed: float

    def warnings(self, name: str = "") -> tuple[str, ...]:
        """Sentences for the animator, each with its cure; none where the model is at home.

        Args:
            name: of the character, to open the sentences with.
        """
        who = name or "The body"
        said = [
            self._behind(who),
            self._angle(),
            self._distance(who),
            self._place(who),
            self._picture(who),
            self._speed(who),
        ]
        return tuple(sentence for sentence in said if sentence)

    def _behind(self, who: str) -> str:
        if not self.behind:
            return ""
        return f"{who} reaches behind the camera ({_percent(self.behind)} of the joints); move the camera back"

    def _angle(self) -> str:
        if abs(self.angle - math.degrees(TRAINED_ANGLE)) < math.degrees(_SAME_ANGLE):
            return ""
        return (
            f"The camera sees {self.angle:.0f} degrees and the model knows 55: distances are converted so that the "
            "body keeps its size in the picture; the 55-degree camera helper makes this exact"
        )

    def _distance(self, who: str) -> str:
        low, high = TRAINED_DISTANCE
        mean, std = _pelvis_depth()
        if abs(self.model_distance - mean) <= 2 * std:
            return ""
        way = "closer" if self.model_distance > mean else "back"
        return (
            f"{who} is {self.model_distance:.1f} m from the 55-degree camera and the model learned from people at "
            f"{mean:.1f} m (give or take {std:.1f}); move the camera {way}, to {low} to {high} m with a 55-degree lens"
        )

    def _place(self, who: str) -> str:
        # Where the distance is wrong, its own sentence says so.
        if self.outside <= _FEW_OUTSIDE or (self.worst_axis == 2 and self._distance(who)):
            return ""
        cures = (
            "turn or move the camera so that the body is in the middle",
            "tilt or lift the camera so that the body is in the middle",
            f"bring the camera to {TRAINED_DISTANCE[0]} to {TRAINED_DISTANCE[1]} m from the body",
        )
        joint = self.worst_joint.replace("_", " ")
        return (
            f"{_percent(self.outside)} of the coordinates of {_within(who)} lie outside the training set "
            f"(worst: {joint} {_AXES[self.worst_axis]}, {abs(self.worst_score):.1f} standard deviations); "
            f"{cures[self.worst_axis]}"
        )

    def _picture(self, who: str) -> str:
        if self.off_picture <= _FEW_OFF_PICTURE:
            return ""
        return (
            f"{_percent(self.off_picture)} of the joints of {_within(who)} lie outside the picture, where the "
            "model cannot draw them; frame the whole body, or accept that they are cut"
        )

    def _speed(self, who: str) -> str:
        low, high = TRAINED_SPEED
        if self.speed > high:
            return (
                f"{who} moves {self.speed:.0f} mm per frame and the training set {low:.0f} to {high:.0f}; raise the "
                f"frame rate about {self.speed / high:.1f} times, or slow the action"
            )
        # A pause within a lively clip is no fault of the frame rate, so the lively joints decide.
        if 0 < self.busy_speed < low:
            return (
                f"{who} hardly moves ({self.busy_speed:.1f} mm per frame where it moves most, the training set "
                f"{low:.0f} to {high:.0f}); lower the frame rate, or expect a still picture"
            )
        return ""


def _within(who: str) -> str:
    """A character's name inside a sentence."""
    return who[0].lower() + who[1:] if who.startswith("The ") else who


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.1f} %"


def _pelvis_depth() -> tuple[float, float]:
    known = read_statistics()
    return float(known.mean[0, 2]) / 1000, float(known.std[0, 2]) / 1000


def framing(
    joints: np.ndarray,
    viewmats: np.ndarray,
    Ks: np.ndarray,
    width: int,
    height: int,
    statistics: MotionStatistics | None = None,
) -> Framing:
    """Measure one character's performance.

    Args:
        joints: (T,24,3) world, metres.
        viewmats: (T,4,4) world to OpenCV camera; Ks: (T,3,3) pixels of the ``width`` x ``height`` picture.
        statistics: of the tokenizer's training set; those of the published weights by default.
    """
    seen = camera_joints(joints, viewmats)
    ours = refocused(seen, Ks, width, height)
    scores = z_scores(ours, statistics)
    size = np.abs(scores)
    _, joint, axis = np.unravel_index(int(size.argmax()), size.shape)
    frame = int(size[:, joint, axis].argmax())
    uv, depth = project(np.asarray(joints, np.float64), np.asarray(viewmats, np.float64), np.asarray(Ks, np.float64))
    inside = (depth > 0) & (uv >= 0).all(axis=-1) & (uv[..., 0] <= width) & (uv[..., 1] <= height)
    speeds = np.linalg.norm(np.diff(ours.astype(np.float64), axis=0), axis=-1)
    return Framing(
        angle=math.degrees(picture_angle(np.asarray(Ks[0]), width, height)),
        distance=float(np.median(seen[:, 0, 2])) / 1000,
        model_distance=float(np.median(ours[:, 0, 2])) / 1000,
        outside=float((size > OUTSIDE).mean()),
        worst_joint=SMPL_JOINT_NAMES[joint],
        worst_axis=int(axis),
        worst_score=float(scores[frame, joint, axis]),
        off_picture=float(1 - inside.mean()),
        behind=float((depth <= 0).mean()),
        speed=float(np.median(speeds)) if speeds.size else 0.0,
        busy_speed=float(np.percentile(speeds, 90)) if speeds.size else 0.0,
    )
