"""Body parameters as datasets and trackers write them, under their many names, as plain arrays.

Letters: T frames, J joints, S shape components.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .families import FACE, HANDS, PELVIS_REST
from .keys import BODY_COUNTS, FULL_COUNTS, LATENTS, find_keys, shape_of
from .kinematics import axis_angle_to_matrix, matrix_to_axis_angle, nearest_rotation
from .types import FAMILY_JOINTS, MotionError

LATENT = "holds 32 numbers a frame: latents of VPoser, no rotations. Decode them with VPoser, and save 'body_pose'"


@dataclass
class Parameters:
    """One body's parameters, in the file's own axes.

    Attributes:
        poses: (T,J,3) axis-angle in radians.
        trans: (T,3) metres.
        betas: (S,) or None.
        family, gender: as in BodyMotion.
        notes: sentences for the animator.
    """

    poses: np.ndarray
    trans: np.ndarray
    betas: np.ndarray | None
    family: str
    gender: str
    notes: list[str] = field(default_factory=list)


def read_parameters(record: Mapping[str, Any]) -> Parameters:
    """One record (one body, T frames or one) as parameters.

    Raises:
        MotionError: naming the key at fault: wrong shape, NaN, lengths that do not agree, matrices that are no turns.
    """
    notes: list[str] = []
    keys = find_keys(record)
    if keys.body:
        poses, family = _assembled(record, keys.root, keys.body, notes)
    elif keys.poses:
        poses = rotations(record[keys.poses], keys.poses, tuple(FULL_COUNTS))
        family = FULL_COUNTS[poses.shape[1]]
        family = str(record.get("surface_model_type", family)).lower() if poses.shape[1] == 22 else family
        family = family if family in FAMILY_JOINTS else "smplh"
        poses = _widened(poses, FAMILY_JOINTS[family])
        if keys.root and (keys.world or not poses[:, 0].any()):
            _fill(poses, slice(0, 1), rotations(record[keys.root], keys.root, (1,)), keys.root)
    else:
        listed = ", ".join(sorted(str(k) for k in record)[:12]) or "nothing"
        raise MotionError("poses", f"no pose among the file's keys ({listed}); 'poses' or 'global_orient' with "
                          "'body_pose' is needed")  # fmt: skip
    frames = len(poses)
    trans = _translation(record, keys.trans, frames, notes)
    if keys.root.lower() == "rh":
        # EasyMocap turns the whole body about the origin, not about its pelvis.
        pelvis = np.array(PELVIS_REST[family])
        trans += axis_angle_to_matrix(poses[:, 0]) @ pelvis - pelvis
    betas = _betas(record, keys.betas, notes)
    return Parameters(
        poses=poses,
        trans=trans,
        betas=betas,
        family=family,
        gender=_gender(record.get("gender", "neutral")),
        notes=notes,
    )


def _key(record: Mapping[str, Any], options: tuple[str, ...]) -> str | None:
    return next((k for k in options if record.get(k) is not None), None)


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
    if array.ndim >= 2 and shape[-2:] == (3, 3) and (array.ndim > 2 or orthonormal(array[None])):
        matrices = array.reshape(-1, 3, 3)
        if orthonormal(matrices) or not _as_vectors(shape, counts):
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


def orthonormal(matrices: np.ndarray) -> bool:
    """Whether all of (...,3,3) are rotations, within what rounding does to them."""
    square = matrices @ np.swapaxes(matrices, -1, -2)
    return bool(np.abs(square - np.eye(3)).max() < 0.02 and np.linalg.det(matrices).min() > 0)


def _from_matrices(matrices: np.ndarray, name: str, count: int) -> np.ndarray:
    if not orthonormal(matrices):
        raise MotionError(name, "looks like rotation matrices but holds some that are no rotation")
    return matrix_to_axis_angle(nearest_rotation(matrices)).reshape(-1, count, 3)


def _assembled(record: Mapping[str, Any], root_key: str, body_key: str, notes: list[str]) -> tuple[np.ndarray, str]:
    """Poses (T,J,3) and family from root, body and, where given, hands and face."""
    if shape_of(record[body_key])[-1:] == (LATENTS,):
        raise MotionError(body_key, LATENT)
    body = rotations(record[body_key], body_key, tuple(BODY_COUNTS))
    root = rotations(record[root_key], root_key, (1,))
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
        key = _key(record, keys)
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


def _translation(record: Mapping[str, Any], key: str, frames: int, notes: list[str]) -> np.ndarray:
    if not key:
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


def _betas(record: Mapping[str, Any], key: str, notes: list[str]) -> np.ndarray | None:
    if not key:
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
