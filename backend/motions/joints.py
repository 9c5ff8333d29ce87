"""Files of SMPL's joint positions: units and axes told from the body, then fitted to rotations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .fitting import fit_joints
from .glitches import bridged, describe, find_glitches, mend
from .kinematics import JOINT, axis_angle_to_matrix
from .parametric import numbers
from .types import WARNING, BodyMotion, MotionError
from .upright import describe_up, detect_up, levelling, turn_to_z

if TYPE_CHECKING:
    from ..bodies import BodyModel

UNITS = {"millimetres": 0.001, "centimetres": 0.01, "inches": 0.0254, "metres": 1.0}
LEG = 0.78
"""Metres from hip to ankle of a person of middle size."""


HAND = 0.35
"""Length of a hand to its middle knuckle over that of the forearm, where a file ends at the wrists."""
LAYOUTS = {22: 22, 24: 24, 45: 24, 49: 24, 52: 22, 55: 22, 73: 22, 127: 22, 144: 22}
"""Joints of the usual outputs, and how many of them, from the first, are SMPL's in SMPL's order."""


def joint_layout(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Number of joints of an array of positions, and the axis they lie on; None where the shape tells none.

    (..., J, 3), as most write them, or (..., J, 3, T), as motion diffusion models do.
    """
    if len(shape) >= 2 and shape[-1] == 3 and shape[-2] in LAYOUTS:
        return shape[-2], -2
    if len(shape) >= 3 and shape[-2] == 3 and shape[-3] in LAYOUTS:
        return shape[-3], -3
    return None


BOUND = 0.1
"""Metres that a joint may lie from the file's before the animator is warned."""
FEATURES = 263
"""Numbers a frame of HumanML3D's features, of 22 joints."""


def from_features(features: np.ndarray) -> np.ndarray:
    """Positions (T,22,3), Y up, of HumanML3D's features (T,263), not normalised.

    They begin with half the root's turn about Y and its steps along x and z to the next frame, in the body's own
    heading; its height; and the other joints' places from the point under the root (Guo et al., "Generating Diverse
    and Natural 3D Human Motions from Text", 2022).
    """
    half = np.concatenate([[0.0], np.cumsum(features[:-1, 0])])
    turn = axis_angle_to_matrix(np.stack([0 * half, -2 * half, 0 * half], axis=-1))
    steps = np.zeros((len(features), 3))
    steps[1:, [0, 2]] = features[:-1, 1:3]
    under = np.cumsum((turn @ steps[..., None])[..., 0], axis=0)
    others = np.einsum("tab,tjb->tja", turn, features[:, 4:67].reshape(-1, 21, 3)) + under[:, None]
    return np.concatenate([(under + features[:, 3:4] * (0, 1, 0))[:, None], others], axis=1)


def read_joints(value: object, name: str = "joints") -> np.ndarray:
    """Positions (T,24,3) of one body, from a layout in ``LAYOUTS``, flat (T,72) or (T,66), or features (T,263).

    Dimensions of one beside them are left out. Where the file has no hands they lie in line with the forearms.

    Raises:
        MotionError: for other shapes, NaN, or several bodies.
    """
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    array = numbers(value, name)
    if array.ndim == 2 and array.shape[-1] == FEATURES:
        array = from_features(array)
    if array.ndim == 2 and array.shape[-1] in (66, 72):
        array = array.reshape(len(array), -1, 3)
    layout = joint_layout(array.shape)
    if layout is None or (
        array.size // (3 * layout[0]) != max(1, *array.shape[: layout[1]], array.shape[-1] if layout[1] == -3 else 1)
    ):
        raise MotionError(name, f"shape {array.shape} is not (frames, 24, 3): SMPL's 24 joints are needed, or its "
                          "first 22")  # fmt: skip
    if layout[1] == -3:
        array = np.moveaxis(array, -1, -3)
    array = array.reshape(-1, layout[0], 3)[:, : LAYOUTS[layout[0]]]
    if array.shape[1] == 24:
        return array
    hands = [array[:, w] + HAND * (array[:, w] - array[:, w - 2]) for w in (JOINT["left_wrist"], JOINT["right_wrist"])]
    return np.concatenate([array, np.stack(hands, axis=1)], axis=1)


