"""Actors of a synthetic shot: posed, drawn under a camera in colour and in clay, and which of their points it sees.

Shape letters: C characters, T frames, N points per character, H W image, V vertices, F faces, P covered pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache, reduce

import numpy as np
import torch
from torch import Tensor

from ..bodies import SurfaceSamples, embedded, sample_surface
from ..bodies.rotations import axis_angle_to_matrix
from ..raster.rasterise import Raster, project_torch, rasterise, vertex_normals
from .puppet import Puppet, make_puppet
from .surroundings import Surroundings, draw_surroundings, illuminate, world_light

SUPERSAMPLING = 2
CLAY = 0.5
"""Grey of the clay bodies."""
_VISIBLE_WITHIN = 0.025
"""Metres that a point may lie behind the drawn surface and still count as seen."""


@dataclass(frozen=True, eq=False)
class Actor:
    """A body with its looks and where its points lie: betas (S,), colours (V,3), samples of N points."""

    betas: np.ndarray
    colours: np.ndarray
    samples: SurfaceSamples

    def rest_points(self) -> np.ndarray:
        """Its points (N,3) float32 at rest, Y up, pelvis at the origin."""
        puppet = the_puppet()
        shaped, joints = puppet.shaped(torch.as_tensor(self.betas))
        return self.samples.apply((shaped - joints[0]).numpy(), puppet.faces.numpy()).astype(np.float32)

    def regions(self) -> np.ndarray:
        """Body region (N,) uint8 of each of its points: that of the nearest corner of its triangle."""
        puppet = the_puppet()
        if puppet.regions is None:
            return np.zeros(len(self.samples.triangles), np.uint8)
        corners = puppet.faces.numpy()[self.samples.triangles]
        nearest = self.samples.barycentric.argmax(axis=1)
        return puppet.regions[corners[np.arange(len(corners)), nearest]].astype(np.uint8)


@dataclass(frozen=True, eq=False)
class PosedActor:
    """A posed body: poses (T,24,3), vertices (T,V,3), points (T,N,3), joints (T,24,3), trans (T,3), and what moves its
    rest vertices before ``trans`` is added, (T,24,12) as of ``Puppet.transforms``."""

    poses: np.ndarray
    vertices: Tensor
    points: np.ndarray
    joints: np.ndarray
    trans: np.ndarray
    transforms: Tensor

    def moved(self, place: np.ndarray) -> PosedActor:
        """The same at another place (3,) of the floor."""
        shift = torch.as_tensor(place, dtype=self.vertices.dtype, device=self.vertices.device)
        return replace(
            self,
            vertices=self.vertices + shift,
            points=self.points + place,
            joints=self.joints + place,
            trans=self.trans + place,
        )


@dataclass(frozen=True, eq=False)
class RenderedActors:
    """Posed characters under a camera, drawn.

    Attributes:
        image: (T,H,W,3) uint8; clay: the same with every body in mid grey; empty: without bodies and their shadows.
        mask: (T,H,W) bool, pixels at least half covered by a body.
        visibility: (C,T,N) bool.
    """

    image: np.ndarray
    clay: np.ndarray
    empty: np.ndarray
    mask: np.ndarray
    visibility: np.ndarray


@lru_cache(maxsize=2)
def the_puppet(device: str = "cpu") -> Puppet:
    """The body that all actors have, on a device."""
    return make_puppet(embedded(), device=device)


@lru_cache(maxsize=64)
def surface_samples(n: int, index: int) -> SurfaceSamples:
    """The ``index``-th way of spreading ``n`` points: evenly, or every fourth of an even set four times as large."""
    puppet = the_puppet()
    vertices, faces = puppet.v_template.numpy(), puppet.faces.numpy()
    if index % 2 == 0:
        return sample_surface(vertices, faces, n, seed=index)
    dense = sample_surface(vertices, faces, 4 * n, seed=index)
    return SurfaceSamples(dense.triangles[::4][:n], dense.barycentric[::4][:n])


def pose_actor(actor: Actor, poses: np.ndarray, path: np.ndarray, lift: float, device: torch.device) -> PosedActor:
    """Pose a body and stand it on the floor, ``lift`` metres above it; leaps rise above that as the path says."""
    puppet = the_puppet(str(device))
    rotations = torch.as_tensor(axis_angle_to_matrix(poses).astype(np.float32), device=device)
    betas = torch.as_tensor(actor.betas, device=device)
    over_floor = path * np.array([1, 1, 0], np.float32)
    vertices, joints = puppet.pose(betas, rotations, torch.as_tensor(over_floor, device=device))
    height = -vertices[..., 2].amin(dim=1).cpu().numpy()
    if path[:, 2].any():
        # In the air the pelvis follows gravity, whatever the legs do, from its last height on the floor to its next.
        on_floor = np.flatnonzero(path[:, 2] <= 0)
        if len(on_floor):
            risen = np.interp(np.arange(len(path)), on_floor, height[on_floor]) + path[:, 2]
        else:
            risen = height.max() + path[:, 2] - path[:, 2].min()
        height = np.where(path[:, 2] > 0, np.maximum(risen, height), height)
    up = np.zeros((len(path), 1, 3), np.float32)
    up[..., 2] = (lift + height)[:, None]
    vertices, joints = vertices + torch.as_tensor(up, device=device), joints + torch.as_tensor(up, device=device)
    points = actor.samples.apply(vertices.cpu().numpy(), puppet.faces.cpu().numpy())
    transforms, _ = puppet.transforms(puppet.shaped(betas)[1], rotations)
    return PosedActor(
        poses, vertices, points.astype(np.float32), joints.cpu().numpy(), over_floor + up[:, 0], transforms
    )


def render_actors(
    vertices: Tensor,
    actors: list[Actor],
    points: np.ndarray,
    place: Surroundings,
    viewmats: np.ndarray,
    Ks: np.ndarray,
    width: int,
    height: int,
) -> RenderedActors:
    """Draw posed bodies (C,T,V,3) with their points (C,T,N,3) under cameras (T,4,4) with Ks (T,3,3) in pixels."""
    device = vertices.device
    wide, high = width * SUPERSAMPLING, height * SUPERSAMPLING
    count, frames, n_vertices, _ = vertices.shape
    one = the_puppet(str(device)).faces
    view = torch.as_tensor(viewmats, device=device)
    K = torch.as_tensor(Ks, device=device).clone()
    K[:, :2] *= SUPERSAMPLING
    faces = torch.cat([one + c * n_vertices for c in range(count)])
    normals = torch.cat([vertex_normals(vertices[c], one) for c in range(count)], dim=1)
    everybody = vertices.transpose(0, 1).reshape(frames, count * n_vertices, 3)
    colours = torch.as_tensor(np.concatenate([a.colours for a in actors]), device=device)

    raster = rasterise(everybody, faces, view, K, high, wide)
    empty, scene = draw_surroundings(place, view, K, high, wide, everybody)
    light = world_light(place, view)[raster.index // (high * wide), 0]
    # Colours and normals in one go.
    painted = torch.cat([colours.expand(frames, -1, -1), normals], dim=-1)
    found = raster.interpolate(painted, faces)
    normal = found[:, 3:] * torch.rsqrt((found[:, 3:] ** 2) @ torch.ones(3, 1, device=device)).clamp(max=1e6)
    lit = illuminate(place, normal, light)

    flat = scene.expand(frames, high, wide, 3).reshape(-1, 3).clone()

    def picture(bodies: Tensor) -> np.ndarray:
        """The scene with ``bodies`` (P,3) where they show, (T,H,W,3)."""
        flat[raster.index] = bodies.clamp(0, 1)
        return levels(box_mean(flat.view(frames, high, wide, 3))).cpu().numpy()

    cover = torch.isfinite(raster.depth).float()[..., None]
    return RenderedActors(
        image=picture(found[:, :3] * lit),
        clay=picture((CLAY * lit).expand(-1, 3)),
        empty=levels(box_mean(empty)).expand(frames, height, width, 3).cpu().numpy(),
        mask=(box_mean(cover)[..., 0] >= 0.5).cpu().numpy(),
        visibility=points_seen(torch.as_tensor(points, device=device), raster, view, K).cpu().numpy(),
    )


def levels(image: Tensor) -> Tensor:
    """A picture in [0,1] as uint8."""
    return (image * 255).round().to(torch.uint8)


def box_mean(image: Tensor) -> Tensor:
    """Average SUPERSAMPLING x SUPERSAMPLING squares of (T,H,W,D)."""
    frames, height, width, depth = image.shape
    s = SUPERSAMPLING
    # Adding slices is several times as fast as a reduction over two.
    rows = reduce(torch.add, image.reshape(frames, height // s, s, width * depth).unbind(2))
    return reduce(torch.add, rows.view(frames, height // s, width // s, s, depth).unbind(3)) / s**2


def points_seen(points: Tensor, raster: Raster, viewmats: Tensor, Ks: Tensor) -> Tensor:
    """Whether points (C,T,N,3) lie in the picture and on the drawn surface: (C,T,N) bool."""
    frames, height, width = raster.depth.shape
    seen = []
    for one in points:
        screen = project_torch(one, viewmats, Ks)
        column, row = torch.floor(screen[..., 0]), torch.floor(screen[..., 1])
        inside = (screen[..., 2] > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        frame = torch.arange(frames, device=points.device)[:, None]
        drawn = raster.depth[frame, row.clamp(0, height - 1).long(), column.clamp(0, width - 1).long()]
        seen.append(inside & (screen[..., 2] <= drawn + _VISIBLE_WITHIN) & torch.isfinite(drawn))
    return torch.stack(seen)
