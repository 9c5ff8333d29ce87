"""Body parameters as datasets and trackers write them, under their many names, as plain arrays.

Letters: T frames, J joints, S shape components.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .families import FACE, HANDS
from .kinematics import matrix_to_axis_angle, nearest_rotation
from .types import FAMILY_JOINTS, MotionError, exact_rate

FULL = ("pose_world", "poses", "smpl_poses", "full_pose", "fullpose", "pose", "smpl_pose", "thetas", "theta",
        "pred_rotmat", "pred_pose")  # fmt: skip
ROOT = ("global_orient", "root_orient", "global_orientation", "orient", "root_pose")
BODY = ("body_pose", "pose_body")
TRANS = ("trans_world", "trans", "transl", "smpl_trans", "translation", "pred_trans", "root_trans", "cam_trans",
         "camera_translation", "camera")  # fmt: skip
BETAS = ("betas", "shape", "beta", "shapes", "pred_shape", "smpl_betas")
LATENTS = 32
LATENT = "holds 32 numbers a frame: latents of VPoser, no rotations. Decode them with VPoser, and save 'body_pose'"
_RATE = re.compile(r"fps$|frame_?rate|sampling_?rate", re.IGNORECASE)

FULL_COUNTS = {24: "smpl", 22: "smplh", 52: "smplh", 55: "smplx", 75: "supr"}
BODY_COUNTS = {21: "smplx", 23: "smpl"}


@dataclass
class Parameters:
    """One body's parameters, in the file's own axes.

    Attributes:
        poses: (T,J,3) axis-angle in radians.
        trans: (T,3) metres.
        betas: (S,) or None.
        family, gender: as in BodyMotion.
        fps: frames per second, or None where the file tells none.
        dataset: whether this is a dataset's file (a mocap rate is named), whose axes are Z up as a rule.
        notes: sentences for the animator.
    """

    poses: np.ndarray
    trans: np.ndarray
    betas: np.ndarray | None
    family: str
    gender: str
    fps: float | None
    dataset: bool = False
    notes: list[str] = field(default_factory=list)


def has_pose(record: Mapping[str, Any]) -> bool:
    """Whether a record holds a pose: all joints in one array, or root and body in two."""
    return (key_of(record, ROOT) is not None and key_of(record, BODY) is not None) or full_key(record) is not None


def read_parameters(record: Mapping[str, Any]) -> Parameters:
    """One record (one body, T frames or one) as parameters.

    Raises:
        MotionError: naming the key at fault: wrong shape, NaN, lengths that do not agree, matrices that are no turns.
    """
    notes: list[str] = []
    full = full_key(record)
    root_key, body_key = key_of(record, ROOT), key_of(record, BODY)
    if root_key is not None and body_key is not None:
        poses, family = _assembled(record, root_key, body_key, notes)
    elif full is not None:
        poses = rotations(record[full], full, tuple(FULL_COUNTS))
        family = FULL_COUNTS[poses.shape[1]]
        family = str(record.get("surface_model_type", family)).lower() if poses.shape[1] == 22 else family
        family = family if family in FAMILY_JOINTS else "smplh"
        poses = _widened(poses, FAMILY_JOINTS[family])
    else:
        listed = ", ".join(sorted(str(k) for k in record)[:12]) or "nothing"
        raise MotionError("poses", f"no pose among the file's keys ({listed}); 'poses' or 'global_orient' with "
                          "'body_pose' is needed")  # fmt: skip
    frames = len(poses)
    trans = _translation(record, frames, notes)
    betas = _betas(record, notes)
    rate, dataset = find_rate(record)
    return Parameters(
        poses=poses,
        trans=trans,
        betas=betas,
        family=family,
        gender=_gender(record.get("gender", "neutral")),
        fps=rate,
        dataset=dataset,
        notes=notes,
    )


def key_of(record: Mapping[str, Any], options: tuple[str, ...]) -> str | None:
    return next((k for k in options if record.get(k) is not None), None)


def full_key(record: Mapping[str, Any]) -> str | None:
    for key in FULL:
        shape = shape_of(record.get(key))
        if not shape or are_positions(record[key]):
            continue
        counts = {n for count in FULL_COUNTS for n in (3 * count, 9 * count)}
        if shape[-1] in counts or (len(shape) >= 2 and shape[-1] == 3 and set(shape[:-1]) & set(FULL_COUNTS)):
            return key
    return None


def are_positions(value: Any) -> bool:
    """Whether an array (T,24,3) or (T,22,3) holds joint positions rather than axis-angle vectors of the same shape.

    Positions give legs and arms of a person's proportions, as long on the left as on the right; vectors longer than a
    full turn are no rotations.
    """
    shape = shape_of(value)
    if shape[-2:] not in ((24, 3), (22, 3)):
        return False
    try:
        joints = np.asarray(value, np.float64).reshape(-1, shape[-2], 3)
    except (TypeError, ValueError):
        return False
    if not np.isfinite(joints).all() or not len(joints):
        return bool(len(joints)) and float(np.nanmax(np.abs(np.where(np.isfinite(joints), joints, np.nan)))) > 7
    if np.abs(joints).max() > 7:
        return True
    bones = ((1, 4), (2, 5), (4, 7), (5, 8), (16, 18), (17, 19), (18, 20), (19, 21))
    lengths = np.array([np.median(np.linalg.norm(joints[:, b] - joints[:, a], axis=-1)) for a, b in bones])
    legs, arms = lengths[:4], lengths[4:]
    if lengths.min() < 0.12 or lengths.max() > 0.7:
        return False
    even = all(0.8 < a / b < 1.25 for a, b in zip(lengths[::2], lengths[1::2], strict=True))
    return even and 1.1 < legs.sum() / arms.sum() < 2.5


def shape_of(value: Any) -> tuple[int, ...]:
    if isinstance(value, np.ndarray):
        return value.shape
    if isinstance(value, (list, tuple)):
        try:
            return np.asarray(value, float).shape
        except (TypeError, ValueError):
            return ()
    return ()


def numbers(value: Any, name: str) -> np.ndarray:
    """An array of finite float64. Raises MotionError naming the key."""
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            array = np.asarray(value.tolist() if isinstance(value, np.ndarray) else value, dtype=np.float64)
        array = array.astype(np.float64)
    except (TypeError, ValueError):
        raise MotionError(name, "is no array of numbers") from None
    if array.size == 0:
        raise MotionError(name, "is empty: it holds no frame")
    bad = ~np.isfinite(array)
    if bad.any():
        first = int(np.argwhere(bad)[0][0]) if array.ndim else 0
        raise MotionError(name, f"contains NaN or infinity (first in row {first}); clean the file or cut those frames")
    return array


def rotations(value: Any, name: str, counts: tuple[int, ...]) -> np.ndarray:
    """Rotations of any usual layout as axis-angle (T,J,3).

    Axis-angle (T,3J), (T,J,3); matrices (T,J,3,3), (T,9J); with or without leading and in-between dimensions of one,
    one frame without T. ``counts`` are the possible J. Three frames of one joint's axis-angle look like a matrix; they
    are one only where the rows are orthonormal.

    Raises:
        MotionError: when the shape fits none of these, or matrices are no turns.
    """
    array = numbers(value, name)
    shape = array.shape
    if array.ndim >= 2 and shape[-2:] == (3, 3) and (array.ndim > 2 or _orthonormal(array[None])):
        matrices = array.reshape(-1, 3, 3)
        if _orthonormal(matrices) or not _as_vectors(shape, counts):
            return _from_matrices(matrices, name, _joints(shape[:-2], counts, name, shape))
    if shape and any(shape[-1] == 9 * c for c in counts):
        count = shape[-1] // 9
        return _from_matrices(array.reshape(-1, 3, 3), name, count)
    if shape and shape[-1] == 3 and (count := _joints(shape[:-1], counts, name, shape)):
        return array.reshape(-1, count, 3)
    if shape and any(shape[-1] == 3 * c for c in counts):
        return array.reshape(-1, shape[-1] // 3, 3)
    if shape and any(shape[-1] == 6 and c in shape for c in counts):
        raise MotionError(name, "holds six numbers a joint; convert them to axis-angle or matrices, for writers differ")
    raise MotionError(name, f"shape {shape} is not (frames, 3 x joints) for {' or '.join(map(str, counts))} joints")


def _as_vectors(shape: tuple[int, ...], counts: tuple[int, ...]) -> bool:
    return shape[-2] in counts or (counts == (1,) and len(shape) == 2)


def _joints(leading: tuple[int, ...], counts: tuple[int, ...], name: str, shape: tuple[int, ...]) -> int:
    """J among the dimensions before the rotation's own."""
    if counts == (1,):
        return 1
    for side in reversed(leading):
        if side in counts:
            return side
        if side != 1:
            break
    if leading and leading[-1] == 1:
        return _joints(leading[:-1], counts, name, shape)
    raise MotionError(name, f"shape {shape} is not for {' or '.join(map(str, counts))} joints")


