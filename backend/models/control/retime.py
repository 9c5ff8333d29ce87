"""A film at the model's rate brought back to the scene's: between its frames things move as they do in the scene.

Shape letters: T frames of the shot, S frames of the model, H W picture.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ...control.drawing import Drawn, Surfaces
from ...control.fitting import shot_at
from ...control.flow import exact_flow, taken
from ...shot import Shot, ShotError

_ON = 1e-3
"""Share of a frame within which a moment is that frame's."""


def at_scene_rate(
    film: np.ndarray, shot: Shot, rate: float, device: torch.device, tell: Callable[[int, int], None]
) -> np.ndarray:
    """Frames (T,H,W,3) uint8 of a shot from a film (S,H,W,3) uint8 of it whose frame s shows the moment s / rate.

    Where the scene's surfaces show both moments' pictures of a spot, these are moved along and mixed by time; a spot
    that one of them hides comes from the other. Without surfaces pictures are mixed as they are.

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
        pair = [torch.from_numpy(film[low[t] + k]).to(device).float() for k in (0, 1)]
        weights = [torch.full(pair[0].shape[:2], w, device=device) for w in (1 - share[t], share[t])]
        if drawn is not None:
            pair, weights = drawn.moved(i, pair, weights)
        mixed = torch.lerp(pair[0], pair[1], (weights[1] / (weights[0] + weights[1]))[..., None])
        out[t] = mixed.round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return out


class _Moving:
    """Surfaces at triples of moments (N,3), in frames of the shot. Raises ShotError where it has none."""

    def __init__(self, shot: Shot, moments: np.ndarray, device: torch.device) -> None:
        self._times, self._index = np.unique(moments.round(6), return_inverse=True)
        self._index = self._index.reshape(moments.shape)
        self._surfaces = Surfaces(shot_at(shot, self._times, shot.clip.fps), device)
        self._kept: dict[int, Drawn] = {}

    def moved(self, i: int, pair: list[Tensor], weights: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """The pictures before and after moment ``i``, each (H,W,3), as they look then, and how much each counts."""
        wanted = [int(index) for index in self._index[i]]
        self._kept = {k: self._kept[k] if k in self._kept else self._surfaces.draw(k) for k in wanted}
        before, now, after = (self._kept[k] for k in wanted)
        flows = [exact_flow(now, other) for other in (before, after)]
        seen = [flow.seen.float() for flow in flows]
        nowhere = (seen[0] + seen[1]) == 0
        # A hidden spot's picture counts only where both hide it.
        weights = [w * torch.where(nowhere, 1.0, s) for w, s in zip(weights, seen, strict=True)]
        return [taken(p, flow.pixels) for p, flow in zip(pair, flows, strict=True)], weights
