"""Surroundings of the synthetic shots and their light.

Shape letters: T frames, H W image, V vertices.

The surroundings are a plain colour, a gradient, or a floor with a horizon or a wall in true perspective.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .patterns import random_colour


@dataclass(frozen=True)
class Surroundings:
    """Everything in the picture but the characters, as a function of the ray through a pixel.

    Attributes:
        sky: (2,3) colours at the horizon and overhead.
        floor: (2,3) colours of the floor's fields; equal for a plain floor. None for no floor.
        tile: side of a field in metres.
        turn: rotation of the fields in radians.
        wall: (2,3) colours of a wall's stripes, or None.
        wall_at: (2,) direction and distance in metres of the wall: angle, distance.
        stripe: width of a stripe in metres.
        haze: how much the floor fades to the horizon per metre.
        shadow: strength of the contact shadow in [0,1].
        light: (3,) direction towards the light, in the camera's frame when ``follows``, else in the world.
        follows: the light hangs on the camera, as Blender's studio lights do.
        ambient: share of light that comes from everywhere.
    """

    sky: np.ndarray
    floor: np.ndarray | None
    tile: float
    turn: float
    wall: np.ndarray | None
    wall_at: np.ndarray
    stripe: float
    haze: float
    shadow: float
    light: np.ndarray
    follows: bool
    ambient: float


def random_surroundings(rng: np.random.Generator, azimuth: float) -> Surroundings:
    """Surroundings for a camera that stands at ``azimuth`` (radians) of the body; a wall goes behind the body."""
    kind = rng.choice(["plain", "gradient", "floor", "chequers", "wall"], p=[0.26, 0.1, 0.24, 0.2, 0.2])
    base = np.full(3, rng.uniform(0.04, 0.97)) if rng.random() < 0.45 else random_colour(rng, 0.6)
    sky = np.stack([base, base])
    if kind == "gradient" or (kind != "plain" and rng.random() < 0.5):
        sky[1] = np.clip(base * rng.uniform(0.5, 1.3) + rng.normal(0, 0.06, 3), 0, 1)
    floor = wall = None
    if kind in ("floor", "chequers", "wall"):
        first = np.full(3, rng.uniform(0.1, 0.95)) if rng.random() < 0.5 else random_colour(rng, 0.6)
        second = first
        if kind == "chequers" or (kind == "wall" and rng.random() < 0.3):
            second = np.clip(first * rng.uniform(0.5, 0.9), 0, 1) if rng.random() < 0.6 else random_colour(rng, 0.5)
        floor = np.stack([first, second])
    if kind == "wall":
        first = random_colour(rng, 0.5)
        wall = np.stack([first, first if rng.random() < 0.6 else np.clip(first * rng.uniform(0.6, 1.2), 0, 1)])
    follows = bool(rng.random() < 0.65)
    # Towards the light: up and to one side; in the camera's frame y points down and z away from the camera.
    if follows:
        light = np.array([rng.normal(0, 0.6), -rng.uniform(0.3, 1.0), -rng.uniform(0.4, 1.0)])
    else:
        light = np.array([rng.normal(0, 0.7), rng.normal(0, 0.7), rng.uniform(0.5, 1.2)])
    return Surroundings(
        sky=sky,
        floor=floor,
        tile=float(rng.uniform(0.3, 1.2)),
        turn=float(rng.uniform(0, np.pi)),
        wall=wall,
        wall_at=np.array([azimuth + np.pi + rng.normal(0, 0.5), rng.uniform(0.8, 4.0)]),
        stripe=float(rng.uniform(0.2, 1.0)),
        haze=float(rng.uniform(0.0, 0.25)),
        shadow=float(rng.uniform(0.15, 0.5)) if rng.random() < 0.3 else 0.0,
        light=light / np.linalg.norm(light),
        follows=follows,
        ambient=float(rng.uniform(0.35, 0.7)),
    )


def clear_of(place: Surroundings, vertices: np.ndarray, margin: float = 0.15) -> Surroundings:
    """The same place with its wall far enough away that no body, of vertices (...,3), reaches through it."""
    if place.wall is None:
        return place
    angle, distance = place.wall_at
    reach = float((vertices[..., 0] * np.cos(angle) + vertices[..., 1] * np.sin(angle)).max())
    return replace(place, wall_at=np.array([angle, max(distance, reach + margin)]))


def cast_rays(viewmats: Tensor, Ks: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Camera positions (T,3), and unit rays (3,T,H,W) through the pixels' centres, in the world."""
    device = viewmats.device
    rotation = viewmats[:, :3, :3]
    eye = -(rotation.transpose(1, 2) @ viewmats[:, :3, 3:])[..., 0]
    # Each component is linear in the pixel.
    across, down, constant = (rotation.transpose(1, 2) @ torch.linalg.inv(Ks)).permute(2, 1, 0)[..., None, None]
    u = torch.arange(width, device=device) + 0.5
    v = (torch.arange(height, device=device) + 0.5)[:, None]
    rays = across * u + (down * v + constant)
    return eye, rays * torch.rsqrt(rays[0] * rays[0] + rays[1] * rays[1] + rays[2] * rays[2])


