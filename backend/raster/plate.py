"""Before and behind the bodies: the set that hides them, and the background with their shadows and reflections.

Shape letters: T frames, H W film, V vertices, F triangles, B corners of boxes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..media import background_parts, decode_rgba
from ..shot import Shot
from .character_meshes import CharacterMesh
from .rasterise import Raster, draw_depth
from .spread import spread, square_sum

PLAIN = 128.0
"""Grey behind the bodies of a shot without a background, 0..255."""

_FLOOR = 4.0
_BOUNDS = (0.1, 4.0)
_REACH = 3
"""Pixels by which shadows and reflections go on under a body's outline, where pixels show both."""
_WITHIN = 0.01
"""Metres that a body may sink into the set and still be whole: soles into a floor."""


def read_plate(shot: Shot, width: int, height: int, device: torch.device, frames: range | None = None) -> Tensor:
    """The background (T,H,W,3) float32 0..255, plain grey where the shot has none; of some frames, or all. Raises
    MediaError."""
    return next(read_plates(shot, width, height, device, [range(shot.clip.frames) if frames is None else frames]))


def read_plates(shot: Shot, width: int, height: int, device: torch.device, parts: Sequence[range]) -> Iterator[Tensor]:
    """``read_plate`` of parts of the film that follow each other; a film is read along with them."""
    for part, pictures in zip(parts, background_parts(shot, width, height, parts), strict=True):
        if pictures is None:
            yield torch.full((len(part), height, width, 3), PLAIN, device=device)
        else:
            yield torch.as_tensor(pictures, device=device).float()


def read_clay(shot: Shot, width: int, height: int, device: torch.device, frames: range | None = None) -> Tensor | None:
    """The shot's clay (T,H,W,4) float32 0..255 with its alpha, of some frames or all; or None. Raises MediaError."""
    if shot.clay is None:
        return None
    wanted = range(shot.clip.frames) if frames is None else frames
    still = len(shot.clay.media) == 1
    pictures = []
    for i in range(1) if still else wanted:
        media = shot.clay.media[i]
        pixels = torch.as_tensor(decode_rgba(media, f"clay.media[{i}]").copy(), device=device)
        pixels = pixels.permute(2, 0, 1)[None].float()
        pixels = _middle(pixels, shot.clip.width / shot.clip.height)
        if pixels.shape[2:] != (height, width):
            pixels = F.interpolate(pixels, (height, width), mode="bilinear", antialias=True, align_corners=False)
        pictures.append(pixels[0].permute(1, 2, 0))
    clay = torch.stack(pictures)
    return clay.expand(len(wanted), -1, -1, -1)


def _middle(pixels: Tensor, aspect: float) -> Tensor:
    """The middle of pictures (B,C,H,W) at another width over height, as much of it as that allows."""
    height, width = pixels.shape[2:]
    across, down = min(width, round(height * aspect)), min(height, round(width / aspect))
    left, top = (width - across) // 2, (height - down) // 2
    return pixels[:, :, top : top + down, left : left + across]


def under_bodies(plate: Tensor, clay: Tensor, cover: Tensor) -> Tensor:
    """The background with what bodies cast on it: the clay's own pixels outside their outline.

    Args:
        plate: (T,H,W,3). clay: (T,H,W,4) that shows the background. cover: (T,H,W) share of pixels that bodies cover.
    """
    around = square_sum((cover > 0).float(), 1) > 0
    ratio = ((clay[..., :3] + _FLOOR) / (plate + _FLOOR)).clamp(*_BOUNDS).permute(0, 3, 1, 2)
    cast, known = spread(ratio.contiguous(), ~around[:, None], _REACH)
    cast = torch.where(known, cast, torch.ones_like(cast)).permute(0, 2, 3, 1)
    under = ((plate + _FLOOR) * cast - _FLOOR).clamp(0, 255)
    return torch.where(around[..., None], under, clay[..., :3])


class Hiding:
    """The parts of the set that can stand before a body.

    A triangle whose plane has the camera and all bodies on one side hides nothing: floors, walls, ceilings and
    backdrops drop out.

    Args:
        shot: with the meshes of its set. characters: its characters.
    """

    def __init__(self, shot: Shot, characters: Sequence[CharacterMesh], device: torch.device) -> None:
        parts = [mesh for mesh in shot.meshes if mesh.character < 0]
        self._vertices = [torch.as_tensor(mesh.vertices, device=device) for mesh in parts]
        counts = np.cumsum([0, *(mesh.vertices.shape[1] for mesh in parts)])
        faces = [mesh.triangles.astype(np.int64) + count for mesh, count in zip(parts, counts, strict=False)]
        self._faces = torch.as_tensor(np.concatenate(faces), device=device) if faces else None
        self._characters = characters

    def hide(self, raster: Raster, now: slice, views: Tensor, lenses: Tensor, bodies: Tensor) -> Raster:
        """Take away the samples of ``raster`` that the set hides.

        Args:
            now: frames that were drawn. views: (T,4,4), lenses: (T,3,3) they were drawn with. bodies: (T,V,3) of all.
        """
        if self._faces is None or not len(raster.index):
            return raster
        frames = now.stop - now.start
        vertices = torch.cat(
            [part[now] if len(part) > 1 else part.expand(frames, -1, -1) for part in self._vertices], dim=1
        )
        before = self._before(vertices, views, bodies)
        if not before.any():
            return raster
        height, width = raster.depth.shape[1:]
        depth = draw_depth(vertices, self._faces[before], views, lenses, height, width, cull=False)
        hidden = depth.flatten()[raster.index] < raster.depth.flatten()[raster.index] - 1e-3
        whole = raster.depth.flatten().clone()
        whole[raster.index[hidden]] = torch.inf
        return Raster(
            whole.view_as(raster.depth),
            raster.index[~hidden],
            raster.face[~hidden],
            raster.barycentric[~hidden],
        )

    def _before(self, vertices: Tensor, views: Tensor, bodies: Tensor) -> Tensor:
        """Triangles (F,) bool that stand between the camera and a body in some frame."""
        assert self._faces is not None
        eye = -(views[:, :3, :3].transpose(1, 2) @ views[:, :3, 3:])[..., 0]
        low, high = bodies.amin(dim=1), bodies.amax(dim=1)
        farthest = (bodies @ views[:, 2, :3, None])[..., 0].amax(dim=1) + views[:, 2, 3]
        found = torch.zeros(len(self._faces), dtype=torch.bool, device=vertices.device)
        for t in range(len(views)):
            corners = vertices[t][self._faces]
            normal = F.normalize(
                torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), dim=-1
            )
            side = ((eye[t] - corners[:, 0]) * normal).sum(dim=-1, keepdim=True)
            normal = normal * torch.where(side < 0, -1.0, 1.0)
            # The corner of the bodies' box that lies deepest behind the plane, seen from the camera.
            deepest = torch.where(normal > 0, low[t], high[t])
            behind = ((deepest - corners[:, 0]) * normal).sum(dim=-1) < -_WITHIN
            nearest = (corners @ views[t, 2, :3]).amin(dim=1) + views[t, 2, 3]
            found |= behind & (nearest < farthest[t])
        return found
