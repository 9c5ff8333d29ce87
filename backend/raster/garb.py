"""What a person in a reference picture wears beyond the captured body: hair, jumpers, skirts, coats.

The person's outline in the picture is found by graph cut (Rother, Kolmogorov and Blake, "GrabCut", 2004); the skin is
moved outwards along its normals until its outline is the person's. What is found where the picture sees the side of the
body holds all around it. The body so grown moves as the body does, and pictures are carried onto it as onto a body.
Cloth around both legs gets a surface of its own, see ``skirt``.

Shape letters: V vertices, T frames, F triangles, h w picture, S steps along a normal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..media import decode_image, decode_rgba
from ..shot import Reference
from .character_meshes import CharacterMesh
from .rasterise import project_torch, rasterise, vertex_normals
from .skirt import TOP, Skirt, at_rest, cloth_faces, hang, stature
from .skirt_fit import Sighting, find_skirt, parts, shown_by

_LONGEST = 384
"""Pixels of the longer side at which the outline is looked for."""
_REACH = 0.18
"""Metres that anything worn may stand off the body."""
_STEP = 0.005
_SIDE = 0.65
"""Cosine between skin and line of sight up to which the picture sees the skin from its side."""
_START = 0.03
"""Metres within which a normal must leave the body's outline to tell anything."""
_SAME = 10
"""Levels of 255 by which picture and clay may differ and still show the same set."""
_ALONG = 2.5
"""How much farther off spots count along a limb or the trunk than around it."""
_NEIGHBOURS = 10
_LEAST = 0.04
"""Metres off the skin that a fiftieth of what is told must reach, or a tenth half of them, for anything to be worn: in
places the outline of a bare body is found up to 30 mm too far out."""
_UNTOLD = 0.7
"""Share of what its neighbours wear that a spot is taken to wear where no picture tells: too little costs less."""
_SMOOTH = 4
"""Rounds of smoothing over the mesh."""
_SEARCH = 0.4
"""Metres around the body within which the person's outline is looked for."""
_ALIKE = 4.0
"""Levels of 255 within which colours are alike."""
_BEHIND = 1500
"""Pixels of the background that others are compared with."""
_ALPHA = 128
"""Level of alpha from which a picture that is cut out shows the person."""
_ROUNDS = 4
_GLOVE = 0.02
"""Metres that what is worn stands off a hand: a hand before the body or beneath the other arm is in its outline too."""
_CLOTH = 0.08
"""Metres that cloth which hangs around the legs is said to stand off the skin."""


@dataclass(frozen=True, eq=False)
class Garb:
    """What a character's mesh has been grown by.

    Attributes:
        vertices: (T,V,3) of the bare mesh, and ``moments`` (V,3) of each reference; a skirt's are all in one spot.
        people: (H,W) bool of each reference, the pixels that show the person.
        worn: (V,) metres that the grown mesh stands off the skin.
    """

    vertices: Tensor
    moments: tuple[Tensor, ...]
    people: tuple[np.ndarray, ...]
    worn: Tensor


