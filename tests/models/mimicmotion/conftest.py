"""A tiny MimicMotion with weights from the recipe, and shots of a figure with all 128 keypoints."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from maquette.backend.bodies import load_body
from maquette.backend.catalogue.models import ModelSpec, read_spec
from maquette.backend.media import encode_png
from maquette.backend.shot import (
    KEYPOINT_NAMES,
    SMPL_JOINT_NAMES,
    BodyPose,
    Character,
    Clip,
    Keypoints,
    KeypointState,
    Reference,
    Settings,
    Shot,
)
from maquette.backend.shot.cameras import intrinsics, look_at

from ..tiny import describe, save_weights

TINY_PARTS = """
[unet]
sample_size = 8
down_block_types = ["CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"]
up_block_types = ["UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"]
block_out_channels = [32, 64]
layers_per_block = 1
cross_attention_dim = 32
num_attention_heads = [1, 2]
addition_time_embed_dim = 32
projection_class_embeddings_input_dim = 96
num_frames = 4

[pose_net]
noise_latent_channels = 32

[vae]
block_out_channels = [32, 32, 32, 32]
down_block_types = ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"]
layers_per_block = 1
sample_size = 64

[image_encoder]
hidden_size = 32
intermediate_size = 64
projection_dim = 32
num_hidden_layers = 2
num_attention_heads = 2
image_size = 32
patch_size = 8
"""


CHANGES = {
    "limits.min_size": 64,
    "limits.max_size": 128,
    "defaults.width": 64,
    "defaults.height": 64,
    "defaults.steps": 2,
    "options.window.default": 6,
    "options.overlap.default": 2,
}


def tiny_spec(folder: Path) -> ModelSpec:
    """The published description with tiny networks, pictures and windows."""
    return describe(folder, "mimicmotion", tomllib.loads(TINY_PARTS), CHANGES)


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models that holds the tiny one with its weights."""
    folder = tmp_path_factory.mktemp("models")
    save_weights(tiny_spec(folder))
    return folder


@pytest.fixture(scope="session")
def spec(model_dir: Path) -> ModelSpec:
    return read_spec(model_dir / "mimicmotion.toml")


def figure_keypoints(joints: np.ndarray) -> Keypoints:
    """All 128 for a body with SMPL's joints (T,24,3) that looks along -Y: a flat face and fans for hands."""
    t = len(joints)
    at = {name: joints[:, i] for i, name in enumerate(SMPL_JOINT_NAMES)}
    points = np.zeros((t, len(KEYPOINT_NAMES), 3), np.float32)
    face = at["head"] + (0, -0.1, 0.06)
    offsets = {"nose": (0, 0, 0), "right_eye": (-0.03, 0, 0.04), "left_eye": (0.03, 0, 0.04)}
    offsets |= {"right_ear": (-0.08, 0.1, 0.03), "left_ear": (0.08, 0.1, 0.03)}
    for i, name in enumerate(KEYPOINT_NAMES[:18]):
        points[:, i] = face + offsets[name] if name in offsets else at[name]
    for start, side in ((18, "left"), (39, "right")):
        wrist = at[f"{side}_wrist"]
        along = at[f"{side}_hand"] - at[f"{side}_elbow"]
        along = along / np.linalg.norm(along, axis=1, keepdims=True)
        points[:, start] = wrist
        for finger in range(5):
            for joint in range(4):
                spread = np.array([0.012 * (finger - 2) * (joint + 1), 0, 0])
                points[:, start + 1 + 4 * finger + joint] = wrist + along * (0.05 + 0.03 * joint) + spread
    turn = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    ring = np.stack([0.07 * np.cos(turn), 0 * turn, 0.1 * np.sin(turn)], axis=-1)
    points[:, 60:] = face[:, None] + ring
    return Keypoints(points, np.full(points.shape[:2], KeypointState.VISIBLE, np.uint8))


def make_shot(
    frames: int = 5,
    width: int = 64,
    height: int = 64,
    reference_size: tuple[int, int] = (64, 64),
    options: dict | None = None,
    **settings,
) -> Shot:
    """The embedded body raises an arm in front of a still camera; its reference is a picture of the first frame."""
    body = load_body("maquette_neutral")
    poses = np.zeros((frames, 24, 3))
    poses[:, 0, 0] = np.pi / 2  # the root turns Y up into Z up
    poses[:, SMPL_JOINT_NAMES.index("left_shoulder"), 2] = np.linspace(-1.2, 1.0, frames)
    poses[:, SMPL_JOINT_NAMES.index("right_shoulder"), 2] = 1.2
    still = np.repeat([[0, 0, 0.95]], frames, axis=0)
    posed = body.pose(None, poses, still)
    joints = body.smpl_joints(posed.joints).astype(np.float32)
    chosen = np.linspace(0, posed.vertices.shape[1] - 1, 400).astype(int)
    points = posed.vertices[:, chosen].astype(np.float32)
    keypoints = figure_keypoints(joints)

    viewmat = look_at(np.array([0.0, -3.5, 0.9]), np.array([0.0, 0.0, 0.9])).astype(np.float32)

    def lens(w: int, h: int) -> np.ndarray:
        return intrinsics(35, 36, 24, "AUTO", 0, 0, w, h).astype(np.float32)

    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (reference_size[1], reference_size[0], 3), dtype=np.uint8)
    looks = Reference(
        encode_png(noise),
        points[0],
        viewmat,
        lens(*reference_size),
        np.ones(points.shape[1], bool),
        Keypoints(keypoints.points[:1], keypoints.state[:1]),
    )
    character = Character(
        name="Anna",
        points=points,
        rest_points=np.zeros(points.shape[1:], np.float32),
        visibility=np.ones(points.shape[:2], bool),
        joints=joints,
        body=BodyPose("maquette_neutral", np.zeros(10, np.float32), poses.astype(np.float32), still.astype(np.float32)),
        reference=looks,
        keypoints=keypoints,
    )
    clip = Clip(
        12.0, width, height, np.repeat(viewmat[None], frames, 0), np.repeat(lens(width, height)[None], frames, 0)
    )
    return Shot(clip, (character,), settings=Settings(model="mimicmotion", options=options or {}, **settings))


def with_character(shot: Shot, **changes) -> Shot:
    """The shot with its only character changed."""
    return replace(shot, characters=(replace(shot.characters[0], **changes),))
