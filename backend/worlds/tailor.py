"""Makes the meshes of an outfit on a body at rest: shells over its skin, hanging sheets, and stiff things.

Shape letters: V vertices and F faces of the body, J joints, K vertices of a piece, N columns, R rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from .hanging import Columns
from .outfit import Outfit

ROWS = 9
"""Rows of every hanging sheet."""
_SPOTS = 16
"""One of so many vertices of the body is a spot that hanging things rest on."""


@dataclass(eq=False)
class _Piece:
    rest: np.ndarray
    weights: np.ndarray
    colours: np.ndarray
    regions: np.ndarray
    faces: np.ndarray
    lining: np.ndarray
    loose: np.ndarray


@dataclass(eq=False)
class _Sheet:
    index: np.ndarray
    beside: np.ndarray
    stiffness: float
    margin: float
    hoop: float
    upright: bool


@dataclass(eq=False)
class Tailor:
    """Collects pieces.

    Attributes:
        rest: (V,3) shaped vertices at rest, Y up; normals: (V,3) of length one; faces: (F,3); weights: (V,J).
        regions: (V,) uint8; joints: (J,3) at rest.
        height: (V,) metres by which what is worn so far stands off the skin.
        kept: (F,) bool, faces that nothing covers so far.
    """

    rest: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    weights: np.ndarray
    regions: np.ndarray
    joints: np.ndarray
    height: np.ndarray = field(init=False)
    kept: np.ndarray = field(init=False)
    _pieces: list[_Piece] = field(default_factory=list)
    _sheets: list[_Sheet] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.height = np.zeros(len(self.rest))
        self.kept = np.ones(len(self.faces), bool)

    @property
    def _count(self) -> int:
        return sum(len(piece.rest) for piece in self._pieces)

    def outer(self) -> np.ndarray:
        """The body (V,3) with what it wears so far."""
        return self.rest + self.normals * self.height[:, None]

    def between(self, low: float, high: float, arms: float = 0.22) -> np.ndarray:
        """The same between two heights, as spots (K,3), without what lies farther than ``arms`` from the middle; of a
        body that does not reach so high, its uppermost spots."""
        height, inside = self.rest[:, 1], abs(self.rest[:, 0]) < arms
        chosen = inside & (height > low) & (height < high)
        return self.outer()[chosen if chosen.any() else inside & (height > 0.95 * height.max())]

    def axis(self, low: float, high: float, arms: float = 0.2) -> np.ndarray:
        """Middle (x, z) of that part."""
        part = self.between(low, high, arms)[:, [0, 2]]
        return (part.min(axis=0) + part.max(axis=0)) / 2

    def nearest(self, spots: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
        """The vertex (K,) of the body nearest to each of ``spots`` (K,3), among those of a mask (V,) only."""
        chosen = np.arange(len(self.rest)) if among is None else np.flatnonzero(among)
        apart = torch.cdist(torch.as_tensor(spots.reshape(-1, 3)).float(), torch.as_tensor(self.rest[chosen]).float())
        return chosen[apart.argmin(dim=1).numpy()]

    def from_edge(self, covers: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
        """Metres (V,) from each vertex that ``covers`` (V,) to the nearest that is not covered; 0 for the others."""
        inside, outside = np.flatnonzero(covers), np.flatnonzero(~covers if among is None else among & ~covers)
        found = np.zeros(len(self.rest))
        if len(inside) and len(outside):
            here, there = (torch.as_tensor(self.rest[part]).float() for part in (inside, outside))
            found[inside] = torch.cdist(here, there).amin(dim=1).numpy()
        return found

    def shell(
        self, covers: np.ndarray, offset: np.ndarray, colours: np.ndarray, region: int | None = None, loose: float = 0.0
    ) -> None:
        """Cloth over part of the skin.

        Args:
            covers: (V,) bool. offset: (V,) metres off what is worn below, or (V,3) a displacement of the skin.
            colours: (V,3). region: that it counts as; the skin's own when None.
            loose: share of its distance from the skin by which it may come after the body.
        """
        if offset.ndim == 1:
            self.height = np.where(covers, self.height + offset, self.height)
            spots = self.outer()
        else:
            spots = self.rest + offset
            self.height = np.where(covers, np.maximum(self.height, (offset * self.normals).sum(-1)), self.height)
        whole = covers[self.faces].all(axis=1)
        if not whole.any():
            return
        # The skin stays along the hem, where one can look in.
        partly = covers[self.faces].any(axis=1) & ~whole
        rim = np.zeros(len(self.rest), bool)
        rim[self.faces[partly]] = True
        self.kept &= ~(whole & ~rim[self.faces].any(axis=1))
        used = np.unique(self.faces[whole])
        number = np.zeros(len(self.rest), np.int64)
        number[used] = np.arange(len(used))
        away = np.linalg.norm(spots[used] - self.rest[used], axis=1)
        regions = self.regions[used] if region is None else np.full(len(used), region, np.uint8)
        nothing = np.zeros((0, 3), np.int64)
        faces = number[self.faces[whole]] + self._count
        self._pieces.append(
            _Piece(spots[used], self.weights[used], colours[used], regions, faces, nothing, loose * away)
        )

    def solid(
        self,
        spots: np.ndarray,
        colours: np.ndarray,
        region: int,
        weights: np.ndarray,
        wrap: bool = True,
        lining: bool = False,
        loose: float = 0.0,
    ) -> None:
        """A stiff surface of N columns and R rows.

        Args:
            spots: (N,R,3) at rest. colours: (N,R,3). weights: (J,) of its skinning, or (N,R,J).
            wrap: the last column meets the first. lining: it shows from inside too. loose: metres.
        """
        columns, rows = spots.shape[:2]
        flat = spots.reshape(-1, 3)
        faces = outward(flat, grid(columns, rows, wrap))
        own = np.broadcast_to(weights, (columns, rows, weights.shape[-1])).reshape(columns * rows, -1)
        faces = faces + self._count
        back = faces[:, ::-1] if lining else faces[:0]
        regions = np.full(len(flat), region, np.uint8)
        self._pieces.append(_Piece(flat, own, colours.reshape(-1, 3), regions, faces, back, np.full(len(flat), loose)))

    def sheet(
        self,
        spots: np.ndarray,
        colours: np.ndarray,
        region: int,
        weights: np.ndarray | None = None,
        wrap: bool = False,
        stiffness: float = 1.0,
        margin: float = 0.02,
        hoop: float = 0.15,
        upright: bool = False,
    ) -> None:
        """Cloth or hair that hangs from its first row. Arguments as of ``solid`` and ``hanging.Columns``.

        Args:
            weights: (J,) of its fastening; that of the nearest skin when None.
        """
        columns, rows = spots.shape[:2]
        if weights is None:
            weights = np.repeat(self.weights[self.nearest(spots[:, 0])][:, None], rows, axis=1)
        first = self._count
        self.solid(spots, colours, region, weights, wrap, lining=True)
        number = np.arange(columns)
        beside = np.stack([number - 1, number + 1], axis=1)
        beside = beside % columns if wrap else beside.clip(0, columns - 1)
        beside += sum(len(sheet.index) for sheet in self._sheets)
        index = first + np.arange(columns * rows).reshape(columns, rows)
        self._sheets.append(_Sheet(index, beside, stiffness, margin, hoop, upright))

    def finish(self, wind: np.ndarray) -> Outfit | None:
        """The outfit, None when nothing was made. ``wind`` as of ``hang``."""
        if not self._pieces:
            return None

        def joined(name: str) -> np.ndarray:
            return np.concatenate([getattr(piece, name) for piece in self._pieces])

        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(np.ascontiguousarray(array), dtype=torch.float32)

        def each(name: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
            parts = [torch.full((len(sheet.index),), getattr(sheet, name), dtype=dtype) for sheet in self._sheets]
            return torch.cat(parts)

        columns = None
        if self._sheets:
            index, beside = (
                torch.as_tensor(np.concatenate([getattr(sheet, name) for sheet in self._sheets]))
                for name in ("index", "beside")
            )
            columns = Columns(
                index, beside, each("stiffness"), each("margin"), each("hoop"), each("upright", torch.bool)
            )
        return Outfit(
            tensor(joined("rest")),
            tensor(joined("weights")),
            joined("colours").clip(0, 1).astype(np.float32),
            joined("regions"),
            torch.as_tensor(joined("faces").copy()),
            torch.as_tensor(joined("lining").copy()),
            self.kept,
            tensor(joined("loose")),
            columns,
            torch.arange(0, len(self.rest), _SPOTS),
            tensor(wind),
        )


def grid(columns: int, rows: int, wrap: bool) -> np.ndarray:
    """Triangles (F,3) of a grid whose vertices are numbered row by row within each column."""
    c = np.arange(columns if wrap else columns - 1)[:, None]
    r = np.arange(rows - 1)
    a, b = c * rows + r, (c + 1) % columns * rows + r
    first, second = np.stack([a, a + 1, b], axis=-1), np.stack([b, a + 1, b + 1], axis=-1)
    return np.concatenate([first.reshape(-1, 3), second.reshape(-1, 3)])


def outward(spots: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Faces turned so that most of them look away from the middle of ``spots`` (K,3)."""
    corners = spots[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    away = corners.mean(axis=1) - spots.mean(axis=0)
    return faces if (normal * away).sum() >= 0 else faces[:, ::-1].copy()


def reach(cloud: np.ndarray, centre: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """How far a cloud (K,3) reaches from a vertical axis through ``centre`` (x, z) along each angle (N,), from +z to
    +x. A convex outline: no less than the true one."""
    flat = cloud[:, [0, 2]] - centre
    return (flat @ np.stack([np.sin(angles), np.cos(angles)])).max(axis=0)


def around(centre: np.ndarray, angles: np.ndarray, radius: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Spots (N,R,3) at ``radius`` (N,R) and ``height``, (R,) or (N,R), about the vertical axis at ``centre``: x, z."""
    x = centre[0] + np.sin(angles)[:, None] * radius
    z = centre[1] + np.cos(angles)[:, None] * radius
    return np.stack([x, np.broadcast_to(height, x.shape), z], axis=-1)


def rounded_box(half: np.ndarray, centre: np.ndarray, sharp: float = 0.45) -> np.ndarray:
    """A rounded box's spots (N,R,3)."""
    across = np.linspace(0, 2 * np.pi, 16, endpoint=False)[:, None]
    up = np.linspace(-np.pi / 2, np.pi / 2, 8)

    def rounded(value: np.ndarray) -> np.ndarray:
        return np.sign(value) * np.abs(value) ** sharp

    x, y, z = np.broadcast_arrays(
        rounded(np.cos(up)) * rounded(np.sin(across)),
        rounded(np.sin(up)),
        rounded(np.cos(up)) * rounded(np.cos(across)),
    )
    return np.stack([x, y, z], axis=-1) * half + centre
