"""Where every pixel of the first frame goes, from the scene's geometry: no estimate.

Shape letters: T frames, N = T-1 frames after the first, H W picture, P = H*W pixels, Q pixels that show a surface,
K points of a cloud.

The surface point that a pixel of frame 0 shows is found by drawing the triangles; the same point of the same triangle
is then projected by the camera of each later frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...raster.occlusion import BEHIND, hidden, inside
from ...raster.rasterise import draw_depth, project_torch, rasterise
from ...raster.surfaces import SET_LABEL, Cloud, SurfaceSet
from ...shot import Shot
from ...shot.cameras import camera_centers
from .splat import PixelMotion

_NEAR = 0.01
"""Metres from the camera's plane that still count as in front of it."""


_REACH = 1.5
"""A pixel shows a cloud when one of its points is nearer than this many of their spacings."""

_STILL = 1e-4
"""A camera that moves by less than this share of the backdrop's distance only turns."""

_PAIRS = 8_000_000
"""Distances between pixels and points computed at a time."""


@dataclass(frozen=True, eq=False)
class ExactMotion:
    """Motion of the first frame, and what an animator should know about it.

    Attributes:
        motion: flow (1,N,2,H,W), depth (1,N,H,W) and labels (1,H,W), see ``PixelMotion``.
        seen: by label, (N,) share of what frame 0 shows of a body that is still seen in each later frame.
        assumed_backdrop: metres at which something without geometry was taken to stand, where the camera travels so
            that this matters; else None.
    """

    motion: PixelMotion
    seen: dict[int, np.ndarray]
    assumed_backdrop: float | None


def backdrop_depth(shot: Shot) -> float:
    """Metres from the first camera at which everything without geometry is taken to stand: as far as the characters."""
    view = shot.clip.viewmats[0].astype(np.float64)
    points = [character.points[0] for character in shot.characters] or [mesh.vertices[0] for mesh in shot.meshes]
    if points:
        depth = float(np.mean([(p @ view[2, :3] + view[2, 3]).mean() for p in points]))
        if depth > _NEAR:
            return depth
    return 3.0


def camera_travels(viewmats: np.ndarray, distance: float) -> bool:
    """Whether cameras (T,4,4) change their place, measured against a distance in metres."""
    centres = camera_centers(np.asarray(viewmats, np.float64))
    return bool(np.linalg.norm(centres - centres[0], axis=-1).max() > _STILL * distance)


def exact_motion(
    scene: SurfaceSet,
    viewmats: np.ndarray,
    Ks: np.ndarray,
    height: int,
    width: int,
    backdrop: float = 3.0,
    occlusion: bool = True,
    on_frame: Callable[[int, int], None] = lambda frame, frames: None,
) -> ExactMotion:
    """Motion of every pixel of frame 0 to all later frames.

    What has no geometry stands on a plane across the first camera's view. Where the camera only turns, the plane's
    distance makes no difference; where nothing moves, the flow is exactly 0.

    Args:
        viewmats: (T,4,4) world to OpenCV camera; Ks: (T,3,3) pixels of the ``width`` x ``height`` picture.
        backdrop: metres from the first camera to that plane, or more where the still set is seen farther away.
        occlusion: set the flow to NaN where the surface is hidden in the later frame: behind something nearer, or
            turned away. What leaves the picture keeps its flow, so that blocks at the border move as a whole; a
            splat drops it. What passes behind the camera is NaN in any case.
        on_frame: told (frames done, frames) as the work goes on; may raise.
    """
    device = scene.device
    frames, pixels = len(viewmats), height * width
    views, intrinsics = _tensor(viewmats, device).float(), _tensor(Ks, device).float()
    vertices = scene.vertices(0)

    picture = {"height": height, "width": width, "cull": False, "near": _NEAR}
    first = rasterise(vertices[None], scene.faces, views[:1], intrinsics[:1], **picture)
    shown_Q = first.index
    corners_Q3 = scene.faces[first.face]
    labels_P = torch.zeros(pixels, dtype=torch.int64, device=device)
    labels_P[shown_Q] = scene.labels[first.face]
    known_P = torch.zeros(pixels, dtype=torch.bool, device=device)
    known_P[shown_Q] = True
    still_Q = scene.labels[first.face] == SET_LABEL
    if still_Q.any():
        # What shows no surface lies beyond the set, as the sky does beyond the floor.
        backdrop = max(backdrop, float(first.depth.flatten()[shown_Q[still_Q]].amax()))
    place_P3 = _plane(views[0], intrinsics[0], height, width, backdrop)
    place_P3[shown_Q] = _interpolate(vertices, corners_Q3, first.barycentric)
    start_P3 = project_torch(place_P3[None], views[:1], intrinsics[:1])[0]
    facing_Q = _facing(vertices, corners_Q3, views[0])
    clouds = [_attach(cloud, first.depth[0], views[0], intrinsics[0]) for cloud in scene.clouds]
    for cloud, attached in zip(scene.clouds, clouds, strict=True):
        labels_P[attached.pixels] = cloud.label
        known_P[attached.pixels] = True

    flow_N2P = torch.empty(frames - 1, 2, pixels, device=device)
    depth_NP = torch.empty(frames - 1, pixels, device=device)
    bodies = {int(label): labels_P == label for label in labels_P.unique() if label > 0}
    seen = {label: np.zeros(frames - 1) for label in bodies}
    for frame in range(1, frames):
        on_frame(frame - 1, frames - 1)
        vertices = scene.vertices(frame)
        place_P3[shown_Q] = _interpolate(vertices, corners_Q3, first.barycentric)
        target_P3 = project_torch(place_P3[None], views[frame, None], intrinsics[frame, None])[0]
        uv_P2, z_P = target_P3[:, :2], target_P3[:, 2].clone()
        moved_P2 = uv_P2 - start_P3[:, :2]
        gone_P = z_P <= _NEAR
        if occlusion:
            # The backdrop is behind everything, wherever its plane was assumed.
            camera = views[frame, None], intrinsics[frame, None]
            front_HW = draw_depth(vertices[None], scene.faces, *camera, **picture)[0]
            hidden_P = hidden(front_HW, uv_P2, torch.where(known_P, z_P, torch.inf))
            hidden_P[shown_Q] |= _facing(vertices, corners_Q3, views[frame]) != facing_Q
            gone_P |= hidden_P
        moved_P2[gone_P] = torch.nan
        for cloud, attached in zip(scene.clouds, clouds, strict=True):
            target = _locate(cloud, frame, views[frame], intrinsics[frame])
            moved = target[:, :2] - attached.start
            gone = target[:, 2] <= _NEAR
            if occlusion:
                # A cloud's points count as not visible outside the picture too, where the flow stays known.
                visible = cloud.visibility[min(frame, len(cloud.visibility) - 1)]
                gone |= ~_tensor(visible, device) & inside(target[:, :2], height, width)
            moved[gone] = torch.nan
            moved_P2[attached.pixels], z_P[attached.pixels] = moved[attached.points], target[attached.points, 2]
        far = z_P[known_P].amax() if known_P.any() else z_P.new_tensor(backdrop)
        z_P[~known_P] = 2 * far.clamp(min=backdrop)
        flow_N2P[frame - 1], depth_NP[frame - 1] = moved_P2.T, z_P.clamp(min=_NEAR)
        inside_P = inside(start_P3[:, :2] + moved_P2, height, width)
        for label, mask_P in bodies.items():
            seen[label][frame - 1] = float((inside_P & mask_P).sum() / mask_P.sum())
    on_frame(frames - 1, frames - 1)
    motion = PixelMotion(
        flow_N2P.view(1, frames - 1, 2, height, width),
        depth_NP.view(1, frames - 1, height, width),
        labels_P.view(1, height, width),
    )
    assumed = camera_travels(viewmats, backdrop) and not bool(known_P.all())
    return ExactMotion(motion, seen, backdrop if assumed else None)


