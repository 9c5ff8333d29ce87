"""The embedded body, and how a body answers to what it is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maquette.backend.bodies import BodyError, BodyModel, embedded
from maquette.backend.bodies import model as model_module
from maquette.backend.bodies.rotations import axis_angle_to_matrix
from maquette.backend.shot.types import SMPL_JOINT_NAMES, SMPL_PARENTS

_UPRIGHT = np.array([np.pi / 2, 0, 0])  # turns Y up into Z up


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return embedded()


def joint(name: str) -> int:
    return SMPL_JOINT_NAMES.index(name)


def _bent(**degrees: tuple[float, float, float]) -> np.ndarray:
    poses = np.zeros((1, 24, 3))
    for name, angles in degrees.items():
        poses[0, joint(name)] = np.deg2rad(angles)
    return poses


def _volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = np.moveaxis(vertices[faces].astype(np.float64), 1, 0)
    return float(np.einsum("fx,fx->", a, np.cross(b, c)) / 6)


def test_layout_is_smpls(body: BodyModel) -> None:
    assert body.id == "maquette_neutral" and body.family == "smpl" and body.license == "CC0-1.0"
    assert body.joint_names == SMPL_JOINT_NAMES and tuple(body.parents) == SMPL_PARENTS
    count = len(body.v_template)
    assert 5_000 <= count <= 14_000
    assert body.shapedirs.shape == (count, 3, 10) and body.weights.shape == (count, 24)
    assert body.posedirs is None
    assert body.region_names == ("skin", "hair", "shirt", "trousers", "shoes", "eyes")


def test_rest_pose_is_a_t_pose(body: BodyModel) -> None:
    joints, vertices = body.joints_rest(), body.shaped()
    assert np.abs(joints[0]).max() < 1e-3  # the pelvis
    assert 1.65 <= np.ptp(vertices[:, 1]) <= 1.75
    assert 1.55 <= np.ptp(vertices[:, 0]) <= 1.85  # arms spread about as wide as the body is tall
    left = np.array([i for i, name in enumerate(SMPL_JOINT_NAMES) if name.startswith("left")])
    assert (joints[left, 0] > 0.05).all()
    assert np.allclose(joints[left] * [-1, 1, 1], joints[left + 1], atol=1e-4)  # right mirrors left
    assert np.ptp(joints[[joint(n) for n in ("left_shoulder", "left_elbow", "left_wrist")], 1]) < 0.02
    for side in ("left", "right"):
        hip, knee, ankle, foot = (joints[joint(f"{side}_{n}")] for n in ("hip", "knee", "ankle", "foot"))
        assert hip[1] > knee[1] > ankle[1] > foot[1] and foot[2] > ankle[2] + 0.1
    assert body.shaped()[body.regions == 5, 2].mean() > joints[joint("head"), 2]  # eyes look along +Z


def test_proportions_are_a_grown_persons(body: BodyModel) -> None:
    joints, height = body.joints_rest(), np.ptp(body.v_template[:, 1])

    def length(a: str, b: str) -> float:
        return float(np.linalg.norm(joints[joint(a)] - joints[joint(b)])) / height

    # Shares of body height, after Winter, "Biomechanics and Motor Control of Human Movement", Fig. 4.1.
    assert 0.21 < length("left_hip", "left_knee") < 0.27
    assert 0.22 < length("left_knee", "left_ankle") < 0.28
    assert 0.14 < length("left_shoulder", "left_elbow") < 0.20
    assert 0.12 < length("left_elbow", "left_wrist") < 0.17


def test_mesh_is_whole(body: BodyModel) -> None:
    assert len(np.unique(body.faces)) == len(body.v_template)
    directed = body.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    assert len(np.unique(directed, axis=0)) == len(directed)  # every edge once in each direction at most
    keys = np.sort(directed, axis=1)
    _, uses = np.unique(keys, axis=0, return_counts=True)
    assert (uses == 1).mean() < 0.015  # few open edges, round the eyes and between the lips
    corner = body.v_template[body.faces]
    assert np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1).min() > 0
    assert 0.045 < _volume(body.v_template, body.faces) < 0.1  # cubic metres, and outside is outside


def test_weights_are_normalised_and_sparse(body: BodyModel) -> None:
    assert np.abs(body.weights.sum(1) - 1).max() < 1e-6
    assert (body.weights >= 0).all() and (body.weights > 0).sum(1).max() <= 4
    assert (body.weights.max(0) > 0.4).all()  # every joint holds something
    side = body.v_template[:, 0]
    for i, name in enumerate(SMPL_JOINT_NAMES):
        if name.startswith("left") and name != "left_hip":
            assert side[body.weights[:, i] > 0.4].min() > 0
    assert ((body.J_regressor > 0).sum(1) < 100).all()


def test_regions_cover_the_body_and_tell_front_from_back(body: BodyModel) -> None:
    assert body.regions is not None
    share = np.bincount(body.regions, minlength=6) / len(body.regions)
    assert (share > 0.004).all()
    y, z = body.v_template[:, 1], body.v_template[:, 2]
    head = body.weights[:, joint("head")] > 0.5
    hair = body.regions == 1
    assert z[head & hair].mean() < z[head & ~hair].mean() - 0.03
    assert y[body.regions == 4].max() < y[body.regions == 3].max() < y[body.regions == 2].max() < y[hair].max()


@pytest.mark.parametrize("component", range(10))
@pytest.mark.parametrize("beta", [-3.0, 3.0])
def test_extreme_shapes_are_people(body: BodyModel, component: int, beta: float) -> None:
    betas = np.zeros(10)
    betas[component] = beta
    vertices, joints = body.shaped(betas), body.joints_rest(betas)
    assert 1.3 < np.ptp(vertices[:, 1]) < 2.1
    assert 0.02 < _volume(vertices, body.faces) < 0.18
    assert np.allclose(joints, body.J_regressor @ vertices, atol=1e-5)  # joints follow shape
    assert np.abs(joints[0]).max() < 1e-3
    low, high = vertices.min(0), vertices.max(0)
    assert (joints > low).all() and (joints < high).all()


def test_betas_are_standard_deviations(body: BodyModel) -> None:
    """The first two components change height as the standard deviations of people's height do, not by kilometres."""
    tall = [np.ptp(body.shaped(np.eye(10)[k] * 1.0)[:, 1]) - np.ptp(body.v_template[:, 1]) for k in range(10)]
    assert 0.05 < tall[0] < 0.12
    assert np.sqrt(np.sum(np.square(tall))) < 0.15


