"""Takes of the dressed world: the true film shows what bodies wear, its clay the bare bodies.

Shape letters: C characters, T frames, V vertices of a body, K of its outfit, F faces, N points, H W image, P pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..raster.rasterise import rasterise, vertex_normals
from .actors import CLAY, SUPERSAMPLING, Actor, PosedActor, RenderedActors, box_mean, levels, points_seen, the_puppet
from .furniture import random_furniture
from .lighting import ShadowMap, random_lighting, wrapped
from .outfit import Outfit
from .stage import DrawnStage, Stage, nearer, random_texture
from .surroundings import Surroundings, clear_of, random_surroundings
from .tailor import Tailor
from .truth import Drawn
from .wardrobe import random_outfit

_HAIR = 1
_ROOM = 0.45
"""Metres that walls keep from bodies."""
_SHEET_STEPS = torch.tensor([[a, b, 3 - a - b] for a in range(4) for b in range(4 - a)], dtype=torch.float32) / 3
"""Spots of a triangle of hanging cloth that cast shadows."""


@dataclass(frozen=True, eq=False)
class Worn:
    """A posed body with what it wears.

    Attributes:
        vertices, normals: (T,V+K,3), the body's first.
        faces: (F,3), outsides first; from ``lining`` on they are seen from inside, where normals are to be turned.
        colours: (V+K,3); regions: (V+K,) uint8.
        cloth: (F2,3) faces of hanging things.
    """

    vertices: Tensor
    normals: Tensor
    faces: Tensor
    lining: int
    colours: Tensor
    regions: np.ndarray
    cloth: Tensor

    def casters(self) -> Tensor:
        """Spots (T,S,3) that cast shadows."""
        sheets = _SHEET_STEPS.to(self.vertices) @ self.vertices[:, self.cloth]
        return torch.cat([self.vertices[:, ::2], sheets.flatten(1, 2)], dim=1)


def dress(rng: np.random.Generator, actor: Actor) -> Outfit | None:
    """A random outfit for a body."""
    puppet = the_puppet()
    assert puppet.regions is not None
    shaped, joints = puppet.shaped(torch.as_tensor(actor.betas))
    normals = vertex_normals(shaped[None], puppet.faces)[0]
    tailor = Tailor(
        (shaped - joints[0]).numpy().astype(np.float64),
        normals.numpy().astype(np.float64),
        puppet.faces.numpy(),
        puppet.weights.numpy(),
        puppet.regions,
        (joints - joints[0]).numpy(),
    )
    outfit = random_outfit(rng, tailor, np.median(actor.colours[puppet.regions == _HAIR], axis=0))
    return None if outfit is None else replace(outfit, rest=outfit.rest + joints[0])


def put_on(outfit: Outfit | None, actor: Actor, posed: PosedActor, fps: float) -> Worn:
    """A posed body with its outfit."""
    puppet = the_puppet(str(posed.vertices.device))
    assert puppet.regions is not None
    body, faces = posed.vertices, puppet.faces
    normals = vertex_normals(body, faces)
    colours = torch.as_tensor(actor.colours, device=body.device)
    if outfit is None:
        return Worn(body, normals, faces, len(faces), colours, puppet.regions, faces[:0])
    device, count = body.device, body.shape[1]
    # What hangs is worked out on the CPU: many small steps.
    own = outfit.pose(
        posed.transforms.cpu(), torch.as_tensor(posed.trans, dtype=torch.float32), body.cpu(), normals.cpu(), fps
    )
    own_normals = vertex_normals(own, outfit.faces)
    outside = torch.cat([faces[torch.as_tensor(outfit.kept, device=device)], outfit.faces.to(device) + count])
    lining = outfit.lining.to(device) + count
    return Worn(
        torch.cat([body, own.to(device)], dim=1),
        torch.cat([normals, own_normals.to(device)], dim=1),
        torch.cat([outside, lining]),
        len(outside),
        torch.cat([colours, torch.as_tensor(outfit.colours, device=device)]),
        np.concatenate([puppet.regions, outfit.regions]),
        lining,
    )


def random_stage(
    rng: np.random.Generator, place: Surroundings, bodies: np.ndarray, viewmats: np.ndarray, before: bool
) -> Stage:
    """A set around bodies (T,V,3), with furniture and lights; ``before``: some may stand before the bodies."""
    eyes = -(viewmats[:, :3, :3].transpose(0, 2, 1) @ viewmats[:, :3, 3:])[..., 0]
    furniture = (
        random_furniture(rng, place, bodies, eyes, before) if place.floor is not None and rng.random() < 0.8 else None
    )
    return Stage(place, random_lighting(rng), random_texture(rng), furniture)


def dressed_place(rng: np.random.Generator, place: Surroundings, azimuth: float, bodies: np.ndarray) -> Surroundings:
    """A place for a dressed take, mostly with a floor and often with a wall, clear of bodies (T,V,3) and of what they
    wear; shadows are the lights' own."""
    for _ in range(3):
        if place.floor is not None and (place.wall is not None or rng.random() < 0.4):
            break
        place = random_surroundings(rng, azimuth) if rng.random() < 0.85 else place
    return replace(clear_of(place, bodies, _ROOM), shadow=0.0)


