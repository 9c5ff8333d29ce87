"""Motion from a few spots that are followed: what the animator picked, or points of the characters.

Shape letters: T frames, N = T-1, K spots, H W picture.

Conditional motion propagation (CMP) spreads such spots over the picture. On its own it guesses how everything around
them moves; where the flow of the geometry is known, it spreads only what the spots do beyond that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...bodies import farthest_first
from ...shot import Shot
from .cmp import MotionPropagation
from .splat import PixelMotion
from .view import View

POINTS_PER_CHARACTER = 32
"""Spots that stand for a character where none were picked."""

_ANCHORS = 64
_ANCHOR_DISTANCE = 0.06
"""No anchor lies nearer to a picked spot than this share of the picture's shorter side."""

_NEWS = 0.5
"""Pixels by which a spot must differ from the geometry's flow at some frame to say anything new."""


@dataclass(frozen=True, eq=False)
class Spots:
    """Spots of the first frame that are followed.

    Attributes:
        start: (K,2) pixels of frame 0, inside the picture.
        moved: (N,K,2) displacement in pixels to frames 1..N; NaN where unknown.
        names: of the spots that the animator picked.
    """

    start: np.ndarray
    moved: np.ndarray
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.start)


def _spots(points: np.ndarray, seen: np.ndarray, view: View) -> tuple[Spots, np.ndarray]:
    """Spots of those points (T,K,3) that frame 0 shows, as ``seen`` (K,) says, and their indices."""
    uv, _ = view.project(points)
    inside = np.isfinite(uv[0]).all(axis=-1) & (uv[0] >= 0).all(axis=-1) & (uv[0] < (view.width, view.height)).all(-1)
    kept = np.nonzero(inside & seen)[0]
    return Spots(uv[0, kept], uv[1:, kept] - uv[0, kept]), kept


def _no_spots(view: View) -> Spots:
    return Spots(np.zeros((0, 2)), np.zeros((len(view.frames) - 1, 0, 2)))


def picked_spots(shot: Shot, view: View) -> Spots:
    """The animator's tracks that the first frame shows.

    A track that is hidden later on still leads: nobody but the animator knows better.
    """
    if not shot.tracks:
        return _no_spots(view)
    points = np.stack([track.points for track in shot.tracks], axis=1)
    seen = np.array([bool(track.visibility[0]) for track in shot.tracks])
    spots, kept = _spots(points, seen, view)
    return Spots(spots.start, spots.moved, tuple(shot.tracks[i].name for i in kept))


def character_spots(shot: Shot, view: View) -> Spots:
    """Evenly spread points of each character that the first frame shows; ``POINTS_PER_CHARACTER`` at most of each."""
    parts = [_no_spots(view)]
    for character in shot.characters:
        shown = np.nonzero(character.visibility[0])[0]
        if len(shown) == 0:
            continue
        chosen = shown[farthest_first(character.points[0, shown], min(POINTS_PER_CHARACTER, len(shown)))]
        parts.append(_spots(character.points[:, chosen], np.ones(len(chosen), np.bool_), view)[0])
    return join(parts)


def join(parts: list[Spots]) -> Spots:
    """All spots of some lists in one, in their order."""
    return Spots(
        np.concatenate([part.start for part in parts]),
        np.concatenate([part.moved for part in parts], axis=1),
        tuple(name for part in parts for name in part.names),
    )


def propagate(
    cmp: MotionPropagation,
    picture: Tensor,
    spots: Spots,
    parity: bool,
    on_frame: Callable[[int, int], None] = lambda frame, frames: None,
) -> Tensor:
    """Flow (1,N,2,H,W) that CMP guesses from spots.

    Args:
        picture: (1,3,H,W) in [0, 1].
        parity: cut displacements to whole pixels, as published.
        on_frame: told (frames done, frames); may raise.
    """
    frames, flows = len(spots.moved), []
    start = torch.as_tensor(spots.start, dtype=torch.float32)
    for i in range(frames):
        on_frame(i, frames)
        moved = torch.as_tensor(spots.moved[i : i + 1], dtype=torch.float32)
        flows.append(cmp.propagate(picture, start, moved, parity).float().cpu())
    on_frame(frames, frames)
    return torch.cat(flows, dim=1)


