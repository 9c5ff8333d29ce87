"""Light of the dressed world: one to three coloured lights, light from above and below, cast and contact shadows.

Shape letters: T frames, P spots, V vertices, n cells of a shadow map.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_CELLS, _CELL = 128, 0.032
"""Cells along a side of a shadow map, and metres of one."""
_BIAS, _SOFT = 0.05, 0.04
"""Metres nearer the light from which a surface shades another, and over which the shade becomes full."""


@dataclass(frozen=True, eq=False)
class Lighting:
    """The lights of a take; the first casts the shadows.

    Attributes:
        directions: (L,3) unit vectors towards the lights: of the world, or the camera's where ``follows``.
        colours: (L,3). follows: whether they hang on the camera.
        below, above: (3,) light that comes from the floor and from the sky.
        shadow: share of the first light that shadows take away. contact: strength of the contact shadow.
    """

    directions: np.ndarray
    colours: np.ndarray
    follows: bool
    below: np.ndarray
    above: np.ndarray
    shadow: float
    contact: float

    def towards(self, viewmats: Tensor) -> Tensor:
        """Directions (T,L,3) in the world."""
        lights = torch.as_tensor(self.directions, dtype=torch.float32, device=viewmats.device)
        return lights @ viewmats[:, :3, :3] if self.follows else lights.expand(len(viewmats), -1, -1)

    def constant(self, up: Tensor) -> Tensor:
        """Light (P,3) from above and below on surfaces whose normals have ``up`` (P,1) as their height."""
        below, above = (torch.as_tensor(c, dtype=torch.float32, device=up.device) for c in (self.below, self.above))
        return below + (above - below) * (0.5 + 0.5 * up)


def wrapped(facing: Tensor) -> Tensor:
    """What a soft light leaves of itself on surfaces at this cosine."""
    return ((facing + 0.25) / 1.25).clamp(min=0)


def random_lighting(rng: np.random.Generator) -> Lighting:
    """Soft or hard, warm or cold, from the side, from above or from behind."""
    count = int(rng.choice([1, 2, 3], p=[0.4, 0.38, 0.22]))
    follows = bool(rng.random() < 0.25)
    directions, colours = [], []
    for k in range(count):
        azimuth, height = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(22, 70) if k == 0 else rng.uniform(0, 60))
        way = np.array([np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)])
        if follows:
            way = np.array([rng.normal(0, 0.8), -rng.uniform(0.3, 1.1), -rng.uniform(0.2 if k == 0 else -0.8, 1.0)])
            way /= np.linalg.norm(way)
        directions.append(way)
        colours.append(_tint(rng, 0.35) * (rng.uniform(0.45, 0.85) if k == 0 else rng.uniform(0.12, 0.4)))
    above = _tint(rng, 0.3) * rng.uniform(0.22, 0.55)
    # Of what a surface gets that half of the lights reach.
    scale = rng.uniform(0.62, 1.0) / float(0.75 * np.mean(above) + 0.5 * np.sum(np.mean(colours, axis=1)))
    return Lighting(
        np.array(directions),
        np.array(colours) * scale,
        follows,
        above * rng.uniform(0.3, 0.9) * scale,
        above * scale,
        float(rng.uniform(0.5, 1.0)),
        float(rng.uniform(0.2, 0.6)),
    )


def _tint(rng: np.random.Generator, strength: float) -> np.ndarray:
    """A whitish colour of mean one: mostly warm or cold, now and then of any hue."""
    hue = rng.choice([0.08, 0.6]) + rng.normal(0, 0.03) if rng.random() < 0.85 else rng.random()
    colour = np.array(colorsys.hsv_to_rgb(hue % 1, rng.uniform(0, strength), 1.0))
    return colour / colour.mean()


class ShadowMap:
    """What shades what: the surface nearest the light, by cell of a grid across the light.

    Args:
        towards: (T,3) directions towards the light.
        casters: (T,V,3) spots that cast shadows; still: (S,3) spots that cast them and never move, or None.
    """

    def __init__(self, towards: Tensor, casters: Tensor, still: Tensor | None) -> None:
        helper = torch.where(
            towards[:, 2:].abs() < 0.95, towards.new_tensor([0.0, 0, 1]), towards.new_tensor([1.0, 0, 0])
        )
        across = F.normalize(torch.linalg.cross(helper, towards), dim=-1)
        # (T,3,3): columns are across, along and towards the light.
        self._basis = torch.stack([across, torch.linalg.cross(towards, across), towards], dim=-1)
        self._steady = bool((towards == towards[:1]).all())
        self._centre = casters.mean(dim=(0, 1))
        frames = len(towards)
        heights = self._heights(casters, self._basis)
        if still is not None:
            basis = self._basis[:1] if self._steady else self._basis
            heights = torch.maximum(heights, self._heights(still.expand(len(basis), -1, -1), basis))
        self._map = F.max_pool2d(heights.view(frames, 1, _CELLS, _CELLS), 3, 1, 1).flatten()

    def _heights(self, spots: Tensor, basis: Tensor) -> Tensor:
        """How near the light spots (T,S,3) come in each cell, (T,n*n)."""
        local = (spots - self._centre) @ basis
        x, y = (local[..., k] / _CELL + _CELLS / 2 for k in range(2))
        inside = (torch.maximum((x - _CELLS / 2).abs(), (y - _CELLS / 2).abs())) < _CELLS / 2
        flat = (y.long() * _CELLS + x.long()).clamp(0, _CELLS * _CELLS - 1)
        cells = torch.full((len(spots), _CELLS * _CELLS), -1e3, device=spots.device)
        return cells.scatter_reduce_(1, flat, torch.where(inside, local[..., 2], -1e3), reduce="amax")

    def reaches(self, spots: Tensor, frame: Tensor | None = None) -> Tensor:
        """How much light in [0,1] reaches spots (P,3) of frames (P,): (P,); or spots (T,S,3) of each frame, (1,S,3) of
        all: (T,S)."""
        local = spots - self._centre
        if frame is None:
            local = local @ (self._basis[:1] if self._steady else self._basis)
            start = torch.arange(len(self._basis), device=spots.device)[:, None] * _CELLS**2
        elif self._steady:
            local, start = local @ self._basis[0], frame * _CELLS**2
        else:
            local, start = (local[:, :, None] * self._basis[frame]).sum(dim=1), frame * _CELLS**2
        place = local[..., :2] / _CELL + _CELLS / 2
        height = local[..., 2] + _BIAS
        shaded = torch.zeros((), device=spots.device)
        for dx, dy in ((-0.7, -0.3), (0.3, -0.7), (0.7, 0.3), (-0.3, 0.7)):
            x, y = (place[..., 0] + dx).clamp(0, _CELLS - 1).long(), (place[..., 1] + dy).clamp(0, _CELLS - 1).long()
            shaded = shaded + ((self._map[start + (y * _CELLS + x)] - height) / _SOFT).clamp(0, 1)
        return 1 - shaded / 4


def contact_shadow(casters: Tensor, ground: Tensor, reach: float = 2.4, cells: int = 112) -> Tensor:
    """Darkness (T,h,w) in [0,1] of floor spots (T',h,w,2) under what nearly touches the floor.

    Args:
        casters: (T,V,3) world.
    """
    frames = len(casters)
    cell = ((casters[..., :2] + reach) / (2 * reach) * cells).long()
    inside = ((cell >= 0) & (cell < cells)).all(dim=-1)
    flat = cell[..., 1].clamp(0, cells - 1) * cells + cell[..., 0].clamp(0, cells - 1)
    near = torch.exp(-casters[..., 2].clamp(min=0) / 0.09) * inside
    image = torch.zeros(frames, cells * cells, device=casters.device)
    image.scatter_reduce_(1, flat, near, reduce="amax")
    image = image.view(frames, 1, cells, cells)
    for _ in range(2):
        image = F.avg_pool2d(image, 3, stride=1, padding=1)
    grid = (ground / reach).clamp(-2, 2).expand(frames, -1, -1, -1)
    return F.grid_sample(image, grid, padding_mode="zeros", align_corners=False)[:, 0]