def test_knee_bends_back_and_elbow_forward(body: BodyModel) -> None:
    knee = body.pose(None, _bent(left_knee=(90, 0, 0))).joints[0]
    assert knee[joint("left_ankle"), 2] < knee[joint("left_knee"), 2] - 0.3
    assert abs(knee[joint("left_ankle"), 1] - knee[joint("left_knee"), 1]) < 0.1
    elbow = body.pose(None, _bent(left_elbow=(0, -90, 0))).joints[0]
    assert elbow[joint("left_wrist"), 2] > elbow[joint("left_elbow"), 2] + 0.2
    raised = body.pose(None, _bent(right_shoulder=(0, 0, -90))).joints[0]
    assert raised[joint("right_wrist"), 1] > raised[joint("head"), 1]


@pytest.mark.parametrize(
    "bend",
    [
        {"left_knee": (90, 0, 0)},
        {"left_elbow": (0, -90, 0)},
        {"left_shoulder": (0, 0, 75), "right_shoulder": (0, 0, -75)},
        {"left_shoulder": (0, 0, -75), "right_shoulder": (0, 0, 75)},
        {"left_hip": (-100, 0, 0), "left_knee": (120, 0, 0), "spine1": (20, 0, 0)},
    ],
)
def test_bent_skin_keeps_its_volume_and_its_edges(body: BodyModel, bend: dict[str, tuple[float, float, float]]) -> None:
    vertices = body.pose(None, _bent(**bend)).vertices[0]
    assert abs(_volume(vertices, body.faces) / _volume(body.v_template, body.faces) - 1) < 0.05
    edges = body.faces[:, [0, 1]]

    def lengths(v: np.ndarray) -> np.ndarray:
        return np.linalg.norm(v[edges[:, 0]] - v[edges[:, 1]], axis=1)

    ratio = lengths(vertices) / lengths(body.v_template)
    assert np.quantile(ratio, 0.999) < 3 and (ratio > 8).mean() < 1e-3