def _orthonormal(matrices: np.ndarray) -> bool:
    square = matrices @ np.swapaxes(matrices, -1, -2)
    return bool(np.abs(square - np.eye(3)).max() < 0.02 and np.linalg.det(matrices).min() > 0)


def _from_matrices(matrices: np.ndarray, name: str, count: int) -> np.ndarray:
    if not _orthonormal(matrices):
        raise MotionError(name, "looks like rotation matrices but holds some that are no rotation")
    return matrix_to_axis_angle(nearest_rotation(matrices)).reshape(-1, count, 3)


def _assembled(record: Mapping[str, Any], root_key: str, body_key: str, notes: list[str]) -> tuple[np.ndarray, str]:
    """Poses (T,J,3) and family from root, body and, where given, hands and face."""
    if shape_of(record[body_key])[-1:] == (LATENTS,):
        raise MotionError(body_key, LATENT)
    body = rotations(record[body_key], body_key, (21, 23, 22))
    root = rotations(record[root_key], root_key, (1,))
    if body.shape[1] == 22:
        raise MotionError(body_key, "has 22 joints beside a root; 21 or 23 are expected")
    family = BODY_COUNTS[body.shape[1]]
    frames = max(len(body), len(root))
    if family == "smplx":
        stated = str(record.get("surface_model_type", record.get("model_type", ""))).lower()
        face = any(k in record for k in ("jaw_pose", "pose_jaw", "expression"))
        if stated in ("smplh", "smplx", "supr"):
            family = stated
        elif body_key == "pose_body" and not face:
            family = "smplh"
    poses = np.zeros((frames, FAMILY_JOINTS[family], 3))
    _fill(poses, slice(0, 1), root, root_key)
    _fill(poses, slice(1, 1 + body.shape[1]), body, body_key)
    if family in HANDS:
        _fill_extras(record, poses, family, notes)
    return poses, family


