"""What a body wears beyond its skin: meshes that move with it, lag behind it and hang from it.

Shape letters: T frames, J joints, V vertices of the body, K vertices of the outfit, F faces, S spots of the skin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from .hanging import Columns, hang

_LAG = 0.07
"""Seconds by which loose cloth comes after the body."""


@dataclass(frozen=True, eq=False)
class Outfit:
    """Garments, hair, hats and bags of one body, all as one mesh beside the body's.

    Attributes:
        rest: (K,3) float32 at rest, Y up, in the frame of the shaped body.
        weights: (K,J) of skinning.
        colours: (K,3) float32 in [0,1].
        regions: (K,) uint8, the region of the body that each vertex counts as.
        faces: (F,3) int64 of its vertices, counter-clockwise from outside; lining: (F2,3), those that also show from
            inside, turned round.
        kept: (Fb,) bool, faces of the body that nothing covers.
        loose: (K,) metres by which a vertex may come after the body.
        columns: what hangs, or None.
        skin: (S,) int64, vertices of the body that hanging things rest on.
        wind: (3,) metres a second, see ``hang``.
    """

    rest: Tensor
    weights: Tensor
    colours: np.ndarray
    regions: np.ndarray
    faces: Tensor
    lining: Tensor
    kept: np.ndarray
    loose: Tensor
    columns: Columns | None
    skin: Tensor
    wind: Tensor

    def pose(self, transforms: Tensor, trans: Tensor, body: Tensor, normals: Tensor, fps: float) -> Tensor:
        """Its vertices (T,K,3) in the world.

        Args:
            transforms: (T,J,12) of the joints, as ``Puppet.transforms`` gives them; trans: (T,3) added after posing.
            body: (T,V,3) posed vertices, and their normals (T,V,3).
        """
        blended = (self.weights @ transforms).unflatten(-1, (3, 4))
        rigid = (blended[..., :3] @ self.rest[..., None])[..., 0] + blended[..., 3] + trans[:, None]
        posed = _lagging(rigid, self.loose, fps)
        if self.columns is not None:
            index = self.columns.index
            posed[:, index] = hang(
                self.columns, rigid[:, index], body[:, self.skin], normals[:, self.skin], fps, self.wind
            )
        return posed


def _lagging(rigid: Tensor, loose: Tensor, fps: float) -> Tensor:
    """Vertices (T,K,3) that come after ``rigid`` by ``loose`` (K,) metres at most."""
    found = rigid.clone()
    if len(rigid) < 2:
        return found
    keep = float(np.exp(-1 / fps / _LAG))
    slow = rigid[0] - (rigid[1] - rigid[0]) * fps * _LAG
    for t in range(len(rigid)):
        slow = keep * slow + (1 - keep) * rigid[t]
        lag = slow - rigid[t]
        found[t] += lag * (loose / lag.norm(dim=-1).clamp(min=1e-6)).clamp(max=1)[:, None]
    return found