def unit_scale(joints: np.ndarray) -> tuple[float, str]:
    """Factor to metres and the unit's name, from the median length of the legs.

    Raises:
        MotionError: where no unit makes the legs 0.35 to 1.5 metres long.
    """
    legs = 0.0
    for side in ("left", "right"):
        hip, knee, ankle = (joints[:, JOINT[f"{side}_{n}"]] for n in ("hip", "knee", "ankle"))
        legs += 0.5 * float(np.median(np.linalg.norm(knee - hip, axis=-1) + np.linalg.norm(ankle - knee, axis=-1)))
    fits = {n: legs * s for n, s in UNITS.items() if 0.35 < legs * s < 1.5}
    if not fits:
        raise MotionError("joints", f"the legs are {legs:.4g} units long, a person's in no known unit; are these "
                          "SMPL's 24 joints in SMPL's order?")  # fmt: skip
    name = min(fits, key=lambda n: abs(np.log(fits[n] / LEG)))
    return UNITS[name], name


def joints_to_motion(
    value: object,
    body: BodyModel,
    *,
    fps: float,
    name: str,
    up: str | None = None,
    level: bool = True,
    fit_shape: bool = True,
    watch: Callable[[float], None] | None = None,
) -> BodyMotion:
    """Fit a body to joint positions; not yet on the floor.

    Args:
        value: (T,24,3) positions in any unit and any axes.
        body: to fit.
        fps: frames per second.
        name: the motion's.
        up: the file's up axis; None detects it (camera space, Y down, where the body does not tell).
        level: take the tilt of a camera out.
        fit_shape: fit the body's shape too.
        watch: see ``fit_joints``.
    """
    joints = read_joints(value)
    lost = np.flatnonzero(np.ptp(joints, axis=1).max(axis=-1) < 1e-9)
    notes = []
    if 0 < len(lost) <= len(joints) - 2:
        joints = bridged(joints.reshape(len(joints), -1), [(k, k) for k in lost.tolist()]).reshape(joints.shape)
        notes = [f"frames without a body, put between their neighbours: {len(lost)}"]
    scale, unit_name = unit_scale(joints)
    joints = joints * scale
    uprights = joints[:, JOINT["neck"]] - joints[:, [JOINT["left_ankle"], JOINT["right_ankle"]]].mean(axis=1)
    axis, told = (up, True) if up else detect_up(uprights, "-Y")
    turn = turn_to_z(axis)
    notes += [f"joint positions in {unit_name}", f"up axis {axis} as given" if up else describe_up(axis, told)]
    if level and axis == "-Y" and not up:
        extra, tilt = levelling(uprights @ turn.T)
        if tilt:
            turn = extra @ turn
            notes.append(f"the camera's tilt of {np.degrees(tilt):.0f} degrees was taken out; keep it with level=False")
    joints = joints @ turn.T
    runs = find_glitches(joints[:, 0], fps)
    if runs:
        mended = bridged(joints[:, 0], runs)
        notes.append(describe(joints[:, 0], mended, runs))
        joints = joints + (mended - joints[:, 0])[:, None]
    # Far from the origin float32 loses the body: start over it.
    joints = joints - joints[0, 0] * (1, 1, 0)
    fit = fit_joints(joints, body, betas=None if fit_shape else np.zeros(body.shapedirs.shape[2]), watch=watch)
    gaps = np.median(np.linalg.norm(fit.joints - joints, axis=-1), axis=0)
    names = np.array([name.replace("_", " ") for name in JOINT])
    far = int(np.argmax(gaps))
    notes.append(f"fitted to body {body.id}: mean joint error {1000 * fit.error:.0f} mm, most at {names[far]} "
                 f"({1000 * gaps[far]:.0f})")  # fmt: skip
    if gaps[far] > BOUND:
        notes.append(f"{WARNING}{', '.join(names[gaps > BOUND])} lie more than {100 * BOUND:.0f} cm from the file's")
    if fit.error > 0.08:
        notes.append("the fit is poor; are these SMPL's 24 joints in SMPL's order, in a right-handed frame?")
    from .families import embed_smpl24

    motion = BodyMotion(
        fps=fps,
        poses=embed_smpl24(fit.poses, body),
        trans=fit.trans,
        betas=fit.betas,
        family=body.family,
        name=name,
        notes=tuple(notes),
        body=body.id,
        source_error={"joints_mm": 1000 * fit.error},
    )
    return mend(motion)
