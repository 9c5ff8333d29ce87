"""Find in reference pictures whether a person wears cloth that hangs around both legs, how wide and how long.

Shape letters: V vertices, K depths, S steps to the side, h w picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .rasterise import draw_depth, project_torch
from .skirt import (
    GAP,
    STEP,
    TOP,
    WIDEST,
    Legs,
    Skirt,
    along,
    cloth_faces,
    cut,
    draped,
    hang,
    has_legs,
    outline,
    stature,
)

_SIDE = 1.0
"""Metres to either side of the axis that are looked at."""
NONE, _TRUNK, _ARM = 0, 1, 2
"""Parts of the body."""
_LOOSE = 0.06
"""Metres beyond the legs, to each side, that trousers reach, or an outline that is found too far out."""
_OPEN = 2.0
"""How much more what shows between the legs says against cloth than cloth between them says for it."""
_CROTCH = 0.1
"""Metres below the waist from which on the picture is asked."""
_LEAST, _SURELY = 0.025, 0.02
"""Square metres that must speak for cloth, and where the outline is not guessed from colours alone. In 150 synthetic
pictures of bare bodies, with and without clay, none do; in 55 of people in trousers or less 0.013 at most without clay,
and none in the 25 of them that have it."""
_SHORTEST = 0.2
"""Metres of the shortest that is looked for."""
_HUE, _DARK = 0.05, 20.0
"""By how much shares of red, green and blue differ in another hue, and levels added to their sum: black has none."""
_ROWS, _FEWEST = 3, 50
"""Rows of the picture above and below that show the same height, and pixels that colours can be told by."""
_COARSE = 0.06
"""Metres between the lengths that are tried first."""
_ROUNDS = 2
_FARTHEST = 0.4
"""Metres beside the legs that count at most: what reaches farther may be something else."""


@dataclass(frozen=True, eq=False)
class Sighting:
    """A reference picture at the size that outlines are looked for at.

    Attributes:
        vertices: (V,3) of the mesh at its moment.
        picture: (h,w,3) float32 0..255.
        person: (h,w) bool, pixels that show the person. part: (h,w) int64, what of the body they show: ``NONE``, ...
        viewmat: (4,4); K: (3,3) pixels of ``person``; pixel: metres that one shows, about.
        sure: whether the person is known by the picture's alpha, or by what differs from its clay.
    """

    vertices: Tensor
    picture: Tensor
    person: Tensor
    part: Tensor
    viewmat: Tensor
    K: Tensor
    pixel: float
    sure: bool


@dataclass(frozen=True, eq=False)
class Profile:
    """What a picture shows at each depth, in metres.

    Attributes:
        gap: (K,) between pixels of the legs; filled: (K,) of that, with what is worn.
        beside: (K,2) of what is worn beyond the legs, to either side; known: (K,2) whether it ends there.
        legs: (K,2) how far the legs reach from the axis to either side.
        seen: (K,) whether the picture shows the legs.
    """

    gap: Tensor
    filled: Tensor
    beside: Tensor
    known: Tensor
    legs: Tensor
    seen: Tensor


def parts(rest: Tensor, faces: Tensor) -> Tensor:
    """What part of the body each face (F,) is."""
    size = stature(rest)
    arm = (rest[:, 0].abs() > WIDEST * size) | ((rest[:, 0].abs() > 0.21 * size) & (rest[:, 1] > 0.1 * size))
    return torch.where(arm[faces].any(dim=1), _ARM, _TRUNK)


def profile(sighting: Sighting, legs: Legs) -> Profile:
    """What the picture shows around legs (of T = 1 moment) at each depth: along the line through the cloth's axis that
    runs across both the axis and the line of sight."""
    height, width = sighting.person.shape
    device, viewmat = sighting.person.device, sighting.viewmat
    down, depths = legs.axes[0, 2], legs.support.shape[1]
    centre = legs.origin[0] + down * (STEP * torch.arange(depths, device=device))[:, None]
    eye = -viewmat[:3, :3].T @ viewmat[:3, 3]
    aside = F.normalize(torch.linalg.cross(down.expand_as(centre), eye - centre), dim=-1)
    count = 2 * max(8, round(_SIDE / sighting.pixel)) + 1
    steps = torch.linspace(-_SIDE, _SIDE, count, device=device)
    step = float(steps[1] - steps[0])
    spots = centre[:, None] + steps[:, None] * aside[:, None]
    at = project_torch(spots.view(1, -1, 3), viewmat[None], sighting.K[None])[0].view(depths, count, 3)
    column, row = at[..., 0].floor().long(), at[..., 1].floor().long()
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (at[..., 2] > 0)
    column, row = column.clamp(0, width - 1), row.clamp(0, height - 1)
    person = sighting.person[row, column] & inside
    part = torch.where(inside, sighting.part[row, column], NONE)
    trunk = part == _TRUNK
    seen = trunk.any(dim=1)
    number = torch.arange(count, device=device)
    first = torch.where(trunk, number, count).amin(dim=1, keepdim=True)
    last = torch.where(trunk, number, -1).amax(dim=1, keepdim=True)
    between = (number > first) & (number < last) & (part == NONE) & inside
    beside, known, reach = [], [], []
    for end, sign in ((last, 1), (first, -1)):
        away = (number - end) * sign
        # The first step beyond the legs that shows nothing that is worn.
        stop = torch.where((away > 0) & ~(person & (part == NONE)), away, count).amin(dim=1, keepdim=True)
        where = (end + sign * stop).clamp(0, count - 1)
        told = (stop < count) & inside.gather(1, where) & (part.gather(1, where) == NONE)
        beside.append((stop - 1) * step)
        known.append(told)
        reach.append(sign * steps[end.clamp(0, count - 1)])
    return Profile(
        between.sum(dim=1) * step * seen,
        (between & person).sum(dim=1) * step * seen,
        torch.cat(beside, dim=1) * seen[:, None],
        torch.cat(known, dim=1) & seen[:, None],
        torch.cat(reach, dim=1),
        seen,
    )


def find_skirt(sightings: Sequence[Sighting], rest: Tensor) -> Skirt | None:
    """The cloth around both legs of a mesh (V,3) at rest that pictures show; None where they show none."""
    if not any(bool((each.person & (each.part == NONE)).any()) for each in sightings) or not has_legs(rest):
        return None
    depths = int((1 + TOP) * stature(rest) / STEP) + 3
    depth = STEP * torch.arange(depths, device=rest.device)
    legs = [cut(each.vertices[None], rest, depths) for each in sightings]
    profiles = [profile(*both) for both in zip(sightings, legs, strict=True)]
    says = torch.stack([_says(each) for each in profiles]).sum(dim=0)
    says = torch.where(depth >= _CROTCH, says, 0.0).cumsum(dim=0) * STEP
    hem = int(says.argmax())
    least = _SURELY if all(each.sure for each in sightings) else _LEAST
    if float(says[hem]) < least or hem * STEP < _SHORTEST:
        return None
    waist = torch.stack([_own(each)[0].mean() for each in legs]).mean()
    skirt = None
    for _ in range(_ROUNDS):
        girths = torch.stack([_girth(*both, hem) for both in zip(profiles, legs, strict=True)])
        girth = _widening(girths.nanmean(dim=0), waist)
        if girth is None:
            return None
        radius = torch.cat([outline(draped(each, girth)) for each in legs])
        down = along(radius).mean(dim=(0, 2))
        skirt = _long(girth, float(down[hem]) + _SHORTEST, sightings, rest)
        # Seen from above the hem lies lower in the picture than beside the legs.
        hem = min(hem, max(int((down <= skirt.length).sum()) - 1, 1))
    return None if skirt is None or any(_uncovered(skirt, each, rest) for each in sightings) else skirt


def _long(girth: Tensor, longest: float, sightings: Sequence[Sighting], rest: Tensor) -> Skirt:
    """Cloth as long as the pictures show it best."""

    def best(lengths: Sequence[float]) -> float:
        return max(lengths, key=lambda length: sum(_agreement(Skirt(girth, length), each, rest) for each in sightings))

    rough = best([_SHORTEST + _COARSE * k for k in range(int((longest - _SHORTEST) / _COARSE) + 1)])
    return Skirt(girth, best([rough + _COARSE * k / 3 for k in (-1, 0, 1)]))


def _says(profile: Profile) -> Tensor:
    """Metres (K,) at each depth that speak for cloth around both legs."""
    beside = profile.beside.clamp(max=_FARTHEST).sum(dim=1)
    # Trousers stand off a leg on its inner side as they do on its outer one.
    between = profile.filled - torch.minimum(profile.filled, beside.clamp(max=2 * _LOOSE))
    left_open = profile.gap - profile.filled
    return torch.where(profile.seen, between - _OPEN * left_open + beside - 2 * _LOOSE, 0.0)


def _own(legs: Legs) -> Tensor:
    """Support (K,N) of cloth that lies on legs of one moment; no more than the gap where nothing is cut."""
    return torch.where(legs.support[0].isfinite(), legs.support[0], 0.0) + GAP


def _girth(profile: Profile, legs: Legs, hem: int) -> Tensor:
    """Girth (K,) over 2 pi down to the hem; NaN where the picture does not tell."""
    known = profile.known & (profile.legs + profile.beside > 0)
    # Where the picture tells both sides, the cloth may hang off the middle.
    reach = torch.where(known, profile.legs + profile.beside, 0.0).sum(dim=1) / known.sum(dim=1)
    girth = torch.maximum(_own(legs), reach[:, None]).mean(dim=1)
    told = known.any(dim=1) & (torch.arange(len(girth), device=girth.device) <= hem)
    return torch.where(told, girth, torch.nan)


def _widening(girth: Tensor, waist: Tensor) -> Tensor | None:
    """Girths (K,) that nowhere shrink on the way down, nearest to those that are known (not NaN); the ``waist``'s own
    first where that is unknown. None where none is known."""
    known = torch.nonzero(girth.isfinite()).squeeze(1)
    if not len(known):
        return None
    own = girth[known]
    if int(known[0]) > 0:
        own, known = torch.cat([torch.minimum(waist, own.min())[None], own]), F.pad(known, (1, 0))
    # Isotonic regression by its min-max formula.
    total = F.pad(own.cumsum(dim=0), (1, 0))
    first, last = torch.meshgrid(*[torch.arange(len(own), device=own.device)] * 2, indexing="ij")
    mean = (total[last + 1] - total[first]) / (last - first + 1).clamp(min=1)
    least = torch.where(last >= first, mean, torch.inf).flip(1).cummin(dim=1).values.flip(1)
    own = torch.where(last >= first, least, -torch.inf).amax(dim=0)
    places = torch.arange(len(girth), device=girth.device)
    above = (torch.searchsorted(known, places, right=True) - 1).clamp(max=max(len(known) - 2, 0))
    below = (above + 1).clamp(max=len(known) - 1)
    share = ((places - known[above]) / (known[below] - known[above]).clamp(min=1)).clamp(0, 1)
    whole = torch.lerp(own[above], own[below], share)
    return F.avg_pool1d(F.pad(whole[None, None], (1, 1), mode="replicate"), 3, 1)[0, 0]


def shown_by(skirt: Skirt, sighting: Sighting, rest: Tensor) -> Tensor:
    """Pixels (h,w) bool that cloth would cover, were nothing before it."""
    spots = hang(skirt, sighting.vertices[None], rest)
    views, lenses = sighting.viewmat[None], sighting.K[None]
    depth = draw_depth(spots, cloth_faces(rest.device), views, lenses, *sighting.person.shape, cull=False)
    return torch.isfinite(depth[0])


def _uncovered(skirt: Skirt, sighting: Sighting, rest: Tensor) -> bool:
    """Whether legs show before the cloth, as they do before a cape or in an open coat: most of their pixels have
    another hue than all cloth at their height."""
    drawn = shown_by(skirt, sighting, rest)
    cloth, legs = drawn & sighting.person & (sighting.part == NONE), drawn & (sighting.part == _TRUNK)
    # Along the outline pixels show something of the background, or of the skin above and below.
    cloth, legs = (-F.max_pool2d(-each.float()[None], 3, 1, 1)[0] > 0 for each in (cloth, legs))
    hue = sighting.picture / (sighting.picture.sum(dim=-1, keepdim=True) + _DARK)
    other, count = 0, 0
    for row in torch.nonzero(legs.any(dim=1)).flatten().tolist():
        near = slice(max(0, row - _ROWS), row + _ROWS + 1)
        beside, own = hue[near][cloth[near]], hue[row][legs[row]]
        if len(beside):
            other += int((torch.cdist(own, beside, p=torch.inf).amin(dim=1) > _HUE).sum())
            count += len(own)
    return count >= _FEWEST and other > count / 2


def _agreement(skirt: Skirt, sighting: Sighting, rest: Tensor) -> float:
    """How well cloth fills what the picture shows beside the body, in square metres."""
    drawn = shown_by(skirt, sighting, rest) & (sighting.part == NONE)
    return (2 * int((drawn & sighting.person).sum()) - int(drawn.sum())) * sighting.pixel**2
