"""The truth of every pixel of a synthetic shot: its depth, its character, its body region, and its flow.

Shape letters: T frames, H W image, V vertices, F faces, P covered pixels, C characters. At pixel centres, without the
smoothing that the film itself has along edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..raster.rasterise import Raster, draw_depth, project_torch, rasterise, vertex_normals
from .furniture import Furniture
from .surroundings import Surroundings, surroundings_hits

NOBODY = -1
_SAME_DEPTH = 0.02
"""Share of the depth, on top of 2 cm, by which a spot may lie behind the drawn surface and still be seen."""
_REACH = 1.1
"""Metres from the pelvis at rest that coded canonical coordinates reach along each axis."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Per pixel.

    Attributes:
        depth: (T,H,W) float32 metres along the optical axis; infinite for the sky.
        character: (T,H,W) int8, whose body shows, or ``NOBODY``.
        region: (T,H,W) uint8 index into the body's region names; 0 also where nobody is.
        flow: (T-1,H,W,2) float32 pixels (right, down) from each frame to the next, of the spot that the pixel shows.
        flow_valid: (T-1,H,W) bool, the next frame shows the same spot.
    """

    depth: np.ndarray
    character: np.ndarray
    region: np.ndarray
    flow: np.ndarray
    flow_valid: np.ndarray


@dataclass(frozen=True, eq=False)
class Drawn:
    """Posed bodies as the pixels' centres see them.

    Attributes:
        vertices: (T,V,3) world and faces (F,3) of all bodies; owner: (F,) whose each face is.
        raster: the surface that each pixel shows.
    """

    vertices: Tensor
    faces: Tensor
    owner: Tensor
    raster: Raster


def draw_bodies(vertices: Tensor, faces: Tensor, viewmats: Tensor, Ks: Tensor, height: int, width: int) -> Drawn:
    """Draw posed bodies.

    Args:
        vertices: (C,T,V,3) world; faces: (F,3) of one body.
        viewmats: (T,4,4); Ks: (T,3,3) pixels of the ``width`` x ``height`` image.
    """
    count, frames, n_vertices, _ = vertices.shape
    everyone = torch.cat([faces + c * n_vertices for c in range(count)])
    flat = vertices.transpose(0, 1).reshape(frames, count * n_vertices, 3)
    owner = torch.arange(count, device=faces.device).repeat_interleave(len(faces))
    return Drawn(flat, everyone, owner, rasterise(flat, everyone, viewmats, Ks, height, width))


def find_maps(drawn: Drawn, template: Tensor, one: Tensor, viewmats: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Which way the drawn surface faces and which spot of the body it is.

    Args:
        drawn: bare bodies.
        template: (V,3) rest vertices of the mean shape; one: (F,3) faces of one body.
        viewmats: (T,4,4) that the bodies were drawn with.

    Returns:
        Unit normals in the OpenCV camera's frame, coded (n + 1) / 2 * 255, and the template's coordinates, coded
        (x + 1.1) / 2.2 * 255: (T,H,W,3) uint8 each, (0,0,0) where no body shows.
    """
    raster, frames = drawn.raster, drawn.vertices.shape[0]
    count = drawn.vertices.shape[1] // len(template)
    everybody = drawn.vertices.unflatten(1, (count, -1)).transpose(0, 1).flatten(0, 1)
    normals = vertex_normals(everybody, one).unflatten(0, (count, frames)).transpose(0, 1).flatten(1, 2)
    normals = normals @ viewmats[:, :3, :3].transpose(1, 2)
    facing = torch.nn.functional.normalize(raster.interpolate(normals, drawn.faces), dim=-1)
    spots = raster.interpolate(template.repeat(count, 1), drawn.faces)
    coded = ((facing + 1) / 2, ((spots + _REACH) / (2 * _REACH)).clamp(0, 1))
    maps = []
    for values in coded:
        image = torch.zeros(raster.depth.numel(), 3, dtype=torch.uint8, device=values.device)
        image[raster.index] = (values * 255).round().to(torch.uint8)
        maps.append(image.view(*raster.depth.shape, 3).cpu().numpy())
    return maps[0], maps[1]


