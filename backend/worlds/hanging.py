"""Cloth and hair that hang: columns of points on strings, which lag, swing, and rest on the body.

Shape letters: T frames, N columns, R points of a column from its fastening down, S spots of the skin.

Strings keep their length by following their leader (Müller, Kim and Chentanez, "Fast simulation of inextensible hair
and fur", 2012). A pull towards the shape that the column has when it moves rigidly with the body makes it stiff.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_STEP = 1 / 28
"""Longest step in seconds."""
_SETTLE = 0.4
"""Seconds that columns move on before the first frame, at the first frame's velocity."""
_STILL = 7
"""Steps before a single frame."""
_GRAVITY = 9.81
_DRAG = 4.0
"""Share of its speed that a point loses to the air, per second."""
_FASTEST = 5.0
"""Metres a second; what is thrown faster would tear."""
_REACH = 0.2
"""Metres from the nearest spot of the skin within which that spot pushes a point outwards."""
_FLOOR = 0.012


@dataclass(frozen=True, eq=False)
class Columns:
    """Hanging columns.

    Attributes:
        index: (N,R) int64, which vertices of an outfit they are.
        beside: (N,2) int64, the column on either side; the column itself at a free edge.
        stiffness: (N,) per second; 0 hangs as a string.
        margin: (N,) metres that its points keep from the skin.
        hoop: (N,) in [0,1], how much a column goes where those beside it go.
        upright: (N,) bool, hangs straight down however its fastening turns.
    """

    index: Tensor
    beside: Tensor
    stiffness: Tensor
    margin: Tensor
    hoop: Tensor
    upright: Tensor


def hang(columns: Columns, rigid: Tensor, skin: Tensor, normals: Tensor, fps: float, wind: Tensor) -> Tensor:
    """Where the points of columns are.

    Args:
        rigid: (T,N,R,3) world, Z up, where they would be if they moved rigidly with the body; the first of a column is
            fastened there.
        skin: (T,S,3) spots of the body, and its outward normals there (T,S,3).
        wind: (3,) metres a second that the body has moved by until the first frame, besides what the first two show.

    Returns:
        (T,N,R,3).
    """
    frames = len(rigid)
    steps = max(1, round(1 / fps / _STEP))
    dt = 1 / fps / steps
    velocity = wind.to(rigid)
    if frames > 1:
        velocity = velocity + (skin[1] - skin[0]).mean(dim=0) * fps
    rigid = _straightened(columns, rigid)
    lengths = (rigid[0, :, 1:] - rigid[0, :, :-1]).norm(dim=-1)
    fall = torch.tensor([0.0, 0.0, -_GRAVITY * dt * dt])
    keep = 1 - _DRAG * dt
    pull = (1 - torch.exp(-columns.stiffness * dt))[:, None, None]
    hoop = columns.hoop[:, None, None]
    farthest = _FASTEST * dt

    before = max(1, round(_SETTLE / dt)) if frames > 1 else _STILL
    now = rigid[0] - velocity * before * dt
    past = now - velocity * dt
    found = torch.empty_like(rigid)
    for k in range(-before, (frames - 1) * steps + 1):
        if k <= 0:
            shift = velocity * (k * dt)
            goal, spots, outward = rigid[0] + shift, skin[0] + shift, normals[0]
        else:
            t, share = (k - 1) // steps, ((k - 1) % steps + 1) / steps
            goal = torch.lerp(rigid[t], rigid[t + 1], share)
            spots, outward = torch.lerp(skin[t], skin[t + 1], share), normals[t + round(share)]
        moved = now + keep * (now - past) + fall
        moved = moved + pull * (goal - moved)
        moved = moved + hoop * (moved[columns.beside].mean(dim=1) - moved)
        moved[:, 0] = goal[:, 0]
        for r in range(1, moved.shape[1]):
            string = moved[:, r] - moved[:, r - 1]
            scale = lengths[:, r - 1] / string.norm(dim=-1).clamp(min=1e-5)
            moved[:, r] = moved[:, r - 1] + string * scale[:, None]
        moved[:, 1:] = _off_skin(moved[:, 1:], spots, outward, columns.margin)
        moved[..., 2].clamp_(min=_FLOOR)
        step = moved - now
        far = step.norm(dim=-1, keepdim=True).clamp(min=1e-9)
        step[:, 1:] *= (farthest / far[:, 1:]).clamp(max=1)
        past, now = now, now + step
        if k >= 0 and k % steps == 0:
            found[k // steps] = now
    return found


def _straightened(columns: Columns, rigid: Tensor) -> Tensor:
    """The rigid shape, upright columns as they stand in the first frame, moved along with their fastening."""
    upright = torch.nonzero(columns.upright).squeeze(1)
    if not len(upright):
        return rigid
    rigid = rigid.clone()
    own = rigid[:, upright]
    # Widths are kept, and what lies along the column points down.
    along = own - own[:, :, :1]
    down = along.norm(dim=-1)
    across = along - along.mean(dim=1, keepdim=True)
    straight = own[:, :, :1] + torch.stack([across[..., 0], across[..., 1], -down], dim=-1)
    rigid[:, upright] = straight
    return rigid


def _off_skin(points: Tensor, spots: Tensor, outward: Tensor, margin: Tensor) -> Tensor:
    """Points (N,R,3) moved out of the body to their margin (N,)."""
    flat = points.flatten(0, 1)
    distance, nearest = torch.cdist(flat, spots).min(dim=1)
    normal = outward[nearest]
    height = ((flat - spots[nearest]) * normal).sum(dim=-1)
    wanted = margin[:, None].expand(points.shape[:2]).flatten()
    push = torch.where(distance < _REACH, (wanted - height).clamp(min=0), 0.0)
    return (flat + normal * push[:, None]).view_as(points)
