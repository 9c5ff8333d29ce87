"""What the references show of a character: which spots, and in which colours.

Shape letters: V vertices, F triangles, P samples, H W picture, R references.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..media import decode_image, decode_rgba
from ..shot import Reference
from .character_meshes import CharacterMesh
from .garb import Garb
from .light import guess_clay
from .rasterise import Raster, project_torch, rasterise, vertex_normals
from .spread import spread

_BEHIND = 0.03
"""Metres that a spot may lie behind what its pixel shows and still be seen: skin that runs away from the camera."""
_SAME_SPOT = 0.1
"""Metres on the rest pose within which what a pixel shows is the spot itself: an arm that touches the chest is not."""
_FACING = (0.0, 0.25)
"""Cosine between skin and line of sight at which a spot begins to be seen, and at which it is fully seen."""
SQUARE = 2.0
"""Power of that cosine by which several pictures share a spot."""
_BLEED = 8
"""Pixels of the picture that colours are spread outwards from inside the outline."""
_FAR = 48
"""The same for the clay of a body that wears more than its skin."""
_ALPHA = 0.95
_LARGEST = 2048
"""Pixels of the longer side at which a picture is worked on."""
_SHOWN = 0.6
"""How well a vertex must be seen for others to borrow its colour."""
_DONORS = 1500
_TURNED, _MIRRORED = 0.02, 0.03
"""Metres by which spots count as farther off: half of what facing the other way adds; and for the body's other side."""
_BORROWED = 4
_CHUNK = 1 << 22


