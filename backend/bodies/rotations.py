"""Rotations as axis-angle vectors, matrices and quaternions, for arrays of any leading shape.

Axis-angle vectors are in radians; quaternions are (w, x, y, z) of length one. Everything is safe at no rotation and at
half turns. Results keep float32 when every input is float32 and are float64 otherwise.
"""

from __future__ import annotations

import numpy as np


def _floats(*arrays: np.ndarray) -> list[np.ndarray]:
    converted = [np.asarray(a) for a in arrays]
    single = all(a.dtype in (np.float32, np.float16) for a in converted)
    return [a.astype(np.float32 if single else np.float64, copy=False) for a in converted]


def _need(array: np.ndarray, trailing: tuple[int, ...], name: str) -> None:
    if array.shape[-len(trailing) :] != trailing:
        raise ValueError(f"{name} must end in shape {trailing}, not {array.shape}")


def axis_angle_to_matrix(axis_angle: np.ndarray) -> np.ndarray:
    """Rotation matrices (...,3,3) of axis-angle vectors (...,3), by Rodrigues' formula."""
    (v,) = _floats(axis_angle)
    _need(v, (3,), "axis_angle")
    angle = np.linalg.norm(v, axis=-1)[..., None, None]
    # sin(a)/a and (1 - cos(a))/a^2 by np.sinc, which is exact where a goes to zero.
    sine = np.sinc(angle / np.pi)
    cosine = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2
    cross = np.zeros((*v.shape[:-1], 3, 3), v.dtype)
    cross[..., 2, 1], cross[..., 0, 2], cross[..., 1, 0] = v[..., 0], v[..., 1], v[..., 2]
    cross[..., 1, 2], cross[..., 2, 0], cross[..., 0, 1] = -v[..., 0], -v[..., 1], -v[..., 2]
    return (np.eye(3, dtype=v.dtype) + sine * cross + cosine * (cross @ cross)).astype(v.dtype, copy=False)


def axis_angle_to_quat(axis_angle: np.ndarray) -> np.ndarray:
    """Quaternions (...,4) wxyz of axis-angle vectors (...,3); w is negative beyond half a turn."""
    (v,) = _floats(axis_angle)
    _need(v, (3,), "axis_angle")
    half = 0.5 * np.linalg.norm(v, axis=-1, keepdims=True)
    return np.concatenate([np.cos(half), 0.5 * np.sinc(half / np.pi) * v], axis=-1).astype(v.dtype, copy=False)


def quat_to_axis_angle(quat: np.ndarray) -> np.ndarray:
    """Axis-angle vectors (...,3), at most half a turn long, of quaternions (...,4) wxyz of any length but zero."""
    (q,) = _floats(quat)
    _need(q, (4,), "quat")
    q = np.where(q[..., :1] < 0, -q, q)
    length = np.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(length, q[..., :1])
    # Near zero the ratio angle/length tends to 2/w.
    tiny = length < 1e-20
    ratio = np.where(tiny, 2 / np.where(tiny, np.maximum(q[..., :1], 1e-20), 1), angle / np.where(tiny, 1, length))
    return (ratio * q[..., 1:]).astype(q.dtype, copy=False)


def matrix_to_quat(matrix: np.ndarray) -> np.ndarray:
    """Quaternions (...,4) wxyz, w >= 0, of rotation matrices (...,3,3).

    Of the four ways to write the quaternion the one with the largest divisor is taken (Shepperd, "Quaternion from
    rotation matrix", 1978), so that none loses precision.
    """
    (m,) = _floats(matrix)
    _need(m, (3, 3), "matrix")
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    xy, yx, xz, zx, yz, zy = m[..., 0, 1], m[..., 1, 0], m[..., 0, 2], m[..., 2, 0], m[..., 1, 2], m[..., 2, 1]
    # Row i is 4 q_i (w, x, y, z); its own diagonal entry is 4 q_i^2.
    rows = np.stack(
        [
            np.stack([1 + xx + yy + zz, zy - yz, xz - zx, yx - xy], axis=-1),
            np.stack([zy - yz, 1 + xx - yy - zz, xy + yx, xz + zx], axis=-1),
            np.stack([xz - zx, xy + yx, 1 - xx + yy - zz, yz + zy], axis=-1),
            np.stack([yx - xy, xz + zx, yz + zy, 1 - xx - yy + zz], axis=-1),
        ],
        axis=-2,
    )
    largest = np.argmax(np.diagonal(rows, axis1=-2, axis2=-1), axis=-1)
    q = np.take_along_axis(rows, largest[..., None, None], axis=-2)[..., 0, :]
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    # Sums of zero-dimensional arrays turn to double precision in numpy 1.
    return np.where(q[..., :1] < 0, -q, q).astype(m.dtype, copy=False)


def matrix_to_axis_angle(matrix: np.ndarray) -> np.ndarray:
    """Axis-angle vectors (...,3), at most half a turn long, of rotation matrices (...,3,3)."""
    return quat_to_axis_angle(matrix_to_quat(matrix))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (...,3) at length 1; those of no length stay zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 1e-12, length, 1.0) * (length > 1e-12)


def swing(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The smallest turn (...,3,3) that takes direction start (...,3) to end (...,3); identity where one has no length.

    Opposite directions turn about an axis at right angles to both.
    """
    a, b = np.broadcast_arrays(unit(np.asarray(start, float)), unit(np.asarray(end, float)))
    axis = np.cross(a, b)
    sine = np.linalg.norm(axis, axis=-1, keepdims=True)
    cosine = np.sum(a * b, axis=-1, keepdims=True)
    helper = np.where(np.abs(a[..., :1]) < 0.9, [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    across = unit(np.cross(a, helper))
    axis = np.where(sine > 1e-9, axis / np.maximum(sine, 1e-300), across)
    empty = (np.linalg.norm(a, axis=-1, keepdims=True) == 0) | (np.linalg.norm(b, axis=-1, keepdims=True) == 0)
    angle = np.where(empty, 0.0, np.arctan2(sine, cosine))
    return axis_angle_to_matrix(axis * angle)


def slerp(a: np.ndarray, b: np.ndarray, t: np.ndarray | float) -> np.ndarray:
    """Quaternions (...,4) wxyz on the shorter arc from a (t = 0) to b (t = 1), at constant speed.

    a and b (...,4) have length one; t has their leading shape or broadcasts to it (Shoemake, "Animating rotation with
    quaternion curves", 1985). Where a and b are opposite turns both arcs are equally short and one is taken.
    """
    a, b = _floats(a, b)
    _need(a, (4,), "a")
    _need(b, (4,), "b")
    t = np.asarray(t, a.dtype)[..., None]
    b = np.where(np.sum(a * b, axis=-1, keepdims=True) < 0, -b, b)
    # Half the chord and half the sum give the angle without the cancellation of arccos near zero.
    angle = 2 * np.arctan2(np.linalg.norm(a - b, axis=-1, keepdims=True), np.linalg.norm(a + b, axis=-1, keepdims=True))
    whole = np.sinc(angle / np.pi)  # at least 2/pi, for the angle is at most a right one
    q = ((1 - t) * np.sinc((1 - t) * angle / np.pi) * a + t * np.sinc(t * angle / np.pi) * b) / whole
    return (q / np.linalg.norm(q, axis=-1, keepdims=True)).astype(a.dtype, copy=False)