def _interpolate(vertices: Tensor, corners_Q3: Tensor, barycentric_Q3: Tensor) -> Tensor:
    """Points (Q,3) at barycentric places of triangles."""
    return (vertices[corners_Q3] * barycentric_Q3[..., None]).sum(dim=1)


def _facing(vertices: Tensor, corners_Q3: Tensor, viewmat: Tensor) -> Tensor:
    """(Q,) bool: which side of its triangle the camera sees."""
    camera = vertices @ viewmat[:3, :3].T + viewmat[:3, 3]
    first, second, third = camera[corners_Q3].unbind(dim=1)
    return (first * torch.linalg.cross(second, third)).sum(dim=-1) < 0


def _plane(viewmat: Tensor, K: Tensor, height: int, width: int, depth: float) -> Tensor:
    """World points (P,3) that the pixels show of a plane across the view."""
    rows, columns = torch.meshgrid(
        torch.arange(height, device=K.device) + 0.5, torch.arange(width, device=K.device) + 0.5, indexing="ij"
    )
    pixels = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1).flatten(0, 1)
    camera = pixels @ torch.linalg.inv(K).T * depth
    return (camera - viewmat[:3, 3]) @ viewmat[:3, :3]


def _tensor(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.as_tensor(np.ascontiguousarray(values), device=device)


def _locate(cloud: Cloud, frame: int, viewmat: Tensor, K: Tensor) -> Tensor:
    """Pixels and depth (K,3) of a cloud's points at a frame; beyond the last one as at the last."""
    points = _tensor(cloud.points[min(frame, len(cloud.points) - 1)], viewmat.device).float()
    return project_torch(points[None], viewmat[None], K[None])[0]


@dataclass(frozen=True, eq=False)
class _Attached:
    """Pixels (A,) of frame 0 that show a cloud, the point (A,) that each follows, and the points' own pixels (K,2)."""

    pixels: Tensor
    points: Tensor
    start: Tensor


def _attach(cloud: Cloud, depth_HW: Tensor, viewmat: Tensor, K: Tensor) -> _Attached:
    """Give each pixel near a visible point, unless something nearer is drawn there, to the nearest such point."""
    height, width = depth_HW.shape
    device = depth_HW.device
    screen = _locate(cloud, 0, viewmat, K)
    visible = _tensor(cloud.visibility[0], device) & (screen[:, 2] > _NEAR)
    index = torch.nonzero(visible).squeeze(1)
    if len(index) < 2:
        empty = torch.zeros(0, dtype=torch.int64, device=device)
        return _Attached(empty, empty, screen[:, :2])
    uv = screen[index, :2]
    apart = torch.cdist(uv, uv)
    apart.fill_diagonal_(torch.inf)
    reach = _REACH * float(apart.amin(dim=1).median())
    rows = torch.arange(height, device=device, dtype=torch.float32) + 0.5
    columns = torch.arange(width, device=device, dtype=torch.float32) + 0.5
    band = max(1, _PAIRS // (width * len(index)))
    pixels, owners = [], []
    for top in range(0, height, band):
        grid = torch.cartesian_prod(rows[top : top + band], columns)[:, [1, 0]]
        distance, nearest = torch.cdist(grid, uv).min(dim=1)
        behind = screen[index[nearest], 2] * (1 - BEHIND) > depth_HW[top : top + band].flatten()
        chosen = torch.nonzero((distance <= reach) & ~behind).squeeze(1)
        pixels.append(chosen + top * width)
        owners.append(index[nearest[chosen]])
    return _Attached(torch.cat(pixels), torch.cat(owners), screen[:, :2])