def propagate_apart(
    cmp: MotionPropagation,
    picture: Tensor,
    spots: Spots,
    brush: Tensor,
    parity: bool,
    on_frame: Callable[[int, int], None] = lambda frame, frames: None,
) -> Tensor:
    """Flow (1,N,2,H,W) from spots, guessed apart for those inside and outside of a motion mask.

    Inside the mask the flow of its own spots counts where both components differ from 0, elsewhere that of the others
    (MOFA-Video's motion brush).

    Args:
        brush: (H,W) bool.
    """
    frames = len(spots.moved)
    column, row = np.floor(spots.start).astype(int).T
    within = brush.cpu().numpy()[row, column] if len(spots) else np.zeros(0, np.bool_)
    flow = torch.zeros(1, frames, 2, *brush.shape)
    for number, chosen in enumerate((~within, within)):
        if not chosen.any():
            continue
        some = Spots(spots.start[chosen], spots.moved[:, chosen])
        guess = propagate(cmp, picture, some, parity, lambda i, n, k=number: on_frame(k * n + i, 2 * n))
        if number:
            guess = guess * brush.cpu()
            flow = torch.where((guess != 0).all(dim=2, keepdim=True), guess, flow)
        else:
            flow = guess
    return flow


def beyond(spots: Spots, motion: PixelMotion) -> Spots:
    """What spots do beyond the known flow of the pixels where they start; only those that differ from it.

    Args:
        motion: of the same picture, B = 1. Where it is NaN, so is the result.
    """
    flow = motion.flow[0].cpu().numpy()
    column, row = np.floor(spots.start).astype(int).T
    extra = spots.moved - flow[:, :, row, column].transpose(0, 2, 1)
    distance = np.nan_to_num(np.abs(extra).max(axis=-1), nan=0.0)
    told = np.nonzero(distance.max(axis=0, initial=0.0) > _NEWS)[0]
    names = tuple(spots.names[i] for i in told) if spots.names else ()
    return Spots(spots.start[told], extra[:, told], names)


def with_anchors(spots: Spots, motion: PixelMotion) -> tuple[Spots, Tensor]:
    """Spots with others at rest on the bodies that no spot leads, and (H,W) bool: where the spots may move anything.

    A body on which no spot starts moves as its geometry says; anchors tell CMP so.
    """
    assert motion.labels is not None
    labels = motion.labels[0].cpu().numpy()
    column, row = np.floor(spots.start).astype(int).T
    led = set(labels[row, column].tolist())
    free = (labels == 0) | np.isin(labels, list(led))
    height, width = labels.shape
    rows, columns = np.nonzero(~free)
    anchors = np.stack([columns, rows], axis=-1) + 0.5
    if len(anchors):
        step = max(1, len(anchors) // 4096)
        anchors = anchors[::step]
        gap = np.linalg.norm(anchors[:, None] - spots.start[None], axis=-1).min(axis=1)
        anchors = anchors[gap > _ANCHOR_DISTANCE * min(width, height)]
    if len(anchors):
        flat = np.concatenate([anchors, np.zeros((len(anchors), 1))], axis=1)
        anchors = anchors[farthest_first(flat, min(_ANCHORS, len(anchors)))]
    still = Spots(anchors, np.zeros((len(spots.moved), len(anchors), 2)))
    return join([spots, still]), torch.as_tensor(free)


def add_guess(motion: PixelMotion, guess: Tensor, free: Tensor) -> PixelMotion:
    """Known motion plus what CMP guesses beyond it, (1,N,2,H,W), where that may move anything (H,W)."""
    moved = motion.flow + torch.where(free, guess, torch.zeros_like(guess)).to(motion.flow)
    return PixelMotion(moved, motion.depth, motion.labels)