def _fill_extras(record: Mapping[str, Any], poses: np.ndarray, family: str, notes: list[str]) -> None:
    hands = HANDS[family]
    half = hands.start + 15
    parts: list[tuple[tuple[str, ...], slice]] = [
        (("left_hand_pose",), slice(hands.start, half)),
        (("right_hand_pose",), slice(half, hands.stop)),
        (("pose_hand", "hand_pose"), hands),
    ]
    if family in FACE:
        parts += [
            (("jaw_pose", "pose_jaw"), slice(22, 23)),
            (("leye_pose",), slice(23, 24)),
            (("reye_pose",), slice(24, 25)),
            (("pose_eye",), slice(23, 25)),
        ]
    for keys, where in parts:
        key = key_of(record, keys)
        if key is None:
            continue
        shape, count = shape_of(record[key]), where.stop - where.start
        if shape and "hand" in key and shape[-1] in (6, 12, 24) and shape[-1] != 3 * count:
            notes.append(f"{key} holds coefficients of a hand model instead of joints and was left out")
            continue
        _fill(poses, where, rotations(record[key], key, (count,)), key)


def _fill(poses: np.ndarray, where: slice, part: np.ndarray, name: str) -> None:
    if len(part) not in (1, len(poses)):
        raise MotionError(name, f"has {len(part)} frames where the pose has {len(poses)}")
    poses[:, where] = part


