"""The carried film: what exact geometry and light give before any network runs.

Every sample of every frame shows one spot of one body, which is looked up in the references: no search, no guess of
motion. What no reference shows borrows from the nearest spot that one does; the clay passes bring it into the light of
the film.

Shape letters: T frames, H W film, S samples along a pixel's side, P covered samples, V vertices, F triangles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..shot import Shot
from .character_meshes import CharacterMesh, character_meshes
from .garb import Garb, clothe
from .light import relight
from .looks import SQUARE, Look, borrow, read_look
from .plate import Hiding, read_clay, read_plates, under_bodies
from .rasterise import Raster, draw_depth, project_torch, rasterise, vertex_normals
from .spread import spread

NOBODY = -1
"""In ``CarriedFilm.character``, where no body shows."""

_SAMPLES = 2
_AT_ONCE = 8
"""Frames drawn together, which bounds memory."""
_NEAR = 0.05
_SPREAD = 48
"""Pixels that the light of a body spreads over what it wears."""
_FOLDS, _LARGEST_FOLD = 0.075, 12
"""Metres over which the light of the skin is averaged for what is worn over it, and pixels at most."""
_SURE = (0.25, 0.75)
"""Share to which a spot is seen at which its colour begins to count, and from which on it counts alone."""
_PLASTER = 160.0
"""Grey of a character without looks, 0..255."""


@dataclass(frozen=True, eq=False)
class CarriedFilm:
    """The references laid onto the moving bodies, over the background; and what each pixel shows.

    Attributes:
        frames: (T,H,W,3) uint8 sRGB.
        known: (T,H,W) float32 in [0,1], how far a body's colour is carried from a reference (1) or guessed (0); 0 where
            no body shows.
        character: (T,H,W) int8, index of the character that shows, or ``NOBODY``.
        normal: (T,H,W,3) float32, unit normals in the OpenCV camera's frame; 0 where no body shows.
        depth: (T,H,W) float32 metres along the optical axis of the bodies; infinite where none shows.
        canonical: (T,H,W,3) float32 metres, the spot on the rest pose (Y up, pelvis at the origin); 0 where no body.
        lit: (T,H,W) float32 in [0,1], how far the light in which a colour was seen is known; 0 where no body shows.
        worn: (T,H,W) float32 metres that what shows stands off the body's skin, as hair and skirts do; 0 on bare skin
            and where no body shows.
        notes: sentences for the animator.
    """

    frames: np.ndarray
    known: np.ndarray
    character: np.ndarray
    normal: np.ndarray
    depth: np.ndarray
    canonical: np.ndarray
    lit: np.ndarray
    worn: np.ndarray
    notes: tuple[str, ...] = ()

    def cut(self, frames: slice) -> CarriedFilm:
        """Some of its frames, without the notes."""
        return CarriedFilm(**{name: getattr(self, name)[frames] for name in _MAPS})


_MAPS = tuple(field.name for field in fields(CarriedFilm) if field.name != "notes")


@dataclass(frozen=True, eq=False)
class _Dressed:
    """A mesh with its looks.

    Attributes:
        borrowed: (V,7) as ``Look.colours``, for what no picture shows.
        plaster: whether no picture shows anything of it.
        density: samples by which a metre of it shows in the film.
        garb: what the mesh has been grown by to what it wears, or None.
    """

    mesh: CharacterMesh
    looks: tuple[Look, ...]
    borrowed: Tensor
    plaster: bool
    density: float
    garb: Garb | None = None

    def bare(self, now: slice) -> Tensor:
        """The body's vertices (T,V,3) without what it wears."""
        return (self.mesh if self.garb is None else self.garb).vertices[now]

    def worn(self) -> Tensor:
        """Metres (V,) that the mesh stands off the skin."""
        if self.garb is None:
            return torch.zeros(len(self.mesh.rest), device=self.mesh.rest.device)
        return self.garb.worn


