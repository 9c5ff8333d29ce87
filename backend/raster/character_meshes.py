"""The characters of a shot as meshes, in the film, at rest and at the moment of each reference.

A character is drawn from the shot's meshes; without them from its parametric body; without parameters from discs around
its points. Whatever moment a file does not hold is found from the points, which are the same spots on the skin at every
moment.

Shape letters: T frames, V vertices, F triangles, N points, K neighbours, R references.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..shot import Character, Shot
from .surfaces import body_surface, parametric_body

_NEIGHBOURS = 8
_MOMENTS = 3
"""Frames at which a vertex must lie near a point to be moved by it: hands that touch a hip once are no part of it."""
_CHUNK = 1 << 22
"""Distances at a time, which bounds memory."""
_SAME = 2e-3
"""Metres by which points may differ after a rigid motion and still be one pose."""
_DISC = 6
_DISC_REACH = 0.85
"""Radius of a point's disc over the distance to its sixth neighbour: discs overlap, outlines stay lean."""


@dataclass(frozen=True, eq=False)
class CharacterMesh:
    """One character.

    Attributes:
        name: of the character.
        vertices: (T,V,3) float32 world.
        faces: (F,3) int64, counter-clockwise seen from outside where ``closed``.
        rest: (V,3) float32 metres, the same spots on the rest pose: Y up, facing +Z, pelvis at the origin.
        moments: (V,3) float32 world for each of the character's references, in their order.
        closed: whether faces may be left out that are seen from behind.
        notes: sentences for the animator.
    """

    name: str
    vertices: Tensor
    faces: Tensor
    rest: Tensor
    moments: tuple[Tensor, ...]
    closed: bool
    notes: tuple[str, ...] = ()


def character_meshes(shot: Shot, device: torch.device | str = "cpu") -> list[CharacterMesh]:
    """Every character of a shot as a mesh, in their order."""
    return [character_mesh(shot, index, torch.device(device)) for index in range(len(shot.characters))]


def character_mesh(shot: Shot, index: int, device: torch.device) -> CharacterMesh:
    """One character of a shot as a mesh."""
    character, frames = shot.characters[index], shot.clip.frames
    points, rest_points = _tensor(character.points, device), _tensor(character.rest_points, device)
    meshes = [mesh for mesh in shot.meshes if mesh.character == index]
    rest: Tensor | None = None
    if meshes:
        vertices = torch.cat([_tensor(m.vertices, device).expand(frames, -1, -1) for m in meshes], dim=1)
        offsets = np.cumsum([0, *(m.vertices.shape[1] for m in meshes)])
        triangles = np.concatenate([m.triangles + offset for m, offset in zip(meshes, offsets, strict=False)])
        notes = ()
    elif (rebuilt := body_surface(character)) is not None:
        vertices, triangles = _tensor(rebuilt[0], device), rebuilt[1]
        notes = (f"{character.name} came without its mesh: it is drawn as its body without clothes",)
    else:
        notes = (
            f"{character.name} came without its mesh: it is drawn from its {points.shape[1]} points, so that its "
            "outline is rough; capture the shot again to send the mesh",
        )
        return _cloud(character, points, rest_points, device, notes)
    body = parametric_body(character)
    if body is not None and character.body is not None and len(body.v_template) == vertices.shape[1]:
        shaped = body.shaped(character.body.betas) - body.joints_rest(character.body.betas)[0]
        rest = _tensor(shaped, device)
    neighbours = _Neighbours(vertices, points)
    if rest is None:
        rest = neighbours.move(vertices[0], points[0], rest_points)
    moments = tuple(
        _tensor(look.vertices, device)
        if look.vertices is not None and len(look.vertices) == vertices.shape[1]
        else _moment(vertices, points, _tensor(look.points, device), neighbours)
        for look in character.references
    )
    faces = torch.as_tensor(np.asarray(triangles).astype(np.int64), device=device)
    return CharacterMesh(character.name, vertices, faces, rest, moments, _faces_outward(rest, faces), notes)


def _faces_outward(rest: Tensor, faces: Tensor) -> bool:
    """Whether a mesh encloses a positive volume: open or inverted ones are drawn from both sides."""
    corners = rest[faces].double()
    signed = (corners[:, 0] * torch.linalg.cross(corners[:, 1], corners[:, 2])).sum()
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(dim=1).values
    _, counts = torch.unique(edges[:, 0] * len(rest) + edges[:, 1], return_counts=True)
    return bool(signed > 0) and bool((counts == 2).float().mean() > 0.98)


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.as_tensor(np.ascontiguousarray(array), dtype=torch.float32, device=device)