def find_person(rgba: np.ndarray, clay: np.ndarray | None, body: np.ndarray, reach: int) -> np.ndarray:
    """Which pixels show the person.

    Args:
        rgba: (h,w,4) uint8; a picture that is cut out shows the person by its alpha.
        clay: (h,w,3) uint8, the same picture with the body in grey, or None: where both agree nothing is worn.
        body: (h,w) bool, pixels that show the body. reach: pixels around it that may show what it wears.
    """
    if rgba[..., 3].min() < _ALPHA:
        return body | (rgba[..., 3] >= _ALPHA)
    inner = cv2.erode(body.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    away = cv2.distanceTransform((~body).astype(np.uint8), cv2.DIST_L2, 5)
    labels = np.full(body.shape, cv2.GC_BGD, np.uint8)
    labels[away <= reach] = cv2.GC_PR_BGD
    labels[body] = cv2.GC_PR_FGD
    if clay is not None:
        changed = np.abs(rgba[..., :3].astype(int) - clay).max(axis=-1) > _SAME
        labels[~changed & ~body] = cv2.GC_BGD
        # A shadow darkens all colours alike.
        ratio = (rgba[..., :3].astype(float) + 4) / (clay.astype(float) + 4)
        shaded = (ratio.max(axis=-1) < 1) & (np.ptp(ratio, axis=-1) < 0.12) & (ratio.min(axis=-1) > 0.25)
        labels[changed & ~body & ~shaded & (away <= reach)] = cv2.GC_PR_FGD
        if not (changed & ~body).any():
            return body
    labels[inner] = cv2.GC_FGD
    if not (labels == cv2.GC_BGD).any() or not inner.any():
        return body
    cv2.setRNGSeed(0)
    bgr = np.ascontiguousarray(rgba[..., 2::-1])
    cv2.grabCut(bgr, labels, (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65)), _ROUNDS, cv2.GC_INIT_WITH_MASK)
    found = body | (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    found[~body] &= ~_as_behind(rgba[..., :3], found & ~body, found)[~body]
    found |= body
    # What does not touch the body is not worn.
    _, parts = cv2.connectedComponents(found.astype(np.uint8))
    return found & np.isin(parts, np.unique(parts[body]))


def _as_behind(rgb: np.ndarray, doubtful: np.ndarray, person: np.ndarray) -> np.ndarray:
    """Which of the ``doubtful`` pixels (h,w) have colours that the background has too: those may be the background."""
    behind = rgb[cv2.dilate(person.astype(np.uint8), np.ones((5, 5), np.uint8)) == 0]
    alike = np.zeros(doubtful.shape, bool)
    if len(behind) and doubtful.any():
        some = torch.as_tensor(behind[:: max(1, len(behind) // _BEHIND)]).float()
        apart = torch.cdist(torch.as_tensor(rgb[doubtful]).float(), some, p=torch.inf)
        alike[doubtful] = ((apart < _ALIKE).sum(dim=1) >= max(2, len(some) // 500)).numpy()
    return alike


def _sighted(mesh: CharacterMesh, index: int, reference: Reference, field: str) -> tuple[Sighting, np.ndarray] | None:
    """A reference at the size that outlines are looked for at, and the person (H,W) bool at the picture's own; None
    where the picture shows no body."""
    vertices, faces = mesh.moments[index], mesh.faces
    device = vertices.device
    rgba = decode_rgba(reference.image, f"{field}.image")
    clay = None if reference.clay is None else decode_image(reference.clay, f"{field}.clay")
    scale = min(1.0, _LONGEST / max(rgba.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in rgba.shape[:2])
    small = cv2.resize(rgba, (width, height), interpolation=cv2.INTER_AREA)
    clay = None if clay is None else cv2.resize(clay, (width, height), interpolation=cv2.INTER_AREA)
    viewmat, K = (torch.as_tensor(matrix, device=device) for matrix in (reference.viewmat, reference.K))
    lens = K.clone()
    lens[:2] *= torch.tensor([width / rgba.shape[1], height / rgba.shape[0]], device=device)[:, None]
    # At twice the size, so that every pixel the body touches is the body's.
    fine = lens.clone()
    fine[:2] *= 2
    raster = rasterise(vertices[None], faces, viewmat[None], fine[None], 2 * height, 2 * width, cull=False)
    depth = raster.depth
    body = F.max_pool2d(torch.isfinite(depth).float()[:, None], 2)[0, 0] > 0
    if not body.any():
        return None
    middle = float(depth[torch.isfinite(depth)].median())
    pixel = middle / float(torch.sqrt(lens[0, 0] * lens[1, 1]))
    person = find_person(small, clay, body.cpu().numpy(), max(4, round(_SEARCH / pixel)))
    # Along the outline pixels show something of the background.
    wholly = F.max_pool2d((~torch.isfinite(depth)).float()[:, None], 2)[0, 0] == 0
    kept = (cv2.erode(person.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) | wholly.cpu().numpy()
    kept = cv2.resize(kept.astype(np.uint8), rgba.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
    part = torch.zeros(depth.numel(), device=device)
    part[raster.index] = parts(mesh.rest, faces)[raster.face].float()
    part = F.max_pool2d(part.view_as(depth)[:, None], 2)[0, 0].long()
    sure = clay is not None or bool(small[..., 3].min() < _ALPHA)
    picture, shown = torch.as_tensor(small[..., :3].copy(), device=device), torch.as_tensor(person, device=device)
    return Sighting(vertices, picture.float(), shown, part, viewmat, lens, pixel, sure), kept


def _stands_off(mesh: CharacterMesh, sighting: Sighting, skirt: Skirt | None) -> tuple[Tensor, Tensor, Tensor]:
    """How far what is worn stands off each vertex (V,), which of these the picture tells (V,) bool, and how far at most
    (V,)."""
    vertices, body = sighting.vertices, sighting.part > 0
    device, lens, viewmat = vertices.device, sighting.K, sighting.viewmat
    height, width = body.shape
    normals = vertex_normals(vertices[None], mesh.faces)[0]
    sight = F.normalize(-viewmat[:3, :3].T @ viewmat[:3, 3] - vertices, dim=-1)
    side = (normals * sight).sum(dim=-1).abs() < _SIDE
    steps = torch.arange(0, _REACH, max(_STEP, 0.25 * sighting.pixel), device=device)
    spots = vertices[:, None] + normals[:, None] * steps[:, None]
    at = project_torch(spots.view(1, -1, 3), viewmat[None], lens[None])[0].view(*spots.shape)
    column, row = at[..., 0].floor().long(), at[..., 1].floor().long()
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (at[..., 2] > 0)
    column, row = column.clamp(0, width - 1), row.clamp(0, height - 1)
    shown = sighting.person[row, column]
    if skirt is not None:
        # What hangs around the legs is no thigh, nor a hand before it.
        size = stature(mesh.rest)
        trunk = (mesh.rest[:, 1] > (TOP - 0.1) * size) & (mesh.rest[:, 0].abs() < 0.25 * size)
        shown &= trunk[:, None] | ~shown_by(skirt, sighting, mesh.rest)[row, column]
    on_body = body[row, column]
    number = torch.arange(len(steps), device=device)

    def first(where: Tensor) -> Tensor:
        """The first step (V,) of which something holds; the number of steps where none does."""
        return torch.where(where, number, len(steps)).amin(dim=1)

    out = first(~on_body)
    # Back on the body, or out of the picture: beyond that nothing is known.
    lost = first((on_body & (number > out[:, None])) | ~inside)
    end = first(~on_body & ~shown)
    tells = side & (out * steps[1] <= _START) & (end < lost)
    worn = torch.where(end > out, end * steps[1], 0.0)
    most = torch.where(end < lost, end * steps[1], _REACH)
    return worn, tells, most


def _smoothed(height: Tensor, faces: Tensor) -> Tensor:
    """Means of (V,) over the faces (F,3) around each vertex."""
    mean = height[faces].mean(dim=1)
    total, weight = torch.zeros_like(height), torch.zeros_like(height)
    for k in range(3):
        total.index_add_(0, faces[:, k], mean)
        weight.index_add_(0, faces[:, k], torch.ones_like(mean))
    return torch.where(weight > 0, total / weight.clamp(min=1), height)


def clothe(mesh: CharacterMesh, references: Sequence[Reference], field: str) -> tuple[CharacterMesh, Garb | None]:
    """A mesh grown to what its references show it to wear; the mesh as it is where they show no more than the body.

    Args:
        field: of the character in the shot, for errors.

    Raises:
        MediaError: a picture is damaged.
    """
    sightings, people = [], []
    for k, reference in enumerate(references):
        name = "reference" if k == 0 else f"further_references[{k - 1}]"
        found = _sighted(mesh, k, reference, f"{field}.{name}")
        if found is None:
            return mesh, None
        sightings.append(found[0])
        people.append(found[1])
    skirt = find_skirt(sightings, mesh.rest)
    height = _heights(mesh, sightings, skirt)
    if height is None and skirt is None:
        return mesh, None
    if height is None:
        height = torch.zeros(len(mesh.rest), device=mesh.rest.device)
    normals = [vertex_normals(part, mesh.faces) for part in (mesh.vertices, torch.stack(mesh.moments))]
    vertices = mesh.vertices + normals[0] * height[:, None]
    moments = tuple(moment + normal * height[:, None] for moment, normal in zip(mesh.moments, normals[1], strict=True))
    worn = (vertices[0] - mesh.vertices[0]).norm(dim=-1)
    garb = Garb(mesh.vertices, mesh.moments, tuple(people), worn)
    grown = replace(mesh, vertices=vertices, moments=moments)
    return (grown, garb) if skirt is None else _with_skirt(grown, garb, skirt)


def _hands(rest: Tensor) -> Tensor:
    """Which vertices (V,) of a mesh at rest (V,3) are hands; none where its arms do not reach out to both sides."""
    out, tall = rest[:, 0].abs(), float(rest[:, 1].max() - rest[:, 1].min())
    return (out > 0.81 * out.max()) & (out.max() > 0.4 * tall)


def _heights(mesh: CharacterMesh, sightings: Sequence[Sighting], skirt: Skirt | None) -> Tensor | None:
    """Metres (V,) that what is worn stands off the skin; None where nothing does."""
    device, count = mesh.rest.device, len(mesh.rest)
    total, weight = torch.zeros(count, device=device), torch.zeros(count, device=device)
    most = torch.where(_hands(mesh.rest), _GLOVE, _REACH)
    for sighting in sightings:
        worn, tells, limit = _stands_off(mesh, sighting, skirt)
        total, weight = total + worn * tells, weight + tells
        most = torch.minimum(most, limit)
    told = torch.nonzero(weight > 0).squeeze(1)
    if not len(told):
        return None
    own = total[told] / weight[told]
    if float(own.quantile(0.98)) < _LEAST and float(own.quantile(0.9)) < _LEAST / 2:
        return None
    arms = (mesh.rest[:, 0].abs() > 0.2) & (mesh.rest[:, 1] > 0.2)
    along = torch.where(arms[:, None], mesh.rest.new_tensor([_ALONG, 1, 1]), mesh.rest.new_tensor([1, _ALONG, 1]))
    place = mesh.rest * along
    height = torch.empty(count, device=device)
    k = min(_NEIGHBOURS, len(told))
    for part in torch.arange(count, device=device).split(2048):
        distance, index = torch.cdist(place[part], place[told]).topk(k, dim=1, largest=False)
        near = 1 / (distance**2 + 0.02**2)
        height[part] = (own[index] * near).sum(dim=1) / near.sum(dim=1)
    height = torch.minimum(height, most)
    height = height * torch.where(weight > 0, 1.0, _UNTOLD)
    for _ in range(_SMOOTH):
        height = _smoothed(height, mesh.faces)
    return torch.minimum(height, most)


def _with_skirt(mesh: CharacterMesh, garb: Garb, skirt: Skirt) -> tuple[CharacterMesh, Garb]:
    """A grown mesh with cloth that hangs around its legs, and its lining where faces seen from behind are left out."""
    count, frames, sides = len(mesh.rest), len(mesh.vertices), 2 if mesh.closed else 1
    faces, rest = cloth_faces(mesh.rest.device) + count, at_rest(skirt, mesh.rest)
    faces = torch.cat([mesh.faces, faces, faces.flip(1) + len(rest)][: 1 + sides])
    bare = torch.cat([garb.vertices, torch.stack(garb.moments)])
    cloth = hang(skirt, bare, mesh.rest).repeat(1, sides, 1)
    vertices = torch.cat([torch.cat([mesh.vertices, torch.stack(mesh.moments)]), cloth], dim=1)
    # All in one spot, so that nothing of it is drawn where the bare body is.
    bare = torch.cat([bare, bare[:, :1].expand_as(cloth)], dim=1)
    worn = torch.cat([garb.worn, garb.worn.new_full((cloth.shape[1],), _CLOTH)])
    whole = replace(
        mesh,
        vertices=vertices[:frames],
        faces=faces,
        rest=torch.cat([mesh.rest, rest.repeat(sides, 1)]),
        moments=tuple(vertices[frames:]),
    )
    return whole, replace(garb, vertices=bare[:frames], moments=tuple(bare[frames:]), worn=worn)