@dataclass(frozen=True, eq=False)
class Look:
    """One reference, ready to be sampled.

    Attributes:
        picture: (7,h,w) float32: the colours, the clay's colours, both 0..255, and whether the light is known. Without
            that, the clay is 0.
        depth: (h,w) float32 metres to the farthest spot that each pixel can be said to show; 0 where none.
        rest: (3,h,w) float32 metres, where on the rest pose the spot is that each pixel shows; NaN where none.
        viewmat: (4,4); K: (3,3) pixels of ``picture``.
        vertices: (V,3) of the mesh in the picture.
        facing: (V,) float32 in [-1,1], how squarely the picture sees each vertex; -1 where something hides it.
    """

    picture: Tensor
    depth: Tensor
    rest: Tensor
    viewmat: Tensor
    K: Tensor
    vertices: Tensor
    facing: Tensor

    def seen(self, spots: Tensor, facing: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        """How well the picture shows spots.

        Args:
            spots: (P,3) world, at the moment of the picture. facing: (P,). rest: (P,3) on the rest pose.

        Returns:
            Places in the picture (P,2) as ``grid_sample`` takes them, and weights (P,) in [0,1].
        """
        at = project_torch(spots[None], self.viewmat[None], self.K[None])[0]
        height, width = self.depth.shape
        place = at[:, :2] / at.new_tensor([width / 2, height / 2]) - 1
        shown = sample(self.depth[None], place)[0]
        visible = (at[:, 2] > 0) & (at[:, 2] <= shown) & (place.abs() <= 1).all(dim=-1)
        there = F.grid_sample(self.rest[None], place.view(1, 1, -1, 2), "nearest", "border", align_corners=False)
        # Beside the outline there is nothing to compare with, and a NaN is no reason to doubt.
        visible &= ~((there[0, :, 0].T - rest).square().sum(dim=-1) > _SAME_SPOT**2)
        low, high = _FACING
        ramp = ((facing - low) / (high - low)).clamp(0, 1)
        return place.clamp(-2, 2), visible * ramp * ramp * (3 - 2 * ramp)

    def colours(self, place: Tensor) -> Tensor:
        """Colours, clay and whether it is known (P,7) at places of ``seen``."""
        return sample(self.picture, place).T


def sample(picture: Tensor, place: Tensor) -> Tensor:
    """A picture (C,h,w) at places (P,2) in [-1,1], bilinear: (C,P)."""
    grid = place.view(1, 1, -1, 2)
    return F.grid_sample(picture[None], grid, mode="bilinear", padding_mode="border", align_corners=False)[0, :, 0]


def read_look(
    mesh: CharacterMesh,
    index: int,
    reference: Reference,
    density: float,
    grey: Tensor | None,
    field: str,
    garb: Garb | None = None,
) -> tuple[Look, list[str]]:
    """Make a reference ready, and say what is wrong with it.

    Args:
        index: of the reference among the mesh's.
        density: pixels by which a metre of the mesh shows in the film: the picture is brought to about that.
        grey: (3,) mean colour of the film's clay, 0..255; None where the film's light is not known.
        field: of the reference in the shot, for errors.
        garb: what ``mesh`` has been grown by to what it wears.

    Raises:
        MediaError: the picture is damaged.
    """
    vertices, faces = mesh.moments[index], mesh.faces
    device = vertices.device
    rgba = decode_rgba(reference.image, f"{field}.image")
    clay = None if reference.clay is None else decode_image(reference.clay, f"{field}.clay")
    viewmat, K = (torch.as_tensor(matrix, device=device) for matrix in (reference.viewmat, reference.K))
    scale = _scale(vertices, viewmat, K, rgba.shape, density)

    def drawn(height: int, width: int, body: Tensor = vertices) -> tuple[Raster, Tensor]:
        """The body in the picture at a size, and that size's intrinsics (3,3)."""
        lens = K.clone()
        lens[:2] *= torch.tensor([width / rgba.shape[1], height / rgba.shape[0]], device=device)[:, None]
        return rasterise(body[None], faces, viewmat[None], lens[None], height, width, cull=mesh.closed), lens

    # Colours are cleaned before they are enlarged: that mixes them.
    height, width = (max(1, round(side * min(scale, 1.0))) for side in rgba.shape[:2])
    raster, lens = drawn(height, width)
    depth = raster.depth[0]
    pixels = _resized(rgba, height, width, device)
    colours, alpha = pixels[:3], pixels[3] / 255
    body = torch.isfinite(depth)
    notes = _complaints(mesh.name, body, alpha)
    if garb is not None:
        person = torch.as_tensor(garb.people[index], device=device)[None, None].float()
        alpha = alpha * F.interpolate(person, (height, width), mode="area")[0, 0]
    fine, _ = drawn(2 * height, 2 * width)
    inside = _within(torch.isfinite(fine.depth[0])) & (alpha >= _ALPHA)
    if not inside.any():
        inside = body & (alpha >= 0.5)
    if clay is not None:
        light = _resized(clay, height, width, device)
        if garb is not None:
            # The clay shows the bare body only.
            bare, _ = drawn(2 * height, 2 * width, garb.moments[index])
            light = _spread(light, _within(torch.isfinite(bare.depth[0])), _FAR)
    elif grey is not None:
        light = guess_clay(colours, inside, vertices, faces, viewmat, lens, grey)
    else:
        light = None
    known = torch.full_like(colours[:1], float(light is not None))
    colours = torch.cat([colours, torch.zeros_like(colours) if light is None else light, known])
    colours = _spread(colours, inside, _BLEED)
    facing = _facing(mesh, vertices, viewmat, depth, lens, reference)
    rim = 1
    if scale > 1:
        rim = 2
        height, width = (round(side * scale) for side in rgba.shape[:2])
        raster, lens = drawn(height, width)
        depth = raster.depth[0]
        colours, alpha = _enlarged(colours, height, width), _enlarged(alpha[None], height, width)[0]
    rest = torch.full((height * width, 3), float("nan"), device=device)
    rest[raster.index] = raster.interpolate(mesh.rest, faces)
    rest = rest.T.view(3, height, width)
    shown = torch.where(torch.isfinite(depth) & (alpha >= 0.5), depth + _BEHIND, torch.zeros_like(depth))
    shown = _grown(shown, 2 * rim) * ~_mixed(rest, rim)
    return Look(colours, shown, rest, viewmat, lens, vertices, facing), notes


def _scale(vertices: Tensor, viewmat: Tensor, K: Tensor, shape: Sequence[int], density: float) -> float:
    """Factor on a picture's size that brings it to the film's density; at most doubled, which keeps samples crisp."""
    depth = vertices @ viewmat[2, :3] + viewmat[2, 3]
    before = depth[depth > 0.05]
    if not len(before):
        return min(1.0, _LARGEST / max(shape[:2]))
    own = float(torch.sqrt(K[0, 0] * K[1, 1]) / before.median())
    return min(2.0, max(density / max(own, 1e-6), 0.05), _LARGEST / max(shape[:2]))


def _resized(picture: np.ndarray, height: int, width: int, device: torch.device) -> Tensor:
    """(H,W,C) uint8 to (C,height,width) float32."""
    pixels = torch.as_tensor(picture.copy(), device=device).permute(2, 0, 1).float()
    return pixels if pixels.shape[1:] == (height, width) else _enlarged(pixels, height, width)


def _enlarged(picture: Tensor, height: int, width: int) -> Tensor:
    """A picture (C,H,W) of 0..255 at another size."""
    resized = F.interpolate(picture[None], (height, width), mode="bicubic", antialias=True, align_corners=False)
    return resized[0].clamp(0, 255)


def _within(fine: Tensor) -> Tensor:
    """Pixels (h,w) that the body covers wholly, of twice as fine an outline (2h,2w)."""
    return F.max_pool2d((~fine)[None].float(), 2)[0] == 0


def _mixed(rest: Tensor, reach: int) -> Tensor:
    """Pixels (h,w) within ``reach`` of one that shows another spot of the body: they show something of both.

    Args:
        rest: (3,h,w) spots, NaN where there is none.
    """
    mixed = torch.zeros(rest.shape[1:], dtype=torch.bool, device=rest.device)
    for k in range(1, reach + 1):
        across = (rest[:, :, k:] - rest[:, :, :-k]).square().sum(dim=0) > _SAME_SPOT**2
        down = (rest[:, k:] - rest[:, :-k]).square().sum(dim=0) > _SAME_SPOT**2
        mixed[:, k:] |= across
        mixed[:, :-k] |= across
        mixed[k:] |= down
        mixed[:-k] |= down
    return mixed


def _grown(depth: Tensor, by: int) -> Tensor:
    """Depths (h,w) carried ``by`` pixels beyond the outline, so that spots on it are found."""
    near = F.max_pool2d(depth[None], 2 * by + 1, 1, by)[0]
    return torch.where(depth > 0, depth, near)


def _spread(colours: Tensor, inside: Tensor, reach: int) -> Tensor:
    """Colours (C,h,w) of the pixels ``inside``, carried ``reach`` pixels outwards, and their mean far away."""
    values, known = spread(colours[None], inside[None, None], reach)
    mean = values.sum(dim=(2, 3), keepdim=True) / known.sum().clamp(min=1)
    return torch.where(known, values, mean)[0]


def _facing(
    mesh: CharacterMesh, vertices: Tensor, viewmat: Tensor, depth: Tensor, K: Tensor, reference: Reference
) -> Tensor:
    """How squarely the picture sees each vertex (V,); -1 for what the shot says is hidden by something else."""
    normals = vertex_normals(vertices[None], mesh.faces)[0]
    eye = -viewmat[:3, :3].T @ viewmat[:3, 3]
    facing = (normals * F.normalize(eye - vertices, dim=-1)).sum(dim=-1)
    facing = facing if mesh.closed else facing.abs()
    if reference.visibility is None:
        return facing
    points = torch.as_tensor(reference.points, device=vertices.device)
    at = project_torch(points[None], viewmat[None], K[None])[0]
    height, width = depth.shape
    column, row = at[:, 0].floor(), at[:, 1].floor()
    within = (at[:, 2] > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    drawn = depth[row.clamp(0, height - 1).long(), column.clamp(0, width - 1).long()]
    own = within & (at[:, 2] <= drawn + _BEHIND)
    hidden = own & ~torch.as_tensor(reference.visibility, device=vertices.device)
    # A few stray ones lie on the outline; what really stands before a body hides a patch of it.
    if int(hidden.sum()) <= 0.05 * max(int(own.sum()), 1):
        return facing
    nearest = torch.cat([torch.cdist(part, points).argmin(dim=1) for part in vertices.split(_CHUNK // len(points))])
    return torch.where(hidden[nearest], -torch.ones_like(facing), facing)


def _complaints(name: str, body: Tensor, alpha: Tensor) -> list[str]:
    """Sentences on a reference that cannot be right."""
    if not body.any():
        return [
            f"The reference of {name} does not show its body: move its camera or its frame, or choose another picture"
        ]
    if float(alpha.min()) < 0.5:
        shown = alpha >= 0.5
        fit = float((shown & body).sum() / (shown | body).sum().clamp(min=1))
        if fit < 0.5:
            return [
                f"The reference of {name} does not fit its pose: {fit:.0%} of both outlines agree; set the frame at "
                "which the pose matches the picture"
            ]
    return []


def borrow(mesh: CharacterMesh, looks: Sequence[Look]) -> Tensor:
    """Colours for what no picture shows: of the nearest spot that one does, on the rest body or its mirror image.

    Returns:
        (V,7) as ``Look.colours``; NaN where no picture shows anything of the body.
    """
    count, device = len(mesh.rest), mesh.rest.device
    total, weight = torch.zeros(count, 7, device=device), torch.zeros(count, device=device)
    for look in looks:
        place, seen = look.seen(look.vertices, look.facing, mesh.rest)
        share = seen * look.facing.clamp(0, 1) ** SQUARE
        total += share[:, None] * look.colours(place)
        weight = weight + share
    own = total / weight.clamp(min=1e-6)[:, None]
    shown = torch.stack([look.seen(look.vertices, look.facing, mesh.rest)[1] for look in looks]).amax(dim=0)
    donors = torch.nonzero(shown >= _SHOWN).squeeze(1)
    if not len(donors):
        donors = torch.nonzero(shown > 0).squeeze(1)
    if not len(donors):
        return torch.full((count, 7), float("nan"), device=device)
    # Evenly over the body, so that distances to a few thousand are enough.
    donors = donors[torch.linspace(0, len(donors) - 1, min(_DONORS, len(donors)), device=device).long()]
    takers = torch.nonzero(shown < 1).squeeze(1)
    # Where a spot is, and which way it faces there.
    place = torch.cat([mesh.rest, _TURNED * vertex_normals(mesh.rest[None], mesh.faces)[0]], dim=1)
    mirror = torch.tensor([-1.0, 1.0, 1.0, -1.0, 1.0, 1.0], device=device)
    k = min(_BORROWED, len(donors))
    for part in takers.split(_CHUNK // len(donors)):
        apart = torch.minimum(
            torch.cdist(place[part], place[donors]), torch.cdist(place[part], place[donors] * mirror) + _MIRRORED
        )
        distance, index = apart.topk(k, dim=1, largest=False)
        near = 1 / (distance + 2e-3) ** 2
        colour = (own[donors[index]] * (near / near.sum(dim=1, keepdim=True))[..., None]).sum(dim=1)
        mix = shown[part, None]
        own[part] = mix * own[part] + (1 - mix) * colour
    return own
