"""The set of the dressed world: floor, walls and furniture with their textures, under its lights.

Shape letters: T frames (1 where nothing moves), H W drawn pixels, h w pixels of half that size, P covered pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..raster.rasterise import Raster, draw_faces
from .actors import box_mean
from .furniture import Furniture
from .lighting import Lighting, ShadowMap, contact_shadow, wrapped
from .patterns import random_colour
from .surroundings import Surroundings, find_hits, plain_colours

_COARSE = 4
"""Drawn pixels along a side of the squares that shadows on the set are worked out for."""


@dataclass(frozen=True, eq=False)
class Texture:
    """What a set's floor and walls are made of.

    Attributes:
        floor, wall: kind of each: "plain", "planks", "tiles", "bricks" or "cloth".
        size: (2,) metres of a plank, tile or brick of each.
        depth: (2,) in [0,1] how strongly each shows.
        grain: (4,3) waves of the dirt and grain over everything; grain_depth: how strongly it shows.
        rug: (6,) middle (x, y), half sides (2), turn and edge of a rug on the floor, or None; rug_colours: (2,3).
        pictures: (K,4) along the wall and up: middles and half sides; picture_colours: (K,2,3).
    """

    floor: str
    wall: str
    size: np.ndarray
    depth: np.ndarray
    grain: np.ndarray
    grain_depth: float
    rug: np.ndarray | None
    rug_colours: np.ndarray
    pictures: np.ndarray
    picture_colours: np.ndarray


def random_texture(rng: np.random.Generator) -> Texture:
    """Textures of a set."""
    rug = None
    if rng.random() < 0.35:
        rug = np.array(
            [*rng.normal(0, 0.6, 2), *rng.uniform(0.5, 1.4, 2), rng.uniform(0, np.pi), rng.uniform(0.05, 0.2)]
        )
    count = int(rng.integers(0, 6)) if rng.random() < 0.6 else 0
    pictures = np.stack(
        [
            rng.uniform(-3, 3, count),
            rng.uniform(0.8, 2.2, count),
            rng.uniform(0.12, 0.5, count),
            rng.uniform(0.12, 0.45, count),
        ],
        axis=1,
    )
    return Texture(
        str(rng.choice(["plain", "planks", "tiles", "cloth"], p=[0.25, 0.3, 0.25, 0.2])),
        str(rng.choice(["plain", "planks", "tiles", "bricks", "cloth"], p=[0.3, 0.15, 0.15, 0.2, 0.2])),
        rng.uniform(0.1, 0.45, 2),
        rng.uniform(0.1, 0.45, 2),
        rng.normal(0, 1, (4, 3)) * rng.uniform(2, 14, (4, 1)),
        float(rng.uniform(0.02, 0.16)),
        rug,
        np.stack([random_colour(rng), random_colour(rng)]),
        pictures,
        np.stack([[random_colour(rng), random_colour(rng)] for _ in range(count)]) if count else np.zeros((0, 2, 3)),
    )


@dataclass(frozen=True, eq=False)
class Stage:
    """A set with its lights."""

    place: Surroundings
    lighting: Lighting
    texture: Texture
    furniture: Furniture | None


class DrawnStage:
    """A set under a camera.

    Args:
        viewmats: (T,4,4); Ks: (T,3,3) pixels of the drawn picture, whose sides are even.

    Attributes:
        depth: (T',H,W) metres along the optical axis, infinite for the sky; T' is 1 where camera and lights are still.
    """

    def __init__(self, stage: Stage, viewmats: Tensor, Ks: Tensor, height: int, width: int) -> None:
        self._stage, self._frames = stage, len(viewmats)
        # A moving camera's set is worked out at the picture's own pixels, but for the furniture's outlines.
        coarse = 2
        if bool((viewmats == viewmats[:1]).all() and (Ks == Ks[:1]).all()):
            viewmats, Ks, coarse = viewmats[:1], Ks[:1], 1
        place, lighting = stage.place, stage.lighting
        lenses = Ks.clone()
        lenses[:, :2] /= coarse
        hits = find_hits(place, viewmats, lenses, height // coarse, width // coarse)
        eye, rays, wall, along, floor = hits.eye, hits.rays, hits.wall, hits.along, hits.floor
        far = torch.minimum(wall, floor)
        on_wall, on_floor = torch.isfinite(wall) & (wall <= floor), torch.isfinite(floor) & (floor < wall)
        reach = far.clamp(max=60)
        spots = [eye[:, k, None, None] + rays[k] * reach for k in range(3)]
        albedo = plain_colours(place, hits).permute(3, 0, 1, 2).contiguous()
        self._texture(albedo, spots, along, on_wall, on_floor, far)
        lights = lighting.towards(viewmats)
        cosines = [self._facing(lights[:, i], on_wall) for i in range(lights.shape[1])]
        up = torch.where(on_floor, 1.0, 0.0)
        axis = viewmats[:, 2, :3]
        slope = sum(rays[k] * axis[:, k, None, None] for k in range(3))
        assert isinstance(slope, Tensor)
        depth = torch.where(torch.isfinite(far), far * slope, torch.inf)
        below, above = ([float(v) for v in c] for c in (lighting.below, lighting.above))
        solid = on_wall | on_floor
        base, key = torch.empty_like(albedo), torch.empty_like(albedo)
        for k in range(3):
            fill = below[k] + (above[k] - below[k]) * (0.5 + 0.5 * up)
            for i in range(1, len(cosines)):
                fill = fill + cosines[i] * float(lighting.colours[i, k])
            base[k] = albedo[k] * torch.where(solid, fill, 1.0)
            key[k] = albedo[k] * torch.where(solid, cosines[0] * float(lighting.colours[0, k]), 0.0)
        light = torch.cat([base, key]).permute(1, 2, 3, 0)
        self._light, self.depth = _enlarged(light, coarse), _enlarged(depth[..., None], coarse)[..., 0]
        # Shadows are soft: one spot of a square of them will do.
        middle = slice(_COARSE // coarse // 2, None, _COARSE // coarse)
        self._spots = torch.stack([spot[:, middle, middle] for spot in spots], dim=-1)
        self._floor = on_floor[:, middle, middle].contiguous()
        if stage.furniture is not None:
            self._furnish(stage.furniture, viewmats, Ks, lights)

    def _texture(
        self, albedo: Tensor, spots: list[Tensor], along: Tensor, on_wall: Tensor, on_floor: Tensor, far: Tensor
    ) -> None:
        """Paint textures over the plain colours ``albedo`` (3,T,H,W)."""
        texture = self._stage.texture
        fine = (1 - far.clamp(max=60) / 14).clamp(min=0)
        x, y, z = spots
        shade = torch.ones_like(far)
        place = self._stage.place
        c, s = float(np.cos(place.turn)), float(np.sin(place.turn))
        a, b = c * x + s * y, c * y - s * x
        if place.floor is not None and texture.floor != "plain":
            shade = torch.where(on_floor, self._made(texture.floor, a, b, 0, fine), shade)
        if place.wall is not None and texture.wall != "plain":
            shade = torch.where(on_wall, self._made(texture.wall, along, z, 1, fine), shade)
        solid = on_wall | on_floor
        grain = torch.zeros_like(far)
        for wave in texture.grain:
            grain = grain + torch.sin(float(wave[0]) * x + float(wave[1]) * y + float(wave[2]) * z)
        shade = shade * torch.where(solid, 1 + texture.grain_depth * fine * grain / 2, 1.0)
        albedo *= shade
        if texture.rug is not None and place.floor is not None:
            mx, my, wide, deep, turn, edge = (float(v) for v in texture.rug)
            p = (np.cos(turn) * (x - mx) + np.sin(turn) * (y - my)).abs() - wide
            q = (np.cos(turn) * (y - my) - np.sin(turn) * (x - mx)).abs() - deep
            inside = torch.maximum(p, q)
            for k in range(3):
                rug = torch.where(inside > -edge, *(float(v) for v in texture.rug_colours[:, k]))
                albedo[k] = torch.where(on_floor & (inside < 0), rug, albedo[k])
        if place.wall is not None:
            for (mx, mz, wide, tall), colours in zip(texture.pictures.tolist(), texture.picture_colours, strict=True):
                p, q = (along - mx) / wide, (z - mz) / tall
                inside = torch.maximum(p.abs(), q.abs())
                for k in range(3):
                    picture = torch.where((p * q > 0) ^ (inside > 0.8), *(float(v) for v in colours[:, k]))
                    albedo[k] = torch.where(on_wall & (inside < 1), picture, albedo[k])

    def _made(self, kind: str, a: Tensor, b: Tensor, which: int, fine: Tensor) -> Tensor:
        """Brightness of a surface with coordinates ``a``, ``b`` in metres."""
        size, depth = float(self._stage.texture.size[which]), float(self._stage.texture.depth[which])
        if kind == "cloth":
            return 1 + depth * fine * 0.5 * (torch.sin(a * (6.3 / size)) * torch.sin(b * (6.3 / size)))
        wide, tall = {"planks": (0.5 * size, 6 * size), "tiles": (size, size), "bricks": (0.8 * size, 0.4 * size)}[kind]
        row = torch.floor(b / tall)
        column = a / wide + (0.5 * (row % 2) if kind == "bricks" else 0.0)
        number = torch.floor(column)
        tone = torch.sin(number * 12.9898 + row * 78.233) * 43758.5453
        tone = 1 + depth * fine * ((tone - torch.floor(tone)) - 0.5)
        joint = ((column - number) * wide < 0.012) | ((b / tall - row) * tall < 0.012)
        return torch.where(joint, 1 - depth * fine, tone)

    def _facing(self, light: Tensor, on_wall: Tensor) -> Tensor:
        """How much of a light (T,3) floor and wall get, (T,H,W)."""
        angle = float(self._stage.place.wall_at[0])
        floor = wrapped(light[:, 2])
        wall = wrapped(-light[:, 0] * float(np.cos(angle)) - light[:, 1] * float(np.sin(angle)))
        return torch.where(on_wall, wall[:, None, None], floor[:, None, None])

    def _furnish(self, furniture: Furniture, viewmats: Tensor, Ks: Tensor, lights: Tensor) -> None:
        """Draw the furniture over what is drawn so far."""
        frames, height, width = self.depth.shape
        device = viewmats.device
        vertices, normals, albedo = (
            torch.as_tensor(part, device=device) for part in (furniture.vertices, furniture.normals, furniture.colours)
        )
        faces = torch.as_tensor(furniture.faces, device=device)
        depth, face = draw_faces(vertices.expand(frames, -1, -1), faces, viewmats, Ks, height, width)
        at = torch.nonzero(depth.flatten() < self.depth.flatten()).squeeze(1)
        near, face, frame = depth.flatten()[at], face.flatten()[at], at // (height * width)
        self.depth.view(-1)[at] = near
        # Flat faces: light is worked out for each of them, not for each pixel.
        lighting = self._stage.lighting
        fill, key = lighting.constant(normals[:, 2:]).expand(frames, -1, -1), albedo.expand(frames, -1, -1)
        for i, colour in enumerate(torch.as_tensor(lighting.colours, dtype=torch.float32, device=device)):
            got = wrapped(lights[:, i] @ normals.T)[..., None] * colour
            fill, key = (fill, albedo * got) if i == 0 else (fill + got, key)
        light = torch.cat([albedo * fill, key], dim=-1).flatten(0, 1)
        self._light.view(-1, 6)[at] = light[frame * len(faces) + face]
        row, column = at // width % height, at % width
        coarse = (row % _COARSE == _COARSE // 2) & (column % _COARSE == _COARSE // 2)
        frame, row, column = frame[coarse], row[coarse], column[coarse]
        pixel = torch.stack([column + 0.5, row + 0.5, torch.ones_like(near[coarse])], dim=-1)
        seen = (torch.linalg.inv(Ks)[frame] @ pixel[..., None])[..., 0] * near[coarse, None]
        turn, shift = viewmats[frame, :3, :3], viewmats[frame, :3, 3]
        place = (frame, row // _COARSE, column // _COARSE)
        self._spots[place] = ((seen - shift)[:, None] @ turn)[:, 0]
        self._floor[place] = False

    def still_casters(self) -> Tensor | None:
        """Spots (S,3) of the furniture that cast shadows."""
        furniture = self._stage.furniture
        if furniture is None:
            return None
        corners = torch.as_tensor(furniture.vertices, device=self.depth.device)[torch.as_tensor(furniture.faces)]
        steps = torch.tensor([[a, b, 8 - a - b] for a in range(9) for b in range(9 - a)], dtype=torch.float32) / 8
        return (steps.to(corners) @ corners).flatten(0, 1)

    def picture(self, shadows: ShadowMap | None, casters: Tensor | None, fine: bool = True) -> Tensor:
        """The set (T',H,W,3) in [0,1], under shadows and with ``casters`` (T,V,3) in touch with the floor.

        Args:
            fine: as drawn; else (T',h,w,3), the means of squares of two by two pixels.
        """
        lighting = self._stage.lighting
        image = self._light if fine else self._means
        base, key = image[..., :3], image[..., 3:]
        if shadows is None:
            return (base + key).clamp(0, 1)
        lit = shadows.reaches(self._spots.flatten(1, 2)).unflatten(1, self._spots.shape[1:3])
        lit = 1 - lighting.shadow * (1 - lit)
        dark = torch.ones_like(lit)
        if casters is not None:
            dark = contact_shadow(casters, self._spots[..., :2])
            dark = 1 - lighting.contact * torch.where(self._floor, dark, 0.0)
        lit, dark = (
            F.interpolate(part[:, None], image.shape[1:3], mode="bilinear", align_corners=False)[:, 0, ..., None]
            for part in (lit * dark, dark)
        )
        return torch.addcmul(base * dark, key, lit).clamp_(0, 1)

    @cached_property
    def _means(self) -> Tensor:
        return box_mean(self._light)


def _enlarged(image: Tensor, by: int) -> Tensor:
    """A picture (T,H,W,D) with every pixel ``by`` times as wide and high."""
    if by == 1:
        return image.contiguous()
    frames, height, width, depth = image.shape
    large = image[:, :, None, :, None].expand(frames, height, by, width, by, depth)
    return large.reshape(frames, by * height, by * width, depth)


def nearer(raster: Raster, depth: Tensor) -> Raster:
    """The samples that lie before a set of ``depth`` (T,H,W) or (1,H,W)."""
    flat = raster.depth.flatten()
    pixel = raster.index if len(depth) > 1 else raster.index % depth[0].numel()
    shown = flat[raster.index] <= depth.flatten()[pixel]
    flat = flat.index_fill(0, raster.index[~shown], torch.inf)
    return Raster(flat.view_as(raster.depth), raster.index[shown], raster.face[shown], raster.barycentric[shown])
