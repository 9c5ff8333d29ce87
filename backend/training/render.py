"""A small z-buffered triangle rasteriser in torch: exact silhouettes, the same code on a CPU and a GPU.

Shape letters: T frames, V vertices, F faces, H W image, P covered pixels.

Triangles are sorted by the size of their bounding box; each class tests a square of that size per triangle, so
that the thousands of small triangles of a body cost a few pixels each. Pixel centres lie at +0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_NEAR = 0.05
_BOX_SIZES = (2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256, 512, 1024)
_EMPTY = torch.iinfo(torch.int64).max
_CHUNK = 4_000_000
"""Tested pixels at a time, which bounds memory."""


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
            picked = values[frame[:, None], corners]
        else:
            picked = values[corners]
        return (picked * self.barycentric[..., None]).sum(dim=1)


def project_torch(points: Tensor, viewmats: Tensor, Ks: Tensor) -> Tensor:
    """World points (T,N,3) to pixels and depth (T,N,3), as ``backend.shot.cameras.project`` does it.

    Points behind the camera keep a depth below zero and meaningless pixels.
    """
    camera = points @ viewmats[:, :3, :3].transpose(1, 2) + viewmats[:, None, :3, 3]
    depth = camera[..., 2:]
    safe = torch.where(depth.abs() < 1e-6, torch.full_like(depth, 1e-6), depth)
    uv = camera[..., :2] / safe @ Ks[:, :2, :2].transpose(1, 2) + Ks[:, None, :2, 2]
    return torch.cat([uv, depth], dim=-1)


def _edges(corners: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Unnormalised barycentric coordinates (...,3) of pixels (x, y) in triangles ``corners`` (...,3,3)."""
    ax, ay = corners[..., 0, 0], corners[..., 0, 1]
    bx, by = corners[..., 1, 0], corners[..., 1, 1]
    cx, cy = corners[..., 2, 0], corners[..., 2, 1]
    wa = (bx - x) * (cy - y) - (by - y) * (cx - x)
    wb = (cx - x) * (ay - y) - (cy - y) * (ax - x)
    wc = (ax - x) * (by - y) - (ay - y) * (bx - x)
    return torch.stack([wa, wb, wc], dim=-1)


def rasterise(vertices: Tensor, faces: Tensor, viewmats: Tensor, Ks: Tensor, height: int, width: int) -> Raster:
    """Nearest surface of every pixel.

    Args:
        vertices: (T,V,3) float32 world.
        faces: (F,3) int64, counter-clockwise seen from outside; faces seen from behind are skipped, as are faces
            that reach within 5 cm of the camera's plane.
        viewmats: (T,4,4) world to OpenCV camera; Ks: (T,3,3) pixels of the ``width`` x ``height`` image.
    """
    device = vertices.device
    frames = vertices.shape[0]
    screen = project_torch(vertices, viewmats, Ks)
    corners = screen[:, faces].reshape(-1, 3, 3)
    first, second, third = corners[:, 0, :2], corners[:, 1, :2], corners[:, 2, :2]
    # With y down, a face that is counter-clockwise towards the camera has a negative area on the screen.
    area = (second[:, 0] - first[:, 0]) * (third[:, 1] - first[:, 1]) - (second[:, 1] - first[:, 1]) * (
        third[:, 0] - first[:, 0]
    )
    low = corners[..., :2].amin(dim=1)
    high = corners[..., :2].amax(dim=1)
    limit = torch.tensor([width, height], device=device, dtype=low.dtype)
    # Pixel p is tested when its centre p + 0.5 can lie within [low, high].
    start = torch.clamp(torch.ceil(low - 0.5), min=0)
    stop = torch.minimum(torch.floor(high - 0.5), limit - 1)
    extent = (stop - start).amax(dim=1) + 1
    keep = (area < -1e-9) & (corners[..., 2].amin(dim=1) > _NEAR) & (stop >= start).all(dim=1)

    buffer = torch.full((frames * height * width,), _EMPTY, dtype=torch.int64, device=device)
    smallest = 0
    for size in _BOX_SIZES:
        chosen = torch.nonzero(keep & (extent > smallest) & (extent <= size)).squeeze(1)
        smallest = size
        for part in chosen.split(max(_CHUNK // size**2, 1)):
            _draw(buffer, corners, start, part, size, faces.shape[0], height, width)

    index = torch.nonzero(buffer != _EMPTY).squeeze(1)
    triangle = buffer[index] & 0xFFFFFFFF
    frame = index // (height * width)
    face = triangle
    winners = corners[frame * faces.shape[0] + face]
    x = (index % width).to(vertices.dtype) + 0.5
    y = (index // width % height).to(vertices.dtype) + 0.5
    weights = _edges(winners, x, y).clamp(max=0) / winners[..., 2]
    weights = weights / weights.sum(dim=-1, keepdim=True)
    depth = torch.full((frames * height * width,), torch.inf, device=device)
    depth[index] = (weights * winners[..., 2]).sum(dim=-1)
    return Raster(depth.view(frames, height, width), index, face, weights)


def _draw(
    buffer: Tensor, corners: Tensor, start: Tensor, part: Tensor, size: int, n_faces: int, height: int, width: int
) -> None:
    """Test a ``size`` x ``size`` square per triangle of ``part`` and keep the nearest face per pixel."""
    triangles = corners[part]
    offsets = torch.arange(size, device=corners.device, dtype=corners.dtype)
    column = start[part, 0, None, None] + offsets[None, None, :]
    row = start[part, 1, None, None] + offsets[None, :, None]
    weights = _edges(triangles[:, None, None], column + 0.5, row + 0.5)
    inside = (weights <= 0).all(dim=-1) & (column < width) & (row < height)
    n, j, i = torch.nonzero(inside, as_tuple=True)
    hit = weights[n, j, i]
    inverse = (hit / triangles[n, :, 2]).sum(dim=-1) / hit.sum(dim=-1)
    depth = (1.0 / inverse).to(torch.float32)
    triangle = part[n]
    pixel = (triangle // n_faces) * (height * width) + row[n, j, 0].long() * width + column[n, 0, i].long()
    # The bits of a positive float sort like the float, so depth and face fit one integer.
    key = (depth.view(torch.int32).long() << 32) | (triangle % n_faces)
    buffer.scatter_reduce_(0, pixel, key, reduce="amin", include_self=True)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals (T,V,3), area-weighted over the faces (F,3) around each vertex of ``vertices`` (T,V,3)."""
    corner = vertices[:, faces]
    normal = torch.linalg.cross(corner[:, :, 1] - corner[:, :, 0], corner[:, :, 2] - corner[:, :, 0])
    total = torch.zeros_like(vertices)
    for k in range(3):
        total.index_add_(1, faces[:, k], normal)
    return torch.nn.functional.normalize(total, dim=-1)