def test_root_turns_about_its_own_joint_and_trans_comes_after(body: BodyModel) -> None:
    poses = np.zeros((2, 24, 3))
    poses[1, 0] = _UPRIGHT
    trans = np.array([[1, 2, 3], [1, 2, 3]])
    posed = body.pose(None, poses, trans)
    rest = body.joints_rest()
    assert np.allclose(posed.joints[:, 0], rest[0] + trans, atol=1e-6)
    assert np.allclose(posed.vertices[0], body.shaped() + trans[0], atol=1e-5)
    upright = (body.shaped() - rest[0]) @ axis_angle_to_matrix(_UPRIGHT).T + rest[0] + trans[1]
    assert np.allclose(posed.vertices[1], upright, atol=1e-5)
    assert posed.joints[1, joint("head"), 2] > posed.joints[1, 0, 2] + 0.4  # Z up


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_a_turn_of_the_root_turns_everything(seed: int) -> None:
    body = embedded()
    rng = np.random.default_rng(seed)
    poses = rng.normal(0, 0.5, (1, 24, 3))
    poses[0, 0] = 0
    betas, turn, shift = rng.normal(0, 1, 10), rng.normal(0, 1, 3), rng.normal(0, 2, (1, 3))
    turned = poses.copy()
    turned[0, 0] = turn
    subset = rng.integers(0, len(body.v_template), 50)
    still, moved = body.pose(betas, poses, subset=subset), body.pose(betas, turned, shift, subset=subset)
    root = body.joints_rest(betas)[0]
    matrix = axis_angle_to_matrix(turn)
    assert np.allclose(moved.vertices, (still.vertices - root) @ matrix.T + root + shift, atol=2e-6)
    assert np.allclose(moved.joints, (still.joints - root) @ matrix.T + root + shift, atol=2e-6)


def test_kinematics_carry_the_joints(body: BodyModel) -> None:
    rng = np.random.default_rng(2)
    poses, trans, betas = rng.normal(0, 0.5, (4, 24, 3)), rng.normal(0, 1, (4, 3)), rng.normal(0, 1, 10)
    world = body.forward_kinematics(betas, poses, trans)
    assert world.shape == (4, 24, 4, 4) and world.dtype == np.float32
    assert np.allclose(world[:, :, :3, 3], body.pose(betas, poses, trans).joints, atol=1e-6)
    assert np.allclose(world[:, 5, :3, :3], world[:, 2, :3, :3] @ axis_angle_to_matrix(poses[:, 5]), atol=1e-6)
    assert np.array_equal(world[:, :, 3], np.broadcast_to([0, 0, 0, 1], (4, 24, 4)))


def test_chunks_and_subsets_do_not_change_the_result(body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    poses, trans = rng.normal(0, 0.5, (7, 24, 3)), rng.normal(0, 1, (7, 3))
    whole = body.pose(None, poses, trans)
    posedirs = rng.normal(0, 0.01, (len(body.v_template), 3, 207)).astype(np.float32)
    corrected = replace(body, posedirs=posedirs)
    some = corrected.pose(None, poses, trans, subset=np.arange(0, 13000, 100))
    monkeypatch.setattr(model_module, "_CHUNK", 3 * len(body.v_template) * 12)
    assert np.allclose(body.pose(None, poses, trans).vertices, whole.vertices, atol=2e-6)
    assert np.allclose(corrected.pose(None, poses, trans).vertices[:, :13000:100], some.vertices, atol=2e-6)
    assert whole.vertices.dtype == whole.joints.dtype == np.float32


def test_no_frames(body: BodyModel) -> None:
    assert body.pose(None, np.zeros((0, 24, 3))).vertices.shape == (0, len(body.v_template), 3)


@pytest.mark.parametrize(
    ("field", "inputs"),
    [
        ("poses", {"poses": np.zeros((3, 52, 3))}),
        ("poses", {"poses": np.zeros((3, 72))}),
        ("poses", {"poses": np.full((2, 24, 3), np.nan)}),
        ("trans", {"trans": np.zeros((3, 3))}),
        ("trans", {"trans": np.full((2, 3), np.inf)}),
        ("betas", {"betas": np.zeros(11)}),
        ("betas", {"betas": np.array([np.nan])}),
    ],
)
def test_what_does_not_fit_is_named(body: BodyModel, field: str, inputs: dict[str, Any]) -> None:
    given = {"betas": None, "poses": np.zeros((2, 24, 3)), **inputs}
    with pytest.raises(BodyError) as error:
        body.pose(**given)
    assert error.value.field == field and str(error.value).startswith(field)


def test_fewer_betas_stand_for_zeros(body: BodyModel) -> None:
    betas = np.array([1.5, -0.5])
    assert np.allclose(body.shaped(betas), body.shaped(np.pad(betas, (0, 8))), atol=1e-6)


def test_arrays_are_read_only(body: BodyModel) -> None:
    with pytest.raises(ValueError, match="read-only"):
        body.v_template[0] = 0
