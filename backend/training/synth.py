"""Synthetic shots: embedded bodies in random shapes, clothes, poses and places under a moving camera.

Shape letters: C characters, T frames, N points per character, H W image, V vertices, F faces.

The same seed gives the same sample. Everything heavy is torch, so the same code runs on a CPU and a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, reduce

import numpy as np
import torch
from torch import Tensor

from ..bodies import SurfaceSamples, embedded, sample_surface
from ..bodies.rotations import axis_angle_to_matrix
from ..raster.rasterise import Raster, project_torch, rasterise, vertex_normals
from ..shot.types import Background, BodyPose, Character, Clip, Media, Reference, Settings, Shot
from .camera import random_camera
from .layout import stand_apart
from .looks import random_look
from .motions import random_motion
from .puppet import Puppet, make_puppet
from .stage import Surroundings, clear_of, draw_surroundings, random_surroundings, shade, world_light
from .truth import Truth, draw_bodies, find_maps, find_truth

Motion = Callable[[np.random.Generator, int, float], tuple[np.ndarray, np.ndarray]]
"""(rng, frames, fps) -> poses (T,24,3) in radians and path (T,3) in metres, as ``random_motion`` gives them."""

SUPERSAMPLING = 2
_SAMPLINGS = 12
"""How many different sets of surface points there are; a model must not depend on one."""
_VISIBLE_WITHIN = 0.025
"""Metres that a point may lie behind the drawn surface and still count as seen."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One synthetic shot with its true film.

    Attributes:
        video: (T,H,W,3) uint8, the film to generate.
        background: (T,H,W,3) uint8, the same without characters.
        mask: (T,H,W) bool, pixels at least half covered by a character.
        points: (C,T,N,3) float32 world; rest_points: (C,N,3) float32, Y up, pelvis at the origin.
        visibility: (C,T,N) bool.
        point_regions: (C,N) uint8, the body region of each point, as an index into the body's region names.
        joints: (C,T,24,3) float32 world.
        viewmats: (T,4,4), Ks: (T,3,3) float32.
        betas: (C,S), poses: (C,T,24,3), trans: (C,T,3) float32, the bodies' parameters.
        ref_image: (C,H,W,3) uint8; ref_points: (C,N,3) world; ref_visibility: (C,N) bool; ref_viewmat: (C,4,4);
            ref_K: (C,3,3).
        fps: frames per second.
        seed: what it was made from.
        truth: of every pixel, when asked for.
        normals, canonical: (T,H,W,3) uint8 maps of the drawn bodies as ``truth.find_maps`` codes them, when asked for.
    """

    video: np.ndarray
    background: np.ndarray
    mask: np.ndarray
    points: np.ndarray
    rest_points: np.ndarray
    visibility: np.ndarray
    point_regions: np.ndarray
    joints: np.ndarray
    viewmats: np.ndarray
    Ks: np.ndarray
    betas: np.ndarray
    poses: np.ndarray
    trans: np.ndarray
    ref_image: np.ndarray
    ref_points: np.ndarray
    ref_visibility: np.ndarray
    ref_viewmat: np.ndarray
    ref_K: np.ndarray
    fps: float
    seed: int
    truth: Truth | None = None
    normals: np.ndarray | None = None
    canonical: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class _Actor:
    """A body with its looks and where its points lie."""

    betas: np.ndarray
    colours: np.ndarray
    samples: SurfaceSamples


@lru_cache(maxsize=2)
def _puppet(device: str = "cpu") -> Puppet:
    return make_puppet(embedded(), device=device)


@lru_cache(maxsize=64)
def _samples(n: int, index: int) -> SurfaceSamples:
    """The ``index``-th way of spreading ``n`` points: evenly, or every fourth of an even set four times as large."""
    puppet = _puppet()
    vertices, faces = puppet.v_template.numpy(), puppet.faces.numpy()
    if index % 2 == 0:
        return sample_surface(vertices, faces, n, seed=index)
    dense = sample_surface(vertices, faces, 4 * n, seed=index)
    return SurfaceSamples(dense.triangles[::4][:n], dense.barycentric[::4][:n])


@dataclass(frozen=True, eq=False)
class _Posed:
    """A posed body: poses (T,24,3), vertices (T,V,3), points (T,N,3), joints (T,24,3), trans (T,3)."""

    poses: np.ndarray
    vertices: Tensor
    points: np.ndarray
    joints: np.ndarray
    trans: np.ndarray

    def moved(self, place: np.ndarray) -> _Posed:
        """The same at another place (3,) of the floor."""
        shift = torch.as_tensor(place, dtype=self.vertices.dtype, device=self.vertices.device)
        return _Posed(self.poses, self.vertices + shift, self.points + place, self.joints + place, self.trans + place)


@dataclass(frozen=True, eq=False)
class _Take:
    """Posed characters under a camera, drawn."""

    image: np.ndarray
    empty: np.ndarray
    mask: np.ndarray
    visibility: np.ndarray


def _box(image: Tensor) -> Tensor:
    """Average SUPERSAMPLING x SUPERSAMPLING squares of (T,H,W,D)."""
    frames, height, width, depth = image.shape
    s = SUPERSAMPLING
    # Adding slices is several times as fast as a reduction over two.
    rows = reduce(torch.add, image.reshape(frames, height // s, s, width * depth).unbind(2))
    return reduce(torch.add, rows.view(frames, height // s, width // s, s, depth).unbind(3)) / s**2


def _draw(
    vertices: Tensor,
    actors: list[_Actor],
    points: np.ndarray,
    place: Surroundings,
    viewmats: np.ndarray,
    Ks: np.ndarray,
    size: int,
    device: torch.device,
) -> _Take:
    """Draw posed bodies (C,T,V,3) with their points (C,T,N,3)."""
    side = size * SUPERSAMPLING
    count, frames, n_vertices, _ = vertices.shape
    one = _puppet(str(device)).faces
    view = torch.as_tensor(viewmats, device=device)
    K = torch.as_tensor(Ks, device=device).clone()
    K[:, :2] *= SUPERSAMPLING
    faces = torch.cat([one + c * n_vertices for c in range(count)])
    normals = torch.cat([vertex_normals(vertices[c], one) for c in range(count)], dim=1)
    everybody = vertices.transpose(0, 1).reshape(frames, count * n_vertices, 3)
    colours = torch.as_tensor(np.concatenate([a.colours for a in actors]), device=device)

    raster = rasterise(everybody, faces, view, K, side, side)
    empty, scene = draw_surroundings(place, view, K, side, side, everybody)
    flat = scene.expand(frames, side, side, 3).reshape(-1, 3).clone()
    light = world_light(place, view)[raster.index // side**2, 0]
    # Colours and normals in one go.
    painted = torch.cat([colours.expand(frames, -1, -1), normals], dim=-1)
    found = raster.interpolate(painted, faces)
    normal = found[:, 3:] * torch.rsqrt((found[:, 3:] ** 2) @ torch.ones(3, 1, device=device)).clamp(max=1e6)
    flat[raster.index] = shade(place, found[:, :3], normal, light)
    cover = torch.isfinite(raster.depth).float()[..., None]
    image = _box(flat.view(frames, side, side, 3))
    return _Take(
        image=(image * 255).round().to(torch.uint8).cpu().numpy(),
        empty=(_box(empty) * 255).round().to(torch.uint8).expand(frames, size, size, 3).cpu().numpy(),
        mask=(_box(cover)[..., 0] >= 0.5).cpu().numpy(),
        visibility=_seen(torch.as_tensor(points, device=device), raster, view, K).cpu().numpy(),
    )


def _seen(points: Tensor, raster: Raster, viewmats: Tensor, Ks: Tensor) -> Tensor:
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


def _pose(actor: _Actor, poses: np.ndarray, path: np.ndarray, lift: float, device: torch.device) -> _Posed:
    """Pose a body and stand it on the floor, ``lift`` metres above it; leaps rise above that as the path says."""
    puppet = _puppet(str(device))
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
    return _Posed(poses, vertices, points.astype(np.float32), joints.cpu().numpy(), over_floor + up[:, 0])


def _regions(actor: _Actor) -> np.ndarray:
    """Body region (N,) uint8 of each of an actor's points: that of the nearest corner of its triangle."""
    puppet = _puppet()
    if puppet.regions is None:
        return np.zeros(len(actor.samples.triangles), np.uint8)
    corners = puppet.faces.numpy()[actor.samples.triangles]
    nearest = actor.samples.barycentric.argmax(axis=1)
    return puppet.regions[corners[np.arange(len(corners)), nearest]].astype(np.uint8)


