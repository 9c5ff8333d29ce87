"""Motions for the motion tokenizer: joints in the frame of the 55-degree camera, made up or read from files.

Shape letters: T frames of a clip, W frames of a window, B batch, J joints (24).

Joints are millimetres in OpenCV's camera frame (x right, y down, z forward), see ``shot.framing``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..bodies import BodyModel, embedded
from ..motions.families import to_body
from ..motions.load import load_motion
from ..motions.reading import read_data
from ..motions.trackers import find_bodies
from ..motions.types import MotionError
from ..shot.cameras import look_at
from ..shot.framing import MotionStatistics, camera_joints, read_statistics
from ..worlds.motions import random_motion

ENDINGS = (".npy", ".npz", ".pkl", ".pt", ".pth", ".bvh")
"""Files of a data folder that are read."""

_LEFT_HIP, _RIGHT_HIP, _KNEE, _LEFT_FOOT, _HEAD = 1, 2, 4, 10, 15
_NEAREST = 400.0
"""No joint of a made-up clip comes nearer to the camera than this, in millimetres."""


class MotionDataError(ValueError):
    """Motions that cannot be trained on; the message names the file or entry and the cure."""


@dataclass(frozen=True)
class MotionDataConfig:
    """What to train on.

    Attributes:
        window: frames W of a training sample; 8k or 8k+1, so that it decodes to its own length.
        clips, frames: how many motions to make up, and their length, where no files are given.
        fps: frames per second of made-up motions are drawn between these.
        views: cameras around each motion of a file that is not in a camera's frame yet.
        held_out: share of the clips that is kept for measuring.
        seed: of everything random.
    """

    window: int = 49
    clips: int = 2000
    frames: int = 120
    fps: tuple[float, float] = (15.0, 30.0)
    views: int = 4
    held_out: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self.window < 8 or self.window % 8 > 1:
            raise MotionDataError(f"window: {self.window} frames do not decode to their own length; take 8k or 8k + 1")
        if self.frames < self.window:
            raise MotionDataError(f"frames: {self.frames} are fewer than a window ({self.window})")


def _facing(joints: np.ndarray) -> float:
    """Azimuth in radians that a body looks to, of world joints (24,3)."""
    left = joints[_LEFT_HIP] - joints[_RIGHT_HIP]
    # Left cross up is forward, in SMPL's frame as in the world.
    return float(np.arctan2(-left[0], left[1]))


def filmed(rng: np.random.Generator, joints: np.ndarray) -> np.ndarray:
    """Look at a motion through a camera that is placed as in the published training set.

    The pelvis lies, at the middle frame, where that set's mean and deviation put it; two thirds of the bodies face
    the camera more or less, and one camera in three drifts.

    Args:
        joints: (T,24,3) world, metres, Z up.

    Returns:
        (T,24,3) float32 millimetres in the camera's frame.
    """
    known = read_statistics()
    middle = joints[len(joints) // 2]
    turn = rng.normal(0, 0.6) if rng.random() < 0.67 else rng.uniform(-np.pi, np.pi)
    azimuth = _facing(middle) + turn
    elevation = np.radians(rng.uniform(-8, 20))
    towards = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    viewmat = look_at(middle[0] + 3 * towards, middle[0])
    seen = camera_joints(joints, np.repeat(viewmat[None], len(joints), 0)).astype(np.float64)
    pelvis = seen[:, :1] - seen[len(seen) // 2, 0]
    # A camera follows whoever goes far, as far as keeps the path within a metre or so.
    reach = float(np.ptp(pelvis, axis=0).max())
    seen -= max(0.0, 1 - rng.uniform(300.0, 1500.0) / max(reach, 1.0)) * pelvis
    place = rng.normal(known.mean[0], known.std[0]).clip(known.mean[0] - 2 * known.std[0], None)
    seen += place - seen[len(seen) // 2, 0]
    if rng.random() < 0.33:
        seen += np.linspace(-0.5, 0.5, len(seen))[:, None, None] * rng.normal(0, 250.0, 3)
    seen[..., 2] += max(0.0, _NEAREST - seen[..., 2].min())
    return seen.astype(np.float32)


def made_up(rng: np.random.Generator, config: MotionDataConfig, body: BodyModel) -> np.ndarray:
    """One procedural motion through a random camera, (T,24,3) float32 millimetres."""
    poses, path = random_motion(rng, config.frames, rng.uniform(*config.fps))
    betas = rng.normal(0, 0.8, body.shapedirs.shape[2]).clip(-2, 2)
    joints = body.smpl_joints(body.forward_kinematics(betas, poses, path)[:, :, :3, 3]).astype(np.float64)
    # The lowest joint of each frame stands on the floor, or as high above it as a jump has taken the body.
    joints[..., 2] += path[:, 2:] - joints[..., 2].min(axis=1, keepdims=True)
    return filmed(rng, joints)


def in_camera(array: np.ndarray) -> bool:
    """Whether an array holds SMPL's joints in millimetres before a camera, as the published clips do.

    That is: limbs of a person's length, in front of the camera, feet below the head along +y.
    """
    if array.ndim != 3 or array.shape[1:] != (24, 3) or array.dtype.kind != "f" or not np.isfinite(array).all():
        return False
    thigh = float(np.median(np.linalg.norm(array[:, _KNEE] - array[:, _LEFT_HIP], axis=-1)))
    upright = float(np.median(array[:, _LEFT_FOOT, 1] - array[:, _HEAD, 1]))
    return 150 < thigh < 700 and upright > thigh and bool((array[..., 2] > 0).mean() > 0.99)


def _camera_clips(path: Path) -> list[np.ndarray] | None:
    """The clips of a file whose every body is given as joints before a camera, or None."""
    kind, data = read_data(path)
    if kind == "bvh":
        return None
    if isinstance(data, np.ndarray):
        if data.ndim < 3:
            print(f"{path}: an array of shape {data.shape} holds no motion; left out")
            return []
        arrays = [data]
    else:
        arrays = [np.asarray(found.record["joints"]) for found in find_bodies(data) if found.joints]
        if len(arrays) < len(find_bodies(data)):
            return None
    return [array.astype(np.float32) for array in arrays] if all(in_camera(array) for array in arrays) else None


def read_clips(path: Path, config: MotionDataConfig, body: BodyModel) -> list[np.ndarray]:
    """Every motion of a file, each (T,24,3) float32 millimetres in a camera's frame.

    Joints before a camera are taken as they are; any other motion that ``load_motion`` reads is filmed from
    ``config.views`` sides.

    Raises:
        MotionDataError: a file that cannot be read.
    """
    try:
        found = _camera_clips(path)
        if found is not None:
            return found
        rng = np.random.default_rng([config.seed, *path.name.encode()])
        return [filmed(rng, body.smpl_joints(world)) for world in _world_clips(path, body) for _ in range(config.views)]
    except MotionError as error:
        raise MotionDataError(f"{path}: {error}; take the file out of the folder, or repair it") from error


def _world_clips(path: Path, body: BodyModel) -> Iterator[np.ndarray]:
    """Joints (T,J,3) of ``body`` in the world, of every motion of a file."""
    clip = 0
    while True:
        try:
            motion = to_body(load_motion(path, clip=clip), body)
        except MotionError as error:
            if error.field == "clip" and clip:
                return
            raise
        yield body.forward_kinematics(motion.betas, motion.poses, motion.trans)[:, :, :3, 3]
        clip += 1


def gather(config: MotionDataConfig, folder: Path | None = None) -> list[np.ndarray]:
    """The clips of a folder, or made-up ones. Those shorter than a window are left out, and counted aloud.

    Raises:
        MotionDataError: a file that cannot be read, or no clip that is long enough.
    """
    from tqdm import tqdm

    body = embedded()
    if folder is None:
        numbers = tqdm(range(config.clips), desc="motions", unit="clip", disable=config.clips < 200)
        return [made_up(np.random.default_rng([config.seed, i]), config, body) for i in numbers]
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
    if not files:
        raise MotionDataError(f"{folder}: no motion files; those that are read end in {', '.join(ENDINGS)}")
    clips = [clip for path in files for clip in read_clips(path, config, body)]
    long = [clip for clip in clips if len(clip) >= config.window]
    if len(long) < len(clips):
        print(f"{len(clips) - len(long)} of {len(clips)} clips are shorter than {config.window} frames and left out")
    if not long:
        raise MotionDataError(f"{folder}: no clip has {config.window} frames; give longer motions")
    return long


def split(clips: Sequence[np.ndarray], config: MotionDataConfig) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Training and held-out clips. A lone clip serves the training only."""
    count = min(len(clips) - 1, max(1, round(config.held_out * len(clips)))) if config.held_out > 0 else 0
    out = set(np.random.default_rng(config.seed).permutation(len(clips))[:count].tolist())
    return [c for i, c in enumerate(clips) if i not in out], [c for i, c in enumerate(clips) if i in out]


def statistics(clips: Iterable[np.ndarray]) -> MotionStatistics:
    """Mean and standard deviation of each coordinate over all frames; the deviation is at least a millimetre."""
    frames = np.concatenate([clip.astype(np.float64) for clip in clips])
    return MotionStatistics(
        frames.mean(axis=0).astype(np.float32), np.maximum(frames.std(axis=0), 1.0).astype(np.float32)
    )


class Windows:
    """All windows of W frames at stride 1."""

    def __init__(self, clips: Sequence[np.ndarray], window: int) -> None:
        self.clips = [torch.from_numpy(clip) for clip in clips]
        self.window = window
        self._ends = torch.tensor([len(clip) - window + 1 for clip in clips]).cumsum(0)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def batch(self, count: int, generator: torch.Generator) -> Tensor:
        """Windows drawn evenly, (B,W,24,3) millimetres."""
        numbers = torch.randint(len(self), (count,), generator=generator)
        places = torch.searchsorted(self._ends, numbers, right=True)
        chosen = []
        for number, place in zip(numbers.tolist(), places.tolist(), strict=True):
            start = number - (int(self._ends[place - 1]) if place else 0)
            chosen.append(self.clips[place][start : start + self.window])
        return torch.stack(chosen)