class _Neighbours:
    """The points that move each vertex of a mesh: those that stay near it at several moments.

    Args:
        vertices: (T,V,3); points: (T,N,3), of the same character.
    """

    def __init__(self, vertices: Tensor, points: Tensor) -> None:
        frames = len(vertices)
        self._vertices, self._points = vertices, points
        self._times = np.unique(np.linspace(0, frames - 1, min(_MOMENTS, frames)).round().astype(int))
        self._found: tuple[Tensor, Tensor] | None = None

    def _find(self) -> tuple[Tensor, Tensor]:
        """Indices (V,K) of each vertex' points, and their weights (V,K), which add up to one."""
        if self._found is None:
            count, available = self._vertices.shape[1], self._points.shape[1]
            k = min(_NEIGHBOURS, available)
            indices, weights = [], []
            for part in torch.arange(count, device=self._vertices.device).split(max(_CHUNK // available, 1)):
                apart = torch.stack(
                    [torch.cdist(self._vertices[t, part], self._points[t]) for t in self._times.tolist()]
                ).amax(dim=0)
                distance, index = apart.topk(k, dim=1, largest=False)
                # Compact support: the last neighbour has no weight, so that neighbourhoods change without a jump.
                weight = (1 - distance / distance[:, -1:].clamp(min=1e-9)).clamp(min=1e-3) ** 2
                indices.append(index)
                weights.append(weight / weight.sum(dim=1, keepdim=True))
            self._found = torch.cat(indices), torch.cat(weights)
        return self._found

    def move(self, vertices: Tensor, here: Tensor, there: Tensor) -> Tensor:
        """Where vertices (V,3) get when the points go from ``here`` (N,3) to ``there`` (N,3)."""
        index, weight = self._find()
        turn, from_, to = rigid(here[index], there[index], weight)
        return to + (turn @ (vertices - from_)[..., None])[..., 0]


def rigid(here: Tensor, there: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The rigid motions that best take points (...,K,3) to others, by weights (...,K) that add up to one.

    Returns:
        Rotations (...,3,3) and both centres (...,3): x goes to ``there + R (x - here)`` (Kabsch 1976).
    """
    from_, to = ((weight[..., None] * x).sum(dim=-2) for x in (here, there))
    a, b = here - from_[..., None, :], there - to[..., None, :]
    u, _, vt = torch.linalg.svd((weight[..., None] * b).transpose(-1, -2) @ a)
    sign = torch.ones_like(from_)
    sign[..., 2] = torch.linalg.det(u @ vt)
    return (u * sign[..., None, :]) @ vt, from_, to


def _moment(vertices: Tensor, points: Tensor, pictured: Tensor, neighbours: _Neighbours) -> Tensor:
    """A mesh (V,3) at the moment of a picture that only the points (N,3) tell of.

    The picture often shows a frame of the shot, or its pose at another place; else the nearest frame is bent to it.
    """
    frames, count = points.shape[:2]
    weight = torch.full((frames, count), 1 / count, device=points.device)
    turn, from_, to = rigid(points, pictured.expand_as(points), weight)
    moved = to[:, None] + (points - from_[:, None]) @ turn.transpose(1, 2)
    error = (moved - pictured).norm(dim=-1).amax(dim=1)
    best = int(error.argmin())
    if float(error[best]) <= _SAME:
        return to[best] + (vertices[best] - from_[best]) @ turn[best].T
    return neighbours.move(vertices[best], points[best], pictured)


def _cloud(
    character: Character, points: Tensor, rest_points: Tensor, device: torch.device, notes: tuple[str, ...]
) -> CharacterMesh:
    """A character of which only points are known, as discs that lie in its skin."""
    count = len(rest_points)
    k = min(_NEIGHBOURS + 1, count)
    index = torch.cdist(rest_points, rest_points).topk(k, dim=1, largest=False).indices
    near = rest_points[index]
    spread = near - near.mean(dim=1, keepdim=True)
    _, _, axes = torch.linalg.svd(spread)
    normal = axes[:, 2]
    outward = (normal * (rest_points - near.mean(dim=1))).sum(-1, keepdim=True)
    middle = (normal * (rest_points * torch.tensor([1.0, 0.0, 1.0], device=device))).sum(-1, keepdim=True)
    normal = normal * torch.where(outward.abs() > 1e-4, outward, middle).sign()
    across = F.normalize(axes[:, 0], dim=-1)
    along = torch.linalg.cross(normal, across)
    reach = (near[:, min(6, k - 1)] - rest_points).norm(dim=-1).clamp(max=0.2) * _DISC_REACH
    angle = torch.arange(_DISC, device=device) * (2 * np.pi / _DISC)
    rim = across[:, None] * torch.cos(angle)[:, None] + along[:, None] * torch.sin(angle)[:, None]
    offsets = torch.cat([torch.zeros(count, 1, 3, device=device), rim * reach[:, None, None]], dim=1)
    rest = (rest_points[:, None] + offsets).flatten(0, 1)
    corner = torch.arange(_DISC, device=device)
    fan = torch.stack([torch.zeros_like(corner), 1 + corner, 1 + (corner + 1) % _DISC], dim=1)
    faces = (fan + (1 + _DISC) * torch.arange(count, device=device)[:, None, None]).flatten(0, 1)
    weight = torch.full((count, k), 1 / k, device=device)

    def at(moment: Tensor) -> Tensor:
        """Discs at a moment of the points (N,3)."""
        turn, _, _ = rigid(near, moment[index], weight)
        return (moment[:, None] + offsets @ turn.transpose(1, 2)).flatten(0, 1)

    return CharacterMesh(
        character.name,
        torch.stack([at(moment) for moment in points]),
        faces,
        rest,
        tuple(at(_tensor(look.points, device)) for look in character.references),
        False,
        notes,
    )