def _shadow_map(vertices: Tensor, towards_light: Tensor, cells: int = 96, reach: float = 2.4) -> Tensor:
    """Soft occupancy (T,1,cells,cells) of the floor around the origin under the bodies, seen along the light."""
    up = towards_light[..., 2:].clamp(min=0.5)
    fall = vertices[..., :2] - towards_light[..., :2] / up * vertices[..., 2:]
    cell = ((fall + reach) / (2 * reach) * cells).long()
    inside = ((cell >= 0) & (cell < cells)).all(dim=-1)
    frames = vertices.shape[0]
    flat = cell[..., 1].clamp(0, cells - 1) * cells + cell[..., 0].clamp(0, cells - 1)
    image = torch.zeros(frames, cells * cells, device=vertices.device)
    image.scatter_reduce_(1, flat, inside.to(image.dtype), reduce="amax")
    image = image.view(frames, 1, cells, cells)
    for _ in range(3):
        image = torch.nn.functional.avg_pool2d(image, 3, stride=1, padding=1)
    return image


def wall_hits(place: Surroundings, eye: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    """Metres along unit rays (3,T,H,W) to the wall, infinite where there is none, and metres along the wall there.

    The wall has one side, as a set's: a camera behind it looks through it at the bodies.
    """
    if place.wall is None:
        none = torch.full(rays.shape[1:], torch.inf, device=rays.device)
        return none, torch.zeros_like(none)
    angle, distance = float(place.wall_at[0]), float(place.wall_at[1])
    c, s = float(np.cos(angle)), float(np.sin(angle))
    approach = c * rays[0] + s * rays[1]
    gap = distance - (c * eye[:, 0] + s * eye[:, 1])
    t = gap[:, None, None] / torch.where(approach.abs() < 1e-6, 1e-6, approach)
    start = c * eye[:, 1] - s * eye[:, 0]
    along = start[:, None, None] + (c * rays[1] - s * rays[0]) * t
    return torch.where((t > 0.05) & (gap[:, None, None] > 0), t, torch.inf), along


def floor_hits(place: Surroundings, eye: Tensor, rays: Tensor) -> Tensor:
    """Metres along unit rays (3,T,H,W) to the floor, infinite where there is none."""
    if place.floor is None:
        return torch.full(rays.shape[1:], torch.inf, device=rays.device)
    t = -eye[:, 2, None, None] / torch.where(rays[2].abs() < 1e-6, 1e-6, rays[2])
    return torch.where(t > 0.02, t, torch.inf)


def surroundings_hits(
    place: Surroundings, viewmats: Tensor, Ks: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Where the ray through each pixel's centre meets the surroundings.

    Returns:
        Camera positions (T,1,1,3), unit rays (T,H,W,3) in the world, and metres along them (T,H,W) to floor or wall,
        infinite for the sky.
    """
    eye, rays = cast_rays(viewmats, Ks, height, width)
    wall, _ = wall_hits(place, eye, rays)
    return eye[:, None, None], rays.permute(1, 2, 3, 0), torch.minimum(wall, floor_hits(place, eye, rays))


@dataclass(frozen=True, eq=False)
class Hits:
    """Where the rays through the pixels' centres meet the surroundings.

    Attributes:
        eye: (T,3) camera positions; rays: (3,T,H,W) unit, in the world.
        wall, floor: (T,H,W) metres along each ray, infinite where it meets none; along: (T,H,W) metres along the wall.
    """

    eye: Tensor
    rays: Tensor
    wall: Tensor
    along: Tensor
    floor: Tensor


def find_hits(place: Surroundings, viewmats: Tensor, Ks: Tensor, height: int, width: int) -> Hits:
    """Where the rays of cameras (T,4,4) with Ks (T,3,3) meet a place."""
    eye, rays = cast_rays(viewmats, Ks, height, width)
    wall, along = wall_hits(place, eye, rays)
    return Hits(eye, rays, wall, along, floor_hits(place, eye, rays))


def plain_colours(place: Surroundings, hits: Hits) -> Tensor:
    """A place without shadows, (T,H,W,3) in [0,1]."""
    rays, wall = hits.rays, hits.wall
    lift = (rays[2] * 1.6).clamp(0, 1)
    image = torch.empty(*lift.shape, 3, device=lift.device)
    horizon, overhead = ([float(value) for value in colour] for colour in place.sky)
    at_wall = torch.isfinite(wall) if place.wall is not None else None
    hit = None
    fade = odd_field = lift
    if place.floor is not None:
        hit = hits.floor < wall
        t = torch.where(hit, hits.floor, 0.0)
        ground = [hits.eye[:, k, None, None] + rays[k] * t for k in range(2)]
        c, s = float(np.cos(place.turn)), float(np.sin(place.turn))
        a = torch.floor((c * ground[0] + s * ground[1]) / place.tile)
        b = torch.floor((c * ground[1] - s * ground[0]) / place.tile)
        odd_field = (a + b) % 2 == 1
        fade = torch.exp(-place.haze * t.clamp(0, 60))
    odd_stripe = torch.floor(hits.along / place.stripe) % 2 == 1 if place.wall is not None else lift
    for k in range(3):
        plane = horizon[k] + (overhead[k] - horizon[k]) * lift
        if at_wall is not None and place.wall is not None:
            plane = torch.where(at_wall, torch.where(odd_stripe, *_pair(place.wall[:, k])), plane)
        if hit is not None and place.floor is not None:
            field = torch.where(odd_field, *_pair(place.floor[:, k])) * fade + horizon[k] * (1 - fade)
            plane = torch.where(hit, field, plane)
        image[..., k] = plane.clamp(0, 1)
    return image


def draw_surroundings(
    place: Surroundings, viewmats: Tensor, Ks: Tensor, height: int, width: int, vertices: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Pictures of the surroundings, empty and with the shadow of bodies.

    Args:
        viewmats: (T,4,4); Ks: (T,3,3); only the first of each is drawn when nothing moves.
        vertices: (T,V,3) of the bodies; without them both pictures are the same.

    Returns:
        (T,H,W,3) float32 in [0,1] each; (1,H,W,3) where nothing changes.
    """

    if bool((viewmats == viewmats[:1]).all() and (Ks == Ks[:1]).all()):
        views, lenses = viewmats[:1], Ks[:1]
    else:
        views, lenses = viewmats, Ks
    if place.floor is None and place.wall is None and np.array_equal(place.sky[0], place.sky[1]):
        plain = viewmats.new_tensor(place.sky[0]).expand(1, height, width, 3)
        return plain, plain
    hits = find_hits(place, views, lenses, height, width)
    image = plain_colours(place, hits)
    if vertices is None or place.shadow <= 0 or place.floor is None:
        return image, image
    frames = len(vertices)
    hit = hits.floor < hits.wall
    t = torch.where(hit, hits.floor, 0.0)
    ground = [hits.eye[:, k, None, None] + hits.rays[k] * t for k in range(2)]
    grid = (torch.stack(ground, dim=-1) / 2.4).clamp(-2, 2).expand(frames, -1, -1, -1)
    dark = torch.nn.functional.grid_sample(
        _shadow_map(vertices, world_light(place, viewmats)), grid, padding_mode="zeros", align_corners=False
    )[:, 0]
    light = 1 - place.shadow * torch.where(hit, dark, 0.0)
    return image, image * light[..., None]


def _pair(values: np.ndarray) -> tuple[float, float]:
    """The second and the first of two values, as ``torch.where`` wants them for what is odd and what is not."""
    return float(values[1]), float(values[0])


def world_light(place: Surroundings, viewmats: Tensor) -> Tensor:
    """Unit direction towards the light in the world, (T,1,3)."""
    light = torch.as_tensor(place.light, dtype=torch.float32, device=viewmats.device)
    if place.follows:
        return (light @ viewmats[:, :3, :3])[:, None]
    return light.expand(viewmats.shape[0], 1, 3)


def illuminate(place: Surroundings, normals: Tensor, light: Tensor) -> Tensor:
    """What soft studio light leaves of a colour (P,1), given unit ``normals`` (P,3) and ``light`` (P,3)."""
    lit = normals * light
    facing = lit[:, :1] + lit[:, 1:2] + lit[:, 2:]
    wrapped = ((facing + 0.35) / 1.35).clamp(min=0)
    return place.ambient + (1.08 - place.ambient) * wrapped