def find_truth(
    drawn: Drawn,
    regions: np.ndarray | None,
    place: Surroundings,
    viewmats: Tensor,
    Ks: Tensor,
    furniture: Furniture | None = None,
) -> Truth:
    """The truth of posed bodies in their surroundings.

    Args:
        drawn: the bodies, with what they wear.
        regions: (V,) of all of their vertices.
        viewmats: (T,4,4); Ks: (T,3,3) pixels, as the bodies were drawn with.
        furniture: what stands there.
    """
    raster, everybody, all_faces = drawn.raster, drawn.vertices, drawn.faces
    frames, height, width = raster.depth.shape

    eye, rays, along = surroundings_hits(place, viewmats, Ks, height, width)
    axis = viewmats[:, 2, :3]
    slope = (rays * axis[:, None, None]).sum(-1)
    if furniture is not None:
        still, edges = (torch.as_tensor(part, device=along.device) for part in (furniture.vertices, furniture.faces))
        near = draw_depth(still.expand(frames, -1, -1), edges, viewmats, Ks, height, width)
        along = torch.minimum(along, near / slope)
    depth = (along * slope).flatten()
    # The sky is a point so far away that only the camera's turning moves it.
    spots = (eye + rays * along.clamp(max=1e5)[..., None]).flatten(0, 2)
    next_spots = spots.clone()
    covered = raster.index[raster.depth.flatten()[raster.index] < depth[raster.index]]
    shown = torch.isin(raster.index, covered)
    face, weights = raster.face[shown], raster.barycentric[shown]
    frame = covered // (height * width)
    corners = all_faces[face]
    depth[covered] = raster.depth.flatten()[covered]
    following = (frame + 1).clamp(max=frames - 1)
    next_spots[covered] = (everybody[following[:, None], corners] * weights[..., None]).sum(1)

    character = torch.full((frames * height * width,), NOBODY, dtype=torch.int8, device=everybody.device)
    character[covered] = drawn.owner[face].to(torch.int8)
    region = torch.zeros(frames * height * width, dtype=torch.uint8, device=everybody.device)
    if regions is not None:
        leading = corners.gather(1, weights.argmax(1, keepdim=True))[:, 0]
        region[covered] = torch.as_tensor(regions, device=everybody.device)[leading]

    depth = depth.view(frames, height, width)
    flow, valid = _flow(next_spots.view(frames, height, width, 3), depth, viewmats, Ks)
    return Truth(
        depth.cpu().numpy(),
        character.view(frames, height, width).cpu().numpy(),
        region.view(frames, height, width).cpu().numpy(),
        flow.cpu().numpy(),
        valid.cpu().numpy(),
    )


def _flow(next_spots: Tensor, depth: Tensor, viewmats: Tensor, Ks: Tensor) -> tuple[Tensor, Tensor]:
    """Flow (T-1,H,W,2) of the spots, given where they are a frame later (T,H,W,3), and whether they still show."""
    frames, height, width = depth.shape
    screen = project_torch(next_spots[:-1].flatten(1, 2), viewmats[1:], Ks[1:]).view(frames - 1, height, width, 3)
    v, u = torch.meshgrid(
        torch.arange(height, device=depth.device) + 0.5, torch.arange(width, device=depth.device) + 0.5, indexing="ij"
    )
    flow = screen[..., :2] - torch.stack([u, v], dim=-1)
    column, row = torch.floor(screen[..., 0]), torch.floor(screen[..., 1])
    inside = (screen[..., 2] > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    frame = torch.arange(frames - 1, device=depth.device)[:, None, None]
    there = depth[frame + 1, row.clamp(0, height - 1).long(), column.clamp(0, width - 1).long()]
    near = torch.where(torch.isfinite(there), (1 + _SAME_DEPTH) * there + 0.02, torch.inf)
    sky = ~torch.isfinite(depth[:-1])
    # Sky stays sky; a surface is still seen where nothing nearer is drawn.
    same = torch.where(sky, ~torch.isfinite(there), torch.isfinite(there) & (screen[..., 2] <= near))
    return torch.where(torch.isfinite(flow), flow, 0.0), inside & same