def draw_worn(worn: Sequence[Worn], viewmats: Tensor, Ks: Tensor, height: int, width: int) -> tuple[Drawn, np.ndarray]:
    """Dressed bodies as the pixels' centres see them, and the regions (V,) of their vertices."""
    vertices, _, faces, _, owner, _ = worn_together(worn)
    drawn = Drawn(vertices, faces, owner, rasterise(vertices, faces, viewmats, Ks, height, width))
    return drawn, np.concatenate([one.regions for one in worn])


def worn_together(worn: Sequence[Worn]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """All characters as one mesh: vertices and normals (T,V,3), faces (F,3), which of these are linings (F,), whose
    they are (F,), and colours (V,3)."""
    starts = np.cumsum([0, *(one.vertices.shape[1] for one in worn)])
    device = worn[0].vertices.device
    return (
        torch.cat([one.vertices for one in worn], dim=1),
        torch.cat([one.normals for one in worn], dim=1),
        torch.cat([one.faces + int(start) for one, start in zip(worn, starts, strict=False)]),
        torch.cat([torch.arange(len(one.faces), device=device) >= one.lining for one in worn]),
        torch.cat([torch.full((len(one.faces),), c, device=device) for c, one in enumerate(worn)]),
        torch.cat([one.colours for one in worn]),
    )


def render_dressed(
    worn: Sequence[Worn],
    points: np.ndarray,
    stage: Stage,
    viewmats: np.ndarray,
    Ks: np.ndarray,
    width: int,
    height: int,
) -> RenderedActors:
    """As ``render_actors``: film and mask of dressed bodies, clay and visibility of the bare ones, all in one light."""
    device = worn[0].vertices.device
    size = (height * SUPERSAMPLING, width * SUPERSAMPLING)
    view, lens = torch.as_tensor(viewmats, device=device), torch.as_tensor(Ks, device=device)
    K = lens.clone()
    K[:, :2] *= SUPERSAMPLING
    puppet = the_puppet(str(device))
    n, frames = puppet.v_template.shape[0], len(viewmats)
    drawn = DrawnStage(stage, view, K, *size)
    still = drawn.still_casters()
    light = stage.lighting.towards(view)
    steady = bool((light == light[:1]).all())

    def lit(spots: Tensor, normal: Tensor, frame: Tensor, shadows: ShadowMap) -> Tensor:
        """The light (P,3) that surfaces get."""
        lighting = stage.lighting
        colours = torch.as_tensor(lighting.colours, dtype=torch.float32, device=device)
        total = lighting.constant(normal[:, 2:])
        for i, colour in enumerate(colours):
            got = wrapped(normal @ light[0, i] if steady else (normal * light[frame, i]).sum(dim=-1))
            if i == 0:
                got = got * (1 - lighting.shadow * (1 - shadows.reaches(spots, frame)))
            total = total + got[:, None] * colour
        return total

    # The bare bodies' clay is wanted inside their outline and away from it: one sample a pixel will do.
    bare = torch.cat([one.vertices[:, :n] for one in worn], dim=1)
    bare_normals = torch.cat([one.normals[:, :n] for one in worn], dim=1)
    bare_faces = torch.cat([puppet.faces + c * n for c in range(len(worn))])
    shadows = ShadowMap(light[:, 0], bare[:, ::2], still)
    odd = slice(SUPERSAMPLING // 2, None, SUPERSAMPLING)
    body = nearer(rasterise(bare, bare_faces, view, lens, height, width), drawn.depth[:, odd, odd])
    found = body.interpolate(torch.cat([bare, bare_normals], dim=-1), bare_faces)
    grey = CLAY * lit(found[:, :3], F.normalize(found[:, 3:], dim=-1), body.index // (height * width), shadows)
    clay = drawn.picture(shadows, bare[:, ::2], fine=False).expand(frames, -1, -1, -1).reshape(-1, 3).clone()
    clay[body.index] = grey.clamp(0, 1)

    vertices, normals, faces, turned, _, colours = worn_together(worn)
    casters = torch.cat([one.casters() for one in worn], dim=1)
    shadows = ShadowMap(light[:, 0], casters, still)
    raster = nearer(rasterise(vertices, faces, view, K, *size), drawn.depth)
    found = raster.interpolate(torch.cat([vertices, normals], dim=-1), faces)
    normal = F.normalize(found[:, 3:], dim=-1) * torch.where(turned[raster.face], -1.0, 1.0)[:, None]
    lights = lit(found[:, :3], normal, raster.index // (size[0] * size[1]), shadows)
    film = drawn.picture(shadows, casters).expand(frames, -1, -1, -1).reshape(-1, 3)
    film[raster.index] = (raster.interpolate(colours, faces) * lights).clamp(0, 1)

    alone = None if still is None else ShadowMap(light[:, 0], still[None].expand(frames, -1, -1), None)
    empty = levels(drawn.picture(alone, None, fine=False))
    cover = torch.isfinite(raster.depth).float()[..., None]
    return RenderedActors(
        image=levels(box_mean(film.view(frames, *size, 3))).cpu().numpy(),
        clay=levels(clay.view(frames, height, width, 3)).cpu().numpy(),
        empty=empty.expand(frames, height, width, 3).cpu().numpy(),
        mask=(box_mean(cover)[..., 0] >= 0.5).cpu().numpy(),
        visibility=points_seen(torch.as_tensor(points, device=device), body, view, lens).cpu().numpy(),
    )
