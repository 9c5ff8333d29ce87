"""A small z-buffered triangle rasteriser in torch: exact silhouettes, the same code on a CPU and a GPU.

Shape letters: T frames, V vertices, F faces, H W image, P covered pixels, N triangles of a batch, S side of a square.

Triangles are sorted by the size of their bounding box; each class tests a square of that size per triangle, so
that the thousands of small triangles of a body cost a few pixels each. Within a triangle everything is a linear
function of the pixel: with its corners as homogeneous pixels (u z, v z, z) in the columns of M, the inverse of M takes
(u, v, 1) to barycentric / depth (Olano and Greer, "Triangle Scan Conversion using 2D Homogeneous Coordinates", 1997).
This holds also for triangles that reach behind the camera, so that nothing has to be cut at the near plane.
Pixel centres lie at +0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_NEAR = 0.05
_BOX_SIZES = (2, 3, 4, 6, 8, 12, 16, 32)
_FEW = 60_000
"""Tested pixels below which triangles wait for those of the next size: each batch has a price of its own."""
_TILE = 32
"""Side of the squares that cover a larger triangle; those that it does not touch are left out."""
_EMPTY = torch.iinfo(torch.int64).max
_CHUNK = 4_000_000
"""Tested pixels at a time, which bounds memory."""
_EDGE = 1e-5
"""How far outside, in barycentric units, a pixel still belongs to a triangle: no pinholes along shared edges."""


@dataclass(frozen=True)
class Raster:
    """What each pixel shows.

    Attributes:
        depth: (T,H,W) float32, metres along the optical axis; infinite where nothing is.
        index: (P,) int64, flat index into T*H*W of the covered pixels.
        face: (P,) int64, the face that each covered pixel shows.
        barycentric: (P,3) float32, perspective-correct position within that face.
    """

    depth: Tensor
    index: Tensor
    face: Tensor
    barycentric: Tensor

    def interpolate(self, values: Tensor, faces: Tensor) -> Tensor:
        """Vertex values (T,V,D) or (V,D) at the covered pixels: (P,D)."""
        corners = faces[self.face]
        if values.ndim == 3:
            frame = self.index // (self.depth.shape[1] * self.depth.shape[2])
            corners = corners + frame[:, None] * values.shape[1]
            values = values.reshape(-1, values.shape[2])
        first, second, third = (values.index_select(0, corners[:, k]) * self.barycentric[:, k, None] for k in range(3))
        return first + second + third


def project_torch(points: Tensor, viewmats: Tensor, Ks: Tensor) -> Tensor:
    """World points (T,N,3) to pixels and depth (T,N,3), as ``backend.shot.cameras.project`` does it.

    Points behind the camera keep a depth below zero and meaningless pixels.
    """
    camera = _camera(points, viewmats)
    depth = camera[..., 2:]
    safe = torch.where(depth.abs() < 1e-6, torch.full_like(depth, 1e-6), depth)
    uv = camera[..., :2] / safe @ Ks[:, :2, :2].transpose(1, 2) + Ks[:, None, :2, 2]
    return torch.cat([uv, depth], dim=-1)


def rasterise(
    vertices: Tensor,
    faces: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    height: int,
    width: int,
    cull: bool = True,
    near: float = _NEAR,
) -> Raster:
    """Nearest surface of every pixel.

    Args:
        vertices: (T,V,3) float32 world.
        faces: (F,3) int64, counter-clockwise seen from outside.
        viewmats: (T,4,4) world to OpenCV camera; Ks: (T,3,3) pixels of the ``width`` x ``height`` image.
        cull: leave out faces that are seen from behind.
        near: metres; what lies closer to the camera's plane is not drawn.
    """
    buffer, corners, start, extent = _nearest(vertices, faces, viewmats, Ks, height, width, cull, near)
    device, frames, n_faces = vertices.device, vertices.shape[0], faces.shape[0]
    index = torch.nonzero(buffer != _EMPTY).squeeze(1)
    face = buffer[index] & 0xFFFFFFFF
    winner = index // (height * width) * n_faces + face
    pixel = torch.stack([index % width, index // width % height], dim=-1)
    weights = _weights(corners, winner, pixel, start, extent).clamp(min=0)
    total = weights[:, 0] + weights[:, 1] + weights[:, 2]
    depth = torch.full((frames * height * width,), torch.inf, device=device)
    depth[index] = 1.0 / total
    return Raster(depth.view(frames, height, width), index, face, weights / total[:, None])


def draw_faces(
    vertices: Tensor,
    faces: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    height: int,
    width: int,
    cull: bool = True,
    near: float = _NEAR,
) -> tuple[Tensor, Tensor]:
    """Only the depth (T,H,W) of ``rasterise`` and the face (T,H,W) int64 that shows, -1 where none does: for half its
    time."""
    buffer, *_ = _nearest(vertices, faces, viewmats, Ks, height, width, cull, near)
    empty = buffer == _EMPTY
    depth = torch.where(empty, torch.inf, (buffer >> 32).to(torch.int32).view(torch.float32))
    face = torch.where(empty, -1, buffer & 0xFFFFFFFF)
    return depth.view(vertices.shape[0], height, width), face.view(vertices.shape[0], height, width)


def draw_depth(
    vertices: Tensor,
    faces: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    height: int,
    width: int,
    cull: bool = True,
    near: float = _NEAR,
) -> Tensor:
    """Only the depth (T,H,W) of ``rasterise``, for half its time."""
    return draw_faces(vertices, faces, viewmats, Ks, height, width, cull, near)[0]


def _nearest(
    vertices: Tensor, faces: Tensor, viewmats: Tensor, Ks: Tensor, height: int, width: int, cull: bool, near: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Depth and face of each pixel, packed into int64 (T*H*W,), and of each face its corners (T*F,3,3) as homogeneous
    pixels, the first pixel (T*F,2) and the longer side (T*F,) of its bounding box."""
    device = vertices.device
    frames, n_faces = vertices.shape[0], faces.shape[0]
    homogeneous = _camera(vertices, viewmats) @ Ks.transpose(1, 2)
    corners = homogeneous[:, faces].reshape(-1, 3, 3)
    low, high = _bounds(corners, near)
    limit = torch.tensor([width, height], device=device, dtype=low.dtype)
    # Pixel p is tested when its centre p + 0.5 can lie within [low, high].
    start = torch.clamp(torch.ceil(low - 0.5), min=0)
    stop = torch.minimum(torch.floor(high - 0.5), limit - 1)
    extent = (stop - start).amax(dim=1) + 1
    area = _determinant(corners) / corners[..., 2].double().abs().clamp(min=near).prod(dim=1)
    # With y down, a face that is counter-clockwise towards the camera has a negative area on the screen.
    keep = ((area < -1e-9) if cull else (area.abs() > 1e-9)) & (stop >= start).all(dim=1)

    buffer = torch.full((frames * height * width,), _EMPTY, dtype=torch.int64, device=device)
    smallest = 0
    for size in _BOX_SIZES:
        chosen = torch.nonzero(keep & (extent > smallest) & (extent <= size)).squeeze(1)
        if len(chosen) * size**2 < _FEW and size < _BOX_SIZES[-1]:
            continue
        smallest = size
        for part in chosen.split(max(_CHUNK // size**2, 1)):
            _draw(buffer, corners, part, start[part], size, n_faces, height, width, near)
    large = torch.nonzero(keep & (extent > smallest)).squeeze(1)
    part, origin = _tiles(corners, large, start[large], stop[large])
    for some, at in zip(part.split(_CHUNK // _TILE**2), origin.split(_CHUNK // _TILE**2), strict=True):
        _draw(buffer, corners, some, at, _TILE, n_faces, height, width, near)
    return buffer, corners, start, extent


def _weights(corners: Tensor, face: Tensor, pixel: Tensor, start: Tensor, extent: Tensor) -> Tensor:
    """Barycentric / depth (P,3) at the centres of pixels (P,2), each within its own of the faces (N,3,3).

    A small face's matrix serves all of its pixels; in a large one each pixel is its own origin, for precision.

    Args:
        face: (P,) which face. start: (N,2); extent: (N,) first pixel and longer side of the bounding boxes.
    """
    shown = torch.zeros(len(corners), dtype=torch.bool, device=corners.device)
    shown[face] = True
    listed = torch.nonzero(shown).squeeze(1)
    place = torch.empty(len(corners), dtype=torch.int64, device=corners.device)
    place[listed] = torch.arange(len(listed), device=corners.device)
    inverse = _inverse(corners[listed], start[listed]).index_select(0, place[face])
    local = pixel - start[face] + 0.5
    weights = inverse[..., 0] * local[:, :1] + inverse[..., 1] * local[:, 1:] + inverse[..., 2]
    large = torch.nonzero(extent[face] > _TILE).squeeze(1)
    if len(large):
        own = _inverse(corners[face[large]], pixel[large])
        weights[large] = own @ torch.tensor([0.5, 0.5, 1.0], device=corners.device)
    return weights


def _camera(points: Tensor, viewmats: Tensor) -> Tensor:
    """World points (T,N,3) in camera space."""
    return points @ viewmats[:, :3, :3].transpose(1, 2) + viewmats[:, None, :3, 3]


def _determinant(corners: Tensor) -> Tensor:
    """(N,) float64 determinants of homogeneous corners (N,3,3): twice the area on the screen times the depths."""
    first, second, third = corners.double().unbind(dim=1)
    return (first * torch.linalg.cross(second, third)) @ torch.ones(3, dtype=torch.float64, device=corners.device)


def _inverse(corners: Tensor, origin: Tensor) -> Tensor:
    """Matrices (N,3,3) float32 that take (u, v, 1), pixels from ``origin`` (N,2), to barycentric / depth.

    Float64 within: corners lie thousands of pixels from the picture's corner and a fraction of one from each other.
    """
    local = corners.double()
    shift = origin.double()[:, None] * local[..., 2:]
    local = torch.cat([local[..., :2] - shift, local[..., 2:]], dim=-1)
    first, second, third = local.unbind(dim=1)
    rows = torch.stack(
        [torch.linalg.cross(second, third), torch.linalg.cross(third, first), torch.linalg.cross(first, second)], dim=1
    )
    return (rows / (first * rows[:, 0]).sum(dim=-1)[:, None, None]).float()


def _bounds(corners: Tensor, near: float) -> tuple[Tensor, Tensor]:
    """Smallest and largest pixel (N,2) that the part of each triangle beyond the near plane can cover."""
    depth = corners[..., 2:]
    front = depth >= near
    pixel = corners[..., :2] / depth.clamp(min=near)
    low = torch.where(front, pixel, torch.inf).amin(dim=1)
    high = torch.where(front, pixel, -torch.inf).amax(dim=1)
    crossing = torch.nonzero(front.any(dim=1).squeeze(1) & ~front.all(dim=1).squeeze(1)).squeeze(1)
    if len(crossing):
        a, b = corners[crossing], corners[crossing].roll(-1, dims=1)
        cut = (a[..., 2:] >= near) != (b[..., 2:] >= near)
        share = (near - a[..., 2:]) / torch.where(cut, b[..., 2:] - a[..., 2:], torch.ones_like(a[..., 2:]))
        at = (a + share * (b - a))[..., :2] / near
        low[crossing] = torch.minimum(low[crossing], torch.where(cut, at, torch.inf).amin(dim=1))
        high[crossing] = torch.maximum(high[crossing], torch.where(cut, at, -torch.inf).amax(dim=1))
    return low, high


def _tiles(corners: Tensor, part: Tensor, start: Tensor, stop: Tensor) -> tuple[Tensor, Tensor]:
    """Squares (M,) by triangle, and their first pixels (M,2), that cover the bounding boxes of ``part`` (N,)."""
    across, down = (torch.floor((stop - start) / _TILE) + 1).long().unbind(dim=1)
    count = across * down
    which = torch.repeat_interleave(torch.arange(len(part), device=part.device), count)
    number = torch.arange(len(which), device=part.device) - (count.cumsum(0) - count)[which]
    steps = torch.stack([number % across[which], number // across[which]], dim=1)
    origin = start[which] + steps * _TILE
    inverse = _inverse(corners[part[which]], origin)
    # Each weight is linear, so that its greatest value in a square is at one of the four outermost pixels.
    ends = torch.tensor([0.5, _TILE - 0.5], device=part.device)
    greatest = (inverse[..., :2, None] * ends).amax(dim=-1).sum(dim=-1) + inverse[..., 2]
    touched = (greatest >= -_EDGE * greatest.sum(dim=-1, keepdim=True).abs()).all(dim=1)
    return part[which[touched]], origin[touched]


def _draw(
    buffer: Tensor,
    corners: Tensor,
    part: Tensor,
    origin: Tensor,
    size: int,
    n_faces: int,
    height: int,
    width: int,
    near: float,
) -> None:
    """Test a ``size`` x ``size`` square at ``origin`` (N,2) per triangle of ``part`` (N,), keep the nearest face."""
    inverse = _inverse(corners[part], origin)
    offsets = torch.arange(size, device=corners.device, dtype=torch.float32)
    x, y = offsets + 0.5, offsets[:, None] + 0.5
    across, down, constant = inverse[:, None, None].unbind(dim=-1)
    first, second, third = (across[..., k] * x + down[..., k] * y + constant[..., k] for k in range(3))
    inverse_depth = first + second + third
    least = torch.minimum(torch.minimum(first, second), third)
    inside = (least >= -_EDGE * inverse_depth) & (inverse_depth > 0)
    inside &= inverse_depth <= 1.0 / near
    column, row = origin[:, None, 0] + offsets, origin[:, None, 1] + offsets
    inside &= (column < width)[:, None, :] & (row < height)[:, :, None]
    n, j, i = torch.nonzero(inside, as_tuple=True)
    depth = 1.0 / inverse_depth[n, j, i]
    triangle = part[n]
    pixel = (triangle // n_faces) * (height * width) + row[n, j].long() * width + column[n, i].long()
    # The bits of a positive float sort like the float, so depth and face fit one integer.
    key = (depth.view(torch.int32).long() << 32) | (triangle % n_faces)
    buffer.scatter_reduce_(0, pixel, key, reduce="amin", include_self=True)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals (T,V,3), area-weighted over the faces (F,3) around each vertex of ``vertices`` (T,V,3)."""
    first, second, third = (vertices.index_select(1, faces[:, k]) for k in range(3))
    normal = torch.linalg.cross(second - first, third - first)
    total = torch.zeros_like(vertices)
    for k in range(3):
        total.index_add_(1, faces[:, k], normal)
    return torch.nn.functional.normalize(total, dim=-1)
