"""A film at the model's rate brought back to the scene's: between its frames things move as they do in the scene.

Shape letters: T frames of the shot, S frames of the model, H W picture.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor

from ...control.drawing import Drawn, Surfaces
from ...control.fitting import shot_at
from ...control.flow import exact_flow, taken
from ...shot import Shot, ShotError

_ON = 1e-3
"""Share of a frame within which a moment is that frame's."""

_LEAST_SIDE = 64
"""Pixels below which pictures are mixed as they are: optical flow finds nothing in them."""


def at_scene_rate(
    film: np.ndarray, shot: Shot, rate: float, device: torch.device, tell: Callable[[int, int], None]
) -> np.ndarray:
    """Frames (T,H,W,3) uint8 of a shot from a film (S,H,W,3) uint8 of it whose frame s shows the moment s / rate.

    Where the scene's surfaces show both moments' pictures of a spot, these are moved along and mixed by time; a spot
    that one of them hides comes from the other. What lies on no surface (the sky, hair and clothes that the model made,
    a set that the shot does not hold) moves as the two pictures themselves let guess.

    Args:
        shot: at the film's size.
        tell: called with frames done and their number; may raise to stop.
    """
    clip = shot.clip
    at = np.minimum(np.arange(clip.frames) * (rate / clip.fps), len(film) - 1)
    low = np.floor(at + _ON).astype(int)
    share = np.clip(at - low, 0, 1)
    between = np.flatnonzero(share > _ON)
    out = film[low]
    if not len(between):
        return out
    # Moments in frames of the shot: before, at and after each frame that the model did not make.
    moments = np.stack([low[between] * (clip.fps / rate), between, (low[between] + 1) * (clip.fps / rate)], axis=1)
    try:
        drawn = _Moving(shot, moments, device)
    except ShotError:
        drawn = None
    for i, t in enumerate(between):
        tell(i, len(between))
        before, after = film[low[t]], film[low[t] + 1]
        mixed = torch.from_numpy(_guessed(before, after, float(share[t]))).to(device).float()
        if drawn is not None:
            pair = [torch.from_numpy(picture).to(device).float() for picture in (before, after)]
            weights = [torch.full(pair[0].shape[:2], w, device=device) for w in (1 - share[t], share[t])]
            pair, weights, covered = drawn.moved(i, pair, weights)
            exact = torch.lerp(pair[0], pair[1], (weights[1] / (weights[0] + weights[1]))[..., None])
            mixed = torch.where(covered[..., None], exact, mixed)
        out[t] = mixed.round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return out


def _guessed(before: np.ndarray, after: np.ndarray, share: float) -> np.ndarray:
    """A picture (H,W,3) float32 between two, ``share`` of the way: each is moved along the optical flow that is
    estimated from both (Kroeger et al. 2016), and they are mixed."""
    height, width = before.shape[:2]
    if min(height, width) < _LEAST_SIDE or np.array_equal(before, after):
        return before * np.float32(1 - share) + after * np.float32(share)
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    first, last = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (before, after))
    forth = flow.calc(first, last, np.zeros((height, width, 2), np.float32))
    back = flow.calc(last, first, np.zeros((height, width, 2), np.float32))
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)

    def moved(picture: np.ndarray, by: np.ndarray) -> np.ndarray:
        placed = cv2.remap(picture, x - by[..., 0], y - by[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return placed.astype(np.float32)

    return moved(before, share * forth) * (1 - share) + moved(after, (1 - share) * back) * share


class _Moving:
    """Surfaces at triples of moments (N,3), in frames of the shot. Raises ShotError where it has none."""

    def __init__(self, shot: Shot, moments: np.ndarray, device: torch.device) -> None:
        self._times, self._index = np.unique(moments.round(6), return_inverse=True)
        self._index = self._index.reshape(moments.shape)
        self._surfaces = Surfaces(shot_at(shot, self._times, shot.clip.fps), device)
        self._kept: dict[int, Drawn] = {}

    def moved(self, i: int, pair: list[Tensor], weights: list[Tensor]) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """The pictures before and after moment ``i``, each (H,W,3), as they look then, how much each counts, and where
        (H,W) bool a surface is."""
        wanted = [int(index) for index in self._index[i]]
        self._kept = {k: self._kept[k] if k in self._kept else self._surfaces.draw(k) for k in wanted}
        before, now, after = (self._kept[k] for k in wanted)
        flows = [exact_flow(now, other) for other in (before, after)]
        seen = [flow.seen.float() for flow in flows]
        nowhere = (seen[0] + seen[1]) == 0
        # A hidden spot's picture counts only where both hide it.
        weights = [w * torch.where(nowhere, 1.0, s) for w, s in zip(weights, seen, strict=True)]
        covered = torch.isfinite(now.depth()).view(pair[0].shape[:2])
        return [taken(p, flow.pixels) for p, flow in zip(pair, flows, strict=True)], weights, covered
