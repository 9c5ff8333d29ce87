"""A Shot and its rendered film as a sample to measure on: what is true of every pixel follows from the scene's meshes.

Shape letters: T frames, H W image, C characters, N points, V vertices, F triangles, P covered pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch

from ..media import decode_image
from ..models.mofa.flow import exact_motion
from ..raster.rasterise import rasterise
from ..raster.surfaces import Surface, SurfaceSet, body_surface, parametric_body, shot_surfaces
from ..shot import Character, Shot
from ..worlds.sample import Sample
from ..worlds.truth import NOBODY, Truth

FAR = 1e5
"""Metres to what has no mesh: a backdrop that only the camera's turning moves."""


class FilmError(ValueError):
    """A shot that cannot be measured with this film; the message says what does not fit."""


def as_sample(shot: Shot, film: np.ndarray, background: np.ndarray, mask: np.ndarray) -> Sample:
    """A shot with its true film; clay and vertices are empty where the shot does not hold them as a Sample does.

    Args:
        shot: with meshes of everything that the film shows, or with body parameters of its characters at least.
        film, background: (T,H,W,3) uint8, the scene with its characters and without.
        mask: (T,H,W) bool, pixels that show a character.

    Raises:
        FilmError: sizes that do not agree, or a character whose surface is not known.
    """
    clip = shot.clip
    wanted = (clip.frames, clip.height, clip.width, 3)
    for name, found in (("film", film.shape), ("background", background.shape), ("mask", (*mask.shape, 3))):
        if found != wanted:
            raise FilmError(f"{name} is {found[:3]}; the shot has {wanted[:3]} frames, rows and columns")
    regions = [point_regions(character) for character in shot.characters]
    pictures, points, seen, cameras, Ks = zip(*(_reference(character) for character in shot.characters), strict=True)
    bodies = [character.body for character in shot.characters]
    vertices, faces, ref_vertices = _skins(shot)
    clay, ref_clay = _clay(shot, [picture.shape for picture in pictures])
    return Sample(
        video=film,
        background=background,
        clay=clay,
        mask=mask,
        points=np.stack([character.points for character in shot.characters]),
        rest_points=np.stack([character.rest_points for character in shot.characters]),
        visibility=np.stack([character.visibility for character in shot.characters]),
        point_regions=np.stack(regions),
        joints=_padded([_or_empty(character.joints, clip.frames) for character in shot.characters]),
        vertices=vertices,
        faces=faces,
        viewmats=clip.viewmats,
        Ks=clip.Ks,
        betas=_padded([np.zeros(0, np.float32) if body is None else body.betas for body in bodies]),
        poses=_padded([_or_empty(None if body is None else body.poses, clip.frames) for body in bodies]),
        trans=np.stack([np.zeros((clip.frames, 3), np.float32) if body is None else body.trans for body in bodies]),
        ref_image=_padded(pictures),
        ref_clay=ref_clay,
        ref_points=np.stack(points),
        ref_vertices=ref_vertices,
        ref_visibility=np.stack(seen),
        ref_viewmat=np.stack(cameras),
        ref_K=np.stack(Ks),
        fps=clip.fps,
        seed=shot.settings.seed,
        truth=find_shot_truth(shot),
    )


