"""Cloth that hangs around both legs, skirts and the tails of coats, as a surface of its own.

From the waist down the body is cut by planes at even depths. Around each cut cloth lies as the convex hull of what is
cut and of a circle, whose radius is such that the cloth's girth stays what it is: legs that part widen it sideways and
pull it in at front and back. Its columns keep their length down to the hem, over whatever they hang.

A convex outline is told by its support: how far it reaches along each direction. That of a hull is the greatest of its
parts', and its mean is the outline's girth over 2 pi (Cauchy's formula).

Shape letters: V vertices, T moments, P vertices of hips and legs, K depths, N columns, R rows, F triangles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .character_meshes import rigid

TOP = 0.03
"""Where on the rest pose cloth begins to hang, over the height of the pelvis above the soles."""
_ABOVE = 0.06
"""How far above that its first ring is told by the body, likewise."""
WIDEST = 0.35
"""How far to the side spots below the waist count as hips and legs, likewise: hands of a body at rest are no part."""
STEP = 0.03
"""Metres from one depth to the next."""
_COLUMNS, _ROWS = 40, 18
GAP = 0.012
"""Metres that cloth keeps from the skin."""
_FALL = 0.4
"""How fast cloth that hangs over something may draw in below it."""
_DOWN, _PELVIS = 0.6, 0.5
"""Weights of gravity and of the pelvis' own downwards in the direction that cloth hangs in; that of the legs has 1."""
_TUCK = 0.8
"""Radius of the row within the waist, over that of the first."""
_BELOW = 0.05
"""Metres below the hem that legs still matter."""
_HALVINGS = 14
_FEWEST = 20
_SPOTS = 2500
"""Vertices of hips and legs that are looked at."""
_AT_ONCE = 8
"""Moments worked on together, which bounds memory."""


@dataclass(frozen=True, eq=False)
class Skirt:
    """Cloth that hangs around both legs.

    Attributes:
        girth: (K,) metres around it over 2 pi, at depths of ``STEP`` from the waist on; beyond, as at the last.
        length: metres of each column down to the hem.
    """

    girth: Tensor
    length: float


@dataclass(frozen=True, eq=False)
class Legs:
    """Hips and legs at some moments, cut across.

    Attributes:
        origin: (T,3) world, middle of the waist. axes: (T,3,3), rows to the body's left, its front and down the cloth.
        support: (T,K,N) metres that each cut reaches from the axis along each direction.
    """

    origin: Tensor
    axes: Tensor
    support: Tensor


def stature(rest: Tensor) -> float:
    """Metres from the soles to the pelvis of a mesh at rest (V,3)."""
    return max(float(-rest[:, 1].min()), 1e-3)


