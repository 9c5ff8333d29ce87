"""Synthetic shots: embedded bodies in random shapes, clothes, poses and places under a moving camera.

Shape letters: C characters, T frames, N points per character, H W image, V vertices, F faces.

The same seed gives the same sample. Everything heavy is torch, so the same code runs on a CPU and a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..bodies import embedded
from ..bodies.rotations import axis_angle_to_matrix
from ..shot.types import Background, BodyPose, Character, Clay, Clip, Media, Mesh, Reference, Settings, Shot
from .actors import Actor, PosedActor, RenderedActors, pose_actor, render_actors, surface_samples, the_puppet
from .camera import random_camera
from .colours import random_colours
from .dressed import Worn, draw_worn, dress, dressed_place, put_on, random_stage, render_dressed
from .furniture import Furniture
from .layout import stand_apart
from .motions import random_motion
from .outfit import Outfit
from .surroundings import clear_of, random_surroundings
from .truth import Truth, draw_bodies, find_maps, find_truth

MotionGenerator = Callable[[np.random.Generator, int, float], tuple[np.ndarray, np.ndarray]]
"""(rng, frames, fps) -> poses (T,24,3) in radians and path (T,3) in metres, as ``random_motion`` gives them."""

_SAMPLINGS = 12
"""How many different sets of surface points there are; a model must not depend on one."""
_FURTHER, _DRESSING = 2, 3
"""Streams of random numbers for further references and for clothes, so that these change nothing else of a sample."""
_OTHER_LIGHT = 0.7
"""Share of the dressed shots whose reference would be a frame of the film that have one in other light instead."""
_NO_CLAY = 0.5
"""Share of the dressed shots whose references come without their clay, as photographs do."""


@dataclass(frozen=True, eq=False)
class ReferencePicture:
    """One reference picture of a character.

    Attributes:
        image, clay: (H,W,3) uint8, the picture, and the same with every body in mid grey.
        points: (N,3), vertices: (V,3) float32 world at its moment; visibility: (N,) bool.
        viewmat: (4,4); K: (3,3).
    """

    image: np.ndarray
    clay: np.ndarray
    points: np.ndarray
    vertices: np.ndarray
    visibility: np.ndarray
    viewmat: np.ndarray
    K: np.ndarray


@dataclass(frozen=True, eq=False)
class Sample:
    """One synthetic shot with its true film.

    Attributes:
        video: (T,H,W,3) uint8, the film to generate.
        background: (T,H,W,3) uint8, the same without characters.
        clay: (T,H,W,3) uint8, the film with every body in mid grey, under the same light and with the same shadows.
        mask: (T,H,W) bool, pixels at least half covered by a character.
        points: (C,T,N,3) float32 world; rest_points: (C,N,3) float32, Y up, pelvis at the origin.
        visibility: (C,T,N) bool.
        point_regions: (C,N) uint8, the body region of each point, as an index into the body's region names.
        joints: (C,T,24,3) float32 world.
        vertices: (C,T,V,3) float32 world; faces: (F,3) int32, the triangles of each body.
        viewmats: (T,4,4), Ks: (T,3,3) float32.
        betas: (C,S), poses: (C,T,24,3), trans: (C,T,3) float32, the bodies' parameters.
        ref_image, ref_clay: (C,H,W,3) uint8; ref_points: (C,N,3), ref_vertices: (C,V,3) world;
            ref_visibility: (C,N) bool; ref_viewmat: (C,4,4); ref_K: (C,3,3).
        fps: frames per second.
        seed: what it was made from.
        truth: of every pixel, when asked for.
        normals, canonical: (T,H,W,3) uint8 maps of the drawn bodies as ``truth.find_maps`` codes them, when asked for.
        further: more reference pictures of each character, when asked for.
        furniture: that stands there and may hide bodies, in the dressed world.
        lit_references: whether the references' light is known: their clay is handed over.
        dressed: whether it is of the dressed world.
    """

    video: np.ndarray
    background: np.ndarray
    clay: np.ndarray
    mask: np.ndarray
    points: np.ndarray
    rest_points: np.ndarray
    visibility: np.ndarray
    point_regions: np.ndarray
    joints: np.ndarray
    vertices: np.ndarray
    faces: np.ndarray
    viewmats: np.ndarray
    Ks: np.ndarray
    betas: np.ndarray
    poses: np.ndarray
    trans: np.ndarray
    ref_image: np.ndarray
    ref_clay: np.ndarray
    ref_points: np.ndarray
    ref_vertices: np.ndarray
    ref_visibility: np.ndarray
    ref_viewmat: np.ndarray
    ref_K: np.ndarray
    fps: float
    seed: int
    truth: Truth | None = None
    normals: np.ndarray | None = None
    canonical: np.ndarray | None = None
    further: tuple[tuple[ReferencePicture, ...], ...] = ()
    furniture: Furniture | None = None
    lit_references: bool = True
    dressed: bool = False

    def references(self, character: int) -> tuple[ReferencePicture, ...]:
        """All reference pictures of a character, the first one first."""
        names = ("image", "clay", "points", "vertices", "visibility", "viewmat", "K")
        first = ReferencePicture(*(getattr(self, f"ref_{name}")[character] for name in names))
        return (first, *(self.further[character] if self.further else ()))


def _heading(poses: np.ndarray) -> float:
    """Azimuth in radians that a body (J,3) faces in the world."""
    forward = axis_angle_to_matrix(poses[0].astype(np.float64)) @ np.array([0.0, 0.0, 1.0])
    return float(np.arctan2(forward[1], forward[0]))


def make_sample(
    seed: int,
    frames: int = 17,
    size: int | tuple[int, int] = 128,
    n_points: int = 128,
    characters: int | None = None,
    device: torch.device | str = "cpu",
    truth: bool = False,
    motion: MotionGenerator = random_motion,
    maps: bool = False,
    references: int = 1,
    dressed: bool = False,
) -> Sample:
    """The synthetic shot of a seed.

    Args:
        frames: T, 1 + 4k for the video VAE.
        size: width and height in pixels of the film and the reference pictures; one number for a square.
        characters: 1 to 3; None draws it (two in every tenth shot, three in every twentieth).
        truth: also find the truth of every pixel.
        maps: also draw normals and canonical coordinates.
        motion: gives each character its poses and path (see ``random_motion``).
        references: pictures of each character; from the second on, from evenly spread sides, counted from the first's.
        dressed: bodies wear clothes and hair that stand off and hang from them, in furnished sets under several lights.
            These show in ``video``, ``mask``, ``truth`` and the reference pictures; everything else is the bare body's,
            the same as without, but for what furniture hides.
    """
    rng = np.random.default_rng([seed, 20250515])
    dressing = np.random.default_rng([seed, _DRESSING])
    device = torch.device(device)
    puppet = the_puppet()
    width, height = (size, size) if isinstance(size, int) else size
    usual = int(rng.choice([1, 2, 3], p=[0.85, 0.1, 0.05]))
    count = usual if characters is None else characters
    fps = float(rng.choice([12.0, 16.0, 24.0, 30.0], p=[0.15, 0.25, 0.45, 0.15]))
    actors, posed = [], []
    for c in range(count):
        betas = np.clip(rng.normal(0, 0.9, puppet.shapedirs.shape[-1]), -2.5, 2.5).astype(np.float32)
        colours = random_colours(rng, puppet.v_template.numpy(), puppet.regions, puppet.region_names)
        actors.append(Actor(betas, colours, surface_samples(n_points, int(rng.integers(_SAMPLINGS)))))
        poses, path = motion(rng, frames, fps)
        lift = rng.uniform(0, 0.4) if rng.random() < 0.07 else 0.0
        posed.append(pose_actor(actors[c], poses, path, lift, device))
    # More views from the front half than from behind, as people film people.
    heading = _heading(posed[0].poses[frames // 2])
    azimuth = heading + (rng.normal(0, 0.9) if rng.random() < 0.5 else rng.uniform(-np.pi, np.pi))
    if count > 1:
        places = stand_apart(rng, [p.vertices for p in posed], azimuth)
        posed = [p.moved(place) for p, place in zip(posed, places, strict=True)]
    vertices = torch.stack([p.vertices for p in posed])
    points = np.stack([p.points for p in posed])
    everybody = vertices.transpose(0, 1).flatten(1, 2).cpu().numpy()
    viewmats, Ks = random_camera(rng, everybody, fps, width, height, toward=azimuth, crowd=count > 1)
    place = clear_of(random_surroundings(rng, azimuth), everybody)
    outfits: list[Outfit | None] = [None] * count
    worn: list[Worn] = []
    furniture = None
    if dressed:
        place = dressed_place(dressing, place, azimuth, everybody)
        stage = random_stage(dressing, place, everybody, viewmats, before=True)
        furniture = stage.furniture
        outfits = [dress(dressing, actor) for actor in actors]
        worn = [put_on(*each, fps) for each in zip(outfits, actors, posed, strict=True)]
        take = render_dressed(worn, points, stage, viewmats, Ks, width, height)
    else:
        take = render_actors(vertices, actors, points, place, viewmats, Ks, width, height)

    looks, further = [], []
    spread = np.random.default_rng([seed, _FURTHER])
    for c in range(count):
        if count == 1 and rng.random() < 0.45 and not (dressed and dressing.random() < _OTHER_LIGHT):
            t = int(rng.integers(frames)) if rng.random() < 0.5 else 0
            look, side = _look(take, t, posed[c], viewmats, Ks)
        else:
            clothes = (outfits[c], dressing) if dressed else None
            look, side = _reference(rng, actors[c], azimuth - heading, (width, height), device, clothes)
        looks.append(look)
        sides = [side + 2 * np.pi * k / references for k in range(1, references)]
        clothes = (outfits[c], spread) if dressed else None
        more = [_reference(spread, actors[c], each, (width, height), device, clothes, True)[0] for each in sides]
        further.append(tuple(more))
    true = normals = canonical = None
    if truth or maps:
        view, K = torch.as_tensor(viewmats, device=device), torch.as_tensor(Ks, device=device)
        there = the_puppet(str(device))
        drawn = draw_bodies(vertices, there.faces, view, K, height, width)
        normals, canonical = find_maps(drawn, there.v_template, there.faces, view) if maps else (None, None)
        regions = None if puppet.regions is None else np.tile(puppet.regions, count)
        if dressed:
            drawn, regions = draw_worn(worn, view, K, height, width)
        true = find_truth(drawn, regions, place, view, K, furniture) if truth else None
    return Sample(
        video=take.image,
        background=take.empty,
        clay=take.clay,
        mask=take.mask,
        points=points,
        rest_points=np.stack([actor.rest_points() for actor in actors]),
        visibility=take.visibility,
        point_regions=np.stack([actor.regions() for actor in actors]),
        joints=np.stack([p.joints for p in posed]),
        vertices=vertices.cpu().numpy(),
        faces=puppet.faces.numpy().astype(np.int32),
        viewmats=viewmats,
        Ks=Ks,
        betas=np.stack([a.betas for a in actors]),
        poses=np.stack([p.poses for p in posed]),
        trans=np.stack([p.trans for p in posed]),
        ref_image=np.stack([look.image for look in looks]),
        ref_clay=np.stack([look.clay for look in looks]),
        ref_points=np.stack([look.points for look in looks]),
        ref_vertices=np.stack([look.vertices for look in looks]),
        ref_visibility=np.stack([look.visibility for look in looks]),
        ref_viewmat=np.stack([look.viewmat for look in looks]),
        ref_K=np.stack([look.K for look in looks]),
        fps=fps,
        seed=seed,
        truth=true,
        normals=normals,
        canonical=canonical,
        further=tuple(further),
        furniture=furniture,
        lit_references=not dressed or bool(dressing.random() >= _NO_CLAY),
        dressed=dressed,
    )


def _reference(
    rng: np.random.Generator,
    actor: Actor,
    side: float,
    size: tuple[int, int],
    device: torch.device,
    clothes: tuple[Outfit | None, np.random.Generator] | None = None,
    exact: bool = False,
) -> tuple[ReferencePicture, float]:
    """A picture of an actor in another pose and place, and the side that it is from.

    Args:
        side: radians from straight ahead; unless ``exact``, the picture is mostly from about there.
        size: width and height.
        clothes: in the dressed world, what the actor wears, and the generator of set and lights.
    """
    poses, path = random_motion(rng, 1, 24.0)
    posed = pose_actor(actor, poses, path, 0.0, device)
    if not exact:
        side = side + rng.normal(0, 0.6) if rng.random() < 0.6 else rng.normal(0, 0.6)
    azimuth = _heading(poses[0]) + side
    body = posed.vertices.cpu().numpy()
    viewmats, Ks = random_camera(rng, body, 24.0, *size, toward=azimuth)
    place = replace(clear_of(random_surroundings(rng, azimuth), body), shadow=0.0)
    if clothes is not None:
        outfit, dressing = clothes
        place = dressed_place(dressing, place, azimuth, body)
        stage = random_stage(dressing, place, body, viewmats, before=False)
        take = render_dressed([put_on(outfit, actor, posed, 24.0)], posed.points[None], stage, viewmats, Ks, *size)
    else:
        take = render_actors(posed.vertices[None], [actor], posed.points[None], place, viewmats, Ks, *size)
    return _look(take, 0, posed, viewmats, Ks)


def _look(
    take: RenderedActors, t: int, posed: PosedActor, viewmats: np.ndarray, Ks: np.ndarray
) -> tuple[ReferencePicture, float]:
    """The ``t``-th picture of a take of one actor, and the side that it is from, in radians from straight ahead."""
    away = -viewmats[t, :3, :3].T @ viewmats[t, :3, 3] - posed.joints[t, 0]
    side = float(np.arctan2(away[1], away[0])) - _heading(posed.poses[t])
    vertices, seen = posed.vertices[t].cpu().numpy(), take.visibility[0, t]
    return ReferencePicture(take.image[t], take.clay[t], posed.points[t], vertices, seen, viewmats[t], Ks[t]), side


def to_shot(
    sample: Sample, settings: Settings | None = None, light: bool = True, meshes: bool = True, bodies: bool = True
) -> Shot:
    """The sample as a Shot, as Blender would have exported it, with its background film.

    Args:
        light: with the pictures of clay bodies, in the film and in the references.
        meshes: with the bodies' surfaces, in the film and at the moments of the references.
        bodies: with the bodies' parameters; without these and without meshes only points are left.
    """
    from ..media import encode_png

    def reference(look: ReferencePicture) -> Reference:
        return Reference(
            encode_png(look.image),
            look.points,
            look.viewmat,
            look.K,
            look.visibility,
            vertices=look.vertices if meshes else None,
            clay=encode_png(look.clay) if light and sample.lit_references else None,
        )

    def encoded(film: np.ndarray) -> tuple[Media, ...]:
        return tuple(encode_png(frame) for frame in film)

    characters, surfaces = [], []
    for c in range(len(sample.points)):
        first, *further = map(reference, sample.references(c))
        body = BodyPose(embedded().id, sample.betas[c], sample.poses[c], sample.trans[c])
        characters.append(
            Character(
                name=f"body{c}",
                points=sample.points[c],
                rest_points=sample.rest_points[c],
                visibility=sample.visibility[c],
                joints=sample.joints[c],
                body=body if bodies else None,
                reference=first,
                further_references=tuple(further),
            )
        )
        surfaces.append(Mesh(f"body{c}", c, sample.vertices[c], sample.faces))
    if sample.furniture is not None:
        surfaces.append(Mesh("furniture", -1, sample.furniture.vertices[None], sample.furniture.faces.astype(np.int32)))
    height, width = sample.video.shape[1:3]
    return Shot(
        clip=Clip(sample.fps, width, height, sample.viewmats, sample.Ks),
        characters=tuple(characters),
        background=Background("video", encoded(sample.background)),
        settings=settings or Settings(seed=sample.seed),
        name=f"synthetic_{sample.seed}",
        meshes=tuple(surfaces) if meshes else (),
        clay=Clay(encoded(sample.clay), surroundings=True) if light else None,
    )
