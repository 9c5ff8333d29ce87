"""The clips that the VAE is trained on: cut from shards and augmented in space and time (ISA paper, Sec. 4.2).

Shape letters: B batch, S frames of a film, T frames of a clip, H W image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

RATES = (1 / 3, 1 / 2, 2 / 3, 3 / 2, 2.0, 3.0)
"""Frame rates of dynamic speed, in frames of the film per frame of the clip; below 1 frames are held."""

_WAVES = 3
_FASTEST = 0.12
"""Number and highest frequency (cycles per frame) of the sines that make up a random path."""


@dataclass(frozen=True)
class Augmentation:
    """What is done to clips besides mirroring, reversing and, in a tenth of them, an empty background.

    Attributes:
        structured_motion: share of the clips whose frames are moved along a smooth random path.
        reach: largest displacement of such a path, as a share of the picture's height and width.
        dynamic_speed: share of the clips that run at another rate, one of ``RATES``. Above 0, every clip also
            starts anywhere in its film; at 0, it starts at the film's first frame.
        crop: pixels along the side of a square window of the picture that a clip is cut down to; 0 keeps it whole.
            Many small windows teach a convolutional network more in the same time than a few whole pictures.
        figure_crops: share of the windows that are laid around a random spot of a body.
    """

    structured_motion: float = 0.0
    reach: float = 0.15
    dynamic_speed: float = 0.0
    crop: int = 0
    figure_crops: float = 0.8


PLAIN = Augmentation()


class Films:
    """Random clips out of shards (see ``data.py``), which stay in memory.

    Attributes:
        video, background: of each shard, (n,S,H,W,3) uint8. Shards may differ in S, H and W.
        mask: of each shard, (n,S,H,W) bool, where the bodies are.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.video: list[np.ndarray] = []
        self.background: list[np.ndarray] = []
        self.mask: list[np.ndarray] = []
        for path in paths:
            with np.load(path) as shard:
                self.video.append(shard["video"])
                self.background.append(shard["background"])
                self.mask.append(shard["mask"])

    @property
    def longest(self) -> int:
        """Frames of the longest films."""
        return max((video.shape[1] for video in self.video), default=0)

    def batch(self, count: int, frames: int, generator: torch.Generator, augmentation: Augmentation = PLAIN) -> Tensor:
        """Clips of films that are long enough, half of them mirrored and half played backwards.

        Whole pictures are of one size; windows (see ``Augmentation.crop``) come from films of any.

        Args:
            count, frames: B and T.
            generator: on the CPU; decides everything.

        Returns:
            (B,3,T,H,W) float32 in [-1,1]; H and W are the augmentation's ``crop`` where it has one.

        Raises:
            ValueError: when no film has ``frames`` frames, or a crop is larger than the films.
        """
        shards = [i for i, video in enumerate(self.video) if video.shape[1] >= frames]
        if not shards:
            raise ValueError(f"the longest film has {self.longest} frames, fewer than a clip of {frames}")
        sizes = {self.video[i].shape[2:4] for i in shards}
        if len(sizes) > 1 and not augmentation.crop:
            one = shards[int(float(torch.rand((), generator=generator)) * len(shards))]
            shards = [i for i in shards if self.video[i].shape[2:4] == self.video[one].shape[2:4]]
        clips = []
        for _ in range(count):
            pick, item, kind, mirror, reverse = torch.rand(5, generator=generator).tolist()
            shard = shards[int(pick * len(shards))]
            source = self.background[shard] if kind < 0.1 else self.video[shard]
            clip, mask = source[int(item * len(source))], self.mask[shard][int(item * len(source))]
            order = np.arange(len(clip))[:: -1 if reverse < 0.5 else 1]
            if augmentation.dynamic_speed > 0:
                order = order[retime(len(clip), frames, augmentation.dynamic_speed, generator)]
            clip, mask = clip[order[:frames]], mask[order[frames // 2]]
            if augmentation.crop:
                rows, columns = _window(mask, augmentation.crop, augmentation.figure_crops, generator)
                clip = clip[:, rows, columns]
            if mirror < 0.5:
                clip = clip[:, :, ::-1]
            if augmentation.structured_motion > 0:
                moves = float(torch.rand((), generator=generator)) < augmentation.structured_motion
                path = random_path(frames, augmentation.reach, generator)
                clip = translate(clip, path * np.array(clip.shape[1:3])) if moves else clip
            clips.append(np.ascontiguousarray(clip))
        return to_model(np.stack(clips))


def _window(mask: np.ndarray, side: int, figure_share: float, generator: torch.Generator) -> tuple[slice, slice]:
    """Rows and columns of a random window of ``side`` pixels; often one that holds a spot of ``mask`` (H,W)."""
    height, width = mask.shape
    if side > min(height, width):
        raise ValueError(f"a crop of {side} pixels is larger than the films, {width} x {height}")
    u, v, figure, spot = torch.rand(4, generator=generator).tolist()
    top, left = int(u * (height - side + 1)), int(v * (width - side + 1))
    if figure < figure_share and mask.any():
        row, column = np.argwhere(mask)[int(spot * np.count_nonzero(mask))]
        top = int(np.clip(row - int(u * side), 0, height - side))
        left = int(np.clip(column - int(v * side), 0, width - side))
    return slice(top, top + side), slice(left, left + side)


def retime(length: int, frames: int, share: float, generator: torch.Generator) -> np.ndarray:
    """Which frames of a film make a clip at a random rate (dynamic speed adjustment).

    Where the film is too short for the rate, time turns back at its end, so that fast clips need no long films.

    Args:
        length, frames: S and T.
        share: of the clips that do not run at the film's own rate.

    Returns:
        (T,) indices below S.
    """
    other, rate, start = torch.rand(3, generator=generator).tolist()
    speed = RATES[int(rate * len(RATES))] if other < share else 1.0
    # A hair more than nothing, so that a whole frame is never rounded down to the one before.
    steps = np.floor(np.arange(frames) * speed + 1e-6).astype(np.int64)
    first = int(start * max(length - steps[-1], 1))
    turns = (first + steps) % max(2 * (length - 1), 1)
    return np.minimum(turns, 2 * (length - 1) - turns) if length > 1 else np.zeros(frames, np.int64)


def random_path(frames: int, reach: float, generator: torch.Generator) -> np.ndarray:
    """A smooth random path of random direction and varying velocity (random structured motion).

    Returns:
        (T,2) displacements down and right as shares of the height and width, at most ``reach`` each, from (0,0) on.
    """
    waves = torch.rand((4, _WAVES, 2), generator=generator).double().numpy()
    frequency, phase, weight = _FASTEST * waves[0], 2 * np.pi * waves[1], waves[2] + 1e-6
    time = np.arange(frames)[:, None, None]
    sines = np.sin(2 * np.pi * frequency * time + phase) - np.sin(phase)
    return reach * waves[3, 0] * (sines * weight / weight.sum(axis=0)).sum(axis=1) / 2


def translate(clip: np.ndarray, path: np.ndarray) -> np.ndarray:
    """Move what each frame shows, to fractions of a pixel, by bicubic interpolation.

    What enters at an edge is the picture mirrored there: nothing wraps around, nothing is stretched.

    Args:
        clip: (T,H,W,3) uint8.
        path: (T,2) pixels down and right, each less than H and W.

    Returns:
        (T,H,W,3) uint8.
    """
    frames, height, width, _ = clip.shape
    rows = torch.arange(height) + 0.5 - torch.from_numpy(path[:, 0]).float()[:, None]
    columns = torch.arange(width) + 0.5 - torch.from_numpy(path[:, 1]).float()[:, None]
    grid = torch.stack(
        [
            (columns * 2 / width - 1)[:, None, :].expand(frames, height, width),
            (rows * 2 / height - 1)[:, :, None].expand(frames, height, width),
        ],
        dim=-1,
    )
    # A copy: a film turned round has negative strides, even where it has one frame only.
    picture = torch.from_numpy(clip.copy()).permute(0, 3, 1, 2).float()
    moved = F.grid_sample(picture, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return moved.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()


def to_model(frames: np.ndarray) -> Tensor:
    """(B,T,H,W,3) uint8 to (B,3,T,H,W) float32 in [-1,1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 4, 1, 2, 3).float().div(127.5).sub(1)


def to_pixels(frames: Tensor) -> np.ndarray:
    """(B,3,T,H,W) in [-1,1] to (B,T,H,W,3) uint8."""
    return frames.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 4, 1).cpu().numpy()