def _parts(rest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices (P,) of hips and legs, of the pelvis, and of the legs."""
    size = stature(rest)
    inner = rest[:, 0].abs() < WIDEST * size
    y = rest[:, 1] / size
    chosen = (inner & (y < TOP + _ABOVE), inner & (y.abs() < 0.1), inner & (y < -0.25))
    return tuple(torch.nonzero(each).squeeze(1) for each in chosen)  # type: ignore[return-value]


def has_legs(rest: Tensor) -> bool:
    """Whether a mesh at rest (V,3) has enough below its waist to hang something around."""
    return all(len(part) >= _FEWEST for part in _parts(rest))


def directions(device: torch.device) -> Tensor:
    """(N,2) unit vectors from the body's front to its left and around."""
    angle = torch.arange(_COLUMNS, device=device) * (2 * np.pi / _COLUMNS)
    return torch.stack([torch.sin(angle), torch.cos(angle)], dim=1)


def cut(vertices: Tensor, rest: Tensor, depths: int, lowest: float | None = None) -> Legs:
    """Cut hips and legs of a mesh, (T,V,3) in the world, (V,3) at rest, at ``depths`` depths.

    Args:
        lowest: height at rest below which legs do not matter.
    """
    parts = [_cut(part, rest, depths, lowest) for part in vertices.split(_AT_ONCE)]
    return Legs(*(torch.cat([getattr(part, name) for part in parts]) for name in ("origin", "axes", "support")))


def _cut(vertices: Tensor, rest: Tensor, depths: int, lowest: float | None) -> Legs:
    frames, device = len(vertices), rest.device
    spots, pelvis, low = _parts(rest)
    weight = torch.full((frames, len(pelvis)), 1 / len(pelvis), device=device)
    turn, middle, place = rigid(rest[pelvis].expand(frames, -1, -1), vertices[:, pelvis], weight)
    waist = torch.stack([torch.zeros_like(middle[0, 2]), middle.new_tensor(TOP * stature(rest)), middle[0, 2]])
    origin = place + (turn @ (waist - middle)[..., None])[..., 0]
    legs = F.normalize(vertices[:, low].mean(dim=1) - origin, dim=-1)
    down = F.normalize(legs + _DOWN * rest.new_tensor([0.0, 0.0, -1.0]) - _PELVIS * turn[:, :, 1], dim=-1)
    left = turn[:, :, 0]
    left = F.normalize(left - (left * down).sum(dim=-1, keepdim=True) * down, dim=-1)
    axes = torch.stack([left, torch.linalg.cross(left, down), down], dim=1)
    if lowest is not None:
        spots = spots[rest[spots, 1] > lowest]
    spots = spots[:: max(1, len(spots) // _SPOTS)]
    local = (vertices[:, spots] - origin[:, None]) @ axes.transpose(1, 2)
    reach = local[..., :2] @ directions(device).T
    level = (local[..., 2] / STEP).round().long()
    inside = (level >= 0) & (level < depths)
    level = torch.where(inside, level, depths)
    support = torch.full((frames, depths + 1, _COLUMNS), -torch.inf, device=device)
    support.scatter_reduce_(1, level[..., None].expand_as(reach), reach, "amax")
    # The cut is as thick as three depths, so that the vertices of a coarse mesh leave no holes.
    support = F.max_pool1d(support[:, :depths].transpose(1, 2), 3, 1, 1).transpose(1, 2)
    top = support[:, 0]
    shift = _middle(torch.where(top.isfinite(), top, torch.zeros_like(top)))
    support = support - (shift @ directions(device).T)[:, None]
    return Legs(origin + (shift[:, None] @ axes[:, :2])[:, 0], axes, support)


def _middle(support: Tensor) -> Tensor:
    """Middle (T,2) of outlines by their support (T,N): its first harmonic (Steiner's point)."""
    return 2 * support @ directions(support.device) / support.shape[1]


def draped(legs: Legs, girth: Tensor) -> Tensor:
    """Support (T,K,N) of cloth of a ``girth`` (K,) over 2 pi that hangs around legs."""
    own = legs.support + GAP
    rows = [own[:, 0]]
    for k in range(1, own.shape[1]):
        rows.append(torch.maximum(own[:, k], rows[-1] - _FALL * STEP))
    own = torch.stack(rows, dim=1)
    low, high = torch.zeros_like(own[..., 0]), girth.expand(own.shape[:2]).clone()
    for _ in range(_HALVINGS):
        radius = (low + high) / 2
        wide = torch.maximum(own, radius[..., None]).mean(dim=-1) > girth
        low, high = torch.where(wide, low, radius), torch.where(wide, radius, high)
    return torch.maximum(own, low[..., None])


def outline(support: Tensor) -> Tensor:
    """How far convex outlines (...,N) of a support (...,N) reach from the axis themselves, along each direction."""
    cosine = directions(support.device) @ directions(support.device).T
    reach = torch.where(cosine > 0.05, support[..., None, :] / cosine.clamp(min=0.05), torch.inf)
    return reach.amin(dim=-1).clamp(min=0)


def hang(skirt: Skirt, vertices: Tensor, rest: Tensor) -> Tensor:
    """Where cloth is on a mesh (T,V,3), (V,3) at rest: (T,(R+1)*N,3), a row within the waist first.

    World Z points up, and cloth lies no lower than the mesh.
    """
    depths = int(skirt.length / STEP) + 3
    # Feet that are kicked up do not carry what ends above them.
    legs = cut(vertices, rest, depths, TOP * stature(rest) - skirt.length - _BELOW)
    girth = F.pad(skirt.girth[:depths], (0, max(0, depths - len(skirt.girth))), value=float(skirt.girth[-1]))
    fields = (legs.origin, legs.axes, legs.support, vertices[..., 2].amin(dim=1))
    parts = zip(*(each.split(_AT_ONCE) for each in fields), strict=True)
    return torch.cat([_spots(skirt, Legs(*part), girth, floor) for *part, floor in parts])


def along(radius: Tensor) -> Tensor:
    """Metres (T,K,N) from the waist down columns that lie ``radius`` (T,K,N) from the axis."""
    steps = torch.sqrt((radius[:, 1:] - radius[:, :-1]) ** 2 + STEP**2)
    return F.pad(steps.cumsum(dim=1), (0, 0, 1, 0))


def _spots(skirt: Skirt, legs: Legs, girth: Tensor, floor: Tensor) -> Tensor:
    """``hang`` for some moments, over a ``floor`` (T,)."""
    radius = outline(draped(legs, girth))
    depth = STEP * torch.arange(radius.shape[1], device=radius.device)
    run, columns = along(radius).transpose(1, 2).contiguous(), radius.transpose(1, 2)
    wanted = torch.linspace(0, skirt.length, _ROWS, device=run.device).expand(*run.shape[:2], -1).contiguous()
    above = (torch.searchsorted(run, wanted, right=True) - 1).clamp(0, run.shape[2] - 2)
    first, second = run.gather(2, above), run.gather(2, above + 1)
    share = (wanted - first) / (second - first)
    wide = torch.lerp(columns.gather(2, above), columns.gather(2, above + 1), share)
    deep = torch.lerp(depth[above], depth[above + 1], share)
    wide = torch.cat([_TUCK * wide[..., :1], wide], dim=2)
    deep = torch.cat([deep[..., :1], deep], dim=2)
    across = wide[..., None] * directions(run.device)[:, None]
    spots = torch.cat([across, deep[..., None]], dim=-1)
    world = legs.origin[:, None, None] + spots @ legs.axes[:, None]
    height = torch.maximum(world[..., 2], floor[:, None, None])
    return torch.cat([world[..., :2], height[..., None]], dim=-1).transpose(1, 2).flatten(1, 2)


def cloth_faces(device: torch.device) -> Tensor:
    """Triangles (F,3) of the spots of ``hang``, counter-clockwise from outside."""
    row = torch.arange(_ROWS, device=device)[:, None] * _COLUMNS
    column = torch.arange(_COLUMNS, device=device)
    beside = (column + 1) % _COLUMNS
    a, b, c, d = (row + column, row + beside, row + _COLUMNS + column, row + _COLUMNS + beside)
    return torch.cat([torch.stack([a, c, b], dim=-1).view(-1, 3), torch.stack([b, c, d], dim=-1).view(-1, 3)])


def at_rest(skirt: Skirt, rest: Tensor) -> Tensor:
    """Where cloth is on the body at rest: Y up, facing +Z."""
    upright = torch.stack([rest[:, 0], -rest[:, 2], rest[:, 1]], dim=1)
    x, y, z = hang(skirt, upright[None], rest)[0].unbind(dim=1)
    return torch.stack([x, z, -y], dim=1)
