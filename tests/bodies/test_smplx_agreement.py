"""Posing against the ``smplx`` package. It needs torch, so these tests skip in Blender's environment; where torch is,
``make setup`` has installed smplx too, and without it they fail."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from maquette.backend.bodies import BodyModel, load_body

torch = pytest.importorskip("torch", reason="the smplx package needs torch, which Blender's environment lacks")
smplx = importlib.import_module("smplx")
check_body = importlib.import_module("maquette.backend.check_body")
main = importlib.import_module("maquette.backend.cli").main

FRAMES = 6
TOLERANCE = 1e-5  # metres


@pytest.fixture(autouse=True)
def _few_vertices(monkeypatch: pytest.MonkeyPatch) -> None:
    """smplx picks key vertices by number; the random bodies have fewer vertices than those."""
    import smplx.body_models as module

    few = {family: {name: 0 for name in ids} for family, ids in module.VERTEX_IDS.items()}
    monkeypatch.setattr(module, "VERTEX_IDS", few)


def _random_motion(rng: np.random.Generator, joints: int) -> tuple[np.ndarray, np.ndarray]:
    poses = rng.normal(0, 0.7, (FRAMES, joints, 3))
    poses[0] = 0  # the rest pose
    poses[1, 3] = (np.pi, 0, 0)  # a half turn
    poses[2, :, 1] = 1e-6  # next to no rotation
    return poses, rng.normal(0, 3, (FRAMES, 3))


def _reference(family: str, path: Path, flat: bool, poses: np.ndarray, **inputs: Any) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and joints of the smplx package, in double precision."""
    options: dict[str, Any] = {"batch_size": FRAMES, "dtype": torch.float64}
    if family != "smpl":
        options |= {"use_pca": False, "flat_hand_mean": flat, "ext": path.suffix[1:]}
    kind = {"smpl": smplx.SMPL, "smplh": smplx.SMPLH, "smplx": smplx.SMPLX}[family]
    model = kind(str(path), num_betas=inputs["betas"].shape[1], **options)
    flatten = {"global_orient": slice(0, 1), "body_pose": slice(1, 24)}
    if family != "smpl":
        flatten = {"global_orient": slice(0, 1), "body_pose": slice(1, 22)}
        hands = 25 if family == "smplx" else 22
        flatten |= {"left_hand_pose": slice(hands, hands + 15), "right_hand_pose": slice(hands + 15, hands + 30)}
    if family == "smplx":
        flatten |= {"jaw_pose": slice(22, 23), "leye_pose": slice(23, 24), "reye_pose": slice(24, 25)}
    given = {name: poses[:, part].reshape(FRAMES, -1) for name, part in flatten.items()} | inputs
    with torch.no_grad():
        out = model(**{name: torch.tensor(value, dtype=torch.float64) for name, value in given.items()})
    return out.vertices.numpy(), out.joints.numpy()[:, : poses.shape[1]]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("layout", "suffix"),
    [
        ("smpl", ".pkl"),
        ("smplh", ".pkl"),
        ("smplh", ".npz"),
        ("smplx", ".pkl"),
        ("smplx", ".npz"),
        ("smplx-old", ".npz"),
    ],
)
def test_poses_as_smplx_does(body_file: Callable[..., Path], layout: str, suffix: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    family = layout.partition("-")[0]
    path = body_file(layout, suffix)
    body = load_body(path)
    assert body.family == family
    poses, trans = _random_motion(rng, len(body.parents))
    betas = rng.normal(0, 1.5, 10)
    inputs = {"betas": np.tile(betas, (FRAMES, 1)), "transl": trans}
    expression = None
    if family == "smplx":
        expression = rng.normal(0, 1.5, 10)
        inputs["expression"] = np.tile(expression, (FRAMES, 1))
    vertices, joints = _reference(family, path, True, poses, **inputs)

    posed = body.pose(betas, poses, trans, expression)
    assert np.abs(posed.vertices - vertices).max() < TOLERANCE
    assert np.abs(posed.joints - joints).max() < TOLERANCE
    world = body.forward_kinematics(betas, poses, trans, expression)
    assert np.abs(world[:, :, :3, 3] - joints).max() < TOLERANCE
    rest, _ = _reference(family, path, True, np.zeros_like(poses), **{**inputs, "transl": np.zeros_like(trans)})
    assert np.abs(body.shaped(betas, expression) - rest[0]).max() < TOLERANCE


@pytest.mark.parametrize("layout", ["smplh", "smplx"])
def test_hands_relative_to_their_mean(body_file: Callable[..., Path], layout: str) -> None:
    rng = np.random.default_rng(5)
    path = body_file(layout, ".npz")
    body = load_body(path)
    poses, trans = _random_motion(rng, len(body.parents))
    inputs = {"betas": np.zeros((FRAMES, 10)), "transl": trans}
    if layout == "smplx":
        inputs["expression"] = np.zeros((FRAMES, 10))
    vertices, _ = _reference(layout, path, False, poses, **inputs)
    assert np.abs(body.pose(None, body.add_hands_mean(poses), trans).vertices - vertices).max() < TOLERANCE
    assert np.abs(body.pose(None, poses, trans).vertices - vertices).max() > 100 * TOLERANCE


def test_embedded_body_in_smplx(tmp_path: Path) -> None:
    """The embedded body is a complete SMPL file but for pose correctives: smplx itself poses it as we do."""
    from maquette.backend.bodies import embedded

    body = embedded()
    from smplx.utils import Struct

    table = np.array([body.parents, range(24)])
    data = Struct(
        v_template=body.v_template, f=body.faces, weights=body.weights, shapedirs=body.shapedirs,
        posedirs=np.zeros((len(body.v_template), 3, 207), np.float32), J_regressor=body.J_regressor,
        kintree_table=table,
    )  # fmt: skip
    rng = np.random.default_rng(1)
    poses, trans = _random_motion(rng, 24)
    betas = rng.normal(0, 1.5, 10)
    model = smplx.SMPL("", data_struct=data, batch_size=FRAMES, dtype=torch.float64)
    with torch.no_grad():
        out = model(
            betas=torch.tensor(np.tile(betas, (FRAMES, 1))),
            global_orient=torch.tensor(poses[:, 0]),
            body_pose=torch.tensor(poses[:, 1:].reshape(FRAMES, -1)),
            transl=torch.tensor(trans),
        )
    assert np.abs(body.pose(betas, poses, trans).vertices - out.vertices.numpy()).max() < TOLERANCE


@pytest.mark.parametrize(
    ("layout", "suffix"),
    [("smpl", ".npz"), ("smpl", ".pkl"), ("smplh", ".npz"), ("smplh", ".pkl"), ("smplx", ".npz"), ("smplx", ".pkl")],
)
def test_the_command_compares(body_file, capsys, monkeypatch, layout: str, suffix: str) -> None:
    path = str(body_file(layout, suffix))
    assert main(["body", path]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["family"] == layout and told["expressions"] == (100 if layout == "smplx" else 0)
    assert max(told["millimetres_from_smplx"].values()) < 1000 * TOLERANCE
    pose = BodyModel.pose
    monkeypatch.setattr(BodyModel, "pose", lambda self, betas, poses, *rest: pose(self, betas, 1.001 * poses, *rest))
    assert main(["body", path]) == 1
    assert "otherwise" in capsys.readouterr().err


def test_the_command_without_smplx(body_file, capsys, monkeypatch) -> None:
    monkeypatch.setattr(check_body, "find_spec", lambda name: None)
    assert main(["body", str(body_file("smplh", ".npz", posedirs=None))]) == 0
    out, err = capsys.readouterr()
    assert "millimetres" not in out and "pip install 'maquette[smplx]'" in err
    assert main(["body", "nothing.npz"]) == 2
    assert "no file nothing.npz" in capsys.readouterr().err