class Carrier:
    """Draws the carried film of a shot, a few frames at a time: what it holds does not grow with the frames.

    Args:
        shot, width, height: pixels of the film. device: as torch names it.
        blind: take every spot for seen in every reference, so that nothing is borrowed from what is seen indeed: to
            measure what it is worth to know.

    Attributes:
        shape: (T, H, W, 3) of the film.
        ranges: the frames of each of its parts, always drawn together: sums depend on how they are batched.
        notes: sentences for the animator.

    Raises:
        MediaError: a picture of the shot is damaged.
    """

    @torch.no_grad()
    def __init__(
        self, shot: Shot, width: int, height: int, device: torch.device | str = "cpu", blind: bool = False
    ) -> None:
        count = shot.clip.frames
        self.shape = (count, height, width, 3)
        self.ranges = [range(start, min(start + _AT_ONCE, count)) for start in range(0, count, _AT_ONCE)]
        self._shot, self._blind, self._device = shot, blind, torch.device(device)
        self._viewmats = torch.as_tensor(shot.clip.viewmats, device=device)
        self._Ks = torch.as_tensor(shot.clip.Ks, device=device).clone()
        self._Ks[:, :2] *= torch.tensor([width / shot.clip.width, height / shot.clip.height], device=device)[:, None]
        middle = read_clay(shot, width, height, self._device, range(count // 2, count // 2 + 1))
        meshes = character_meshes(shot, self._device)
        self._dressed, notes = [], []
        for i, mesh in enumerate(meshes):
            grey = None if middle is None else _grey(mesh, middle[0], self._viewmats, self._Ks)
            one, complaints = _dress(shot, i, mesh, _density(mesh, self._viewmats, self._Ks), grey)
            self._dressed.append(one)
            notes += [*mesh.notes, *complaints]
        self._hiding = Hiding(shot, meshes, self._device)
        self.notes = tuple(notes)

    @torch.no_grad()
    def parts(
        self, on_frames: Callable[[int, int], None] | None = None, only: range | None = None
    ) -> Iterator[CarriedFilm]:
        """The film in parts of a few frames, in order, without the notes; arguments and errors as of ``carry_shot``."""
        count, height, width = self.shape[:3]
        wanted = range(count) if only is None else only
        drawn = [part for part in self.ranges if part.start < wanted.stop and wanted.start < part.stop]
        if on_frames is not None:
            on_frames(0, len(wanted))
        for now, plate in zip(drawn, read_plates(self._shot, width, height, self._device, drawn), strict=True):
            clay = read_clay(self._shot, width, height, self._device, now)
            at = slice(now.start, now.stop)
            made = _draw(
                self._dressed, self._hiding, plate, clay, at, self._viewmats, self._Ks, self._shot, self._blind
            )
            cut = slice(max(wanted.start - now.start, 0), min(wanted.stop, now.stop) - now.start)
            yield made.cut(cut)
            if on_frames is not None:
                on_frames(min(now.stop, wanted.stop) - wanted.start, len(wanted))

    def frames(
        self, on_frames: Callable[[int, int], None] | None = None, only: range | None = None
    ) -> Iterator[np.ndarray]:
        """The film's frames (H,W,3) uint8 alone, one after the other; arguments and errors as of ``carry_shot``."""
        for part in self.parts(on_frames, only):
            yield from part.frames

    def maps(
        self, *names: str, on_frames: Callable[[int, int], None] | None = None, only: range | None = None
    ) -> list[np.ndarray]:
        """Some of the fields of ``CarriedFilm``, whole; arguments and errors as of ``carry_shot``."""
        count = self.shape[0] if only is None else len(only)
        made: list[np.ndarray] = []
        done = 0
        for part in self.parts(on_frames, only):
            values = [getattr(part, name) for name in names]
            made = made or [np.empty((count, *value.shape[1:]), value.dtype) for value in values]
            for whole, value in zip(made, values, strict=True):
                whole[done : done + len(value)] = value
            done += len(part.frames)
        return made

    def film(self, on_frames: Callable[[int, int], None] | None = None, only: range | None = None) -> CarriedFilm:
        """All of it; see ``carry_shot``."""
        return CarriedFilm(*self.maps(*_MAPS, on_frames=on_frames, only=only), notes=self.notes)


def carry_shot(
    shot: Shot,
    width: int,
    height: int,
    device: torch.device | str = "cpu",
    on_frames: Callable[[int, int], None] | None = None,
    only: range | None = None,
    blind: bool = False,
) -> CarriedFilm:
    """The carried film of a shot at ``width`` x ``height`` pixels with all maps: about 50 bytes a pixel of each frame.

    Args:
        on_frames: called with the frames done and their number; may raise to stop.
        only: frames that are wanted; each is what it is in the whole film, to the bit. All by default.
        blind: see ``Carrier``.

    Raises:
        MediaError: a picture or film of the shot is damaged.
    """
    return Carrier(shot, width, height, device, blind).film(on_frames, only)


def _density(mesh: CharacterMesh, viewmats: Tensor, Ks: Tensor) -> float:
    """Samples by which a metre of a mesh shows in the film."""
    middle = mesh.vertices.mean(dim=1)
    depth = (viewmats[:, 2, :3] * middle).sum(dim=-1) + viewmats[:, 2, 3]
    size = torch.sqrt(Ks[:, 0, 0] * Ks[:, 1, 1]) / depth.clamp(min=2 * _NEAR)
    return _SAMPLES * float(size.median())


def _grey(mesh: CharacterMesh, clay: Tensor, viewmats: Tensor, Ks: Tensor) -> Tensor:
    """Mean colour (3,) of a mesh's clay (H,W,4) in the film's middle frame, at its vertices there."""
    t = len(viewmats) // 2
    height, width = clay.shape[:2]
    at = project_torch(mesh.vertices[t : t + 1], viewmats[t : t + 1], Ks[t : t + 1])[0]
    normals = vertex_normals(mesh.vertices[t : t + 1], mesh.faces)[0]
    eye = -viewmats[t, :3, :3].T @ viewmats[t, :3, 3]
    before = ((eye - mesh.vertices[t]) * normals).sum(dim=-1) > 0
    column, row = at[:, 0].floor(), at[:, 1].floor()
    inside = before & (at[:, 2] > _NEAR) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    if not inside.any():
        return torch.full((3,), 128.0, device=clay.device)
    return clay[row[inside].long(), column[inside].long(), :3].mean(dim=0)


def _dress(
    shot: Shot, index: int, mesh: CharacterMesh, density: float, grey: Tensor | None
) -> tuple[_Dressed, list[str]]:
    """Read a character's references."""
    looks, notes = [], []
    mesh, garb = clothe(mesh, shot.characters[index].references, f"characters[{index}]")
    for k, reference in enumerate(shot.characters[index].references):
        name = "reference" if k == 0 else f"further_references[{k - 1}]"
        look, complaints = read_look(mesh, k, reference, density, grey, f"characters[{index}].{name}", garb)
        looks.append(look)
        notes += complaints
    borrowed = borrow(mesh, looks) if looks else torch.full((len(mesh.rest), 7), float("nan"))
    plaster = bool(borrowed.isnan().any())
    if plaster:
        if not looks:
            notes.append(f"No reference picture for {mesh.name}: it is drawn in plain grey")
        lit = [*([128.0] * 3 if grey is None else grey.tolist()), 0.0 if grey is None else 1.0]
        borrowed = torch.tensor([_PLASTER] * 3 + lit, device=mesh.rest.device).expand(len(mesh.rest), 7)
    return _Dressed(mesh, tuple(looks), borrowed, plaster, density, garb), notes


def _draw(
    dressed: Sequence[_Dressed],
    hiding: Hiding,
    plate: Tensor,
    clay: Tensor | None,
    now: slice,
    viewmats: Tensor,
    Ks: Tensor,
    shot: Shot,
    blind: bool,
) -> CarriedFilm:
    """Some frames of the carried film."""
    frames, full_height, full_width = plate.shape[:3]
    views, lenses = viewmats[now], Ks[now]
    box = _box(dressed, now, views, lenses, full_width, full_height)
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    lenses = lenses.clone()
    lenses[:, 0, 2] -= left
    lenses[:, 1, 2] -= top
    lenses[:, :2] *= _SAMPLES
    everybody = torch.cat([one.mesh.vertices[now] for one in dressed], dim=1)
    starts = np.cumsum([0, *(one.mesh.vertices.shape[1] for one in dressed)])
    faces = torch.cat([one.mesh.faces + int(start) for one, start in zip(dressed, starts, strict=False)])
    owners = torch.cat([torch.full((len(o.mesh.faces),), i) for i, o in enumerate(dressed)]).to(faces.device)
    closed = all(one.mesh.closed for one in dressed)
    size = (height * _SAMPLES, width * _SAMPLES)
    raster = rasterise(everybody, faces, views, lenses, *size, cull=closed)
    raster = hiding.hide(raster, now, views, lenses, everybody)
    owner = owners[raster.face]
    normals = torch.cat([vertex_normals(one.mesh.vertices[now], one.mesh.faces) for one in dressed], dim=1)

    values = torch.zeros(len(raster.index), 10, device=plate.device)
    for i, one in enumerate(dressed):
        mine = torch.nonzero(owner == i).squeeze(1)
        if len(mine):
            values[mine, :9] = _coloured(one, raster, mine, faces - int(starts[i]), blind)
    values[:, 9] = 1
    for i, one in enumerate(dressed):
        if one.plaster and clay is None:
            mine = torch.nonzero(owner == i).squeeze(1)
            values[mine, :3] *= _shaded(raster, mine, normals, faces, views)[:, None]
    grid = _pixels(raster, values)
    cover = grid[..., 9]
    colours = grid[..., :3] / cover[..., None].clamp(min=1e-6)
    behind = plate[:, top:bottom, left:right]
    film = plate.clone()
    if clay is not None:
        own = grid[..., 3:7] / cover[..., None].clamp(min=1e-6)
        carried = own[..., :3] / own[..., 3:].clamp(min=1e-3)
        there = clay[:, top:bottom, left:right]
        garbed = [one for one in dressed if one.garb is not None]
        if garbed:
            there = _under_garb(
                there, torch.cat([one.bare(now) for one in dressed], dim=1), faces, views, lenses, closed
            )
        worn = grid[..., 8] if garbed else None
        reach = min(max([1, *(round(_FOLDS * one.density / _SAMPLES) for one in garbed)]), _LARGEST_FOLD)
        colours = relight(colours, there[..., :3], carried, own[..., 3], cover, worn, reach)
        if shot.clay is not None and shot.clay.surroundings:
            film = clay[..., :3].clone()
            behind = under_bodies(behind, clay[:, top:bottom, left:right], cover)
    film[:, top:bottom, left:right] = behind + cover[..., None] * (colours.clamp(0, 255) - behind)

    def whole(values: Tensor, empty: float) -> np.ndarray:
        """Values of the box as a map of the whole picture."""
        image = torch.full((frames, full_height, full_width, *values.shape[3:]), empty, device=values.device)
        image[:, top:bottom, left:right] = values
        return image.cpu().numpy()

    maps = _maps(dressed, raster, owner, faces, normals, starts, views, cover)
    return CarriedFilm(
        film.clamp(0, 255).round().to(torch.uint8).cpu().numpy(),
        whole(grid[..., 7], 0.0),
        whole(maps[0], float(NOBODY)).astype(np.int8),
        whole(maps[1], 0.0),
        whole(maps[2], float("inf")),
        whole(maps[3], 0.0),
        whole(grid[..., 6], 0.0),
        whole(grid[..., 8], 0.0),
    )


def _under_garb(clay: Tensor, bodies: Tensor, faces: Tensor, views: Tensor, lenses: Tensor, closed: bool) -> Tensor:
    """Clay (T,H,W,4) with the light of the bare ``bodies`` (T,V,3) spread over what they wear beyond their outline.

    Args:
        lenses: (T,3,3) of the drawn samples.
    """
    height, width = (side * _SAMPLES for side in clay.shape[1:3])
    depth = draw_depth(bodies, faces, views, lenses, height, width, cull=closed)
    inside = F.max_pool2d((~torch.isfinite(depth)).float()[:, None], _SAMPLES) == 0
    values, known = spread(clay.permute(0, 3, 1, 2).contiguous(), inside, _SPREAD)
    return torch.where(known, values, clay.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _box(
    dressed: Sequence[_Dressed], now: slice, views: Tensor, lenses: Tensor, width: int, height: int
) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the part of the picture that bodies can cover; at least a pixel."""
    low, high = [width, height], [0, 0]
    for one in dressed:
        at = project_torch(one.mesh.vertices[now], views, lenses)
        if bool((at[..., 2] < _NEAR).any()):
            if bool((at[..., 2] >= _NEAR).any()):
                return 0, 0, width, height
            continue
        for k in range(2):
            low[k] = min(low[k], int(at[..., k].min().clamp(0, 1e5)) - 2)
            high[k] = max(high[k], int(at[..., k].max().clamp(-10, 1e5)) + 3)
    left, top = (min(max(low[k], 0), side - 1) for k, side in enumerate((width, height)))
    # One pixel more than bodies reach, so that what they cast on their surroundings is whole around them.
    return left, top, max(min(high[0], width), left + 1), max(min(high[1], height), top + 1)


def _coloured(one: _Dressed, raster: Raster, mine: Tensor, faces: Tensor, blind: bool) -> Tensor:
    """Colour, clay, whether that is known, how well it is known, and metres off the skin (P,9) of a mesh's samples
    ``mine`` (P,); ``blind`` takes all for seen."""
    moments = (torch.cat([look.vertices, look.facing[:, None]], dim=1) for look in one.looks)
    attributes = torch.cat([one.borrowed, one.mesh.rest, one.worn()[:, None], *moments], dim=1)
    corners = faces[raster.face[mine]]
    weights = raster.barycentric[mine]
    found = sum(attributes.index_select(0, corners[:, k]) * weights[:, k, None] for k in range(3))
    assert isinstance(found, Tensor)
    total = torch.zeros(len(mine), 7, device=found.device)
    share, known = (torch.zeros(len(mine), device=found.device) for _ in range(2))
    for k, look in enumerate(one.looks):
        spots, facing = found[:, 11 + 4 * k : 14 + 4 * k], found[:, 14 + 4 * k]
        place, seen = look.seen(spots, facing, found[:, 7:10])
        weight = seen * facing.clamp(min=0) ** SQUARE if len(one.looks) > 1 else seen
        if blind:
            weight = seen = torch.ones_like(seen)
        total += weight[:, None] * look.colours(place)
        share = share + weight
        known = torch.maximum(known, seen)
    low, high = _SURE
    mix = ((known - low) / (high - low)).clamp(0, 1)[:, None]
    carried = total / share.clamp(min=1e-6)[:, None]
    return torch.cat([mix * carried + (1 - mix) * found[:, :7], known[:, None], found[:, 10:11]], dim=1)


def _shaded(raster: Raster, mine: Tensor, normals: Tensor, faces: Tensor, views: Tensor) -> Tensor:
    """Brightness (P,) of plaster under a light at the camera, where the scene's own is not known."""
    facing = _interpolated(raster, mine, normals @ views[:, :3, :3].transpose(1, 2), faces)
    return 0.45 + 0.55 * F.normalize(facing, dim=-1)[:, 2].abs()


def _interpolated(raster: Raster, mine: Tensor, values: Tensor, faces: Tensor) -> Tensor:
    """Vertex values (T,V,D) at the samples ``mine`` (P,): (P,D)."""
    part = Raster(raster.depth, raster.index[mine], raster.face[mine], raster.barycentric[mine])
    return part.interpolate(values, faces)


def _mean(grid: Tensor) -> Tensor:
    """Mean of each pixel's samples: (T,SH,SW,D) to (T,H,W,D)."""
    rows = grid[:, 0::_SAMPLES]
    for k in range(1, _SAMPLES):
        rows = rows + grid[:, k::_SAMPLES]
    columns = rows[:, :, 0::_SAMPLES]
    for k in range(1, _SAMPLES):
        columns = columns + rows[:, :, k::_SAMPLES]
    return columns / _SAMPLES**2


def _pixels(raster: Raster, values: Tensor) -> Tensor:
    """Mean of each pixel's samples (T,H,W,D), of the covered ones (P,D); frame by frame, which bounds memory."""
    frames, height, width = raster.depth.shape
    each = height * width
    ends = torch.searchsorted(raster.index, each * torch.arange(frames + 1, device=values.device)).tolist()
    made = []
    for t in range(frames):
        grid = torch.zeros(each, values.shape[1], device=values.device)
        covered = slice(ends[t], ends[t + 1])
        grid[raster.index[covered] - t * each] = values[covered]
        made.append(_mean(grid.view(1, height, width, -1))[0])
    return torch.stack(made)


def _maps(
    dressed: Sequence[_Dressed],
    raster: Raster,
    owner: Tensor,
    faces: Tensor,
    normals: Tensor,
    starts: np.ndarray,
    views: Tensor,
    cover: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Character (T,H,W), normal (T,H,W,3), depth (T,H,W) and rest spot (T,H,W,3) of each pixel's nearest sample."""
    frames, height, width = cover.shape
    depth = raster.depth.view(frames, height, _SAMPLES, width, _SAMPLES).transpose(2, 3).flatten(3)
    nearest, which = depth.min(dim=3)
    shown = (cover >= 0.5) & torch.isfinite(nearest)
    number = torch.full((raster.depth.numel(),), -1, dtype=torch.int64, device=cover.device)
    number[raster.index] = torch.arange(len(raster.index), device=cover.device)
    t, v, u = torch.nonzero(shown, as_tuple=True)
    k = which[shown]
    rows, columns = raster.depth.shape[1:]
    chosen = number[(t * rows + v * _SAMPLES + k // _SAMPLES) * columns + u * _SAMPLES + k % _SAMPLES]
    rest = torch.cat([one.mesh.rest for one in dressed])
    turned = _interpolated(raster, chosen, normals @ views[:, :3, :3].transpose(1, 2), faces)
    turned = F.normalize(turned, dim=-1)
    spots = _interpolated(raster, chosen, rest, faces)
    character = torch.full_like(cover, float(NOBODY))
    normal, canonical = (torch.zeros(*cover.shape, 3, device=cover.device) for _ in range(2))
    character[shown], normal[shown], canonical[shown] = owner[chosen].to(cover.dtype), turned, spots
    return character, normal, torch.where(shown, nearest, torch.inf), canonical