def _heading(poses: np.ndarray) -> float:
    """Azimuth in radians that a body (J,3) faces in the world."""
    forward = axis_angle_to_matrix(poses[0].astype(np.float64)) @ np.array([0.0, 0.0, 1.0])
    return float(np.arctan2(forward[1], forward[0]))


def make_sample(
    seed: int,
    frames: int = 17,
    size: int = 128,
    n_points: int = 128,
    characters: int | None = None,
    device: torch.device | str = "cpu",
    truth: bool = False,
    motion: Motion = random_motion,
    maps: bool = False,
) -> Sample:
    """The synthetic shot of a seed.

    Args:
        frames: T, 1 + 4k for the video VAE.
        size: height and width in pixels.
        characters: 1 to 3; None draws it (two in every tenth shot, three in every twentieth).
        truth: also find the truth of every pixel.
        maps: also draw normals and canonical coordinates.
        motion: gives each character its poses and path (see ``random_motion``).
    """
    rng = np.random.default_rng([seed, 20250515])
    device = torch.device(device)
    puppet = _puppet()
    usual = int(rng.choice([1, 2, 3], p=[0.85, 0.1, 0.05]))
    count = usual if characters is None else characters
    fps = float(rng.choice([12.0, 16.0, 24.0, 30.0], p=[0.15, 0.25, 0.45, 0.15]))
    actors, posed = [], []
    for c in range(count):
        betas = np.clip(rng.normal(0, 0.9, puppet.shapedirs.shape[-1]), -2.5, 2.5).astype(np.float32)
        colours = random_look(rng, puppet.v_template.numpy(), puppet.regions, puppet.region_names)
        actors.append(_Actor(betas, colours, _samples(n_points, int(rng.integers(_SAMPLINGS)))))
        poses, path = motion(rng, frames, fps)
        lift = rng.uniform(0, 0.4) if rng.random() < 0.07 else 0.0
        posed.append(_pose(actors[c], poses, path, lift, device))
    # More views from the front half than from behind, as people film people.
    heading = _heading(posed[0].poses[frames // 2])
    azimuth = heading + (rng.normal(0, 0.9) if rng.random() < 0.5 else rng.uniform(-np.pi, np.pi))
    if count > 1:
        places = stand_apart(rng, [p.vertices for p in posed], azimuth)
        posed = [p.moved(place) for p, place in zip(posed, places, strict=True)]
    vertices = torch.stack([p.vertices for p in posed])
    points = np.stack([p.points for p in posed])
    everybody = vertices.transpose(0, 1).flatten(1, 2).cpu().numpy()
    viewmats, Ks = random_camera(rng, everybody, fps, size, size, toward=azimuth, crowd=count > 1)
    place = clear_of(random_surroundings(rng, azimuth), everybody)
    take = _draw(vertices, actors, points, place, viewmats, Ks, size, device)

    references = []
    for c in range(count):
        if count == 1 and rng.random() < 0.45:
            t = int(rng.integers(frames)) if rng.random() < 0.5 else 0
            references.append((take.image[t], points[c, t], take.visibility[c, t], viewmats[t], Ks[t]))
            continue
        references.append(_reference(rng, actors[c], azimuth - heading, size, device))
    rest_points = []
    for actor in actors:
        shaped, joints = puppet.shaped(torch.as_tensor(actor.betas))
        rest_points.append(actor.samples.apply((shaped - joints[0]).numpy(), puppet.faces.numpy()))
    true = normals = canonical = None
    if truth or maps:
        view, K = torch.as_tensor(viewmats, device=device), torch.as_tensor(Ks, device=device)
        there = _puppet(str(device))
        drawn = draw_bodies(vertices, there.faces, view, K, size, size)
        true = find_truth(drawn, puppet.regions, place, view, K) if truth else None
        normals, canonical = find_maps(drawn, there.v_template, view) if maps else (None, None)
    return Sample(
        video=take.image,
        background=take.empty,
        mask=take.mask,
        points=points,
        rest_points=np.stack(rest_points).astype(np.float32),
        visibility=take.visibility,
        point_regions=np.stack([_regions(actor) for actor in actors]),
        joints=np.stack([p.joints for p in posed]),
        viewmats=viewmats,
        Ks=Ks,
        betas=np.stack([a.betas for a in actors]),
        poses=np.stack([p.poses for p in posed]),
        trans=np.stack([p.trans for p in posed]),
        ref_image=np.stack([r[0] for r in references]),
        ref_points=np.stack([r[1] for r in references]),
        ref_visibility=np.stack([r[2] for r in references]),
        ref_viewmat=np.stack([r[3] for r in references]),
        ref_K=np.stack([r[4] for r in references]),
        fps=fps,
        seed=seed,
        truth=true,
        normals=normals,
        canonical=canonical,
    )


def _reference(
    rng: np.random.Generator, actor: _Actor, side: float, size: int, device: torch.device
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A picture of an actor in another pose and place; mostly from about the same ``side`` (radians from ahead)."""
    poses, path = random_motion(rng, 1, 24.0)
    posed = _pose(actor, poses, path, 0.0, device)
    turn = side + rng.normal(0, 0.6) if rng.random() < 0.6 else rng.normal(0, 0.6)
    azimuth = _heading(poses[0]) + turn
    viewmats, Ks = random_camera(rng, posed.vertices.cpu().numpy(), 24.0, size, size, toward=azimuth)
    place = replace(clear_of(random_surroundings(rng, azimuth), posed.vertices.cpu().numpy()), shadow=0.0)
    take = _draw(posed.vertices[None], [actor], posed.points[None], place, viewmats, Ks, size, device)
    return take.image[0], posed.points[0], take.visibility[0, 0], viewmats[0], Ks[0]


def to_shot(sample: Sample, settings: Settings | None = None) -> Shot:
    """The sample as a Shot, as Blender would have exported it, with its background film."""
    from ..media import encode_png

    characters = tuple(
        Character(
            name=f"body{c}",
            points=sample.points[c],
            rest_points=sample.rest_points[c],
            visibility=sample.visibility[c],
            joints=sample.joints[c],
            body=BodyPose(embedded().id, sample.betas[c], sample.poses[c], sample.trans[c]),
            reference=Reference(
                encode_png(sample.ref_image[c]),
                sample.ref_points[c],
                sample.ref_viewmat[c],
                sample.ref_K[c],
                sample.ref_visibility[c],
            ),
        )
        for c in range(len(sample.points))
    )
    pictures: tuple[Media, ...] = tuple(encode_png(frame) for frame in sample.background)
    height, width = sample.video.shape[1:3]
    return Shot(
        clip=Clip(sample.fps, width, height, sample.viewmats, sample.Ks),
        characters=characters,
        background=Background("video", pictures),
        settings=settings or Settings(seed=sample.seed),
        name=f"synthetic_{sample.seed}",
    )
