"""Conversions between forms of a rotation, small and half turns included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.bodies import rotations as rot

_part = st.floats(-1, 1, allow_subnormal=False)
_axes = st.tuples(_part, _part, _part).filter(lambda v: np.linalg.norm(v) > 1e-3)
_angles = st.one_of(
    st.floats(0, np.pi),
    st.sampled_from([0.0, 1e-30, 1e-12, 1e-7, 1e-4, np.pi - 1e-4, np.pi - 1e-7, np.pi - 1e-12, np.pi]),
)


@st.composite
def vectors(draw: st.DrawFn) -> np.ndarray:
    """Axis-angle vectors up to half a turn."""
    axis = np.array(draw(_axes))
    return axis / np.linalg.norm(axis) * draw(_angles)


def same_turn(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    """Whether two axis-angle vectors turn alike."""
    return bool(np.abs(rot.axis_angle_to_matrix(a) - rot.axis_angle_to_matrix(b)).max() < tolerance)


@given(vectors())
def test_matrix_is_a_rotation_about_its_axis(v: np.ndarray) -> None:
    m = rot.axis_angle_to_matrix(v)
    assert np.allclose(m @ m.T, np.eye(3), atol=1e-12)
    assert np.isclose(np.linalg.det(m), 1)
    assert np.allclose(m @ v, v, atol=1e-12)
    assert np.isclose(np.trace(m), 1 + 2 * np.cos(np.linalg.norm(v)), atol=1e-12)


@given(vectors(), st.sampled_from([np.float64, np.float32]))
def test_round_trips(v: np.ndarray, kind: type) -> None:
    v = v.astype(kind)
    tolerance = 1e-11 if kind is np.float64 else 3e-6
    for back in (
        rot.matrix_to_axis_angle(rot.axis_angle_to_matrix(v)),
        rot.quat_to_axis_angle(rot.axis_angle_to_quat(v)),
        rot.quat_to_axis_angle(rot.matrix_to_quat(rot.quat_to_matrix(rot.axis_angle_to_quat(v)))),
    ):
        assert back.dtype == kind
        assert np.isfinite(back).all()
        assert np.linalg.norm(back) <= np.pi + 1e-6
        assert same_turn(back, v, tolerance)


def test_turn_about_y_takes_z_to_x() -> None:
    assert np.allclose(rot.axis_angle_to_matrix(np.array([0, np.pi / 2, 0])) @ [0, 0, 1], [1, 0, 0])
    assert np.allclose(rot.axis_angle_to_quat(np.array([0, np.pi / 2, 0])), [np.sqrt(0.5), 0, np.sqrt(0.5), 0])


@given(vectors(), vectors())
def test_quaternion_product_is_matrix_product(a: np.ndarray, b: np.ndarray) -> None:
    product = rot.quat_multiply(rot.axis_angle_to_quat(a), rot.axis_angle_to_quat(b))
    assert np.allclose(rot.quat_to_matrix(product), rot.axis_angle_to_matrix(a) @ rot.axis_angle_to_matrix(b))


@given(vectors(), vectors(), st.floats(0, 1))
def test_slerp_keeps_a_constant_speed_on_the_shorter_arc(a: np.ndarray, b: np.ndarray, t: float) -> None:
    q, r = rot.axis_angle_to_quat(a), rot.axis_angle_to_quat(b)

    def angle(x: np.ndarray, y: np.ndarray) -> float:
        sign = np.sign(x @ y) or 1.0
        return 4 * np.arctan2(np.linalg.norm(x - sign * y), np.linalg.norm(x + sign * y))

    m = rot.slerp(q, r, t)
    assert np.isclose(np.linalg.norm(m), 1)
    assert np.isclose(angle(q, m), t * angle(q, r), atol=1e-9)
    assert np.isclose(angle(m, r), (1 - t) * angle(q, r), atol=1e-9)
    assert np.allclose(m, rot.slerp(q, -r, t), atol=1e-9) or np.isclose(angle(q, r), np.pi)


def test_any_leading_shape() -> None:
    v = np.random.default_rng(0).normal(size=(2, 1, 5, 3))
    assert rot.axis_angle_to_matrix(v).shape == (2, 1, 5, 3, 3)
    assert rot.matrix_to_axis_angle(rot.axis_angle_to_matrix(v)).shape == v.shape
    q = rot.axis_angle_to_quat(v)
    assert rot.slerp(q[:, :, :1], q, np.linspace(0, 1, 5)).shape == (2, 1, 5, 4)
    assert rot.axis_angle_to_matrix(np.zeros((0, 3))).shape == (0, 3, 3)


def test_wrong_shape_is_named() -> None:
    with pytest.raises(ValueError, match="axis_angle must end in shape"):
        rot.axis_angle_to_matrix(np.zeros((4, 2)))