def _widened(poses: np.ndarray, joints: int) -> np.ndarray:
    if poses.shape[1] == joints:
        return poses
    out = np.zeros((len(poses), joints, 3))
    out[:, : poses.shape[1]] = poses
    return out


def _translation(record: Mapping[str, Any], frames: int, notes: list[str]) -> np.ndarray:
    key = key_of(record, TRANS)
    if key is None:
        notes.append("the file holds no translation: the body stays in place")
        return np.zeros((frames, 3))
    array = numbers(record[key], key)
    if array.shape[-1] != 3 or array.size not in (3, 3 * frames):
        raise MotionError(key, f"shape {array.shape} is not ({frames}, 3), one row a frame")
    array = np.broadcast_to(array.reshape(-1, 3), (frames, 3)).copy()
    if record.get("smpl_scaling") is not None:
        # AIST++ keeps translation in its own units, with the factor beside it.
        factor = float(numbers(record["smpl_scaling"], "smpl_scaling").reshape(-1)[0])
        if not 1e-3 < abs(factor) < 1e5:
            raise MotionError("smpl_scaling", f"{factor} is no scale")
        array /= factor
        notes.append(f"translation divided by the file's scale {factor:.4g}")
    if np.abs(array).max() > 1e5:
        raise MotionError(key, f"reaches {np.abs(array).max():.3g} metres; it is not in metres or is damaged")
    return array


def _betas(record: Mapping[str, Any], notes: list[str]) -> np.ndarray | None:
    key = key_of(record, BETAS)
    if key is None:
        return None
    array = numbers(record[key], key)
    array = array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)
    if array.shape[1] > 400:
        raise MotionError(key, f"shape {array.shape} is no body shape: at most 400 components are known")
    if len(array) > 1 and np.ptp(array, axis=0).max() > 1e-4:
        notes.append("shape changes from frame to frame in the file; its median is used")
    return np.median(array, axis=0)


def _gender(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
    text = text.strip().lower()
    return {"m": "male", "f": "female"}.get(text[:1], "neutral") if text else "neutral"


def find_rate(data: Any, depth: int = 5) -> tuple[float | None, bool]:
    """Frames per second that a file's data tell anywhere, outermost first, and whether as a dataset does (``mocap``).

    Raises:
        MotionError: for a rate that is not one number.
    """
    if not isinstance(data, Mapping) or depth == 0:
        return None, False
    named = {str(k): v for k, v in data.items() if v is not None}
    for key in sorted((k for k in named if _RATE.search(k)), key=lambda k: "mocap" not in k.lower()):
        array = numbers(named[key], key).reshape(-1)
        if len(array) != 1:
            raise MotionError(key, f"holds {len(array)} numbers where one rate is expected; give it with fps=")
        # Half of the last digit that the number is written with.
        digits = len(f"{array[0]:.7f}".rstrip("0").partition(".")[2])
        return exact_rate(float(array[0]), 0.5 * 10.0**-digits if digits else 0.0), "mocap" in key.lower()
    for value in named.values():
        inner = value[0] if isinstance(value, list) and value else value
        if (found := find_rate(inner, depth - 1))[0] is not None:
            return found
    return None, False