def _skins(shot: Shot) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (C,T,V,3), triangles (F,3) and vertices in the references (C,V,3) of characters with one mesh each, all
    of the same triangles; otherwise empty."""
    owned = [[mesh for mesh in shot.meshes if mesh.character == c] for c in range(len(shot.characters))]
    found = [None if one.reference is None else one.reference.vertices for one in shot.characters]
    looks = [vertices for vertices in found if vertices is not None]
    meshes = [mesh for several in owned for mesh in several]
    alike = all(np.array_equal(mesh.triangles, meshes[0].triangles) for mesh in meshes)
    if len(looks) < len(owned) or any(len(several) != 1 for several in owned) or not alike:
        none = np.zeros((len(owned), shot.clip.frames, 0, 3), np.float32)
        return none, np.zeros((0, 3), np.int32), none[:, 0]
    moving = [np.broadcast_to(mesh.vertices, (shot.clip.frames, *mesh.vertices.shape[1:])) for mesh in meshes]
    return np.stack(moving), meshes[0].triangles, np.stack(looks)


def _clay(shot: Shot, sizes: Sequence[tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """The film (T,H,W,3) and the references (C,H,W,3) with bodies in clay; each empty when the shot does not hold it.

    Args:
        sizes: (height, width, 3) of the reference pictures.
    """
    clip = shot.clip
    film = np.zeros((0, clip.height, clip.width, 3), np.uint8)
    if shot.clay is not None and shot.clay.surroundings:
        shown = [decode_image(media, "clay.media") for media in shot.clay.media]
        if all(picture.shape == film.shape[1:] for picture in shown):
            film = np.broadcast_to(np.stack(shown), (clip.frames, *film.shape[1:]))
    looks = [one.reference for one in shot.characters]
    grey = [decode_image(look.clay, "reference.clay") for look in looks if look is not None and look.clay is not None]
    if [picture.shape for picture in grey] != list(sizes):
        return film, np.zeros((len(looks), 0, 0, 3), np.uint8)
    return film, _padded(grey)


def find_shot_truth(shot: Shot) -> Truth:
    """The truth of every pixel of a shot, from its meshes; what shows none of them is infinitely far.

    A pixel has the region of that vertex of the character's body which is nearest to the spot it shows.

    Raises:
        FilmError: a character's surface is not known.
    """
    surfaces, clouds, _ = shot_surfaces(shot)
    if clouds:
        name = shot.characters[clouds[0].label - 1].name
        raise FilmError(f"the surface of {name} is not known; capture the shot with its meshes")
    clip = shot.clip
    frames, height, width = clip.frames, clip.height, clip.width
    scene = SurfaceSet(surfaces)
    everything = torch.stack([scene.vertices(t) for t in range(frames)])
    views, Ks = torch.as_tensor(clip.viewmats), torch.as_tensor(clip.Ks)
    raster = rasterise(everything, scene.faces, views, Ks, height, width, cull=False)
    spots = raster.interpolate(everything, scene.faces).numpy()
    labels, frame = scene.labels[raster.face].numpy(), (raster.index // (height * width)).numpy()
    owners = np.where((labels > 0) & (labels <= len(shot.characters)), labels - 1, NOBODY)
    character = np.full(frames * height * width, NOBODY, np.int8)
    region = np.zeros(frames * height * width, np.uint8)
    character[raster.index] = owners
    for c, performer in enumerate(shot.characters):
        body, skin = parametric_body(performer), body_surface(performer)
        if body is None or body.regions is None or skin is None:
            continue
        for t in range(frames):
            mine = (owners == c) & (frame == t)
            region[raster.index.numpy()[mine]] = body.regions[_nearest(spots[mine], skin[0][t])]
    kind = torch.full(raster.depth.shape, -2).flatten()
    kind[raster.index] = scene.labels[raster.face]
    flow, valid = _flow(surfaces, shot, kind.view(raster.depth.shape).numpy())
    return Truth(
        raster.depth.numpy(),
        character.reshape(frames, height, width),
        region.reshape(frames, height, width),
        flow,
        valid,
    )


def _flow(surfaces: Sequence[Surface], shot: Shot, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flow (T-1,H,W,2) in pixels from each frame to the next, and where the next one still shows the spot.

    Args:
        shown: (T,H,W) which surface each pixel shows. A spot counts as shown only where all four pixels around it show
            its surface: a mix of two surfaces is the colour of neither.
    """
    clip = shot.clip
    height, width = clip.height, clip.width
    rows, columns = np.mgrid[0:height, 0:width] + 0.5
    flows = np.zeros((clip.frames - 1, height, width, 2), np.float32)
    valid = np.zeros((clip.frames - 1, height, width), bool)
    for t in range(clip.frames - 1):
        pair = slice(t, t + 2)
        two = [Surface(s.vertices[pair] if len(s.vertices) > 1 else s.vertices, s.triangles, s.label) for s in surfaces]
        found = exact_motion(SurfaceSet(two), clip.viewmats[pair], clip.Ks[pair], height, width, backdrop=FAR)
        flow = found.motion.flow[0, 0].permute(1, 2, 0).numpy()
        u, v = columns + flow[..., 0], rows + flow[..., 1]
        # Where the spot is hidden the flow is NaN, which no comparison holds for.
        valid[t] = (u >= 0) & (u < width) & (v >= 0) & (v < height)
        flows[t] = np.where(valid[t][..., None], flow, 0)
        left, top = (np.floor(np.where(valid[t], place, 0.5) - 0.5).astype(int) for place in (u, v))
        for down, right in itertools.product((0, 1), repeat=2):
            row, column = (top + down).clip(0, height - 1), (left + right).clip(0, width - 1)
            valid[t] &= shown[t + 1][row, column] == shown[t]
    return flows, valid


def point_regions(character: Character) -> np.ndarray:
    """Body region (N,) uint8 of each of a character's points, by the nearest vertex of its body at rest.

    All zero where the body or its regions are not known: the character is one region then.
    """
    body = parametric_body(character)
    if character.body is None or body is None or body.regions is None:
        return np.zeros(len(character.rest_points), np.uint8)
    rest = body.shaped(character.body.betas) - body.joints_rest(character.body.betas)[0]
    return body.regions[_nearest(character.rest_points, rest)].astype(np.uint8)


def _nearest(spots: np.ndarray, points: np.ndarray) -> np.ndarray:
    """For each spot (P,3) the index of the nearest of the points (N,3)."""
    apart = torch.cdist(torch.as_tensor(spots).float(), torch.as_tensor(points).float())
    return apart.argmin(dim=1).numpy() if len(spots) else np.zeros(0, np.int64)


def _reference(character: Character) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Picture (H,W,3), points (N,3), visibility (N,), viewmat (4,4), K (3,3); nothing seen without a reference."""
    look, count = character.reference, len(character.rest_points)
    if look is None:
        blank = np.zeros((1, 1, 3), np.uint8)
        before = np.tile(np.array([0, 0, 1], np.float32), (count, 1))
        return blank, before, np.zeros(count, bool), np.eye(4), np.eye(3)
    seen = np.ones(count, bool) if look.visibility is None else look.visibility
    return decode_image(look.image, "reference.image"), look.points, seen, look.viewmat, look.K


def _or_empty(values: np.ndarray | None, frames: int) -> np.ndarray:
    return np.zeros((frames, 0, 3), np.float32) if values is None else values


def _padded(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays of different sizes as one, each filled up with zeros at the end of its axes."""
    whole = np.zeros((len(arrays), *np.max([array.shape for array in arrays], axis=0)), arrays[0].dtype)
    for one, array in zip(whole, arrays, strict=True):
        one[tuple(map(slice, array.shape))] = array
    return whole
